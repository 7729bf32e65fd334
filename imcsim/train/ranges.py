"""Input and converter ranges as parameters, learned along with the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from imcsim.errors import InputError
from imcsim.functional.dac import digits, drive_of
from imcsim.functional.noise import keyed_generator
from imcsim.nn.array import CrossbarArray
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.readout import stream_converter, streams
from imcsim.train.straight import converted

if TYPE_CHECKING:
    from imcsim.kernels.job import Job

INPUT, CONVERTERS = "learned_input_range", "learned_adc_range"
"""Names of the parameters on an array."""

SAMPLED_VECTORS = 256
"""Input vectors of a layer and step from which the gradient of its converters' ranges is estimated."""

LEAST = 1e-3
"""Of a range as calibrated: a learned one goes no lower."""


class LearnedRanges:
    """Parameters for the calibrated ranges of a model, while an injection lasts.

    Args:
        arrays: of the model.
        inputs: learn input ranges.
        converters: learn converters' ranges.
    """

    def __init__(self, arrays: list[CrossbarArray], *, inputs: bool, converters: bool) -> None:
        self.arrays = arrays
        self.least: dict[tuple[CrossbarArray, str], Tensor] = {}
        if inputs:
            self._make(
                INPUT, [a for a in arrays if a.hardware.inputs.range == "calibrated" and a.method is None]
            )
        if converters:
            has_range = [a for a in arrays if a.hardware.adc is not None and a.method is None]
            self._make(
                CONVERTERS, [a for a in has_range if a.hardware.adc and a.hardware.adc.range == "calibrated"]
            )

    def _make(self, name: str, arrays: list[CrossbarArray]) -> None:
        what = "inputs" if name == INPUT else "converters"
        if not arrays:
            table = "inputs" if name == INPUT else "adc"
            raise InputError(
                f"learn = {what!r}: no layer has {table}.range = 'calibrated', and other ranges are fixed by "
                "the hardware; set it to 'calibrated' and call imcsim.calibrate"
            )
        for array in arrays:
            value = array.input_range if name == INPUT else array.adc_high
            if value is None:
                raise InputError(
                    f"layer {array.name!r} was not calibrated, so its range cannot be learned from there; "
                    "call imcsim.calibrate(sim, batches) first"
                )
            start = torch.tensor(value, dtype=torch.float32, device=array.written.w_int.device)
            array.register_parameter(name, nn.Parameter(start))
            self.least[array, name] = LEAST * start

    def input_of(self, array: CrossbarArray) -> Tensor | None:
        """The parameter of an array's input range."""
        found: Tensor | None = getattr(array, INPUT, None)
        return found

    def converters_of(self, array: CrossbarArray) -> Tensor | None:
        """The parameter of an array's converter ranges."""
        found: Tensor | None = getattr(array, CONVERTERS, None)
        return found

    @torch.no_grad()
    def write_back(self) -> None:
        """What the parameters say becomes the arrays' ranges; both sides of a pair keep one range."""
        for (array, name), least in self.least.items():
            parameter = getattr(array, name)
            parameter.copy_(torch.maximum(parameter, least.to(parameter.device)))
            if name == INPUT:
                array.input_range = float(parameter)
                continue
            highs = tuple(parameter.double().tolist())
            if highs != array.adc_high:
                array.adc_high = highs
                array.forget_plans()

    def close(self) -> None:
        """Leave the arrays with the ranges as learned, without the parameters."""
        self.write_back()
        for array, name in self.least:
            delattr(array, name)


def with_range_gradients(out: Tensor, x: Tensor, highs: Tensor, layer: CrossbarLayer, seed: int) -> Tensor:
    """A layer's output; backward its converters' ranges get their gradient.

    ``dL/dhigh_q = sum dL/dy gain_q sum_r sum_t weight_t dADC(i_rqt)/dhigh_q``, estimated from a random part
    of the batch and without bias: whole samples, so many that `SAMPLED_VECTORS` vectors are reached.

    Shapes: out (batch, outputs, ...); x (batch, ...); highs (streams,); returns like out.

    Args:
        out: what the layer's exact forward gave.
        x: its input.
        highs: the parameter.
        layer: the layer.
        seed: chooses the part.

    Returns:
        The output.
    """
    return _RangeGradients.apply(out, x, highs, layer, seed)  # type: ignore[no-untyped-call]


class _RangeGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, out: Tensor, x: Tensor, highs: Tensor, layer: CrossbarLayer, seed: int
    ) -> Tensor:
        ctx.save_for_backward(x, highs)
        ctx.layer, ctx.seed = layer, seed  # type: ignore[attr-defined]
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        x, highs = ctx.saved_tensors
        layer: CrossbarLayer = ctx.layer
        array = layer.array
        inputs = array.quantize(x, layer.sample_dims)
        codes, scale = inputs.codes[0], inputs.scale[0]
        samples = x.shape[0] if x.dim() > 1 else 1
        factor, part = 1.0, grad
        if x.dim() > 1:
            each = layer.vectors(codes[:1]).shape[1]
            count = min(samples, max(1, SAMPLED_VECTORS // max(each, 1)))
            rng = keyed_generator(ctx.seed, array.name, "samples for ranges")
            chosen = torch.from_numpy(rng.choice(samples, count, replace=False)).to(x.device)
            codes, part, factor = codes[chosen], grad[chosen], samples / count
            if isinstance(scale, Tensor) and scale.dim() == x.dim():
                scale = scale[chosen]
        with torch.enable_grad():
            learned = highs.detach().double().requires_grad_()
            job = array.job()
            product = layer.by_vectors(codes, lambda vectors, _: _sums(vectors, job, learned, array))
            value = product * layer.output_scale(scale)
        (slope,) = torch.autograd.grad(value, learned, part.to(value.dtype) * factor)
        return grad, None, slope.to(highs.dtype), None, None


def _sums(x_int: Tensor, job: Job, highs: Tensor, array: CrossbarArray) -> Tensor:
    """Digitised sums of some vectors, differentiable in the ranges alone.

    Shapes: x_int (groups, vectors, inputs); highs (streams,); returns (groups, vectors, outputs).
    """
    columns, train = job.columns, job.train
    kinds = streams(array.hardware, train, array.on_off_ratio)
    with torch.no_grad():
        pulses = drive_of(digits(job.word_lines(x_int).double(), train), train)
    out: Tensor | float = 0.0
    for q, (kind, gain) in enumerate(zip(kinds, columns.gains, strict=True)):
        converter = stream_converter(array.hardware, kind, train, array.on_off_ratio, float(highs[q]))
        cells = columns.cells[:, q].double() + columns.baseline[q]
        for r, (start, stop) in enumerate(columns.reads):
            flip = 1.0 if columns.flip is None else columns.flip[r, :, q, None, :].double()
            for weight, pulse in zip(train.weights, pulses[..., start:stop], strict=True):
                read = converted(pulse @ cells[:, start:stop], converter, highs[q])
                out = out + gain * weight * flip * read
    if not isinstance(out, Tensor):
        raise ValueError("a layer without streams")
    return out
