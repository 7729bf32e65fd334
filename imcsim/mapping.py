"""Where a layer's cells lie: how many arrays it takes and how full they are."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.hardware import Hardware
from imcsim.nn.array import CrossbarArray
from imcsim.nn.readout import array_rows, weight_slicing


@dataclass(frozen=True)
class Placement:
    """A layer on arrays.

    Groups of a grouped convolution that fit share an array, stacked and side by side; one group's word lines
    are driven at a time.

    Attributes:
        arrays: physical arrays, copies included.
        row_blocks: arrays along the inputs of one group.
        column_blocks: arrays along the outputs of one group.
        groups_per_array: groups that share an array.
        cells: cells that hold weights or unit columns, in every copy, and those of spare columns beside them.
        spare_cells: those of spare columns.
        idle_columns: bit lines, over all arrays, that hold nothing.
        utilisation: `cells` over all cells of the arrays.
    """

    arrays: int
    row_blocks: int
    column_blocks: int
    groups_per_array: int
    cells: int
    spare_cells: int
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
    slices = weight_slicing(hardware)
    blocks = array_rows(hardware, inputs)
    rows = blocks[-1][1]
    side = 2 if slices.paired else 1
    apart = 1
    per_output = len(slices.widths) * side
    if hardware.weights.placement == "separate":
        apart *= len(slices.widths)
        per_output //= len(slices.widths)
    if slices.paired and hardware.weights.pair == "arrays":
        apart *= 2
        per_output //= 2
    copies, spare = hardware.mitigation.copies, hardware.mitigation.spare_columns
    usable = hardware.array.cols - unit_column - spare
    columns = outputs * per_output
    column_blocks = -(-columns // max(usable, 1))
    groups_per_array = 1
    if groups > 1 and len(blocks) == 1 and column_blocks == 1:
        groups_per_array = max(1, hardware.array.rows // rows) * max(1, usable // columns)
    sets = -(-groups // groups_per_array)
    arrays = sets * len(blocks) * column_blocks * apart
    cells = groups * rows * columns * apart + (arrays // len(blocks) * rows if unit_column else 0)
    stacked = min(groups, max(1, hardware.array.rows // rows)) if groups_per_array > 1 else 1
    used_columns = (-(-groups // stacked) if groups_per_array > 1 else groups) * columns * len(blocks) * apart
    used_columns += arrays * (unit_column + spare)
    spare_cells = arrays // len(blocks) * rows * spare
    total = arrays * hardware.array.rows * hardware.array.cols
    return Placement(
        arrays=copies * arrays,
        row_blocks=len(blocks),
        column_blocks=column_blocks,
        groups_per_array=groups_per_array,
        cells=copies * (cells + spare_cells),
        spare_cells=copies * spare_cells,
        idle_columns=copies * (arrays * hardware.array.cols - used_columns),
        utilisation=(cells + spare_cells) / total,
    )


def placement_of(array: CrossbarArray) -> Placement:
    """The placement of a programmed layer."""
    groups, outputs, inputs = array.written.w_int.shape
    return place(array.hardware, groups, outputs, inputs, unit_column=array.has_unit_column)
