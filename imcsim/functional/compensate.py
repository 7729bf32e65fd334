"""Weights with stuck cells: what the other cells of a weight can make up for."""

from __future__ import annotations

import torch
from torch import Tensor


def compensate(levels: Tensor, stuck: Tensor, top_levels: tuple[int, ...], gains: tuple[int, ...]) -> Tensor:
    """New levels of the free cells of every weight that has a stuck one.

    A weight is ``sum_s gains[s] d_s``, d_s the level of its cell or of the plus less the minus cell. From the
    slice of largest gain down, each digit stays as near to what it was as lets the slices after it reach the
    rest.

    Shapes: levels and stuck (*, planes, slices, rows, outputs), planes 1 or 2; returns that of levels.

    Args:
        levels: target levels.
        stuck: the level a cell is stuck at, nan where it is free.
        top_levels: level of a fully-on cell of each slice.
        gains: digital weight of one level of each slice; negative for a sign bit.

    Returns:
        The levels; weights without stuck cells keep theirs, and none ends farther from its value than with
        its free cells as they were.

    Notes:
        What lower slices reach is taken as all whole numbers between their ends. With several of their cells
        stuck it has gaps, and the result may then be a step worse than the best.

    References: the idea is that of L. Xia et al., "Stuck-at fault tolerance in RRAM computing systems", IEEE
        JETCAS 2018, DOI 10.1109/JETCAS.2017.2776980, who let redundant cells of a weight make up for faults.
    """
    planes, slices = levels.shape[-4], levels.shape[-3]
    own, fixed = (t.movedim((-4, -3), (-2, -1)).reshape(-1, planes, slices) for t in (levels, stuck))
    hit = (~fixed.isnan()).flatten(1).any(1)
    if not bool(hit.any()):
        return levels
    new = own.clone()
    new[hit] = _weights(own[hit].double(), fixed[hit].double(), top_levels, gains).to(levels.dtype)
    moved = levels.movedim((-4, -3), (-2, -1)).shape
    return new.view(moved).movedim((-2, -1), (-4, -3)).contiguous()


def _weights(own: Tensor, fixed: Tensor, top_levels: tuple[int, ...], gains: tuple[int, ...]) -> Tensor:
    """Shapes: own and fixed (weights, planes, slices)."""
    paired = own.shape[1] == 2
    top = torch.tensor(top_levels, dtype=torch.float64, device=own.device)
    gain = torch.tensor(gains, dtype=torch.float64, device=own.device)
    free = fixed.isnan()
    low = torch.where(free, 0.0, fixed)
    high = torch.where(free, top, fixed)
    digit = own[:, 0] - own[:, 1] if paired else own[:, 0]
    least = low[:, 0] - high[:, 1] if paired else low[:, 0]
    most = high[:, 0] - low[:, 1] if paired else high[:, 0]
    ends = torch.stack([gain * least, gain * most])
    rest = (gain * digit).sum(1)
    chosen = torch.empty_like(digit)
    order = sorted(range(len(gains)), key=lambda s: -abs(gains[s]))
    for place, s in enumerate(order):
        below = order[place + 1 :]
        reach = ends[:, :, below].amin(0).sum(1), ends[:, :, below].amax(0).sum(1)
        bounds = (rest - reach[1]) / gain[s], (rest - reach[0]) / gain[s]
        first = torch.minimum(*bounds).ceil()
        last = torch.maximum(*bounds).floor()
        middle = ((rest - (reach[0] + reach[1]) / 2) / gain[s]).round()
        wanted = torch.where(first <= last, torch.minimum(torch.maximum(digit[:, s], first), last), middle)
        chosen[:, s] = torch.minimum(torch.maximum(wanted, least[:, s]), most[:, s])
        rest = rest - gain[s] * chosen[:, s]
    as_it_was = torch.where(free, own, fixed)
    left = as_it_was[:, 0] - as_it_was[:, 1] if paired else as_it_was[:, 0]
    better = rest.abs() < (gain * (digit - left)).sum(1).abs()
    made = _cells(chosen, digit, own, fixed, paired=paired)
    return torch.where(better[:, None, None], made, own)


def _cells(chosen: Tensor, digit: Tensor, own: Tensor, fixed: Tensor, *, paired: bool) -> Tensor:
    """Levels that make the chosen digits; pairs that need not change keep theirs."""
    free = fixed.isnan()
    if not paired:
        return torch.where(free, chosen[:, None], own)
    plus, minus = own.unbind(1)
    change = chosen - digit
    # a free pair moves by the plus cell as far as it goes, then by the minus cell
    shifted = torch.where(minus > 0, -torch.minimum(minus, change.clamp(min=0)), torch.zeros_like(minus))
    up = change + shifted
    both_plus = plus + torch.where(change >= 0, up, -torch.minimum(plus, -change))
    both_minus = minus + torch.where(change >= 0, shifted, -change - torch.minimum(plus, -change))
    only_minus = fixed[:, 0] - chosen  # the plus cell is stuck
    only_plus = fixed[:, 1] + chosen
    new_plus = torch.where(free[:, 1], both_plus, only_plus)
    new_minus = torch.where(free[:, 0], both_minus, only_minus)
    made = torch.stack([new_plus, new_minus], dim=1)
    return torch.where(free, made, own)
