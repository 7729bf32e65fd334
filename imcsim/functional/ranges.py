"""Choosing a converter's range from the currents it sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imcsim.functional.adc import Converter, read_back

CANDIDATES = 128
"""Range ends tried first, evenly from 1/128 of the largest current to all of it."""

LLOYD_STEPS = 300
"""Passes of k-means, at most; it stops where nothing moves."""

REFINEMENTS = 3
"""Times that the neighbourhood of the best end is searched eight times finer."""


def mse_range(
    values: Tensor,
    counts: Tensor,
    make: Callable[[float], Converter],
    extra: tuple[float, ...] = (),
    read: Callable[[Tensor, Converter], Tensor] = read_back,
) -> float:
    """The range end of least mean square conversion error.

    ``argmin_hi sum_v counts_v (ADC_hi(v) - v)^2``.

    Shapes: values (bins,) currents in levels; counts (bins,).

    Args:
        values: the currents that occur.
        counts: how often.
        make: the converter for a range end.
        extra: further ends to try, first where they tie: the one that loses nothing, for example.
        read: what the converter takes currents for.

    Returns:
        The end, positive.
    """
    peak = float(values[counts > 0].abs().max()) if bool((counts > 0).any()) else 0.0
    if peak == 0.0:
        return extra[0] if extra else 1.0

    def error(end: float) -> float:
        return float(((read(values, make(end)) - values).square() * counts).sum())

    step = peak / CANDIDATES
    tried = [(error(end), end) for end in (*extra, *(step * i for i in range(CANDIDATES, 0, -1)))]
    best_error, best = min(tried, key=lambda pair: pair[0])
    for _ in range(REFINEMENTS):
        near = [best + step * i / 8 for i in range(-8, 9) if i and best + step * i / 8 > 0]
        best_error, best = min(
            [(best_error, best), *((error(end), end) for end in near)], key=lambda pair: pair[0]
        )
        step /= 8
    return best


def percentile_range(values: Tensor, counts: Tensor, percentile: float) -> float:
    """The magnitude that a given percentage of currents stays within.

    Shapes: values (bins,); counts (bins,).

    Args:
        values: the currents that occur, in levels.
        counts: how often.
        percentile: above 0, up to 100.

    Returns:
        The magnitude; 1 where all currents are zero.
    """
    order = values.abs().argsort()
    total = counts[order].cumsum(0)
    index = int(torch.searchsorted(total, total[-1] * percentile / 100))
    end = float(values.abs()[order][min(index, len(order) - 1)])
    return end if end > 0 else 1.0


def power_of_two_ranges(ends: list[float]) -> list[float]:
    """Ranges a power of two apart, so that codes of different slices combine by shifts.

    Args:
        ends: independently chosen ends, in levels.

    Returns:
        The largest end, and for each slice the nearest power-of-two fraction of it that is not smaller than
        its own end.
    """
    largest = max(ends)
    out = []
    for end in ends:
        fitted = largest
        while fitted / 2 >= end:
            fitted /= 2
        out.append(fitted)
    return out


def kmeans_values(values: Tensor, counts: Tensor, codes: int) -> tuple[float, ...]:
    """The values of a quantizer of least mean square error: k-means in one dimension (Lloyd-Max).

    Values are the means of what is nearest to them. They start at the quantiles of ``counts^(1/3)``, the best
    density of many values.

    Shapes: values (bins,) ascending currents in levels; counts (bins,).

    Args:
        values: the currents that occur.
        counts: how often.
        codes: values to find; where fewer currents occur, the largest is repeated.

    Returns:
        The values, ascending.

    References: S. P. Lloyd, IEEE Trans. Inf. Theory 28, 1982, doi 10.1109/TIT.1982.1056489; P. F. Panter,
        W. Dite, Proc. IRE 39, 1951, doi 10.1109/JRPROC.1951.230419 (the start).
    """
    seen = counts > 0
    values, counts = values[seen].double(), counts[seen].double()
    if len(values) <= codes:
        found = values.tolist() or [0.0]
        return (*found, *[found[-1]] * (codes - len(found)))
    density = counts.pow(1 / 3).cumsum(0)
    start = (torch.arange(codes, dtype=torch.float64) + 0.5) / codes * density[-1]
    means = values[torch.searchsorted(density, start).clamp(max=len(values) - 1)]
    weight = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    moment = torch.cat([counts.new_zeros(1), (counts * values).cumsum(0)])
    for _ in range(LLOYD_STEPS):
        edges = torch.searchsorted(values, (means[1:] + means[:-1]) / 2)
        ends = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(values))])
        inside = weight[ends[1:]] - weight[ends[:-1]]
        moved = torch.where(inside > 0, (moment[ends[1:]] - moment[ends[:-1]]) / inside, means)
        if torch.equal(moved, means):
            break
        means = moved
    return tuple(means.sort().values.tolist())
