"""Choosing a converter's range from the currents it sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imcsim.functional.adc import Converter, convert

CANDIDATES = 128
"""Range ends tried first, evenly from 1/128 of the largest current to all of it."""

REFINEMENTS = 3
"""Times that the neighbourhood of the best end is searched eight times finer."""


def mse_range(
    values: Tensor, counts: Tensor, make: Callable[[float], Converter], extra: tuple[float, ...] = ()
) -> float:
    """The range end of least mean square conversion error.

    ``argmin_hi sum_v counts_v (ADC_hi(v) - v)^2``.

    Shapes: values (bins,) currents in levels; counts (bins,).

    Args:
        values: the currents that occur.
        counts: how often.
        make: the converter for a range end.
        extra: further ends to try, first where they tie: the one that loses nothing, for example.

    Returns:
        The end, positive.
    """
    peak = float(values[counts > 0].abs().max()) if bool((counts > 0).any()) else 0.0
    if peak == 0.0:
        return extra[0] if extra else 1.0

    def error(end: float) -> float:
        converter = make(end)
        read = (convert(values, converter) + converter.residue) * converter.step
        return float(((read - values).square() * counts).sum())

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
