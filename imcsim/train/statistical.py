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
        layer, array = self.layer, self.layer.array
        facts = self.facts()
        full = self.injection.input_range(array, x, layer.sample_dims)
        x_q = rounded_input(x, full, array.hardware.inputs.bits, signed=array.signed)
        weights = array.hardware.weights
        matrix = layer.weight_matrix(layer.weight)
        with torch.no_grad():
            w_int, scale = quantize_weight(
                matrix.detach(), weights.bits, per_channel=weights.scale == "per_channel"
            )
            w_int, scale = w_int.to(x.dtype), scale.to(x.dtype)
            step = (full.detach() if isinstance(full, Tensor) else full) / top_code(
                array.hardware.inputs.bits, signed=array.signed
            )
        parts = x_q.chunk(self.injection.chips) if x.dim() > 1 else (x_q,)
        by_sample = isinstance(step, Tensor) and step.dim() == x.dim()
        steps = step.chunk(len(parts)) if by_sample else (step,) * len(parts)  # type: ignore[union-attr]
        outs = []
        for chip, (part, step) in enumerate(zip(parts, steps, strict=True)):
            if facts.per_read is not None:
                outs.append(self._by_reads(facts, facts.per_read, part, matrix, w_int, scale, step, chip))
            else:
                outs.append(self._product(facts, part, matrix, w_int, scale, step, chip))
        out = outs[0] if len(outs) == 1 else torch.cat(outs)
        bias = layer.bias
        return out if bias is None else out + layer.output_constant(bias.view(w_int.shape[:2]))

    def _product(
        self,
        facts: Facts,
        x_q: Tensor,
        matrix: Tensor,
        w_int: Tensor,
        scale: Tensor,
        step: Tensor | float,
        chip: int,
    ) -> Tensor:
        layer = self.layer
        written = w_int
        if facts.codes is not None:
            drawn = facts.codes.draw(w_int, self.injection.rng(layer.array.name, "written", chip))
            written = torch.add(w_int, drawn.to(w_int.dtype), alpha=self.injection.strength)
        if facts.wires is not None:
            written = written + facts.wires
        out = layer.multiply(x_q, standing_for(matrix, written * scale), steady=False)
        if facts.shift:
            off = (written - w_int).sum(-1) * scale[..., 0] * facts.shift
            out = out + layer.output_constant(off.expand(w_int.shape[:2])) * step
        spread = self._spread(facts, x_q, w_int, scale, step)
        if spread is not None:
            drawn_now = quick_normals(self.injection.rng(layer.array.name, "reads", chip), out.numel())
            normals = torch.from_numpy(drawn_now).to(out.device, out.dtype).view_as(out)
            out = out.addcmul_(normals, spread)
        return out

    @torch.no_grad()
    def _spread(
        self, facts: Facts, x_q: Tensor, w_int: Tensor, scale: Tensor, step: Tensor | float
    ) -> Tensor | None:
        """Standard deviation of each output's noise, in a shape that broadcasts to it; None: no noise."""
        layer = self.layer
        unit = layer.output_constant(scale[..., 0].expand(w_int.shape[:2])) * step
        variance = None if facts.codes is None else facts.codes.read_variance(w_int)
        if variance is None:
            return unit * facts.conversions**0.5 if facts.conversions else None
        energy = pulse_energy((x_q / step).round_(), layer.array.pulses)
        reads = layer.multiply(energy, variance.to(x_q.dtype), steady=False)
        return reads.add_(facts.conversions).sqrt_().mul_(unit)

    def _by_reads(
        self,
        facts: Facts,
        per_read: PerRead,
        x_q: Tensor,
        matrix: Tensor,
        w_int: Tensor,
        scale: Tensor,
        step: Tensor | float,
        chip: int,
    ) -> Tensor:
        layer, name = self.layer, self.layer.array.name
        drawn = variance = None
        if facts.codes is not None:
            drawn = facts.codes.draw(w_int, self.injection.rng(name, "written", chip)) * self.injection.strength
            variance = facts.codes.read_variance(w_int)
        ranges = self.injection.converter_range(layer.array)
        high = None if ranges is None else ranges[0]
        codes = x_q / step
        integer = standing_for(matrix, w_int) if scale.dim() else w_int
        rng = self.injection.rng(name, "reads", chip)
        out = layer.by_vectors(
            codes, lambda vectors, _: per_read(vectors, integer, drawn, variance, high, rng)
        ).to(x_q.dtype)
        return out * (layer.output_constant(scale[..., 0].expand(w_int.shape[:2])) * step)

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
                f"layer {array.name!r}: fidelity = 'statistical' takes its converters as noise, so their range "
                "has no gradient; use fidelity = 'exact' to learn it, or recalibrate now and then"
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
