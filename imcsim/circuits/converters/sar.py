"""Successive approximation: a capacitor array compared with the input, bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor


def capacitor_weights(
    bits: int, deviations: Tensor, *, split_bits: int | None = None, parasitic: float = 0.0
) -> Tensor:
    """What each capacitor adds to the array's output, in LSB.

    Binary array: ``w_i = 2^bits C_i / (sum_j C_j + C_d)``, ``C_i = 2^i + deviation_i``, the dummy ``C_d`` a
    unit. Split array: the lower `split_bits` couple through ``C_b = 2^l / (2^l - 1)`` units, which makes them
    weigh ``C_b / (C_b + C_L)`` of their charge, ``C_L`` the lower half's total with its dummy and its
    parasitic, and the total is ``C_M + C_b C_L / (C_b + C_L)``.

    Shapes: deviations (converters, bits + 1), the dummy's last; returns (converters, bits), least significant
        first, float64.
    Units: deviations in unit capacitors.

    Args:
        bits: resolution.
        deviations: of each capacitor.
        split_bits: bits of the lower half; None: one array.
        parasitic: from the lower half's node to ground, over the lower half's nominal total.

    Returns:
        The weights; ``2^i`` without deviations.

    Notes: the bridge has its nominal value; charge injection, settling and reference noise are left out.

    References: B. P. Ginsburg, A. P. Chandrakasan, IEEE JSSC 42, 2007, doi 10.1109/JSSC.2007.892169 (split
        array); T. Wakimoto, H. Li, K. Murase, IEEE ISCAS 2011 (statistics of binary arrays).
    """
    if split_bits is None:
        nominal = 2.0 ** torch.arange(bits, dtype=torch.float64)
        capacitors = nominal + deviations[:, :bits]
        total = capacitors.sum(1, keepdim=True) + 1 + deviations[:, bits:]
        return 2.0**bits * capacitors / total
    low = 2.0 ** torch.arange(split_bits, dtype=torch.float64) + deviations[:, :split_bits]
    high = 2.0 ** torch.arange(bits - split_bits, dtype=torch.float64) + deviations[:, split_bits:bits]
    size = 2.0**split_bits
    node = low.sum(1, keepdim=True) + 1 + deviations[:, bits:] + parasitic * size
    bridge = size / (size - 1)
    total = high.sum(1, keepdim=True) + bridge * node / (bridge + node)
    return 2.0**bits * torch.cat([low * bridge / (bridge + node), high], dim=1) / total


def search_levels(trials: Tensor) -> Tensor:
    """Decision levels of a binary search against the given comparison levels.

    The search keeps an interval and halves it at the comparison level of its middle code, cut to the
    interval: codes whose interval is empty are missing. The result ascends whatever the comparison levels do.

    Shapes: trials (converters, 2^bits - 1), the comparison level of codes 1 to 2^bits - 1; returns the same.

    Args:
        trials: comparison levels.

    Returns:
        The levels from which each code, or a higher one, is the result.
    """
    out = trials.clone()
    converters, count = trials.shape
    low = torch.full((converters, 1), -torch.inf, dtype=trials.dtype)
    high = torch.full((converters, 1), torch.inf, dtype=trials.dtype)
    stride = (count + 1) // 2
    while stride:
        middle = slice(stride - 1, None, 2 * stride)
        level = torch.minimum(torch.maximum(trials[:, middle], low), high)
        out[:, middle] = level
        low = torch.stack([low, level], dim=2).flatten(1)
        high = torch.stack([level, high], dim=2).flatten(1)
        stride //= 2
    return out


def sar_levels(
    bits: int, deviations: Tensor, *, split_bits: int | None = None, parasitic: float = 0.0
) -> Tensor:
    """Decision levels of SAR converters with their capacitors' deviations.

    ``T_c = c - 1/2 + sum_i bit_i(c) (w_i - 2^i)``, then the binary search.

    Shapes: deviations (converters, bits + 1); returns (converters, 2^bits - 1), LSB.

    Args:
        bits: resolution.
        deviations: of each capacitor and of the dummy, in unit capacitors.
        split_bits: bits of the lower half of a split array.
        parasitic: of the lower half's node.

    Returns:
        The levels.
    """
    weights = capacitor_weights(bits, deviations, split_bits=split_bits, parasitic=parasitic)
    exact = torch.zeros(1, bits + 1, dtype=torch.float64)
    error = weights - capacitor_weights(bits, exact, split_bits=split_bits)
    codes = torch.arange(1, 1 << bits, dtype=torch.int64)
    on = ((codes.unsqueeze(1) >> torch.arange(bits)) & 1).double()
    return search_levels(codes.double() - 0.5 + error @ on.T)


def capacitor_deviations(bits: int, mismatch: float, normals: Tensor, split_bits: int | None) -> Tensor:
    """Normal deviations of capacitors made of units: ``mismatch sqrt(units)`` each.

    Shapes: normals (converters, bits + 1); returns the same, in unit capacitors.

    Args:
        bits: resolution.
        mismatch: relative standard deviation of a unit capacitor.
        normals: standard normal draws.
        split_bits: bits of the lower half of a split array.

    Returns:
        The deviations; the dummy, one unit, is last.
    """
    order = torch.arange(bits, dtype=torch.float64)
    if split_bits is not None:
        order = torch.where(order < split_bits, order, order - split_bits)
    units = torch.cat([2.0**order, torch.ones(1, dtype=torch.float64)])
    return normals * mismatch * units.sqrt()
