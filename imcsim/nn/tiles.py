"""A layer's cells as they lie on physical arrays.

An array holds a row block and a column block. An output's slices and sides are adjacent columns, or lie on
arrays of their own, as `weights.placement` and `weights.pair` say; used rows start at the far end from the
ground, used columns at the driver, spare columns and the unit column come last.
"""

from __future__ import annotations

from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from imcsim.errors import HardwareError
from imcsim.hardware import Hardware


def has_unit_column(hardware: Hardware) -> bool:
    """Whether a column of every array at level 1 measures the sum of inputs."""
    return hardware.adc is not None and hardware.adc.offset_correction == "unit_column"


def usable_columns(hardware: Hardware) -> int:
    """Columns of an array that hold weights.

    Raises:
        HardwareError: spare columns and the unit column leave none.
    """
    spare, unit = hardware.mitigation.spare_columns, int(has_unit_column(hardware))
    usable = hardware.array.cols - spare - unit
    if usable < 1:
        raise HardwareError(
            f"array.cols = {hardware.array.cols} leaves no column beside {spare} spare ones"
            f"{' and the unit column' if unit else ''}; use more columns, or fewer spare ones"
        )
    return usable


def to_tiles(cells: Tensor, hardware: Hardware, arrays: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """Cells by array; columns that hold nothing are 0.

    Shapes: cells (*, planes, slices, rows, outputs), * groups, or copies and groups; returns for each row
    block (*, apart, column blocks, its rows, usable columns), apart the arrays that an output's cells are
    spread over.

    Args:
        cells: anything that cells have one of.
        hardware: the chip.
        arrays: word lines of each row block, (start, stop).

    Returns:
        The tiles, one tensor a row block.
    """
    lead = cells.shape[:-4]
    columns = _to_columns(cells.reshape(-1, *cells.shape[-4:]), hardware)
    width = usable_columns(hardware)
    blocks = ceil(columns.shape[-1] / width)
    padded = F.pad(columns, (0, blocks * width - columns.shape[-1]))
    padded = padded.view(*lead, *padded.shape[1:])
    return [
        padded[..., start:stop, :].unflatten(-1, (blocks, width)).transpose(-2, -3) for start, stop in arrays
    ]


def from_tiles(tiles: list[Tensor], like: Tensor, hardware: Hardware) -> Tensor:
    """The inverse of `to_tiles`.

    Args:
        tiles: one tensor a row block, in order.
        like: a tensor of the cells' shape.
        hardware: the chip.

    Returns:
        The cells, of the tiles' dtype.
    """
    spread = torch.cat([tile.transpose(-2, -3).flatten(-2) for tile in tiles], dim=-2)
    adjacent = _order(hardware)[1]
    *lead, planes, slices, rows, outputs = like.shape
    sides = {1: planes, 2: slices}
    used = spread[..., : outputs * prod(sides[dim] for dim in adjacent)]
    flat = used.reshape(-1, *used.shape[-3:])
    one = torch.Size((flat.shape[0], planes, slices, rows, outputs))
    return _from_columns(flat, one, hardware).view(*lead, planes, slices, rows, outputs)


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
