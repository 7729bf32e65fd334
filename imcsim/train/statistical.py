"""The statistical fidelity of training: one product of inputs and written weights, converters as noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imcsim.errors import EngineError, InputError
from imcsim.functional.noise import quick_normals
from imcsim.functional.quantize import quantize_weight, top_code
from imcsim.kernels.collapsed import effective_weight, pulse_energy
from imcsim.kernels.job import Job
from imcsim.kernels.statistical import conversion_variance
from imcsim.nn.device import needs_cells
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.wiring import has_wires
from imcsim.train.per_read import PerRead, reads_one_by_one
from imcsim.train.straight import rounded_input, standing_for
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


@dataclass(frozen=True)
class _Weight:
    """A layer's weight: as it is, its codes, and what one of them is worth.

    Shapes: matrix and w_int (groups, outputs, inputs); scale (groups or 1, outputs or 1, 1).
    """

    matrix: Tensor
    w_int: Tensor
    scale: Tensor


class StatisticalForward:
    """A layer in training.

    ``y = x_q (s_w (w_int + e))^T + n``: e the errors of one chip, drawn from those of each weight's code; n
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
        facts, inputs = self.facts(), array.hardware.inputs
        full = self.injection.input_range(array, x, layer.sample_dims)
        x_q = rounded_input(x, full, inputs.bits, signed=array.signed)
        unit = (full.detach() if isinstance(full, Tensor) else full) / top_code(
            inputs.bits, signed=array.signed
        )
        weight = self._weight(x.dtype)
        forward = self._product if facts.per_read is None else self._by_reads
        if x.dim() == 1 or chips == 1:
            out = forward(facts, x_q, unit, weight, 0)
        else:
            parts = x_q.chunk(chips)
            by_sample = isinstance(unit, Tensor) and unit.dim() == x.dim()
            units = unit.chunk(chips) if by_sample else [unit] * len(parts)  # type: ignore[union-attr]
            each = enumerate(zip(parts, units, strict=True))
            out = torch.cat([forward(facts, part, own, weight, chip) for chip, (part, own) in each])
        bias = layer.bias
        return out if bias is None else out + layer.output_constant(bias.view(weight.w_int.shape[:2]))

    def _weight(self, dtype: torch.dtype) -> _Weight:
        layer, weights = self.layer, self.layer.array.hardware.weights
        matrix = layer.weight_matrix(layer.weight)
        with torch.no_grad():
            w_int, scale = quantize_weight(
                matrix.detach(), weights.bits, per_channel=weights.scale == "per_channel"
            )
        return _Weight(matrix, w_int.to(dtype), scale.to(dtype))

    def _per_output(self, values: Tensor, weight: _Weight) -> Tensor:
        """Shapes: (groups or 1, outputs or 1, 1) to what broadcasts to the output."""
        return self.layer.output_constant(values[..., 0].expand(weight.w_int.shape[:2]))

    def _product(self, facts: Facts, x_q: Tensor, unit: Tensor | float, weight: _Weight, chip: int) -> Tensor:
        """One product with the weights as one chip has them, and noise. Shapes: as `__call__`."""
        layer, written = self.layer, weight.w_int
        if facts.codes is not None:
            error = facts.codes.draw(written, self.injection.rng(layer.array.name, "written", chip))
            written = torch.add(written, error.to(written.dtype), alpha=self.injection.strength)
        if facts.wires is not None:
            written = written + facts.wires
        out = layer.multiply(x_q, standing_for(weight.matrix, written * weight.scale), steady=False)
        if facts.shift:
            off = (written - weight.w_int).sum(-1, keepdim=True) * weight.scale * facts.shift
            out = out + self._per_output(off, weight) * unit
        spread = self._spread(facts, x_q, unit, weight)
        if spread is None:
            return out
        drawn = quick_normals(self.injection.rng(layer.array.name, "reads", chip), out.numel())
        return out.addcmul_(torch.from_numpy(drawn).to(out.device, out.dtype).view_as(out), spread)

    @torch.no_grad()
    def _spread(self, facts: Facts, x_q: Tensor, unit: Tensor | float, weight: _Weight) -> Tensor | None:
        """Standard deviation of each output's noise, in a shape that broadcasts to it; None: no noise."""
        variance = None if facts.codes is None else facts.codes.read_variance(weight.w_int)
        if variance is None and not facts.conversions:
            return None
        one = self._per_output(weight.scale, weight) * unit
        if variance is None:
            return one * facts.conversions**0.5
        energy = pulse_energy((x_q / unit).round_(), self.layer.array.pulses)
        reads = self.layer.multiply(energy, variance.to(x_q.dtype), steady=False)
        return reads.add_(facts.conversions).sqrt_().mul_(one)

    def _by_reads(
        self, facts: Facts, x_q: Tensor, unit: Tensor | float, weight: _Weight, chip: int
    ) -> Tensor:
        """Every conversion as it is. Shapes: as `__call__`."""
        layer, per_read = self.layer, facts.per_read
        if per_read is None:
            raise ValueError("the layer's converters are taken as noise")
        name, error, variance = layer.array.name, None, None
        if facts.codes is not None:
            error = facts.codes.draw(weight.w_int, self.injection.rng(name, "written", chip))
            error = error.to(x_q.dtype) * self.injection.strength
            variance = facts.codes.read_variance(weight.w_int)
        ranges = self.injection.converter_range(layer.array)
        high = None if ranges is None else ranges[0]
        integer, rng = standing_for(weight.matrix, weight.w_int), self.injection.rng(name, "reads", chip)
        out = layer.by_vectors(
            x_q / unit, lambda vectors, _: per_read(vectors, integer, error, variance, high, rng)
        )
        return out.to(x_q.dtype) * (self._per_output(weight.scale, weight) * unit)

    def facts(self) -> Facts:
        """What the layer's arrays make of weights, worked out when their ranges or age changed.

        Raises:
            EngineError: bit lines that do not add currents, or cells whose I-V is not linear.
            CalibrationError: the layer needs calibration.
        """
        array = self.layer.array
        ranges = (array.signed, array.conversion_errors, array.seconds, array.compensation)
        learned = self.injection.converter_range(array) is not None
        now = (*ranges, None if learned else array.adc_high)
        if self._facts is None or now != self._made_for:
            with torch.no_grad():
                self._facts, self._made_for = self._make(), now
        return self._facts

    def _make(self) -> Facts:
        array = self.layer.array
        array.sync(self.layer.weight)
        job = array.job(targets=True)
        if job.columns.reshapes or job.train.drive is not None:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' takes bit lines that add currents and cells "
                "of linear I-V, which these are not; use fidelity = 'exact'"
            )
        codes = None
        if needs_cells(array.device_model):
            codes = self.injection.codes(array)
        per_read = reads_one_by_one(job)
        if per_read is None and job.complementary:
            raise EngineError(
                f"layer {array.name!r}: fidelity = 'statistical' takes complementary (xnor) cells with "
                "converters only; use fidelity = 'exact'"
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
        if job.complementary:
            raise EngineError(
                f"layer {self.layer.array.name!r}: fidelity = 'statistical' does not take wires behind "
                "complementary (xnor) cells; use fidelity = 'exact'"
            )
        without = self.layer.array.job(ideal_converters=True, targets=True)
        return (effective_weight(without) - ideal).to(self.layer.weight.dtype)
