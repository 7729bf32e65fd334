"""How often each component does its work, counted from shapes.

Per layer and sample, with V vectors, G groups, K inputs and O outputs a group, R reads (the word lines of a
row block, cut into groups of `rows_active`), B row blocks, T input cycles (physical pulses), C conversions
of a column a read and vector (T, or 1 where cycles are accumulated in analog), S converted columns an
output, and A arrays that hold one row block's columns:

- array_read: ``V G R A T``.
- dac: pulses, one a word line in use, array and cycle: ``V G L A T``, L the word lines (XNOR: two an input).
- cell_read: cells on those lines that hold weights or the unit column.
- sample_hold: ``V G R O S T``; adc: ``V G R O S C``. With unit columns ``V G R A T`` and ``V G R A C`` more.
- adder_tree: digital readout: instead of both, ``V G R O S T``.
- shift_add: one a conversion (or sum of an adder tree).
- add: sums over row blocks, ``V G O (B - 1)``; of a training method's terms and passes too.
- input_register_byte: a vector is written once into every unit that holds columns of its row block, and read
  once for every such array.
- output_register_byte: a partial sum is written and read once a row block; its width is weights.bits +
  inputs.bits + ceil(log2 K), or array.accumulator_bits.
- buffer_byte, bus_byte: a vector is read once for every tile that holds columns of its row block
  (overlapping windows of a convolution are read again), an output is written once, as wide as an input (as
  a converter's code where inputs are analog).
- busy: seconds that arrays of one copy are at work, summed over them.
- activation, pool, vector_op, digital_mac: as in the layer's shape.
- neuron: values that analog circuits normalise.

A layer whose sums stay analog (``array.output = "analog"``) has one current an output, of all its row
blocks: sample_hold ``V G O T``, and no adc, shift_add, add or output_register_byte. Normalised values are
converted once each where ``normalisation.bits`` says so. Where they are not they are never bytes: no
buffer_byte and bus_byte for the output, and none of input registers, buffer and bus for the vectors of the
next layer (``inputs.analog``); activation and pool are then the circuits' too and count as neuron.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from imcsim.costs import Event, Tile
from imcsim.functional.partition import split_reads
from imcsim.hardware import Hardware
from imcsim.mapping import Placement, place
from imcsim.nn.readout import array_rows, pulse_train, weight_slicing
from imcsim.ppa.shapes import LayerShape


@dataclass(frozen=True)
class Layout:
    """A layer on its arrays, and the time of one vector.

    Attributes:
        hardware: the layer's chip.
        placement: where its cells lie.
        unit_column: each array holds a column at level 1.
        column_arrays: arrays that hold one row block's columns.
        row_blocks: ranges of word lines.
        reads: reads of all row blocks.
        serial: reads, and groups that share an array, that must follow each other.
        streams: converted columns an output.
        cycles: input cycles (pulses).
        conversions: of a column, for one read of one vector.
        partial_bits: width of a partial sum.
    """

    hardware: Hardware
    placement: Placement
    unit_column: bool
    column_arrays: int
    row_blocks: tuple[tuple[int, int], ...]
    reads: int
    serial: int
    streams: int
    cycles: int
    conversions: int
    partial_bits: int


def is_signed(hardware: Hardware, given: bool | None) -> bool:
    """Whether input codes have a sign, where nothing was calibrated."""
    if isinstance(hardware.inputs.signed, bool):
        return hardware.inputs.signed
    return given if given is not None else hardware.inputs.bits == 1


def input_cycles(hardware: Hardware, *, signed: bool) -> tuple[int, int]:
    """Physical input cycles of a vector, and conversions of a column for it.

    Args:
        hardware: the chip.
        signed: whether input codes have a sign.

    Returns:
        The cycles, the conversions.
    """
    train = pulse_train(hardware, signed=signed)
    cycles = len(replace(train, accumulate=False).weights)
    return cycles, 1 if train.accumulate else cycles


def converted_columns(hardware: Hardware) -> int:
    """Columns that are converted for one output: slices, twice where pairs are subtracted digitally."""
    slices, adc = weight_slicing(hardware), hardware.adc
    digital = slices.paired and adc is not None and adc.subtract == "digital"
    return len(slices.widths) * (2 if digital else 1)


def output_bits(hardware: Hardware) -> int:
    """Width of a result: an input's, where that is digital, else the converter's."""
    if hardware.inputs.analog and hardware.adc is not None:
        return hardware.adc.bits
    return hardware.inputs.bits


def layout(shape: LayerShape, hardware: Hardware) -> Layout:
    """Place a layer.

    Args:
        shape: the layer.
        hardware: its chip.

    Returns:
        The layout.
    """
    unit = hardware.adc is not None and hardware.adc.offset_correction == "unit_column"
    placed = place(hardware, shape.groups, shape.outputs * shape.terms, shape.inputs, unit_column=unit)
    blocks = array_rows(hardware, shape.inputs)
    reads, owner = split_reads(blocks, hardware.array.active)
    sets = -(-shape.groups // placed.groups_per_array)
    deepest = max(owner.count(block) for block in range(len(blocks)))
    cycles, conversions = input_cycles(hardware, signed=is_signed(hardware, shape.signed))
    return Layout(
        hardware=hardware,
        placement=placed,
        unit_column=unit,
        column_arrays=placed.arrays // (sets * len(blocks)),
        row_blocks=blocks,
        reads=len(reads),
        serial=deepest * min(shape.groups, placed.groups_per_array),
        streams=converted_columns(hardware),
        cycles=cycles * shape.passes,
        conversions=conversions * shape.passes,
        partial_bits=hardware.array.accumulator_bits
        or hardware.weights.bits + output_bits(hardware) + max(shape.inputs - 1, 1).bit_length(),
    )


def count(shape: LayerShape, where: Layout | None, tile: Tile, cycle_s: float) -> dict[Event, float]:
    """Events of a layer for one sample; those between tiles, chips and memory are in `traffic`.

    Args:
        shape: the layer.
        where: its layout; None: it stays digital.
        tile: how arrays are grouped.
        cycle_s: seconds of an input cycle.

    Returns:
        Counts of the events that occur; bytes may be fractions.
    """
    events: dict[Event, float] = {
        "activation": shape.activations,
        "pool": shape.pools,
        "vector_op": shape.vector_ops,
        "neuron": shape.normalised,
        "digital_mac": shape.digital_macs,
    }
    if shape.stays_analog:
        events["neuron"] = shape.normalised + shape.activations + shape.pools
        events["activation"] = events["pool"] = 0
    if where is not None:
        events.update(_on_arrays(shape, where, tile, cycle_s))
    return {event: number for event, number in events.items() if number}


def _on_arrays(shape: LayerShape, where: Layout, tile: Tile, cycle_s: float) -> dict[Event, float]:
    hardware = where.hardware
    runs = shape.vectors * shape.groups
    lines = where.row_blocks[-1][1]
    reads = runs * where.reads * where.column_arrays
    words = shape.outputs * shape.terms
    outputs = runs * where.reads * words * where.streams
    slices = weight_slicing(hardware)
    columns = words * len(slices.widths) * (2 if slices.paired else 1)
    columns *= hardware.mitigation.copies
    columns += where.column_arrays if where.unit_column else 0
    sums, samples = outputs * where.conversions, outputs * where.cycles
    if where.unit_column:
        sums, samples = sums + reads * where.conversions, samples + reads * where.cycles
    vector_bytes = runs * shape.inputs * hardware.inputs.bits * shape.passes / 8
    output_bytes = runs * shape.outputs * output_bits(hardware) / 8
    partial_bytes = runs * words * len(where.row_blocks) * where.partial_bits / 8
    vector_bytes = 0.0 if hardware.inputs.analog else vector_bytes
    output_bytes = 0.0 if shape.stays_analog else output_bytes
    moved = vector_bytes * -(-where.column_arrays // tile.arrays) + output_bytes
    events: dict[Event, float] = {
        "busy": shape.vectors * where.serial * where.cycles * cycle_s * where.placement.arrays,
        "array_read": reads * where.cycles,
        "dac": runs * lines * where.column_arrays * where.cycles,
        "cell_read": runs * lines * columns * where.cycles,
        "shift_add": sums,
        "add": runs * shape.outputs * (len(where.row_blocks) * shape.terms * shape.passes - 1),
        "input_register_byte": vector_bytes
        * (where.column_arrays - (-where.column_arrays // tile.arrays_per_unit)),
        "output_register_byte": 2 * partial_bytes,
        "buffer_byte": moved,
        "bus_byte": moved,
    }
    if hardware.array.output == "analog":
        table = hardware.normalisation
        converted = 0 if table is None or table.bits is None else shape.normalised
        sums = runs * words * where.cycles
        events.update({"sample_hold": sums, "adc": converted, "shift_add": 0, "add": 0})
        events["output_register_byte"] = 0
    elif hardware.array.readout == "digital":
        events["adder_tree"] = samples
        events["shift_add"] = samples
    else:
        events["sample_hold"] = samples
        events["adc"] = sums
    return events
