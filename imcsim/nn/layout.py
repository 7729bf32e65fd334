"""Which bit line of which array a column of a layer is, and which converter reads it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.hardware import Hardware
from imcsim.nn.readout import array_rows, weight_slicing


@dataclass(frozen=True)
class Layout:
    """A layer's columns on its arrays.

    An output's slices and sides lie in adjacent columns, or on arrays of their own (`weights.placement`,
    `weights.pair`). Groups of a grouped convolution that fit share an array, stacked and side by side.

    Attributes:
        row_blocks: arrays along the inputs of one group.
        rows: word lines of one group, over all row blocks.
        slices: of a weight.
        sides: 2 for pairs of cells, else 1.
        slices_apart: slices lie on arrays of their own.
        sides_apart: so do the sides of a pair.
        columns: of one group on the arrays of one row block.
        usable: columns of an array without its unit column.
        groups_per_array: groups that share an array.
        stacked: of these, how many lie above each other.
    """

    row_blocks: int
    rows: int
    slices: int
    sides: int
    slices_apart: bool
    sides_apart: bool
    columns: int
    usable: int
    groups_per_array: int
    stacked: int

    @property
    def apart(self) -> int:
        """Arrays over which an output's cells are spread."""
        return (self.slices if self.slices_apart else 1) * (self.sides if self.sides_apart else 1)

    @property
    def column_blocks(self) -> int:
        """Arrays along the outputs of one group."""
        return -(-self.columns // self.usable)


def layout(
    hardware: Hardware, groups: int, outputs: int, inputs: int, *, unit_column: bool = False
) -> Layout:
    """Lay a layer's weight matrices out.

    Args:
        hardware: the chip.
        groups: independent matrices (1 but for grouped convolutions).
        outputs: columns of one matrix.
        inputs: rows of one matrix.
        unit_column: the last column of each array is at level 1.

    Returns:
        The layout.
    """
    slicing = weight_slicing(hardware)
    blocks = array_rows(hardware, inputs)
    rows = blocks[-1][1]
    slices, sides = len(slicing.widths), 2 if slicing.paired else 1
    slices_apart = hardware.weights.placement == "separate"
    sides_apart = slicing.paired and hardware.weights.pair == "arrays"
    columns = outputs * (1 if slices_apart else slices) * (1 if sides_apart else sides)
    usable = max(hardware.array.cols - unit_column, 1)
    stacked = groups_per_array = 1
    if groups > 1 and len(blocks) == 1 and columns <= usable:
        room = max(1, hardware.array.rows // rows)
        groups_per_array = room * max(1, usable // columns)
        stacked = min(groups, room)
    return Layout(
        row_blocks=len(blocks),
        rows=rows,
        slices=slices,
        sides=sides,
        slices_apart=slices_apart,
        sides_apart=sides_apart,
        columns=columns,
        usable=usable,
        groups_per_array=groups_per_array,
        stacked=stacked,
    )


def converter_owners(
    hardware: Hardware, shape: tuple[int, int, int], array_of_read: tuple[int, ...], *, unit_column: bool
) -> tuple[Tensor, Tensor]:
    """The converter of every column: column c of an array is read by its converter c // columns_per_adc.

    A pair whose difference is taken in analog is read by the converter of its plus side's column.

    Shapes: returns (reads, groups, streams, outputs) and, of the unit column, (reads, groups, 1, 1), int64.

    Args:
        hardware: a chip with an [adc] table.
        shape: groups, outputs and inputs of the layer.
        array_of_read: the row block of each read.
        unit_column: arrays hold one.

    Returns:
        The converters' numbers within the layer, and the unit columns' (of the first array of a row block).
    """
    adc = hardware.adc
    if adc is None:
        raise ValueError("the chip has ideal converters")
    groups, outputs, inputs = shape
    where = layout(hardware, groups, outputs, inputs, unit_column=unit_column)
    read = torch.tensor(array_of_read).view(-1, 1, 1, 1)
    group = torch.arange(groups).view(1, -1, 1, 1)
    output = torch.arange(outputs).view(1, 1, 1, -1)
    converted = where.sides if adc.subtract == "digital" else 1
    stream = torch.arange(where.slices * converted).view(1, 1, -1, 1)
    side, slice_ = stream // where.slices, stream % where.slices
    column, apart = output, torch.zeros_like(stream)
    for index, count, on_its_own in (
        (slice_, where.slices, where.slices_apart),
        (side, where.sides, where.sides_apart),
    ):
        if on_its_own:
            apart = apart * count + index
        else:
            column = column * count + index
    shared, place = group // where.groups_per_array, group % where.groups_per_array // where.stacked
    first_array = (shared * where.row_blocks + read) * where.column_blocks
    array = (first_array + column // where.usable) * where.apart + apart
    line = place * where.columns + column % where.usable
    each = -(-hardware.array.cols // min(adc.columns_per_adc, hardware.array.cols))
    owner = array * each + line // adc.columns_per_adc
    unit = first_array * where.apart * each + (hardware.array.cols - 1) // adc.columns_per_adc
    return owner, unit
