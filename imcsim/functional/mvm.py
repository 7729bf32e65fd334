"""The float64 reference of an analog matrix product.

Pulses in, column currents, codes, shift-and-add, sum over reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imcsim.functional.adc import Converter, convert
from imcsim.functional.bank import Bank, read_out
from imcsim.functional.dac import PulseTrain, digits, drive_of
from imcsim.functional.noise import ReadStream


@dataclass(frozen=True)
class Columns:
    """The bit lines of a layer as its converters see them.

    A *stream* is one converted column per output: a weight slice (after analog subtraction of its pair), or
    one side of it.
    Currents are counted in levels (see `imcsim.functional.adc`).

    Attributes:
        cells: (groups, streams, inputs, outputs) level of each cell: integers for ideal cells (any dtype that
            holds them), real
            numbers for programmed ones.
        reads: (start, stop) ranges of rows driven together and converted; they cover the inputs once.
        gains: digital weight of one level of each stream.
        baseline: g_min's contribution to each stream in levels per unit of digit sum, where it is not part of
            `cells`.
        flip: (reads, groups, streams, outputs), -1 where the column is stored flipped, else 1; None: nothing
            is flipped.
        variance: (groups, streams, inputs, outputs) white read noise of each cell in levels squared, or None.
        saturation: currents at which the streams' bit lines give out, in levels; None: they do not.
        divider_lines: inputs of one array where pairs of rows pull a bit line up and down: the column gives
            ``divider_lines up / (up + down)``, and the digital side scales it by the inputs that were driven.
        pull_down: strength of a pull-down over that of a pull-up.
        clamp: largest magnitudes of current that the streams' sensing circuits pass on, in levels; None: any.
        pedestal: (reads, groups, streams, outputs) current of the word lines' offsets, at every conversion.
        line_noise: rms of what a pulse drives, in digits.
    """

    cells: Tensor
    reads: tuple[tuple[int, int], ...]
    gains: tuple[float, ...]
    baseline: tuple[float, ...]
    flip: Tensor | None = None
    variance: Tensor | None = None
    saturation: tuple[float, ...] | None = None
    divider_lines: int | None = None
    pull_down: float = 1.0
    clamp: tuple[float, ...] | None = None
    pedestal: Tensor | None = None
    line_noise: float = 0.0

    @property
    def disturbed(self) -> str | None:
        """What, around cells and converters, keeps a column from being the sum of its ideal pulses."""
        if self.clamp is not None:
            return "column currents are clamped"
        if self.pedestal is not None or self.line_noise:
            return "word lines are driven with offset or noise"
        return None

    @property
    def reshapes(self) -> bool:
        """Whether what a converter sees is not the sum of its cells' currents."""
        return self.saturation is not None or self.divider_lines is not None


def stream_sums(
    x_int: Tensor,
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None = None,
    stream: ReadStream | None = None,
    first: int = 0,
    bank: Bank | None = None,
) -> Tensor:
    """Digitised and digitally summed column currents, in units of one integer product.

    ``sum_q gain_q step_q sum_r flip_rq sum_t weight_t (code_rqt - zero_q)`` with
    ``code = ADC(sum_rows digit_t (cell + baseline_q))``; without converters ``step (code - zero)`` is the
    current itself.
    Each conversion sees white read noise of variance ``sum_rows digit_t^2 variance``, the exact distribution
    of independent cells. Word lines add their offsets' current and the noise of their drive, which all
    columns share; then the current is clamped. Converters that are not ideal: `imcsim.functional.bank`.
    With `snap` each converted value is first rounded to the nearest whole level above the known baseline:
    ``rint(step (code - origin) - snap_q sum_rows digit)`` replaces ``step (code - zero)``.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes.
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream, or None for ideal ones.
        snap: the known baseline of each stream in levels per unit of digit sum, to be removed before
            rounding; None: no snapping.
        stream: where read noise is drawn from; None: there is none.
        first: index of the first vector in the batch, for the draws.
        bank: the converters that are not ideal; None: they are.

    Returns:
        The sum, before the corrections that `imcsim.functional.correction` describes.
    """
    cells = columns.cells.double()
    pulses = drive_of(digits(x_int.double(), train), train)
    out = torch.zeros(*x_int.shape[:2], cells.shape[-1], dtype=torch.float64, device=x_int.device)
    totals = torch.zeros(len(columns.gains), *out.shape, dtype=torch.float64, device=x_int.device)
    for r, (start, stop) in enumerate(columns.reads):
        normals = read_normals(columns, train, r, stream, first, x_int.shape[1])
        thermal = conversion_normals(columns, train, bank, r, stream, first, x_int.shape[1])
        hiss = line_normals(columns, train, r, stream, first, x_int.shape[1])
        for t, (weight, pulse) in enumerate(zip(train.weights, pulses[..., start:stop], strict=True)):
            drive = pulse.sum(-1, keepdim=True)
            sent = pulse if hiss is None else pulse + columns.line_noise * hiss[:, t].double()
            for q in range(len(columns.gains)):
                current = sent @ cells[:, q, start:stop]
                if columns.baseline[q]:
                    current = current + columns.baseline[q] * sent.sum(-1, keepdim=True)
                if columns.pedestal is not None:
                    current = current + columns.pedestal[r, :, q, None]
                if normals is not None and columns.variance is not None:
                    variance = pulse.square() @ columns.variance[:, q, start:stop].double()
                    current = current + variance.sqrt() * normals[:, t, :, q].double()
                if columns.divider_lines is not None:
                    down = columns.pull_down * (swap_pairs(pulse) @ cells[:, q, start:stop])
                    current = divide(current, down, columns.divider_lines)
                if columns.saturation is not None:
                    current = saturate(current, columns.saturation[q])
                if columns.clamp is not None:
                    current = current.clamp(-columns.clamp[q], columns.clamp[q])
                converter = None if converters is None else converters[q]
                if converter is None:
                    code = current
                elif bank is None:
                    code = convert(current, converter)
                else:
                    noise = None if thermal is None else thermal[:, t, :, q]
                    code = read_out(current, converter, bank, q, bank.owner[r, :, q, None], noise)
                if (snap is not None or columns.divider_lines) and converter is not None:
                    code = (code + converter.residue) * converter.step
                if columns.divider_lines:
                    code = code * drive / columns.divider_lines
                if snap is not None and converter is not None:
                    code = torch.round(code - snap[q] * drive)
                flip = 1.0 if columns.flip is None else columns.flip[r, :, q, None, :].double()
                totals[q] += weight * flip * code
    in_levels = converters is None or snap is not None or columns.divider_lines is not None
    for q, gain in enumerate(columns.gains):
        step = 1.0 if in_levels or converters is None else converters[q].step
        out += gain * step * totals[q]
    return out


