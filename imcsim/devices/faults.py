"""Faults: cells stuck on or off, dead rows and dead columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from imcsim.devices.base import Block, uniform
from imcsim.errors import DeviceError


class Faults(Block):
    """Fault rates of a card; each a fraction between 0 and 1."""

    stuck_on: float = Field(default=0.0, ge=0, le=1)
    stuck_off: float = Field(default=0.0, ge=0, le=1)
    dead_rows: float = Field(default=0.0, ge=0, le=1)
    dead_cols: float = Field(default=0.0, ge=0, le=1)


def check_fraction(name: str, value: float) -> float:
    """Return a rate between 0 and 1, or raise DeviceError that names it."""
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise DeviceError(f"{name} = {value!r}: a fraction of cells or lines between 0 and 1 is needed")
    return float(value)


def stuck_masks(
    shape: Sequence[int], stuck_on: float, stuck_off: float, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw which cells are stuck; no cell is both.

    u ~ U[0, 1): on if u < p_on, off if p_on <= u < p_on + p_off.

    Shapes: returns two bool tensors of `shape`.

    Args:
        shape: of the cells.
        stuck_on: fraction of cells at g_max whatever is written.
        stuck_off: fraction at g_min.
        rng: generator.
        device: of the masks.

    Returns:
        (stuck on, stuck off).

    Raises:
        DeviceError: a fraction outside 0 .. 1, or a sum above 1.
    """
    on, off = check_fraction("stuck_on", stuck_on), check_fraction("stuck_off", stuck_off)
    if on + off > 1:
        raise DeviceError(f"stuck_on + stuck_off = {on + off:g}: a cell is stuck one way only, so at most 1")
    u = uniform(shape, rng, device)
    is_on = u < on
    return is_on, (u < on + off) & ~is_on


def dead_mask(
    shape: Sequence[int],
    dead_rows: float,
    dead_cols: float,
    rng: np.random.Generator,
    device: torch.device,
    array_rows: int | None = None,
    array_cols: int | None = None,
) -> Tensor:
    """Draw dead word lines and bit lines: all their cells carry no current.

    Shapes: shape (..., rows, cols); returns a bool tensor that broadcasts to it, of that shape.

    Args:
        shape: of the cells.
        dead_rows: fraction of word lines that are dead.
        dead_cols: fraction of bit lines that are dead.
        rng: generator; rows are drawn first.
        device: of the mask.
        array_rows: rows of one array: a bit line ends where its array does. None: one array holds all rows.
        array_cols: columns of one array, likewise for word lines.

    Returns:
        True where the cell is on a dead line.

    Raises:
        DeviceError: a fraction outside 0 .. 1, or a shape of fewer than two dimensions.
    """
    check_fraction("dead_rows", dead_rows)
    check_fraction("dead_cols", dead_cols)
    if len(shape) < 2:
        raise DeviceError(f"dead lines need a tensor of (..., rows, cols), given shape {tuple(shape)}")
    *lead, rows, cols = shape
    row_step, col_step = array_rows or max(rows, 1), array_cols or max(cols, 1)
    row_hit = uniform((*lead, rows, -(-cols // col_step)), rng, device) < dead_rows
    col_hit = uniform((*lead, -(-rows // row_step), cols), rng, device) < dead_cols
    by_row = row_hit.repeat_interleave(col_step, dim=-1)[..., :cols]
    by_col = col_hit.repeat_interleave(row_step, dim=-2)[..., :rows, :]
    return by_row | by_col


def apply_stuck(g_S: Tensor, masks: tuple[Tensor, Tensor], g_max_S: float, g_min_S: float) -> Tensor:
    """Set stuck cells to g_max or g_min. Shapes: any, masks of the same shape. Units: siemens."""
    on, off = masks
    return g_S.masked_fill(on, g_max_S).masked_fill(off, g_min_S)
