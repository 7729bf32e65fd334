"""What a layer's converters see: histograms of its column currents, and the ranges and errors that follow."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from imcsim.circuits.converters import converter_bank
from imcsim.functional.adc import Converter, read_back
from imcsim.functional.bank import read_out
from imcsim.functional.dac import PulseTrain, digits, drive_of
from imcsim.functional.mvm import Columns, divide, saturate, swap_pairs
from imcsim.functional.noise import keyed_generator
from imcsim.functional.ranges import kmeans_values, mse_range, percentile_range, power_of_two_ranges
from imcsim.hardware import Hardware
from imcsim.kernels.job import Job, reach
from imcsim.nn.array import CrossbarArray
from imcsim.nn.effects import CURRENTS, TARGETS
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.readout import Stream, stream_converter, streams

VECTORS_PER_LAYER = 2048
"""Input vectors of a layer whose column currents are looked at, spread evenly over the data."""

BINS = 4096


class Currents:
    """Histograms of a layer's column currents, one a stream and input cycle, the unit column's last.

    Args:
        layer: the layer.
        array: its arrays.
        batches: how many batches will be seen, over which the vectors are spread.
        written: look at the cells as they were written, not at their targets.
    """

    def __init__(self, layer: CrossbarLayer, array: CrossbarArray, batches: int, *, written: bool) -> None:
        self.layer, self.array = layer, array
        self.budget = -(-VECTORS_PER_LAYER // batches)
        self.job: Job = array.job(CURRENTS if written else TARGETS)
        self.watched: list[tuple[Columns, int]] = [
            (self.job.columns, q) for q in range(len(self.job.columns.gains))
        ]
        if self.job.unit is not None:
            self.watched.append((self.job.unit, 0))
        exact = (
            self.job.integer_cells and not any(self.job.columns.baseline) and not self.job.columns.reshapes
        )
        self.low, self.width, self.counts = [], [], []
        for low, high in self._spans():
            width = 1.0 if exact and high - low <= BINS else max(high - low, 1e-30) / BINS
            self.low.append(low)
            self.width.append(width)
            self.counts.append(torch.zeros(len(self.job.train.weights), int((high - low) / width) + 2))

    def _spans(self) -> list[tuple[float, float]]:
        spans = reach(self.job.columns, self.job.train)
        lines = self.job.columns.divider_lines
        if lines is not None:
            spans = [(0.0, float(lines))] * len(spans)
        return spans + (reach(self.job.unit, self.job.train) if self.job.unit is not None else [])

    def see(self, x: Tensor) -> None:
        """Look at the currents of some of the vectors of a batch. Shapes: x as the layer takes it."""
        for codes in self.array.quantize(x, self.layer.sample_dims).codes:
            self._see(codes)

    def _see(self, codes: Tensor) -> None:
        """Look at one pass of input codes."""
        samples = codes.shape[0] if codes.dim() > 1 else 1
        if samples > 1:
            each = self.layer.vectors(codes[:1]).shape[1]
            codes = _spread(codes, 0, -(-self.budget // max(each, 1)))
        sent = self.job.word_lines(_spread(self.layer.vectors(codes), 1, self.budget))
        train = self.job.train
        pulses = drive_of(digits(sent, train).to(torch.float32), train)
        for (columns, q), low, width, counts in zip(
            self.watched, self.low, self.width, self.counts, strict=True
        ):
            for t, pulse in enumerate(pulses):
                for start, stop in columns.reads:
                    signal = _signal(columns, q, pulse[..., start:stop], slice(start, stop))
                    index = ((signal.flatten() - low) / width).round_().to(torch.int64)
                    index = index.clamp_(0, counts.shape[1] - 1).cpu()
                    counts[t] += torch.bincount(index, minlength=counts.shape[1])

    def choose(self, criterion: str, percentile: float, power_of_two: bool) -> tuple[float, ...]:
        """Ranges for the converters.

        Args:
            criterion: mse or percentile.
            percentile: for the latter.
            power_of_two: ranges of slices a power of two apart.

        Returns:
            The upper ends in levels, one a stream and the unit column's last; both sides of a pair share
            theirs.
        """
        kinds, by_stream = self._kinds(), self._slices()
        ends: dict[int, float] = {}
        for key in dict.fromkeys(by_stream):
            values, counts = self._seen(key)
            kind = kinds[max(key, 0)]
            if criterion == "percentile":
                ends[key] = percentile_range(values, counts, percentile)
            else:
                make = partial(_calibrated_converter, self.array, kind, self.job.train)
                level = _one_level(self.array.hardware, kind)
                ends[key] = mse_range(values, counts, make, level, partial(_nominal, self.array.hardware))
        if power_of_two:
            ends = dict(zip(ends, power_of_two_ranges(list(ends.values())), strict=True))
        return tuple(ends[key] for key in by_stream)

    def learn(self, codes: int) -> tuple[tuple[float, ...], ...]:
        """Values of codes by k-means.

        Args:
            codes: values a converter.

        Returns:
            The values in levels, ascending, one row a stream and the unit column's last; both sides of a pair
            share theirs.
        """
        found: dict[int, tuple[float, ...]] = {}
        for key in dict.fromkeys(self._slices()):
            values, counts = self._seen(key)
            order = values.argsort()
            found[key] = kmeans_values(values[order], counts[order], codes)
        return tuple(found[key] for key in self._slices())

    def _slices(self) -> list[int]:
        """The slice of each stream; -1 of the unit column."""
        return [kind.slice for kind in self._kinds()] + ([-1] if self.job.unit is not None else [])

    def _seen(self, key: int) -> tuple[Tensor, Tensor]:
        """Currents of a slice and how often they occur."""
        members = [q for q, other in enumerate(self._slices()) if other == key]
        values = torch.cat([self._values(q) for q in members])
        return values, torch.cat([self.counts[q].sum(0).double() for q in members])

    def conversion_errors(self) -> tuple[tuple[float, ...], ...]:
        """Mean square error of one conversion in levels squared, clipping included, by stream and cycle."""
        array = self.array
        highs: tuple[float | None, ...] = array.adc_high or (None,) * len(self.watched)
        out = []
        for q, kind in enumerate(self._kinds()):
            converter = stream_converter(array.hardware, kind, self.job.train, array.on_off_ratio, highs[q])
            values = self._values(q)
            learned = None if array.adc_values is None else array.adc_values[q : q + 1]
            read = _nominal(array.hardware, values, converter, learned)
            error = (self.counts[q].double() * (read - values).square()).sum(1)
            out.append(tuple((error / self.counts[q].sum(1).clamp(min=1)).tolist()))
        return tuple(out)

    def _kinds(self) -> tuple[Stream, ...]:
        return streams(self.array.hardware, self.job.train, self.array.on_off_ratio)

    def _values(self, q: int) -> Tensor:
        return self.low[q] + self.width[q] * torch.arange(self.counts[q].shape[1], dtype=torch.float64)


def _signal(columns: Columns, q: int, pulse: Tensor, rows: slice) -> Tensor:
    """What a converter sees of one read.

    Shapes: pulse (groups, vectors, rows) -> (groups, vectors, outputs).
    """
    cells = columns.cells[:, q, rows].float()
    current = pulse @ (cells + columns.baseline[q])
    if columns.divider_lines is not None:
        return divide(current, columns.pull_down * (swap_pairs(pulse) @ cells), columns.divider_lines)
    if columns.saturation is not None:
        current = saturate(current, columns.saturation[q])
    return current if columns.clamp is None else current.clamp(-columns.clamp[q], columns.clamp[q])


def _nominal(
    hardware: Hardware,
    values: Tensor,
    converter: Converter,
    learned: tuple[tuple[float, ...], ...] | None = None,
) -> Tensor:
    """What currents are taken for by a converter of ideal parts. Shapes: values (*any), float64; the same."""
    adc = hardware.adc
    if adc is None or not adc.uneven or (adc.spacing == "kmeans" and learned is None):
        return read_back(values, converter)
    one = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
    bank = converter_bank(adc.without_errors(), (converter,), one, partial(keyed_generator, 0, ""), learned)
    if bank is None:
        return read_back(values, converter)
    code = read_out(values, converter, bank, 0, one.flatten()[0])
    return (code + converter.residue) * converter.step


def _calibrated_converter(array: CrossbarArray, kind: Stream, train: PulseTrain, end: float) -> Converter:
    return stream_converter(array.hardware, kind, train, array.on_off_ratio, end)


def _one_level(hardware: Hardware, kind: Stream) -> tuple[float, ...]:
    """The range end that makes one LSB exactly one level, as a candidate."""
    adc = hardware.adc
    if adc is None:
        raise ValueError("the chip has ideal converters")
    if adc.uneven:
        return ()
    symmetric = adc.kind == "symmetric" or (kind.low < 0 and adc.kind not in ("uniform", "sense_amp"))
    codes = adc.codes - 1
    if symmetric:
        return (float((codes - 1) // 2),) if codes > 1 else ()
    return (codes / 2 if kind.low < 0 else float(codes),)


def _spread(x: Tensor, dim: int, count: int) -> Tensor:
    """Up to `count` slices of a dimension, evenly spread."""
    have = x.shape[dim]
    if have <= count:
        return x
    return x.index_select(dim, torch.linspace(0, have - 1, count, device=x.device).round().long())