def swap_pairs(pulse: Tensor) -> Tensor:
    """What drives the complement of each pair of word lines. Shapes: (..., 2 x inputs); returns the same."""
    return pulse.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


def divide(pull_up: Tensor, pull_down: Tensor, lines: int) -> Tensor:
    """A bit line between pull-ups and pull-downs, in the middle where nothing is driven.

    ``lines up / (up + down)``.

    Shapes: both (*any); returns the same.

    Args:
        pull_up: conductance towards the supply, in levels.
        pull_down: conductance towards ground.
        lines: inputs of one array, the full scale.

    Returns:
        The bit line's voltage as a fraction of the supply, times `lines`.

    References: S. Yin et al., "XNOR-SRAM", IEEE JSSC 55, 2020.
    """
    total = pull_up + pull_down
    balance = torch.where(total > 0, pull_up / total.clamp(min=1e-30), torch.full_like(total, 0.5))
    return lines * balance


def saturate(current: Tensor, limit: float) -> Tensor:
    """A bit line discharged towards ground: ``limit (1 - exp(-current / limit))``, linear for small currents.

    Shapes: current (*any); returns the same.

    Args:
        current: the sum of the driven cells' currents, in levels.
        limit: what it can reach.

    Returns:
        The signal.
    """
    return -limit * torch.expm1(-current / limit)


def read_normals(
    columns: Columns, train: PulseTrain, read: int, stream: ReadStream | None, start: int, count: int
) -> Tensor | None:
    """Standard normal draws of every conversion of some vectors at one read: cells' noise.

    Shapes: returns (groups, cycles, vectors, streams, outputs) float32.

    Args:
        columns: the bit lines.
        train: the pulses.
        read: index of the read.
        stream: where they are drawn from, or None.
        start: first vector.
        count: vectors.

    Returns:
        The draws, or None without read noise.
    """
    if stream is None or columns.variance is None:
        return None
    groups, streams, _, outputs = columns.cells.shape
    return _draws(columns, stream, read, start, count, (groups, len(train.weights), streams, outputs))


def conversion_normals(
    columns: Columns,
    train: PulseTrain,
    bank: Bank | None,
    read: int,
    stream: ReadStream | None,
    start: int,
    count: int,
) -> Tensor | None:
    """The same for the converters' own noise. Shapes and arguments: as `read_normals`."""
    if stream is None or bank is None or not bank.noise:
        return None
    groups, streams, _, outputs = columns.cells.shape
    own = replace(stream, purpose=f"{stream.purpose}, conversion")
    return _draws(columns, own, read, start, count, (groups, len(train.weights), streams, outputs))


def line_normals(
    columns: Columns, train: PulseTrain, read: int, stream: ReadStream | None, start: int, count: int
) -> Tensor | None:
    """The same for the pulses of the word lines of one read.

    Shapes: returns (groups, cycles, vectors, rows) float32; arguments as `read_normals`.
    """
    if stream is None or not columns.line_noise:
        return None
    rows = columns.reads[read][1] - columns.reads[read][0]
    own = replace(stream, purpose=f"{stream.purpose}, word lines")
    return _draws(columns, own, read, start, count, (columns.cells.shape[0], len(train.weights), rows))


def _draws(
    columns: Columns, stream: ReadStream, read: int, start: int, count: int, shape: tuple[int, ...]
) -> Tensor:
    """Shapes: shape is (groups, cycles, ...); returns (groups, cycles, vectors, ...)."""
    drawn = torch.from_numpy(stream.of_vectors(read, start, count, math.prod(shape)))
    return drawn.view(count, *shape).movedim(0, 2).to(columns.cells.device)
