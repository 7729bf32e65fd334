"""Which cells share wires: a layer's cells on physical arrays, and what their wires make of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from imcsim.circuits import effective_conductance, gated_conductance_approx
from imcsim.hardware import Hardware
from imcsim.nn.tiles import from_tiles, to_tiles

GATE_ACTIVITY = 0.5
"""Fraction of word lines assumed on where the map of a gated array is approximated by one matrix."""


def has_wires(hardware: Hardware) -> bool:
    """Whether word or bit lines have resistance."""
    return hardware.array.word_line_ohm > 0 or hardware.array.bit_line_ohm > 0


def wired(
    hardware: Hardware,
    cells_S: Tensor,
    unit_S: Tensor | None,
    arrays: tuple[tuple[int, int], ...],
    targets_S: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Effective conductances of cells behind wires, exact for voltage inputs.

    Every array is laid out as `imcsim.nn.tiles` says. An array with inputs on the gates is approximated by
    its map at half its word lines on (`imcsim.circuits.gated_conductance_approx`).

    With `mitigation.shuffle` the word lines of an array are ordered so that those of most target conductance
    lie nearest the ground, unused ones farthest; bit lines so that those of most lie nearest the drivers.

    Shapes: cells_S (groups, planes, slices, rows, outputs); unit_S (groups, 1, 1, rows, 1) or None; targets_S
        like cells_S; returns the shapes of cells_S and unit_S.
    Units: siemens.

    Args:
        hardware: the chip.
        cells_S: conductances.
        unit_S: those of the unit column that each array has.
        arrays: word lines of each array, (start, stop).
        targets_S: what the order of shuffled lines goes by; None: cells_S.

    Returns:
        The effective conductances, and those of the unit column (the mean over the arrays that share its
        rows).
    """
    height = hardware.array.rows
    aims = to_tiles(cells_S if targets_S is None else targets_S, hardware, arrays)
    solved_tiles, units = [], []
    for (start, stop), tile, aim in zip(arrays, to_tiles(cells_S, hardware, arrays), aims, strict=True):
        row_order, column_order = _shuffle(aim, height, hardware.mitigation.shuffle)
        tile = _reordered(F.pad(tile, (0, 0, 0, height - (stop - start))), row_order, column_order)
        if unit_S is not None:
            unit = F.pad(unit_S[:, :, :, start:stop], (0, 0, 0, height - (stop - start)))
            unit = unit.expand(*tile.shape[:-1], 1)
            tile = torch.cat([tile, _reordered(unit, row_order, None)], dim=-1)
        solved = _solve(hardware, tile)
        if unit_S is not None:
            back = _restored(solved[..., -1:], row_order, None)[..., : stop - start, :]
            units.append(back.mean((1, 2)))
            solved = solved[..., :-1]
        solved_tiles.append(_restored(solved, row_order, column_order)[..., : stop - start, :])
    unit_out = torch.cat(units, dim=1).view_as(unit_S) if unit_S is not None else None
    return from_tiles(solved_tiles, cells_S, hardware), unit_out


def _shuffle(aim: Tensor, height: int, how: str) -> tuple[Tensor | None, Tensor | None]:
    """Orders of word lines and bit lines: position -> line. Shapes: aim (*, rows, columns)."""
    rows = columns = None
    if how in ("rows", "both"):
        total = F.pad(aim.sum(-1), (0, height - aim.shape[-2]), value=-1.0)  # unused lines first
        rows = torch.argsort(total, dim=-1, stable=True)
    if how in ("columns", "both"):
        columns = torch.argsort(aim.sum(-2), dim=-1, descending=True, stable=True)
    return rows, columns


def _reordered(tile: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Lines in a new order. Shapes: tile (*, rows, columns)."""
    if rows is not None:
        tile = tile.gather(-2, rows.unsqueeze(-1).expand_as(tile))
    if columns is not None:
        tile = tile.gather(-1, columns.unsqueeze(-2).expand_as(tile))
    return tile


def _restored(tile: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """The inverse of `_reordered`."""
    back = (None if order is None else torch.argsort(order, dim=-1) for order in (rows, columns))
    return _reordered(tile, *back)


def _solve(hardware: Hardware, tiles: Tensor) -> Tensor:
    array = hardware.array
    if array.input_mode == "gate":
        return gated_conductance_approx(
            tiles, GATE_ACTIVITY, word_line_ohm=array.word_line_ohm, bit_line_ohm=array.bit_line_ohm
        )
    return effective_conductance(tiles, array.word_line_ohm, array.bit_line_ohm)
