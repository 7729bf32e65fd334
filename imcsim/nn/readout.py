"""From a hardware description and a layer's integer weights to the numbers that engines take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from imcsim.devices.card import Readout
from imcsim.functional.adc import Converter, finer, level_converter, ranged_converter
from imcsim.functional.correction import correction
from imcsim.functional.dac import PulseTrain
from imcsim.functional.encode import Slicing, cell_levels, flip_columns, slicing
from imcsim.functional.mvm import Columns
from imcsim.functional.partition import row_blocks, split_reads
from imcsim.functional.quantize import top_code
from imcsim.hardware import Hardware
from imcsim.kernels.job import Job, reach
from imcsim.nn.effects import Conversion


@dataclass(frozen=True)
class Cells:
    """Target levels of a layer's cells.

    Attributes:
        levels: (groups, planes, slices, rows, outputs), flipped columns as they are stored.
        flip: (arrays, groups, slices, outputs) or None.
    """

    levels: Tensor
    flip: Tensor | None


def pulse_train(hardware: Hardware, *, signed: bool) -> PulseTrain:
    """How this hardware sends input codes.

    Args:
        hardware: the chip.
        signed: whether codes have a sign.

    Returns:
        The pulse train.
    """
    inputs, accumulate = hardware.inputs, hardware.adc is not None and hardware.adc.per == "vector"
    if hardware.weights.encoding == "xnor":
        return PulseTrain(1, 1, accumulate=accumulate)
    if not signed:
        return PulseTrain(inputs.bits, inputs.bits_per_cycle, accumulate=accumulate)
    magnitude = max(inputs.bits - 1, 1)
    if inputs.signed_encoding == "offset":
        return PulseTrain(
            inputs.bits, inputs.bits_per_cycle, shift=1 << (inputs.bits - 1), accumulate=accumulate
        )
    if inputs.signed_encoding == "twos_complement":
        return PulseTrain(magnitude, inputs.bits_per_cycle, sign_cycle=True, accumulate=accumulate)
    return PulseTrain(magnitude, inputs.bits_per_cycle, polarity=True, accumulate=accumulate)


def ideal_circuits(hardware: Hardware) -> bool:
    """Whether drivers, sensing circuits and converters do what their nominal values say."""
    adc = hardware.adc
    return (adc is None or adc.ideal) and hardware.inputs.ideal_dac and hardware.array.column_clamp is None


def array_rows(hardware: Hardware, inputs: int) -> tuple[tuple[int, int], ...]:
    """Word lines of each array of a layer, (start, stop)."""
    lines = 2 if hardware.weights.encoding == "xnor" else 1
    blocks = row_blocks(inputs, hardware.array.rows // lines, hardware.weights.partition)
    return tuple((start * lines, stop * lines) for start, stop in blocks)


def weight_slicing(hardware: Hardware) -> Slicing:
    """How this hardware slices weights."""
    weights = hardware.weights
    return slicing(weights.encoding, weights.bits, weights.cell_bits)


def target_cells(w_int: Tensor, hardware: Hardware, train: PulseTrain) -> Cells:
    """Target level of every cell of a layer.

    Shapes: w_int (groups, outputs, inputs).

    Args:
        w_int: integer weights.
        hardware: the chip.
        train: the pulses, which set ISAAC's flipping threshold.

    Returns:
        The levels, and which columns are flipped.
    """
    weights, slices = hardware.weights, weight_slicing(hardware)
    levels = cell_levels(w_int, slices, weights.encoding, two_sided=weights.sided == "two")
    if weights.encoding != "isaac":
        return Cells(levels, None)
    arrays = array_rows(hardware, w_int.shape[2])
    flips = []
    for s, top in enumerate(slices.top_levels):
        limit = 1 << (_sum_bits(hardware.array.rows, top, train) - 1)
        flips.append(flip_columns(levels[:, 0, s : s + 1], arrays, limit, train.digit_max))
    flip = torch.cat(flips, dim=2)
    for a, (start, stop) in enumerate(arrays):
        for s, top in enumerate(slices.top_levels):
            part = levels[:, 0, s, start:stop]
            levels[:, 0, s, start:stop] = torch.where(flip[a, :, s, None] < 0, top - part, part)
    return Cells(levels, flip)


def _sum_bits(rows: int, top: int, train: PulseTrain) -> int:
    """Bits of the largest unflipped sum of a column."""
    return (rows * top * train.digit_max).bit_length()


@dataclass(frozen=True)
class Stream:
    """One converted column per output: its scale of levels and its converter's full range.

    All in steps of its cells.

    Attributes:
        top: steps between g_min and g_max (twice the levels where half levels are converted on their own).
        gain: digital weight of a step.
        baseline: g_min in steps, where it reaches the converter, else 0.
        low: lower end of the converter's full range, in steps.
        high: upper end.
        slice: index of the weight slice.
    """

    top: int
    gain: float
    baseline: float
    low: float
    high: float
    slice: int


def streams(hardware: Hardware, train: PulseTrain, on_off_ratio: float) -> tuple[Stream, ...]:
    """What this hardware converts, per output column.

    Args:
        hardware: the chip.
        train: the pulses.
        on_off_ratio: g_max / g_min.

    Returns:
        The streams: slices, and where subtraction is digital first all plus sides, then all minus sides.
    """
    slices, weights, adc = weight_slicing(hardware), hardware.weights, hardware.adc
    g_min = 1.0 / on_off_ratio
    digital = slices.paired and adc is not None and adc.subtract == "digital"
    halves = 2 if digital and weights.sided == "two" else 1
    lines = hardware.array.rows // 2 if weights.encoding == "xnor" else hardware.array.rows
    out = []
    for side in (1, -1) if digital else (1,):
        for s, (level_count, gain) in enumerate(zip(slices.top_levels, slices.gains, strict=True)):
            top = level_count * halves
            cancels = slices.paired and not digital
            high: float = lines * top * train.digit_max
            if weights.encoding == "isaac":
                high = (1 << (_sum_bits(lines, top, train) - 1)) - 1
            elif not cancels:
                high = high / (1 - g_min)
            low = -high if cancels or train.signed_digits else 0.0
            baseline = 0.0 if cancels else g_min * top / (1 - g_min)
            out.append(Stream(top, side * gain / halves, baseline, low, high, s))
    return tuple(out)


def stream_converter(
    hardware: Hardware, stream: Stream, train: PulseTrain, on_off_ratio: float, calibrated: float | None
) -> Converter:
    """The converter of one stream.

    Args:
        hardware: a chip with an [adc] table.
        stream: the stream.
        train: the pulses.
        on_off_ratio: g_max / g_min.
        calibrated: upper end of the calibrated range in steps, or None where the range is not calibrated.

    Returns:
        The converter.

    Raises:
        HardwareError: a symmetric converter of one bit.
    """
    adc = hardware.adc
    if adc is None:
        raise ValueError("the chip has ideal converters")
    ranged = partial(ranged_converter, adc.kind, adc.bits, codes=adc.codes)
    if isinstance(adc.range, tuple):
        unit = stream.top * train.digit_max / (1 - 1 / on_off_ratio)
        return ranged(adc.range[0] * unit, adc.range[1] * unit, literal=True)
    if adc.range == "calibrated" and calibrated is not None:
        return ranged(-calibrated if stream.low < 0 else 0.0, calibrated)
    if not adc.uneven:
        exact = level_converter(adc.kind, adc.bits, stream.low, stream.high, adc.codes)
        if exact is not None:
            return exact
    return ranged(stream.low, stream.high)


def assemble(
    hardware: Hardware,
    w_int: Tensor,
    cells: Cells,
    train: PulseTrain,
    *,
    on_off_ratio: float,
    signed: bool,
    conductance: Tensor | None = None,
    unit_conductance: Tensor | None = None,
    variance: Tensor | None = None,
    unit_variance: Tensor | None = None,
    adc_high: tuple[float, ...] | None = None,
    conversion: Conversion = "real",
    readout: Readout | None = None,
) -> Job:
    """The numbers an engine needs.

    Shapes: w_int (groups, outputs, inputs); conductance (groups, planes, slices, rows, outputs) in units of
    g_max; unit_conductance (groups, 1, 1, rows, 1) likewise.

    Args:
        hardware: the chip.
        w_int: integer weights.
        cells: their target levels.
        train: the pulses.
        on_off_ratio: g_max / g_min.
        signed: whether input codes have a sign.
        conductance: programmed cells; None: they are at their levels.
        unit_conductance: programmed unit column.
        variance: white read noise of the cells, like `conductance`, in units of g_max squared.
        unit_variance: that of the unit column.
        adc_high: calibrated upper ends of the converters' ranges in steps, one a stream and a last one for
            the unit column.
        conversion: real, fine or no converters; see `imcsim.nn.effects`.
        readout: what the device card says of its bit lines.

    Returns:
        The job.
    """
    kinds = streams(hardware, train, on_off_ratio)
    adc = None if conversion == "none" else hardware.adc
    slices = weight_slicing(hardware)
    arrays = array_rows(hardware, w_int.shape[2])
    reads, owner = split_reads(arrays, hardware.array.active)
    step = [kind.top / (1 - 1 / on_off_ratio) for kind in kinds]
    if conductance is None:
        planes = cells.levels
        scale = [kind.top / slices.top_levels[kind.slice] for kind in kinds]
        baseline = tuple(kind.baseline for kind in kinds)
    else:
        planes, scale, baseline = conductance, step, (0.0,) * len(kinds)
    apart = len(kinds) > len(slices.widths)
    matrix = _streams_of(planes, scale, slices.paired and not apart, minus=True)
    if conductance is None:
        matrix = matrix.to(torch.int8 if max(kind.top for kind in kinds) < 128 else torch.int32)
    noise = None
    if variance is not None:
        noise = _streams_of(
            variance, [factor * factor for factor in step], slices.paired and not apart, minus=False
        )
    flip = None if cells.flip is None else cells.flip[list(owner)]
    columns = Columns(matrix, reads, tuple(kind.gain for kind in kinds), baseline, flip, noise)
    columns = _bit_lines(columns, hardware, readout, step, train)
    converters = None
    if adc is not None:
        highs = adc_high if adc_high is not None else (None,) * len(kinds)
        converters = tuple(
            stream_converter(hardware, kind, train, on_off_ratio, high)
            for kind, high in zip(kinds, highs, strict=False)
        )
        if conversion == "fine":
            converters = tuple(finer(converter) for converter in converters)
    known = tuple(kind.baseline for kind in kinds)
    snap = known if adc is not None and adc.snap else None
    unit = unit_converter = None
    if hardware.adc is not None and hardware.adc.offset_correction == "unit_column":
        unit = _unit_column(columns, kinds[0], unit_conductance, unit_variance, step[0])
        if converters is not None:
            last = adc_high[-1] if adc_high is not None else None
            unit_converter = stream_converter(hardware, kinds[0], train, on_off_ratio, last)
            if conversion == "fine":
                unit_converter = finer(unit_converter)
    measured = unit_converter is not None and ideal_circuits(hardware)
    if unit is not None and unit_converter is not None and measured and conductance is None and not known[0]:
        ((low, high),) = reach(unit, train)
        if unit_converter.lossless(low, high):  # what it measures is what is counted
            unit = unit_converter = None
    fix = correction(
        columns,
        train,
        converters,
        known_baseline=known,
        top_levels=tuple(kind.top for kind in kinds),
        offset=slices.offset,
        weight_sums=w_int.sum(2, dtype=torch.float64),
        unit_column=unit is not None,
        snapped=snap is not None,
    )
    return Job(
        w_int=w_int,
        columns=columns,
        train=train,
        converters=converters,
        correction=fix,
        input_top=top_code(hardware.inputs.bits, signed=signed),
        integer_cells=conductance is None and train.drive is None,
        complementary=hardware.weights.encoding == "xnor",
        snap=snap,
        unit=unit,
        unit_converter=unit_converter,
        unit_baseline=known[0] if unit is not None else 0.0,
        accumulator_bits=None if conversion == "none" else hardware.array.accumulator_bits,
    )


def _bit_lines(
    columns: Columns, hardware: Hardware, readout: Readout | None, step: list[float], train: PulseTrain
) -> Columns:
    """Bit lines that do not simply add currents."""
    if hardware.array.readout == "divider":
        strength = 1.0 if readout is None else readout.pull_down_norm / readout.pull_up_norm
        return replace(columns, divider_lines=hardware.array.rows // 2, pull_down=strength)
    if readout is None or readout.saturation_norm is None:
        return columns
    limit = readout.saturation_norm * train.digit_max
    return replace(columns, saturation=tuple(limit * factor for factor in step))


def _streams_of(planes: Tensor, scale: list[float], merge: bool, *, minus: bool) -> Tensor:
    """Planes of cells as converted streams.

    Shapes: (groups, planes, slices, rows, outputs) -> (groups, streams, rows, outputs).
    """
    if merge:
        matrix = planes[:, 0] - planes[:, 1] if minus else planes[:, 0] + planes[:, 1]
    else:
        matrix = planes.flatten(1, 2)
    return matrix * torch.tensor(scale, dtype=matrix.dtype, device=matrix.device).view(1, -1, 1, 1)


def _unit_column(
    columns: Columns, kind: Stream, conductance: Tensor | None, variance: Tensor | None, step: float
) -> Columns:
    groups, _, rows, _ = columns.cells.shape
    if conductance is None:
        cells = torch.ones(groups, 1, rows, 1, dtype=torch.int8, device=columns.cells.device)
        return Columns(cells, columns.reads, (1.0,), (kind.baseline,))
    noise = None if variance is None else variance[:, 0] * step * step
    return Columns(conductance[:, 0] * step, columns.reads, (1.0,), (0.0,), variance=noise)
