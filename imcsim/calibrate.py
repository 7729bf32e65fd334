"""Input and converter ranges from data."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imcsim.batches import Forward, batch_input, evaluation_mode, iterate, to_model
from imcsim.convert import arrays
from imcsim.errors import CalibrationError
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain, digits
from imcsim.functional.ranges import mse_range, percentile_range, power_of_two_ranges
from imcsim.hardware import Hardware
from imcsim.kernels.job import Job, reach
from imcsim.nn.array import CrossbarArray
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.readout import Stream, stream_converter, streams
from imcsim.progress import progress

VECTORS_PER_LAYER = 2048
"""Input vectors of a layer whose column currents are looked at, spread evenly over the data."""

BINS = 4096


@torch.no_grad()
def calibrate(
    sim: nn.Module,
    batches: Iterable[Any],
    forward: Forward | None = None,
    *,
    criterion: Literal["mse", "percentile"] = "mse",
    percentile: float = 99.9,
    power_of_two: bool = False,
) -> None:
    """Set the input ranges and the converters' calibrated ranges from data.

    The float network runs over the data twice: first for max |input| and sign of each layer, then for the
    column currents of each
    layer and slice, from which the range with the least mean square error is chosen; on target conductances,
    or on the programmed ones
    if `program` was called. Currents of one sign keep lo = 0, currents of both lo = -hi.

    Args:
        sim: a converted model.
        batches: tensors or (input, target) pairs; iterated once.
        forward: runs the network on anything else: ``forward(net, batch)``.
        criterion: mse (least mean square error) or percentile.
        percentile: the percentage of currents inside the range, for that criterion.
        power_of_two: slices' ranges a power of two apart, so that their codes combine by shifts.

    Raises:
        CalibrationError: no batches, inputs that are not finite, or a layer that was never reached.
        InputError: a batch of an unknown kind.
    """
    if criterion not in ("mse", "percentile"):
        raise CalibrationError(f"criterion = {criterion!r} is not one of 'mse', 'percentile'")
    if not 0 < percentile <= 100:
        raise CalibrationError(f"percentile = {percentile!r} is not above 0 and at most 100")
    layers = arrays(sim)
    held = iterate(batches, "calibrate")
    if not held:
        raise CalibrationError("calibrate got no batches; give at least one, a few hundred samples are usual")
    if forward is None and not any(batch_input(batch).numel() for batch in held):
        raise CalibrationError("calibrate got batches without a sample; a few hundred samples are usual")
    with evaluation_mode(sim):
        _run(sim, held, forward, {array: _InputRange(array).see for _, array in layers}, "input ranges")
        for layer, array in layers:
            array.sync(layer.weight)
        wanting = [(layer, array) for layer, array in layers if _wants_adc_range(array)]
        if wanting:
            seen = {array: _Currents(layer, array, len(held)) for layer, array in wanting}
            _run(
                sim,
                held,
                forward,
                {array: currents.see for array, currents in seen.items()},
                "converter ranges",
            )
            for array, currents in seen.items():
                array.adc_high = currents.choose(criterion, percentile, power_of_two)
                array.forget_plans()


def _wants_adc_range(array: CrossbarArray) -> bool:
    return array.hardware.adc is not None and array.hardware.adc.range == "calibrated"


def _run(
    sim: nn.Module, held: list[Any], forward: Forward | None, observers: dict[CrossbarArray, Any], label: str
) -> None:
    reached: set[CrossbarArray] = set()
    for array, see in observers.items():
        array.observer = partial(_note, see, reached, array)
    try:
        for batch in progress(held, f"calibrating {label}"):
            if forward is None:
                sim(to_model(sim, batch_input(batch)))
            else:
                forward(sim, batch)
    finally:
        for array in observers:
            array.observer = None
    missed = [array.name for array in observers if array not in reached]
    if missed:
        raise CalibrationError(
            "the calibration data never reached layer "
            f"{missed[0]!r}{f' and {len(missed) - 1} more' if len(missed) > 1 else ''}; "
            "give batches that use it, or keep it digital with {'" + missed[0] + "': None}"
        )


def _note(see: Any, reached: set[CrossbarArray], array: CrossbarArray, x: Tensor) -> None:
    reached.add(array)
    see(x.detach())


class _InputRange:
    """Largest magnitude and sign of a layer's inputs."""

    def __init__(self, array: CrossbarArray) -> None:
        self.array = array
        self.peak, self.negative = 0.0, False

    def see(self, x: Tensor) -> None:
        if x.numel() == 0:
            return
        low, high = (float(v) for v in x.float().aminmax())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise CalibrationError(
                f"layer {self.array.name!r} got inputs that are not finite during calibration; check the "
                "data and the model"
            )
        self.peak, self.negative = max(self.peak, -low, high), self.negative or low < 0
        self.array.input_range, self.array.input_signed = self.peak or 1.0, self.negative
        self.array.forget_plans()


