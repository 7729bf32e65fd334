"""Integrate and fire: a column's charge is counted in spikes of fixed charge."""

from __future__ import annotations

import torch
from torch import Tensor


def spike_levels(count: int, *, leak: float = 0.0, initial_charge: float = 0.5) -> Tensor:
    """The current, in spikes a conversion, from which at least c spikes are counted.

    Without leak ``I_c = c - initial``. With the integrator's time constant tau and the conversion time T,
    ``leak = T / tau`` and ``a = I / leak``, the first spike comes at ``tau ln((a - initial) / (a - 1))``,
    each later one ``tau ln(a / (a - 1))`` after the one before; I_c is where the c-th comes at T.

    Shapes: returns (count,) float64, ascending.

    Args:
        count: the highest count.
        leak: conversion time over the integrator's time constant.
        initial_charge: on the integrator at the start, over that of a spike; 0.5 rounds the count to the
            nearest, 0 down.

    Returns:
        The levels.

    Notes: spikes are delta pulses and the reset is instant and complete.

    References: C. Liu et al., "A spiking neuromorphic design with resistive crossbar", DAC 2015,
        doi 10.1145/2744769.2744783; L. Song et al., "PipeLayer", HPCA 2017, doi 10.1109/HPCA.2017.55.
    """
    counts = torch.arange(1, count + 1, dtype=torch.float64)
    if leak == 0:
        return counts - initial_charge
    # times of c spikes fall with a; bisect ln(a - 1) between far too little and far too much
    low, high = torch.full_like(counts, -700.0), torch.log(1 + 2 * counts / leak + 2)
    for _ in range(100):
        middle = (low + high) / 2
        over = middle.exp()
        time = torch.log1p((1 - initial_charge) / over) + (counts - 1) * torch.log1p(1 / over)
        late = time > leak
        low, high = torch.where(late, middle, low), torch.where(late, high, middle)
    return leak * (1 + ((low + high) / 2).exp())


def counting_levels(top: int, origin: int, levels: Tensor) -> Tensor:
    """Decision levels of counters, one for each sign where zero is a code above 0.

    Shapes: levels (n,), n at least the larger of origin and top - origin; returns (1, top).

    Args:
        top: the highest code.
        origin: the code of zero current; 0: currents have one sign.
        levels: as `spike_levels` gives them.

    Returns:
        The levels in LSB from code 0. A count is reached at its level, also below zero.
    """
    down = torch.nextafter(origin - levels[:origin].flip(0), torch.tensor(torch.inf, dtype=torch.float64))
    half = origin - levels[:origin].flip(0)
    code = torch.arange(1, origin + 1, dtype=torch.float64)
    down = torch.where(half == code - 0.5, half, down)
    return torch.cat([down, origin + levels[: top - origin]]).unsqueeze(0)
