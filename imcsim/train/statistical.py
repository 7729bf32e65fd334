"""The statistical fidelity of training: one product of inputs and written weights, converters as noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imcsim.errors import EngineError, InputError
from imcsim.functional.noise import quick_normals
from imcsim.functional.quantize import top_code
from imcsim.kernels.collapsed import effective_weight, pulse_energy
from imcsim.kernels.job import Job
from imcsim.kernels.statistical import conversion_variance
from imcsim.nn.device import needs_cells
from imcsim.nn.effects import TARGETS, Effects
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.wiring import has_wires
from imcsim.quant.base import straight_through
from imcsim.quant.codes import WeightCodes
from imcsim.train.per_read import PerRead, reads_one_by_one
from imcsim.train.straight import rounded_input
from imcsim.train.written import WrittenCodes

if TYPE_CHECKING:
    from imcsim.train.injection import Injection


@dataclass(frozen=True)
class Facts:
    """What a layer's forward pass needs beside its weight; it changes with ranges and age alone.

    Attributes:
        codes: written copies of each code; None: weights are written exactly.
        conversions: variance of an output from converters, in units of one integer product squared.
        shift: what offset-coded inputs add to each code.
        wires: (groups, outputs, inputs) what wire resistance adds to the weights that were last written.
        per_read: the converters, where they are applied one by one.
    """

    codes: WrittenCodes | None
    conversions: float
    shift: int
    wires: Tensor | None
    per_read: PerRead | None


Scales = tuple[Tensor | float, ...]


@dataclass(frozen=True)
class _Inputs:
    """A layer's input as it is sent.

    Attributes:
        value: what the codes stand for, differentiable.
        scale: of each pass; none for soft values, which have no codes.
        codes: of each pass; None: there is one, of ``value / scale``.
    """

    value: Tensor
    scale: Scales
    codes: tuple[Tensor, ...] | None = None

    def chunk(self, chips: int) -> list[_Inputs]:
        """Parts of the batch."""
        values = self.value.chunk(chips)
        sizes = [len(value) for value in values]
        codes = None if self.codes is None else [code.split(sizes) for code in self.codes]
        by_sample = self.value.dim()
        scales = [
            s.split(sizes) if isinstance(s, Tensor) and s.dim() == by_sample else (s,) * len(sizes)
            for s in self.scale
        ]
        return [
            _Inputs(value, tuple(s[i] for s in scales), None if codes is None else tuple(c[i] for c in codes))
            for i, value in enumerate(values)
        ]

    def passes(self) -> list[tuple[Tensor, Tensor | float]]:
        """Codes and scale of each pass."""
        codes = self.codes
        if codes is None:
            codes = tuple((self.value.detach() / scale).round_() for scale in self.scale)
        return list(zip(codes, self.scale, strict=True))


@dataclass(frozen=True)
class _Weight:
    """A layer's weight.

    Shapes: value (groups, outputs, inputs).

    Attributes:
        value: what the codes stand for, differentiable.
        codes: the codes.
    """

    value: Tensor
    codes: WeightCodes

    def terms(self) -> list[tuple[Tensor, Tensor]]:
        """Codes (groups, outputs, inputs) and scale (groups or 1, outputs or 1, 1) of each term."""
        return list(zip(self.codes.codes, self.codes.scale, strict=True))


class StatisticalForward:
    """A layer in training.

    ``y = x_q (w_q + s_w e)^T + n``: e the errors of one chip, drawn from those of each weight's code; n
    Gaussian, its variance that of the converters' errors and of the reads.

    Args:
        layer: the layer.
        injection: whose step, chips and strength apply.
    """

    def __init__(self, layer: CrossbarLayer, injection: Injection) -> None:
        self.layer, self.injection = layer, injection
        self._facts: Facts | None = None
        self._made_for: tuple[object, ...] = ()

    def forget(self) -> None:
        """Work out the facts anew."""
        self._facts = None

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output. Shapes: x (batch, ...); returns (batch, outputs, ...)."""
        layer, array, chips = self.layer, self.layer.array, self.injection.chips
        if array.method is not None:
            with torch.no_grad():
                array.weight_quantizer.update(layer.weight_matrix(layer.weight.detach()))
                array.input_quantizer.update(x.detach())
        facts, inputs, weight = self.facts(), self._inputs(x), self._weight(x.dtype)
        forward = self._product if facts.per_read is None else self._by_reads
        if x.dim() == 1 or chips == 1:
            out = forward(facts, inputs, weight, 0)
        else:
            parts = enumerate(inputs.chunk(chips))
            out = torch.cat([forward(facts, part, weight, chip) for chip, part in parts])
        if array.gradient_quantizer is not None and out.requires_grad:
            out.register_hook(array.gradient_quantizer)
        bias = layer.bias
        return out if bias is None else out + layer.output_constant(bias.view(weight.value.shape[:2]))

    def _inputs(self, x: Tensor) -> _Inputs:
        layer, array = self.layer, self.layer.array
        if array.method is not None:
            value, codes = array.input_value(x, layer.sample_dims)
            return _Inputs(value, ()) if codes is None else _Inputs(value, codes.scale, codes.codes)
        full = self.injection.input_range(array, x, layer.sample_dims)
        bits = array.hardware.inputs.bits
        x_q = rounded_input(x, full, bits, signed=array.signed)
        unit = (full.detach() if isinstance(full, Tensor) else full) / top_code(bits, signed=array.signed)
        return _Inputs(x_q, (unit,))

    def _weight(self, dtype: torch.dtype) -> _Weight:
        quantizer, matrix = self.layer.array.weight_quantizer, self.layer.weight_matrix(self.layer.weight)
        with torch.no_grad():
            codes = quantizer.encode(matrix.detach())
            value = codes.value().to(dtype)
            codes = WeightCodes(codes.codes.to(dtype), codes.scale.to(dtype), codes.zero)
        return _Weight(quantizer.soft_value(matrix) if quantizer.soft else quantizer(matrix, value), codes)

    def _product(self, facts: Facts, inputs: _Inputs, weight: _Weight, chip: int) -> Tensor:
        """One product with the weights as one chip has them, and noise. Shapes: as `__call__`."""
        layer = self.layer
        error = self._error(facts, weight, chip)
        written = weight.value if error is None else weight.value + error
        out = layer.multiply(inputs.value, written, steady=False)
        if facts.shift and error is not None:
            out = out + layer.output_constant(error.sum(-1) * facts.shift) * sum(inputs.scale)
        spread = self._spread(facts, inputs, weight)
        if spread is None:
            return out
        drawn = quick_normals(self.injection.rng(layer.array.name, "reads", chip), out.numel())
        return out.addcmul_(torch.from_numpy(drawn).to(out.device, out.dtype).view_as(out), spread)

    @torch.no_grad()
    def _error(self, facts: Facts, weight: _Weight, chip: int) -> Tensor | None:
        """What a chip's weights are off by. Shapes: returns (groups, outputs, inputs)."""
        out = facts.wires
        if facts.wires is not None:
            out = facts.wires * weight.codes.scale[0]
        if facts.codes is None:
            return out
        rng = self.injection.rng(self.layer.array.name, "written", chip)
        for w_int, scale in weight.terms():
            drawn = facts.codes.draw(w_int, rng).to(scale.dtype).mul_(scale * self.injection.strength)
            out = drawn if out is None else out + drawn
        return out

    @torch.no_grad()
    def _spread(self, facts: Facts, inputs: _Inputs, weight: _Weight) -> Tensor | None:
        """Standard deviation of each output's noise, in a shape that broadcasts to it; None: no noise."""
        layer, shape = self.layer, weight.value.shape
        variance = reads = None
        if facts.conversions:
            power = weight.codes.scale.square().sum(0)[..., 0].expand(shape[:2])
            variance = layer.output_constant(power * facts.conversions)
            variance = variance * sum(unit * unit for unit in inputs.scale)
        matrix = self._read_variance(facts, weight)
        if matrix is not None:
            for codes, unit in inputs.passes():
                energy = pulse_energy(codes, layer.array.pulses)
                part = layer.multiply(energy, matrix, steady=False).mul_(unit * unit)
                reads = part if reads is None else reads.add_(part)
        if reads is None:
            return None if variance is None else variance.sqrt()
        return (reads if variance is None else reads.add_(variance)).sqrt_()

    def _read_variance(self, facts: Facts, weight: _Weight) -> Tensor | None:
        """Variance of each weight's reads per unit of pulse energy. Shapes: (groups, outputs, inputs)."""
        out = None
        for w_int, scale in weight.terms():
            variance = None if facts.codes is None else facts.codes.read_variance(w_int)
            if variance is not None:
                part = variance.to(scale.dtype) * scale.square()
                out = part if out is None else out + part
        return out

    def _by_reads(self, facts: Facts, inputs: _Inputs, weight: _Weight, chip: int) -> Tensor:
        """Every conversion as it is. Shapes: as `__call__`."""
        layer, per_read = self.layer, facts.per_read
        (w_int, scale), *more = weight.terms()
        if per_read is None or len(inputs.scale) != 1 or more:
            raise EngineError(
                f"layer {layer.array.name!r}: fidelity = 'statistical' applies the converters of binary "
                "layers one by one, which soft values and several terms do not allow; use fidelity = 'exact'"
            )
        name, error, variance = layer.array.name, None, None
        if facts.codes is not None:
            error = facts.codes.draw(w_int, self.injection.rng(name, "written", chip))
            error = error.to(w_int.dtype) * self.injection.strength
            variance = facts.codes.read_variance(w_int)
        ranges = self.injection.converter_range(layer.array)
        high = None if ranges is None else ranges[0]
        unit = inputs.scale[0]
        integer = straight_through(weight.value / scale, w_int)
        rng = self.injection.rng(name, "reads", chip)
        out = layer.by_vectors(
            inputs.value / unit, lambda vectors, _: per_read(vectors, integer, error, variance, high, rng)
        )
        per_output = layer.output_constant(scale[..., 0].expand(w_int.shape[:2]))
        return out.to(w_int.dtype) * (per_output * unit)

    def facts(self) -> Facts:
        """What the layer's arrays make of weights, worked out when their ranges or age changed.

        Raises:
            EngineError: bit lines that do not add currents, or cells whose I-V is not linear.
            CalibrationError: the layer needs calibration.
        """
        array = self.layer.array
        ranges = (array.signed, array.conversion_errors, array.seconds, array.compensation)
        learned = self.injection.converter_range(array) is not None
        now = (*ranges, array.adc_values, None if learned else array.adc_high)
        if self._facts is None or now != self._made_for:
            with torch.no_grad():
                self._facts, self._made_for = self._make(), now
        return self._facts

    def _make(self) -> Facts:
        array = self.layer.array
        array.sync(self.layer.weight)
        job = array.job(Effects(cells=False))
        if job.columns.reshapes or job.train.drive is not None:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' takes bit lines that add currents and cells "
                "of linear I-V, which these are not; use fidelity = 'exact'"
            )
        if job.columns.disturbed is not None:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' does not take this chip: "
                f"{job.columns.disturbed}; use fidelity = 'exact'"
            )
        if job.overflow is not None:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' adds exactly, but {job.overflow}; use "
                "fidelity = 'exact', or leave array.accumulator_bits out"
            )
        codes = None
        if needs_cells(array.device_model):
            codes = self.injection.codes(array)
        per_read = reads_one_by_one(job)
        if per_read is None and job.complementary:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' does not take complementary (xnor) cells "
                "with adc.snap; use fidelity = 'exact'"
            )
        if per_read is None and self.injection.converter_range(array) is not None:
            raise InputError(
                f"layer {array.name!r}: fidelity = 'statistical' takes its converters as noise, so their "
                "range has no gradient; use fidelity = 'exact' to learn it, or recalibrate now and then"
            )
        exact = per_read is not None or (codes is None and job.loss is None)
        conversions = 0.0 if exact else conversion_variance(job, array.conversion_errors)
        wires = self._wires(job) if has_wires(array.hardware) else None
        return Facts(codes, conversions, job.train.shift, wires, per_read)

    def _wires(self, job: Job) -> Tensor:
        """What wires take from the weights last written. Shapes: returns (groups, outputs, inputs)."""
        ideal = job.w_int.double()
        if job.complementary or self.layer.array.written.codes.terms > 1:
            raise EngineError(
                f"layer {self.layer.array.name!r}: fidelity = 'statistical' does not take wires behind "
                "complementary (xnor) cells or weights of several terms; use fidelity = 'exact'"
            )
        without = self.layer.array.job(TARGETS)
        return (effective_weight(without) - ideal).to(self.layer.weight.dtype)
