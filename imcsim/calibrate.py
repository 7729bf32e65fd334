"""Input and converter ranges from data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imcsim.batches import Forward, batch_input, evaluation_mode, iterate, to_model
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, InputError
from imcsim.nn.array import CrossbarArray
from imcsim.nn.currents import Currents
from imcsim.nn.norm import ideal_norms
from imcsim.progress import progress

_RANGES = ("input_range", "input_signed", "adc_high", "adc_values", "conversion_errors")
"""What calibration finds of an array, beside its input quantizer's own."""


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
        InputError: a batch of an unknown kind. Whatever is raised, ranges are as they were before.
    """
    if criterion not in ("mse", "percentile"):
        raise CalibrationError(f"criterion = {criterion!r} is not one of 'mse', 'percentile'")
    if not isinstance(percentile, Real) or not 0 < percentile <= 100:
        raise CalibrationError(f"percentile = {percentile!r} is not above 0 and at most 100")
    layers = arrays(sim)
    held = _held(batches, forward, "calibrate")
    with evaluation_mode(sim), _all_or_nothing([array for _, array in layers]):
        _run(sim, held, forward, {array: _InputRange(array).see for _, array in layers}, "input ranges")
        for array, currents in _currents(sim, held, forward, written=None).items():
            if array.hardware.adc is not None and array.hardware.adc.range == "calibrated":
                array.adc_high = currents.choose(criterion, percentile, power_of_two)
            if array.hardware.adc is not None and array.hardware.adc.spacing == "kmeans":
                array.adc_values = currents.learn(array.hardware.adc.codes)
            array.conversion_errors = currents.conversion_errors()
            array.forget_plans()


@torch.no_grad()
def measure_conversions(sim: nn.Module, batches: Iterable[Any], forward: Forward | None = None) -> None:
    """Measure anew what conversions lose, at the ranges as they are and on the arrays as written.

    Training with converters as noise takes its variance from there; see `imcsim.train`.

    Args:
        sim: a converted and calibrated model.
        batches: as for `calibrate`.
        forward: as for `calibrate`.

    Raises:
        CalibrationError: the model was not calibrated, no batches, or a layer that was never reached.
        InputError: a batch of an unknown kind.
    """
    held = _held(batches, forward, "measure_conversions")
    with evaluation_mode(sim):
        for array, currents in _currents(sim, held, forward, written=True).items():
            array.conversion_errors = currents.conversion_errors()
            array.forget_plans()


def _held(batches: Iterable[Any], forward: Forward | None, what: str) -> list[Any]:
    if forward is not None and not callable(forward):
        raise InputError(
            f"{what}: forward = {forward!r:.60} is not a function; give one such as lambda net, batch: "
            "net(batch)"
        )
    held = iterate(batches, what)
    if not held:
        raise CalibrationError(f"{what} got no batches; give at least one, a few hundred samples are usual")
    if forward is None and not any(batch_input(batch).numel() for batch in held):
        raise CalibrationError(f"{what} got batches without a sample; a few hundred samples are usual")
    return held


def _currents(
    sim: nn.Module, held: list[Any], forward: Forward | None, *, written: bool | None
) -> dict[CrossbarArray, Currents]:
    """Column currents of every layer with converters, on written cells; None: if the user wrote them."""
    layers = arrays(sim)
    for layer, array in layers:
        array.sync(layer.weight)
    seen = {
        array: Currents(
            layer, array, len(held), written=array.programmed_by_user if written is None else written
        )
        for layer, array in layers
        if array.hardware.adc is not None
    }
    if seen:
        observers = {array: currents.see for array, currents in seen.items()}
        _run(sim, held, forward, observers, "converter ranges")
    return seen


def _run(
    sim: nn.Module, held: list[Any], forward: Forward | None, observers: dict[CrossbarArray, Any], label: str
) -> None:
    reached: set[CrossbarArray] = set()
    for array, see in observers.items():
        array.observer = partial(_note, see, reached, array)
    try:
        with ideal_norms(sim):
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


@contextmanager
def _all_or_nothing(arrays: Sequence[CrossbarArray]) -> Iterator[None]:
    """Give arrays the ranges back that they had, where a calibration fails half way."""
    had = [
        (
            {name: getattr(array, name) for name in _RANGES},
            {key: value.clone() for key, value in array.input_quantizer.state_dict().items()},
        )
        for array in arrays
    ]
    try:
        yield
    except BaseException:
        for array, (ranges, quantizer) in zip(arrays, had, strict=True):
            for name, value in ranges.items():
                setattr(array, name, value)
            array.input_quantizer.load_state_dict(quantizer)
            array.forget_plans()
        raise


def _note(see: Any, reached: set[CrossbarArray], array: CrossbarArray, x: Tensor) -> None:
    reached.add(array)
    see(x.detach())


class _InputRange:
    """Largest magnitude and sign of a layer's inputs."""

    def __init__(self, array: CrossbarArray) -> None:
        self.array = array
        array.input_quantizer.start_calibration()
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
        self.array.input_quantizer.observe(x)
        self.array.forget_plans()
