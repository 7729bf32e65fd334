"""Where a layer's cells lie: how many arrays it takes and how full they are."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.hardware import Hardware
from imcsim.nn.array import CrossbarArray
from imcsim.nn.layout import layout


@dataclass(frozen=True)
class Placement:
    """A layer on arrays.

    Groups of a grouped convolution that fit share an array, stacked and side by side; one group's word lines
    are driven at a time.

    Attributes:
        arrays: physical arrays.
        row_blocks: arrays along the inputs of one group.
        column_blocks: arrays along the outputs of one group.
        groups_per_array: groups that share an array.
        cells: cells that hold weights or unit columns.
        idle_columns: bit lines, over all arrays, that hold nothing.
        utilisation: `cells` over all cells of the arrays.
    """

    arrays: int
    row_blocks: int
    column_blocks: int
    groups_per_array: int
    cells: int
    idle_columns: int
    utilisation: float


def place(
    hardware: Hardware, groups: int, outputs: int, inputs: int, *, unit_column: bool = False
) -> Placement:
    """Place a layer's weight matrices on arrays.

    Args:
        hardware: the chip.
        groups: independent matrices (1 but for grouped convolutions).
        outputs: columns of one matrix.
        inputs: rows of one matrix.
        unit_column: each array also holds a column at level 1.

    Returns:
        The placement.
    """
    where = layout(hardware, groups, outputs, inputs, unit_column=unit_column)
    sets = -(-groups // where.groups_per_array)
    arrays = sets * where.row_blocks * where.column_blocks * where.apart
    cells = groups * where.rows * where.columns * where.apart
    if unit_column:
        cells += arrays // where.row_blocks * where.rows
    side_by_side = -(-groups // where.stacked)
    used_columns = side_by_side * where.columns * where.row_blocks * where.apart
    used_columns += arrays if unit_column else 0
    total = arrays * hardware.array.rows * hardware.array.cols
    return Placement(
        arrays=arrays,
        row_blocks=where.row_blocks,
        column_blocks=where.column_blocks,
        groups_per_array=where.groups_per_array,
        cells=cells,
        idle_columns=arrays * hardware.array.cols - used_columns,
        utilisation=cells / total,
    )


def placement_of(array: CrossbarArray) -> Placement:
    """The placement of a programmed layer."""
    groups, outputs, inputs = array.written.w_int.shape
    return place(array.hardware, groups, outputs, inputs, unit_column=array.has_unit_column)