class _Currents:
    """Histograms of a layer's column currents, one a stream, the unit column's last."""

    def __init__(self, layer: CrossbarLayer, array: CrossbarArray, batches: int) -> None:
        self.layer, self.array = layer, array
        self.budget = -(-VECTORS_PER_LAYER // batches)
        self.job: Job = array.job(ideal_converters=True, targets=not array.programmed_by_user)
        spans = reach(self.job.columns, self.job.train)
        if self.job.unit is not None:
            spans += reach(self.job.unit, self.job.train)
        exact = self.job.integer_cells and not any(self.job.columns.baseline)
        self.low = [low for low, _ in spans]
        self.width = [
            1.0 if exact and high - low <= BINS else max(high - low, 1e-30) / BINS for low, high in spans
        ]
        self.counts = [
            torch.zeros(int((high - low) / width) + 2)
            for (low, high), width in zip(spans, self.width, strict=True)
        ]

    def see(self, x: Tensor) -> None:
        """Look at the currents of some of the vectors of a batch. Shapes: x as the layer takes it."""
        codes, _ = self.array.quantize(x, self.layer.sample_dims)
        samples = codes.shape[0] if codes.dim() > 1 else 1
        if samples > 1:
            each = self.layer.vectors(codes[:1]).shape[1]
            codes = _spread(codes, 0, -(-self.budget // max(each, 1)))
        sent = self.job.word_lines(_spread(self.layer.vectors(codes), 1, self.budget))
        pulses = digits(sent, self.job.train).to(torch.float32)
        drives = [pulses[..., start:stop] for start, stop in self.job.columns.reads]
        for q in range(len(self.job.columns.gains)):
            self._count(q, drives, self.job.columns.cells[:, q], self.job.columns.baseline[q])
        if self.job.unit is not None:
            self._count(
                len(self.job.columns.gains), drives, self.job.unit.cells[:, 0], self.job.unit.baseline[0]
            )

    def _count(self, q: int, drives: list[Tensor], cells: Tensor, baseline: float) -> None:
        for (start, stop), drive in zip(self.job.columns.reads, drives, strict=True):
            current = drive @ (cells[:, start:stop].float() + baseline)
            index = (
                ((current.flatten() - self.low[q]) / self.width[q])
                .round_()
                .to(torch.int64)
                .clamp_(0, len(self.counts[q]) - 1)
            )
            self.counts[q] += torch.bincount(index.cpu(), minlength=len(self.counts[q]))

    def choose(self, criterion: str, percentile: float, power_of_two: bool) -> tuple[float, ...]:
        """The upper ends of the ranges, in levels."""
        hardware, ratio = self.array.hardware, self.array.on_off_ratio
        train = self.array.pulses
        kinds = streams(hardware, train, ratio)
        by_stream = [kind.slice for kind in kinds] + ([-1] if self.job.unit is not None else [])
        ends: dict[int, float] = {}
        for key in dict.fromkeys(by_stream):
            members = [q for q, other in enumerate(by_stream) if other == key]
            values = torch.cat(
                [
                    self.low[q] + self.width[q] * torch.arange(len(self.counts[q]), dtype=torch.float64)
                    for q in members
                ]
            )
            counts = torch.cat([self.counts[q].double() for q in members])
            kind = kinds[max(key, 0)]
            if criterion == "percentile":
                ends[key] = percentile_range(values, counts, percentile)
            else:
                ends[key] = mse_range(
                    values,
                    counts,
                    partial(_converter, hardware, kind, train, ratio),
                    _one_level(hardware, kind),
                )
        if power_of_two:
            ends = dict(zip(ends, power_of_two_ranges(list(ends.values())), strict=True))
        return tuple(ends[key] for key in by_stream)


def _converter(hardware: Hardware, kind: Stream, train: PulseTrain, ratio: float, end: float) -> Converter:
    return stream_converter(hardware, kind, train, ratio, end)


def _one_level(hardware: Hardware, kind: Stream) -> tuple[float, ...]:
    """The range end that makes one LSB exactly one level, as a candidate."""
    adc = hardware.adc
    if adc is None:
        raise ValueError("the chip has ideal converters")
    symmetric = adc.kind == "symmetric" or (adc.kind == "auto" and kind.low < 0)
    codes = (1 << adc.bits) - 1
    if symmetric:
        return (float((codes - 1) // 2),) if codes > 1 else ()
    return (codes / 2 if kind.low < 0 else float(codes),)


def _spread(x: Tensor, dim: int, count: int) -> Tensor:
    """Up to `count` slices of a dimension, evenly spread."""
    have = x.shape[dim]
    if have <= count:
        return x
    return x.index_select(dim, torch.linspace(0, have - 1, count, device=x.device).round().long())
