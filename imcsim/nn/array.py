"""The programmed state of one layer: its cells, ranges, seeds and life cycle. No arithmetic of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imcsim.devices import WriteReport, column_factors, global_factor
from imcsim.errors import CalibrationError, EngineError, MappingError
from imcsim.functional.dac import PulseTrain
from imcsim.functional.encode import Slicing
from imcsim.functional.noise import ReadStream, keyed_generator
from imcsim.hardware import Hardware
from imcsim.kernels import engines
from imcsim.kernels.cache import PLANS
from imcsim.kernels.collapsed import analog_weight
from imcsim.kernels.job import Job
from imcsim.nn.device import (
    bent_by_cells,
    bind_device,
    check_fit,
    level_conductance,
    needs_cells,
    on_off_ratio,
    read_variance,
)
from imcsim.nn.effects import ALL, Effects
from imcsim.nn.mitigate import average, write_cells, write_unit_column
from imcsim.nn.periphery import Periphery, has_noise
from imcsim.nn.readout import (
    Cells,
    array_rows,
    assemble,
    ideal_circuits,
    pulse_train,
    target_cells,
    weight_slicing,
)
from imcsim.nn.tiles import has_unit_column
from imcsim.nn.wiring import has_wires, wired
from imcsim.nn.written import Written, check_codes, fingerprint, packed, unpacked
from imcsim.quant.base import Span, array_hardware
from imcsim.quant.codes import InputCodes
from imcsim.quant.methods.base import DEFAULT, Method

WeightMatrix = Callable[[Tensor], Tensor]
Compensation = Literal["global", "column"]

_PROGRAM = ("seed", "seconds", "compensation", "programmed_by_user")
"""How cells came to be what they are, kept beside them."""


class CrossbarArray(nn.Module):
    """What was programmed into the arrays of one layer, and how they are read.

    `hardware` is what the arrays hold; it differs from the chip as described where a training method splits
    weights or inputs into binary planes.

    Args:
        hardware: the chip as described.
        name: the layer's module name, which keys its random draws.
        engine: auto, or the engine to use.
        weight_matrix: from the layer's weight to (groups, outputs, inputs).
        method: the training method, which makes the quantizers; None: the hardware's own.
    """

    def __init__(
        self,
        hardware: Hardware,
        name: str,
        engine: str,
        weight_matrix: WeightMatrix,
        method: Method | None = None,
    ) -> None:
        super().__init__()
        make = method or DEFAULT
        self.described, self.method = hardware, method
        self.weight_quantizer = make.weight_quantizer(hardware)
        self.input_quantizer = make.input_quantizer(hardware)
        self.gradient_quantizer = make.gradient_quantizer(hardware)
        for what in ("weight", "input", "gradient"):
            if (quantizer := getattr(self, f"{what}_quantizer")) is not None:
                quantizer.key = f"{name} {what}"
        self.hardware = array_hardware(hardware, self.weight_quantizer, self.input_quantizer)
        hardware = self.hardware
        self.name = name
        self.engine = engine
        self.weight_matrix = weight_matrix
        self.device_model = bind_device(hardware)
        self.on_off_ratio = on_off_ratio(self.device_model)
        self.seed = 0
        self.other_seed: int | None = None
        self.seconds = 0.0
        self.compensation: Compensation | None = None
        self.read_seed = 0
        self.samples_read = 0
        self.programmed_by_user = False
        self.input_range: float | None = None
        self.input_signed: bool | None = None
        self.adc_high: tuple[float, ...] | None = None
        self.adc_values: tuple[tuple[float, ...], ...] | None = None
        self.conversion_errors: tuple[tuple[float, ...], ...] | None = None
        self.observer: Callable[[Tensor], None] | None = None
        self.effects: Effects = ALL
        self.cells: dict[str, Tensor] = {}
        self.unit_cells: dict[str, Tensor] = {}
        self.write_report: WriteReport | None = None
        self._written: Written | None = None
        self._cells_seed: int | None = None
        self._pending: dict[str, Tensor] | None = None
        self._plans: dict[torch.dtype, engines.Choice] = {}
        self._vectors_seen = 0
        check_fit(self.device_model, hardware, self.slicing)

    # Inputs

    @property
    def signed(self) -> bool:
        """Whether input codes have a sign, as far as is known now."""
        inputs = self.hardware.inputs
        if self.input_quantizer.signed is not None:
            return self.input_quantizer.signed
        if inputs.signed != "auto":
            return inputs.signed
        if inputs.bits == 1:
            return True
        if self.input_signed is not None:
            return self.input_signed
        return inputs.range == "dynamic"

    @property
    def pulses(self) -> PulseTrain:
        """How input codes become pulses."""
        train = pulse_train(self.hardware, signed=self.signed)
        return bent_by_cells(train, self.device_model, self.hardware.inputs.dac_inl_lsb)

    def full_scale(self, x: Tensor, sample_dims: int) -> Tensor | float:
        """The input magnitude that maps to the top code.

        Shapes: x (*any); returns a number, or with a dynamic range a tensor that broadcasts to x.

        Args:
            x: the layer's input.
            sample_dims: trailing dimensions that share a dynamic range.

        Returns:
            The range.

        Raises:
            CalibrationError: it is to be calibrated and was not; or inputs are negative where a number was
                given and nothing says that they have a sign.
        """
        inputs = self.hardware.inputs
        if inputs.range == "dynamic":
            peak = x.detach().abs().amax(tuple(range(-sample_dims, 0)), keepdim=True)
            return torch.where(peak > 0, peak, torch.ones_like(peak))
        if inputs.range == "calibrated":
            if self.input_range is None:
                raise CalibrationError(
                    f"layer {self.name!r} has inputs.range = 'calibrated' but was not calibrated; call "
                    'imcsim.calibrate(sim, batches) first, or set inputs.range = "dynamic" or a number'
                )
            return self.input_range
        unknown = inputs.signed == "auto" and self.input_signed is None and inputs.bits > 1
        if unknown and bool((x < 0).any()):
            raise CalibrationError(
                f"layer {self.name!r} got a negative input with inputs.range = {inputs.range}, "
                "inputs.signed = "
                "'auto' and no calibration; set inputs.signed = true, call imcsim.calibrate(sim, "
                "batches), or "
                'set inputs.range = "dynamic"'
            )
        return inputs.range

    def span(self, x: Tensor, sample_dims: int) -> Span | None:
        """The range of inputs where the quantizer takes the hardware's, None where it has its own."""
        if not self.input_quantizer.ready:
            raise CalibrationError(
                f"layer {self.name!r} has inputs whose quantizer has not seen any data; call "
                "imcsim.calibrate(sim, batches), or train on a batch first"
            )
        if not self.input_quantizer.ranged:
            return None
        return Span(self.full_scale(x, sample_dims), self.signed)

    def quantize(self, x: Tensor, sample_dims: int) -> InputCodes:
        """Input codes and their scales.

        Shapes: x (*any); returns codes like x.

        Args:
            x: the layer's input.
            sample_dims: trailing dimensions that share a dynamic range.

        Returns:
            The codes.
        """
        return self.input_quantizer.encode(x, self.span(x, sample_dims))

    @property
    def inputs_known(self) -> bool:
        """Whether inputs can be quantized yet: no range is left to calibrate."""
        waits = self.hardware.inputs.range == "calibrated" and self.input_range is None
        return self.input_quantizer.ready and not (self.input_quantizer.ranged and waits)

    @property
    def soft(self) -> bool:
        """Whether training now sees values that are no codes, so that the layer is computed digitally."""
        return self.weight_quantizer.soft or self.input_quantizer.soft

    @torch.no_grad()
    def update_quantizers(self, matrix: Tensor, x: Tensor) -> None:
        """Let the quantizers look at a training step's weights and inputs before its forward pass."""
        signed = self.signed
        self.weight_quantizer.update(matrix)
        self.input_quantizer.update(x)
        if self.signed != signed:
            self.forget_plans()

    def input_value(self, x: Tensor, sample_dims: int) -> tuple[Tensor, InputCodes | None]:
        """The quantized input with its gradient, and its codes unless it is soft.

        Shapes: x (*any); returns the same.
        """
        quantizer, span = self.input_quantizer, self.span(x, sample_dims)
        if quantizer.soft:
            return quantizer.soft_value(x, span), None
        codes = quantizer.encode(x.detach(), span)
        return quantizer(x, codes.value(), span), codes

    def weight_value(self, matrix: Tensor) -> Tensor:
        """The quantized weight with its gradient; `sync` first.

        Shapes: (groups, outputs, inputs) both.
        """
        quantizer = self.weight_quantizer
        if quantizer.soft:
            return quantizer.soft_value(matrix)
        return quantizer(matrix, self.written.codes.value().to(matrix.dtype))

    # Programming

    @property
    def chip_seed(self) -> int:
        """Program seed of the chip that the arrays stand for: `seed`, or `other_seed` for a while."""
        return self.seed if self.other_seed is None else self.other_seed

    def sync(self, weight: Tensor) -> None:
        """Program the arrays if the weight, or what its cells depend on, has changed since they last were.

        Args:
            weight: the layer's weight.

        Raises:
            MappingError: the weight is not finite.
        """
        digit_max, state = self.pulses.digit_max, self.weight_quantizer.state()
        written = self._written
        if written is not None and self._pending is None and written.holds(weight, state, digit_max):
            if self._cells_seed != self.chip_seed:
                self._write()
                self.forget_plans()
            return
        if not bool(torch.isfinite(weight).all()):
            raise MappingError(
                f"the weight of layer {self.name!r} is not finite; a cell cannot hold nan or inf: check the "
                "checkpoint or the training"
            )
        with torch.no_grad():
            codes = self.weight_quantizer.encode(self.weight_matrix(weight.detach()))
            if self.method is not None:
                check_codes(codes, self.hardware, self.slicing, self.name)
            state = tuple(tensor.detach().clone() for tensor in state)
            codes = replace(codes, codes=codes.codes.to(torch.int16))
            self._written = Written(weight.detach().clone(), state, codes, digit_max)
            pending, self._pending = self._pending, None
            if pending is not None and torch.equal(pending["fingerprint"].cpu(), self._fingerprint()):
                self.cells = _under(pending, "cells.", weight.device)
                self.unit_cells = _under(pending, "unit.", weight.device)
                self._cells_seed = self.seed
            else:
                self._write()
        self._vectors_seen = 0
        self.forget_plans()

    @property
    def written(self) -> Written:
        """What the arrays were last written for; `sync` first."""
        if self._written is None:
            raise RuntimeError("CrossbarArray.sync was not called")
        return self._written

    def _write(self) -> None:
        """Draw programmed conductances for the present targets."""
        self.cells, self.unit_cells, self._cells_seed = {}, {}, self.chip_seed
        if not (needs_cells(self.device_model) or has_wires(self.hardware)):
            return
        draw = partial(keyed_generator, self.chip_seed, self.name)
        log: list[WriteReport] = []
        rows = array_rows(self.hardware, self.written.w_int.shape[2])
        levels, model = self.targets().levels, self.device_model
        self.cells = write_cells(model, self.hardware, levels, self.slicing, rows, draw, log.append)
        if self.has_unit_column:
            self.unit_cells = write_unit_column(model, self.hardware, self.unit_target(), draw, log.append)
        self.write_report = sum(log, WriteReport()) if log else None

    @property
    def has_unit_column(self) -> bool:
        """Whether a column at level 1 measures the sum of inputs."""
        return has_unit_column(self.hardware)

    @property
    def slicing(self) -> Slicing:
        """How weights are spread over cells."""
        return weight_slicing(self.hardware)

    def targets(self) -> Cells:
        """Target level of every cell, worked out anew: it is not held."""
        return target_cells(self.written.w_int, self.hardware, self.pulses)

    def target_conductance(self) -> Tensor:
        """Target conductance of every cell in siemens (in units of g_max where the chip states none).

        Shapes: returns (groups, planes, slices, rows, outputs) float32.
        """
        return level_conductance(self.device_model, self.targets().levels, self.slicing.top_levels)

    def unit_target(self) -> Tensor:
        """Target conductance of the unit column. Shapes: returns (groups, 1, 1, rows, 1) float32."""
        groups, _, inputs = self.written.w_int.shape
        rows = array_rows(self.hardware, inputs)[-1][1]
        unit = torch.ones(groups, 1, 1, rows, 1, device=self.written.w_int.device)
        return level_conductance(self.device_model, unit, self.slicing.top_levels[:1])

    def program(self, seed: int) -> None:
        """Write the arrays anew, as new: age 0, no compensation."""
        self.seed, self.seconds, self.compensation, self.programmed_by_user = seed, 0.0, None, True
        self._vectors_seen = 0
        self.forget_plans()
        if self._written is not None:
            self._write()

    def set_conductances(self, cells_S: Tensor, unit_S: Tensor | None) -> None:
        """Take conductances as programmed, measured ones say; what else was drawn for the cells stays.

        Shapes: cells_S as `cells` holds them; unit_S (copies, groups, rows) or None: as it is.
        Units: siemens, or units of g_max.
        """
        self.cells = {**self.cells, "conductance_S": cells_S}
        if self.has_unit_column:
            unit = self.unit_cells.get("conductance_S")
            if unit is None:
                copies, target = self.hardware.mitigation.copies, self.unit_target()
                unit = target.expand(copies, *target.shape) if copies > 1 else target
            if unit_S is not None:
                unit = unit_S.to(unit.device).reshape(unit.shape)
            self.unit_cells = {**self.unit_cells, "conductance_S": unit}
        self.programmed_by_user = True
        self.forget_plans()

    def age(self, seconds: float, compensation: Compensation | None) -> None:
        """Set the time since the verify read, and what is done about drift."""
        self.seconds, self.compensation = seconds, compensation
        self._vectors_seen = 0
        self.forget_plans()

    # Reading

    def seed_reads(self, seed: int) -> None:
        """Restart the stream of read noise."""
        self.read_seed, self.samples_read = seed, 0

    def read_stream(self, samples: int) -> ReadStream | None:
        """The random stream of the next samples, or None where reads are noiseless; counts them as read.

        Args:
            samples: how many.

        Returns:
            The stream; its `vectors` is for the caller to set.
        """
        noisy = self.device_model.has_read_noise or has_noise(self.hardware)
        if not (noisy or self.engine == "statistical"):
            return None
        stream = ReadStream(self.read_seed, self.name, self.samples_read, 1)
        self.samples_read += samples
        return stream

    def job(self, effects: Effects | None = None) -> Job:
        """The layer as numbers for an engine; `sync` first.

        Args:
            effects: what is there of the chip; None: what `effects` says, usually all.

        Returns:
            The job.

        Raises:
            CalibrationError: the converters' range is to be calibrated and was not.
        """
        adc = self.hardware.adc
        effects = self.effects if effects is None else effects
        calibrated = adc is not None and adc.range == "calibrated"
        if calibrated and effects.converters != "none" and self.adc_high is None:
            raise CalibrationError(
                f"layer {self.name!r} has adc.range = 'calibrated' but was not calibrated; call "
                'imcsim.calibrate(sim, batches) first, or set adc.range = "full" and inputs.range = "dynamic"'
            )
        job = self._job(effects)
        if self.compensation is None or not self.cells or not (effects.cells and effects.drift):
            return job
        before = analog_weight(self._job(replace(effects, drift=False, converters="none")))
        now = analog_weight(job)
        reads = before.transpose(1, 2), now.transpose(1, 2)
        if self.compensation == "global":
            return replace(job, compensation=global_factor(*reads))
        return replace(job, compensation=column_factors(*reads))

    def _job(self, effects: Effects) -> Job:
        conductance, unit, variance, unit_variance = self._conductances(effects)
        calibrated = self.hardware.adc is not None and self.hardware.adc.range == "calibrated"
        job = assemble(
            self.hardware,
            self.written.w_int,
            self.targets(),
            self.pulses,
            on_off_ratio=self.on_off_ratio,
            signed=self.signed,
            conductance=conductance,
            unit_conductance=unit,
            variance=variance,
            unit_variance=unit_variance,
            adc_high=self.adc_high if calibrated else None,
            conversion=effects.converters,
            readout=self.device_model.card.readout,
        )
        draw = partial(keyed_generator, self.seed, self.name)
        periphery = Periphery(self.hardware, self.name, draw, self.adc_values, effects)
        return periphery.around(job, self.on_off_ratio)

    def _conductances(self, effects: Effects) -> tuple[Tensor | None, ...]:
        """Cells, unit column, and the variance of one read of each, in units of g_max.

        None: at their levels.
        """
        wires = has_wires(self.hardware) and effects.wires
        seconds = self.seconds if effects.drift else 0.0
        if not self.cells or not (effects.cells or wires):
            return None, None, None, None
        if not effects.cells:
            return self._seen(self.target_conductance(), self.unit_target(), seconds, effects)
        cells = self._aged(self.cells, seconds)
        unit = self._aged(self.unit_cells, seconds) if self.unit_cells else None
        if self.hardware.mitigation.copies == 1:
            return self._seen(cells, unit, seconds, effects)
        each = [
            self._seen(one, None if unit is None else unit[k], seconds, effects)
            for k, one in enumerate(cells)
        ]
        seen, unit_seen, variance, unit_variance = (average(values) for values in zip(*each, strict=True))
        less = (None if v is None else v / len(each) for v in (variance, unit_variance))
        return seen, unit_seen, *less

    def _seen(
        self, cells: Tensor, unit: Tensor | None, seconds: float, effects: Effects
    ) -> tuple[Tensor | None, ...]:
        """One copy's cells as its columns see them, as `_conductances` returns them."""
        unit = unit if self.has_unit_column else None
        seen, unit_seen = cells, unit
        if has_wires(self.hardware) and effects.wires:
            rows = array_rows(self.hardware, self.written.w_int.shape[2])
            order = None if self.hardware.mitigation.shuffle == "none" else self.target_conductance()
            seen, unit_seen = wired(self.hardware, cells, unit, rows, order)
        g_max = self.device_model.window.g_max_S
        if not effects.noise:
            return seen / g_max, None if unit_seen is None else unit_seen / g_max, None, None
        return (
            seen / g_max,
            None if unit_seen is None else unit_seen / g_max,
            read_variance(self.device_model, cells, seen, seconds),
            None
            if unit is None or unit_seen is None
            else read_variance(self.device_model, unit, unit_seen, seconds),
        )

    def _aged(self, state: dict[str, Tensor], seconds: float) -> Tensor:
        return self.device_model.aged(state, seconds, partial(keyed_generator, self.chip_seed, self.name))

    def plan(self, dtype: torch.dtype, vectors: int | None = None) -> engines.Choice:
        """The engine for this layer and the reason; `sync` first.

        Args:
            dtype: of the input codes.
            vectors: input vectors about to be sent, which count towards tables being worth their building;
                None: none are sent, and the plan is the one for many.

        Returns:
            The plan.

        Raises:
            EngineError: the engine asked for cannot compute this layer.
        """
        self._vectors_seen += vectors or 0
        plan = self._plans.get(dtype)
        if plan is not None and plan.until is not None:  # for few vectors
            plan = None if vectors is None or self._vectors_seen >= plan.until else plan
        if plan is None:
            choice = engines.choose(
                self.job(),
                self.engine,
                dtype,
                self.conversion_errors,
                vectors=None if vectors is None else self._vectors_seen,
                moving=self.training,
            )
            if isinstance(choice, str):
                raise EngineError(
                    f"layer {self.name!r}: engine = {self.engine!r} cannot compute it: {choice}; use "
                    "engine = 'auto'"
                )
            self._plans[dtype] = plan = choice
            PLANS.hold(self, sum(held.nbytes for held in self._plans.values()))
        else:
            PLANS.touch(self)
        return plan

    def forget_plans(self) -> None:
        """Recompute what depends on ranges, cells and engine before the next read."""
        self._plans.clear()
        PLANS.release(self)

    # State

    def _fingerprint(self) -> Tensor:
        """What the cells were written for."""
        written = self.written
        return fingerprint(self.hardware, written.digit_max, written.weight, *written.state)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave plans behind; they make their own."""
        return {**self.__dict__, "_plans": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CrossbarArray:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

        def move(t: Tensor) -> Tensor:
            """To the model's device; conductances and codes keep their dtype."""
            return t.to(fn(torch.empty(0, device=t.device)).device)

        self.cells = {key: move(value) for key, value in self.cells.items()}
        self.unit_cells = {key: move(value) for key, value in self.unit_cells.items()}
        self._written = None if self._written is None else self._written.moved(move)
        self.forget_plans()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.input_range is not None:
            pair = [self.input_range, float(bool(self.input_signed))]
            destination[prefix + "input_range"] = torch.tensor(pair, dtype=torch.float64)
        if self.conversion_errors is not None:
            errors = torch.tensor(self.conversion_errors, dtype=torch.float64)
            destination[prefix + "conversion_errors"] = errors
        if self.adc_high is not None:
            destination[prefix + "adc_high"] = torch.tensor(self.adc_high, dtype=torch.float64)
        if self.adc_values is not None:
            destination[prefix + "adc_values"] = torch.tensor(self.adc_values, dtype=torch.float64)
        holds = self.cells or not ideal_circuits(self.hardware)
        if holds and self._written is not None and self._cells_seed == self.seed:
            destination[prefix + "fingerprint"] = self._fingerprint()
            destination[prefix + "program"] = packed({name: getattr(self, name) for name in _PROGRAM})
            destination.update({f"{prefix}cells.{key}": value for key, value in self.cells.items()})
            destination.update({f"{prefix}unit.{key}": value for key, value in self.unit_cells.items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if "input_range" in own:
            self.input_range, signed = own["input_range"].tolist()
            self.input_signed = bool(signed)
        if "conversion_errors" in own:
            self.conversion_errors = tuple(tuple(row) for row in own["conversion_errors"].tolist())
        if "adc_high" in own:
            self.adc_high = tuple(own["adc_high"].tolist())
        if "adc_values" in own:
            self.adc_values = tuple(tuple(row) for row in own["adc_values"].tolist())
        if "fingerprint" in own:
            facts = unpacked(own["program"])
            for name in _PROGRAM:
                setattr(self, name, facts[name])
            self._pending = {key: value.detach().clone() for key, value in own.items()}
        self.forget_plans()


def _under(pending: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.to(device) for k, v in pending.items() if k.startswith(prefix)}
