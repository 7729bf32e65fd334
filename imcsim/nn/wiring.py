"""Which cells share wires: a layer's cells on physical arrays, and what their wires make of them."""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from imcsim.circuits import effective_conductance, gated_conductance_approx
from imcsim.errors import HardwareError
from imcsim.hardware import Hardware

GATE_ACTIVITY = 0.5
"""Fraction of word lines assumed on where the map of a gated array is approximated by one matrix."""


def has_wires(hardware: Hardware) -> bool:
    """Whether word or bit lines have resistance."""
    return hardware.array.word_line_ohm > 0 or hardware.array.bit_line_ohm > 0


def wired(
    hardware: Hardware, cells_S: Tensor, unit_S: Tensor | None, arrays: tuple[tuple[int, int], ...]
) -> tuple[Tensor, Tensor | None]:
    """Effective conductances of cells behind wires, exact for voltage inputs.

    Every array is laid out as `weights.placement` and `weights.pair` say: an output's slices and sides in
    adjacent columns or on arrays of their own, used rows at the far end from the ground, the unit column
    last. An
    array with inputs on the gates is approximated by its map at half its word lines on
    (`imcsim.circuits.gated_conductance_approx`).

    Shapes: cells_S (groups, planes, slices, rows, outputs); unit_S (groups, 1, 1, rows, 1) or None; returns
        the same.
    Units: siemens.

    Args:
        hardware: the chip.
        cells_S: conductances.
        unit_S: those of the unit column that each array has.
        arrays: word lines of each array, (start, stop).

    Returns:
        The effective conductances, and those of the unit column (the mean over the arrays that share its
        rows).
    """
    spread = _to_columns(cells_S, hardware)  # (groups, apart, rows, columns)
    groups, apart, _, columns = spread.shape
    height, width = hardware.array.rows, hardware.array.cols - (unit_S is not None)
    if width < 1:
        raise HardwareError("array.cols = 1 leaves no column beside the unit column; use more columns")
    blocks = ceil(columns / width)
    padded = spread if blocks == 1 else F.pad(spread, (0, blocks * width - columns))
    out = torch.empty_like(padded)
    unit_out = None if unit_S is None else torch.empty_like(unit_S)
    for start, stop in arrays:
        tiles = padded[:, :, start:stop].unflatten(3, (blocks, -1)).transpose(2, 3)
        if unit_S is not None:
            unit = unit_S[:, :, :, start:stop].expand(groups, apart, blocks, stop - start, 1)
            tiles = torch.cat([tiles, unit], dim=-1)
        solved = _solve(hardware, F.pad(tiles, (0, 0, 0, height - (stop - start))))[..., : stop - start, :]
        if unit_S is not None and unit_out is not None:
            unit_out[:, 0, 0, start:stop] = solved[..., -1:].mean((1, 2))
            solved = solved[..., :-1]
        out[:, :, start:stop] = solved.transpose(2, 3).flatten(3)
    return _from_columns(out[..., :columns], cells_S.shape, hardware), unit_out


def _solve(hardware: Hardware, tiles: Tensor) -> Tensor:
    array = hardware.array
    if array.input_mode == "gate":
        return gated_conductance_approx(
            tiles, GATE_ACTIVITY, word_line_ohm=array.word_line_ohm, bit_line_ohm=array.bit_line_ohm
        )
    return effective_conductance(tiles, array.word_line_ohm, array.bit_line_ohm)


def _order(hardware: Hardware) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of planes (1) and slices (2) lie on arrays of their own, and which in adjacent columns."""
    separate, arrays = hardware.weights.placement == "separate", hardware.weights.pair == "arrays"
    apart = tuple(dim for dim, on in ((2, separate), (1, arrays)) if on)
    return apart, tuple(dim for dim in (2, 1) if dim not in apart)


def _to_columns(cells: Tensor, hardware: Hardware) -> Tensor:
    """Shapes: (groups, planes, slices, rows, outputs) -> (groups, apart, rows, columns)."""
    apart, adjacent = _order(hardware)
    moved = cells.permute(0, *apart, 3, 4, *adjacent)
    k = len(apart)
    return moved.reshape(cells.shape[0], -1, cells.shape[3], moved.shape[2 + k :].numel())


def _from_columns(spread: Tensor, shape: torch.Size, hardware: Hardware) -> Tensor:
    """The inverse of `_to_columns`."""
    apart, adjacent = _order(hardware)
    order = (0, *apart, 3, 4, *adjacent)
    moved = spread.reshape([shape[dim] for dim in order])
    inverse = [order.index(dim) for dim in range(5)]
    return moved.permute(inverse).contiguous()
