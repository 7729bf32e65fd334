"""The programmed state of one layer: its cells, ranges, seeds and life cycle. Arithmetic lives in functional and kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.errors import CalibrationError, EngineError, MappingError
from imcsim.functional.encode import Slicing
from imcsim.functional.dac import PulseTrain
from imcsim.functional.noise import ReadStream, keyed_generator
from imcsim.functional.quantize import quantize_input, quantize_weight
from imcsim.hardware import Hardware
from imcsim.kernels import engines
from imcsim.kernels.job import Job
from imcsim.nn.device import bind_device, level_conductance, needs_cells, on_off_ratio
from imcsim.nn.readout import Cells, assemble, pulse_train, streams, target_cells, weight_slicing

WeightMatrix = Callable[[Tensor], Tensor]


class CrossbarArray(nn.Module):
    """What was programmed into the arrays of one layer, and how they are read.

    Args:
        hardware: the chip.
        name: the layer's module name, which keys its random draws.
        engine: auto, or the engine to use.
        weight_matrix: from the layer's weight to (groups, outputs, inputs).
    """

    def __init__(self, hardware: Hardware, name: str, engine: str, weight_matrix: WeightMatrix) -> None:
        super().__init__()
        self.hardware = hardware
        self.name = name
        self.engine = engine
        self.weight_matrix = weight_matrix
        self.device_model = bind_device(hardware)
        self.on_off_ratio = on_off_ratio(self.device_model)
        self.seed = 0
        self.seconds = 0.0
        self.read_seed = 0
        self.samples_read = 0
        self.programmed_by_user = False
        self.input_range: float | None = None
        self.input_signed: bool | None = None
        self.adc_high: tuple[float, ...] | None = None
        self.observer: Callable[[Tensor], None] | None = None
        self.cells: dict[str, Tensor] = {}
        self.unit_cells: dict[str, Tensor] = {}
        self._seen: Tensor | None = None
        self._pending: dict[str, Tensor] | None = None
        self._w_int: Tensor | None = None
        self._scale: Tensor | None = None
        self._targets: Cells | None = None
        self._digit_max = 0
        self._plans: dict[torch.dtype, engines.Choice] = {}

    # Ranges

    @property
    def signed(self) -> bool:
        """Whether input codes have a sign, as far as is known now."""
        inputs = self.hardware.inputs
        if inputs.signed != "auto":
            return inputs.signed
        if inputs.bits == 1:
            return True
        if self.input_signed is not None:
            return self.input_signed
        return inputs.range == "dynamic"

    def full_scale(self, x: Tensor, sample_dims: int) -> Tensor | float:
        """The input magnitude that maps to the top code.

        Shapes: x (*any); returns a number, or with a dynamic range a tensor that broadcasts to x.

        Args:
            x: the layer's input.
            sample_dims: trailing dimensions that share a dynamic range.

        Returns:
            The range.

        Raises:
            CalibrationError: it is to be calibrated and was not; or inputs are negative where a number was given for an unsigned range.
        """
        chosen = self.hardware.inputs.range
        if chosen == "dynamic":
            peak = x.detach().abs().amax(tuple(range(-sample_dims, 0)), keepdim=True)
            return torch.where(peak > 0, peak, torch.ones_like(peak))
        if chosen == "calibrated":
            if self.input_range is None:
                raise CalibrationError(
                    f"layer {self.name!r} has inputs.range = 'calibrated' but was not calibrated; "
                    "call imcsim.calibrate(sim, batches) first, or set inputs.range = \"dynamic\" or a number"
                )
            return self.input_range
        if self.hardware.inputs.signed == "auto" and self.input_signed is None and self.hardware.inputs.bits > 1 and bool((x < 0).any()):
            raise CalibrationError(
                f"layer {self.name!r} got a negative input with inputs.range = {chosen}, inputs.signed = 'auto' and no calibration; "
                "set inputs.signed = true, or call imcsim.calibrate(sim, batches)"
            )
        return chosen

    def quantize(self, x: Tensor, sample_dims: int) -> tuple[Tensor, Tensor | float]:
        """Input codes and their scale.

        Shapes: x (*any); returns codes like x, and a scale that broadcasts to x.

        Args:
            x: the layer's input.
            sample_dims: trailing dimensions that share a dynamic range.

        Returns:
            The codes and the scale.
        """
        return quantize_input(x, self.full_scale(x, sample_dims), self.hardware.inputs.bits, signed=self.signed)

    # Programming

    def sync(self, weight: Tensor) -> None:
        """Program the arrays if the weight or what the cells depend on has changed since they last were.

        Args:
            weight: the layer's weight.

        Raises:
            MappingError: the weight is not finite.
        """
        train = self.pulses
        if self._seen is not None and self._pending is None and _same(self._seen, weight):
            if train.digit_max == self._digit_max:
                return
        if not bool(torch.isfinite(weight).all()):
            raise MappingError(f"the weight of layer {self.name!r} is not finite; a cell cannot hold nan or inf: check the checkpoint")
        with torch.no_grad():
            matrix = self.weight_matrix(weight.detach())
            w_int, self._scale = quantize_weight(
                matrix, self.hardware.weights.bits, per_channel=self.hardware.weights.scale == "per_channel"
            )
            self._seen = weight.detach().clone()
            self._w_int = w_int
            self._digit_max = train.digit_max
            self._targets = target_cells(w_int, self.hardware, train)
            pending, self._pending = self._pending, None
            if pending is not None and torch.equal(pending["fingerprint"], fingerprint(weight)):
                self.cells = {k.removeprefix("cells."): v.to(weight.device) for k, v in pending.items() if k.startswith("cells.")}
                self.unit_cells = {k.removeprefix("unit."): v.to(weight.device) for k, v in pending.items() if k.startswith("unit.")}
            else:
                self._write()
        self._plans.clear()

    def _write(self) -> None:
        """Draw programmed conductances for the present targets."""
        assert self._targets is not None
        self.cells, self.unit_cells = {}, {}
        if not needs_cells(self.device_model):
            return
        draw = partial(keyed_generator, self.seed, self.name)
        rows, cols = self.hardware.array.rows, self.hardware.array.cols
        self.cells = self.device_model.program(self.target_conductance(), draw, array_rows=rows, array_cols=cols)
        if self.has_unit_column:
            tops = self.slicing.top_levels[:1]
            levels = self._targets.levels
            unit = levels.new_ones(levels.shape[0], 1, 1, levels.shape[3], 1)
            self.unit_cells = self.device_model.program(
                level_conductance(self.device_model, unit, tops), lambda purpose: draw(f"unit column {purpose}"), array_rows=rows
            )

    @property
    def has_unit_column(self) -> bool:
        """Whether a column at level 1 measures the sum of inputs."""
        return self.hardware.adc is not None and self.hardware.adc.offset_correction == "unit_column"

    @property
    def slicing(self) -> Slicing:
        """How weights are spread over cells."""
        return weight_slicing(self.hardware)

    def target_conductance(self) -> Tensor:
        """Target conductance of every cell in siemens (in units of g_max where the chip states none); `sync` first.

        Shapes: returns (groups, planes, slices, rows, outputs) float32.
        """
        assert self._targets is not None
        return level_conductance(self.device_model, self._targets.levels, self.slicing.top_levels)

    def program(self, seed: int) -> None:
        """Write the arrays anew; ages restart at 0."""
        self.seed, self.seconds, self.programmed_by_user = seed, 0.0, True
        self._plans.clear()
        if self._targets is not None:
            self._write()

    def age(self, seconds: float) -> None:
        """Set the time since the verify read."""
        self.seconds = seconds
        self._plans.clear()

    def seed_reads(self, seed: int) -> None:
        """Restart the stream of read noise."""
        self.read_seed, self.samples_read = seed, 0

    def forget_plans(self) -> None:
        """Recompute what depends on ranges and engine before the next read."""
        self._plans.clear()

    # Reading

    def job(self, *, ideal_converters: bool = False, targets: bool = False) -> Job:
        """The layer as numbers for an engine; `sync` first.

        Args:
            ideal_converters: leave the converters out.
            targets: with cells at their targets instead of as programmed.

        Returns:
            The job.

        Raises:
            CalibrationError: the converters' range is to be calibrated and was not.
        """
        assert self._targets is not None and self._w_int is not None
        adc = self.hardware.adc
        if not ideal_converters and adc is not None and adc.range == "calibrated" and self.adc_high is None:
            raise CalibrationError(
                f"layer {self.name!r} has adc.range = 'calibrated' but was not calibrated; call imcsim.calibrate(sim, batches) first, "
                "or set adc.range = \"full\" (inputs: inputs.range = \"dynamic\")"
            )
        use = bool(self.cells) and not targets
        conductance, variance = self._conductance(self.cells) if use else (None, None)
        unit, unit_variance = self._conductance(self.unit_cells) if use and self.unit_cells else (None, None)
        return assemble(
            self.hardware,
            self._w_int,
            self._targets,
            self.pulses,
            on_off_ratio=self.on_off_ratio,
            signed=self.signed,
            conductance=conductance,
            unit_conductance=unit,
            variance=variance,
            unit_variance=unit_variance,
            adc_high=self.adc_high if adc is not None and adc.range == "calibrated" else None,
            ideal_converters=ideal_converters,
        )

    def _conductance(self, state: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Conductances now in units of g_max, and the variance of one read of each cell likewise squared."""
        model = self.device_model
        now = model.aged(state, self.seconds, partial(keyed_generator, self.seed, self.name))
        sigma = model.read_sigma_S(now, self.seconds)
        scale = model.window.g_max_S
        return now / scale, None if sigma is None else (sigma / scale).square()

    @property
    def pulses(self) -> PulseTrain:
        """How input codes become pulses."""
        return pulse_train(self.hardware, signed=self.signed)

    def read_stream(self, samples: int) -> ReadStream | None:
        """The read noise of the next samples, or None where reads are noiseless; counts them as read.

        Args:
            samples: how many.

        Returns:
            The stream; its `vectors` is for the caller to set.
        """
        if not self.device_model.has_read_noise:
            return None
        stream = ReadStream(self.read_seed, self.name, self.samples_read, 1)
        self.samples_read += samples
        return stream

    def plan(self, dtype: torch.dtype) -> engines.Choice:
        """The engine for this layer and the reason; `sync` first.

        Args:
            dtype: of the input codes.

        Returns:
            The plan.

        Raises:
            EngineError: the engine asked for cannot compute this layer.
        """
        if dtype not in self._plans:
            self._plans[dtype] = self._choose(self.job(), dtype)
        return self._plans[dtype]

    def _choose(self, job: Job, dtype: torch.dtype) -> engines.Choice:
        choice = engines.choose(job, self.engine, dtype)
        if isinstance(choice, str):
            raise EngineError(f"layer {self.name!r}: engine = {self.engine!r} cannot compute it: {choice}; use engine = 'auto'")
        return choice

    @property
    def scale(self) -> Tensor:
        """Weight scale, (groups or 1, outputs or 1, 1) float64; `sync` first."""
        assert self._scale is not None
        return self._scale

    @property
    def w_int(self) -> Tensor:
        """Integer weights, (groups, outputs, inputs) float64; `sync` first."""
        assert self._w_int is not None
        return self._w_int

    @property
    def stream_count(self) -> int:
        """Converted columns per output."""
        return len(streams(self.hardware, self.pulses, self.on_off_ratio))

    # State

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CrossbarArray:
        super()._apply(fn, recurse)

        def move(t: Tensor) -> Tensor:
            return t.to(fn(t[:0] if t.dim() else t).device)

        self.cells = {k: move(v) for k, v in self.cells.items()}
        self.unit_cells = {k: move(v) for k, v in self.unit_cells.items()}
        for field in ("_w_int", "_scale", "_seen"):
            value = getattr(self, field)
            if value is not None:
                setattr(self, field, move(value))
        if self._targets is not None:
            flip = self._targets.flip
            self._targets = Cells(move(self._targets.levels), None if flip is None else move(flip))
        self._plans.clear()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.input_range is not None:
            destination[prefix + "input_range"] = torch.tensor([self.input_range, float(bool(self.input_signed))], dtype=torch.float64)
        if self.adc_high is not None:
            destination[prefix + "adc_high"] = torch.tensor(self.adc_high, dtype=torch.float64)
        if self.cells and self._seen is not None:
            destination[prefix + "fingerprint"] = fingerprint(self._seen)
            destination[prefix + "program"] = torch.tensor([float(self.seed), self.seconds, float(self.programmed_by_user)], dtype=torch.float64)
            for key, value in self.cells.items():
                destination[prefix + "cells." + key] = value
            for key, value in self.unit_cells.items():
                destination[prefix + "unit." + key] = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        if "input_range" in own:
            self.input_range, signed = own["input_range"].tolist()
            self.input_signed = bool(signed)
        if "adc_high" in own:
            self.adc_high = tuple(own["adc_high"].tolist())
        if "fingerprint" in own:
            seed, self.seconds, by_user = own["program"].tolist()
            self.seed, self.programmed_by_user = int(seed), bool(by_user)
            self._pending = {k: v.detach().clone() for k, v in own.items()}
        self._plans.clear()


def _same(seen: Tensor, weight: Tensor) -> bool:
    if seen.device != weight.device or seen.shape != weight.shape:
        return False
    if seen.dtype == weight.dtype:
        return torch.equal(seen, weight)
    wide = torch.promote_types(seen.dtype, weight.dtype)
    return torch.equal(seen.to(wide), weight.detach().to(wide))


def fingerprint(weight: Tensor) -> Tensor:
    """SHA-256 of a weight's values, the same for float32 and float64 of equal values.

    Shapes: weight (*any); returns (32,) uint8.

    Args:
        weight: the weight.

    Returns:
        The digest.
    """
    data = weight.detach().to("cpu", torch.float64).contiguous().numpy().tobytes()
    return torch.tensor(list(hashlib.sha256(data).digest()), dtype=torch.uint8)
