"""What every crossbar layer does: quantize, run the arrays, scale; with straight-through gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from imcsim.errors import InputError
from imcsim.functional.noise import ReadStream
from imcsim.kernels.collapsed import Collapsed, combine, pulse_energy
from imcsim.kernels.engines import Choice
from imcsim.nn.array import CrossbarArray


class CrossbarLayer(nn.Module):
    """Mixin of the crossbar layers: `weight` stays the float master copy, `array` holds what was programmed.

    A subclass says how its weight is a matrix (`weight_matrix`), how codes become vectors on the word lines
    and products outputs (`vectors`, `serial`), how one product is applied directly (`multiply`), and the
    product's gradients (`product_gradients`).
    """

    array: CrossbarArray
    weight: Tensor
    sample_dims: ClassVar[int]
    """Trailing input dimensions that share a dynamic range."""

    @staticmethod
    def from_float(module: nn.Module, cls: type[nn.Module]) -> nn.Module:
        """A crossbar layer with the parameters, buffers and options of a torch layer.

        Args:
            module: the layer; its `__dict__` is taken over.
            cls: the crossbar class.

        Returns:
            The layer, still without `array`.
        """
        layer = cls.__new__(cls)
        layer.__dict__ = {
            key: value.copy() if isinstance(value, dict) else value for key, value in module.__dict__.items()
        }
        return layer

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, inputs)."""
        raise NotImplementedError

    def weight_from_matrix(self, matrix: Tensor) -> Tensor:
        """The inverse of `weight_matrix`."""
        raise NotImplementedError

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """Sum of the output's gradient over all but the outputs."""
        raise NotImplementedError

    def vectors(self, x_int: Tensor) -> Tensor:
        """Codes (batch, ...) to what drives the word lines, (groups, vectors, inputs)."""
        raise NotImplementedError

    def vector_count(self, x: Tensor) -> int:
        """About how many vectors an input sends, for the planner."""
        raise NotImplementedError

    def serial(self, x_int: Tensor, stream: ReadStream | None) -> Tensor:
        """Codes (batch, ...) to integer products (batch, outputs, ...) float64, through `array`."""
        raise NotImplementedError

    def multiply(self, x_int: Tensor, matrix: Tensor, *, steady: bool) -> Tensor:
        """Codes (batch, ...) times (groups, outputs, inputs) in one product, (batch, outputs, ...).

        `steady`: sums of real numbers are taken in an order that does not depend on the batch's size.
        """
        raise NotImplementedError

    def output_constant(self, constant: Tensor) -> Tensor:
        """(groups, outputs) in a shape that broadcasts to the output."""
        raise NotImplementedError

    def output_scale(self, input_scale: Tensor | float) -> Tensor:
        """``s_w s_x`` in a shape that broadcasts to the output."""
        raise NotImplementedError

    def output_bias(self) -> Tensor | None:
        """The bias in a shape that broadcasts to the output."""
        raise NotImplementedError

    def product_gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, need: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the layer's float product to input and weight."""
        raise NotImplementedError

    def sync(self) -> None:
        """Program the arrays if the weight changed."""
        self.array.sync(self.weight)

    def read_stream(self, samples: int) -> ReadStream | None:
        """Random numbers of the next samples' reads, None where reads are noiseless."""
        return self.array.read_stream(samples)

    def run_chip(self, x: Tensor) -> Tensor:
        """The layer's output on the chip, bias included.

        Shapes: x (batch, ...); returns (batch, outputs, ...), of x's dtype.
        """
        array = self.array
        self.sync()
        codes, scale = array.quantize(x, self.sample_dims)
        plan = array.plan(x.dtype, self.vector_count(codes))
        bias = self.output_bias()
        factor = self.output_scale(scale)
        if plan.product is None and not bool(codes.sum().isfinite()):
            raise InputError(
                f"layer {array.name!r} got an input that is not finite; a pulse cannot be nan or inf: "
                "check the data and the layers before it"
            )
        if plan.finish is not None and not isinstance(scale, Tensor):
            out = self.tabulated(codes, plan, factor, bias)
            if out is not None:
                return out
        samples = x.shape[0] if x.dim() > 1 else 1
        stream = self.read_stream(samples)
        if plan.product is not None:
            product = self._collapsed(codes, plan.product, stream)
        else:
            if stream is not None:
                stream = replace(stream, vectors=self.vectors(codes[:1] if x.dim() > 1 else codes).shape[1])
            product = self.serial(codes, stream)
        out = product.double().mul_(factor) if product.dtype != torch.float64 else product.mul_(factor)
        if bias is not None:
            out += bias.double()
        return out.to(x.dtype)

    def tabulated(self, codes: Tensor, plan: Choice, factor: Tensor, bias: Tensor | None) -> Tensor | None:
        """The layer's output by tables, scaled as it is written.

        None where a layer's geometry does not allow it.
        """
        return None

    def _collapsed(self, codes: Tensor, product: Collapsed, stream: ReadStream | None) -> Tensor:
        out = combine(
            [self.multiply(codes, piece, steady=not product.exact) for piece in product.pieces],
            product.shifts,
        )
        if product.constant is not None:
            out = out.double() + self.output_constant(product.constant)
        if stream is None:
            return out
        from_inputs = extra = None
        if product.variance is not None:
            from_inputs = self.multiply(pulse_energy(codes, self.array.pulses), product.variance, steady=True)
        if product.extra_variance is not None:
            extra = self.output_constant(product.extra_variance)
        spread = product.deviation(from_inputs, extra)
        if spread is not None:
            samples = codes.shape[0] if codes.dim() > 1 else 1
            normals = torch.from_numpy(stream.of_samples(samples, out.numel() // samples)).to(out.device)
            out = torch.addcmul(out, spread.to(out.dtype), normals.view_as(out).to(out.dtype))
        return out

    def chip_forward(self, x: Tensor) -> Tensor:
        """`forward` of every crossbar layer: outside autocast, in the weight's dtype, differentiable.

        Shapes: x (batch, ...).

        Raises:
            InputError: x is not a floating-point tensor.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"layer {self.array.name!r} takes a floating-point tensor, but got {kind}; convert it "
                "with .float()"
            )
        device_type = x.device.type
        autocast = torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, enabled=False):
            inner = x.to(self.weight.dtype if self.weight.dtype.itemsize >= 4 else torch.float32)
            sources = (inner, self.weight, self.bias)
            if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in sources):
                out = _StraightThrough.apply(inner, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
            else:
                with torch.no_grad():
                    out = self.run_chip(inner)
            return out.to(torch.get_autocast_dtype(device_type) if autocast else x.dtype)


class _StraightThrough(torch.autograd.Function):
    """The chip's output forward.

    Backward the gradient of the product of quantized inputs and weights, clipped inputs pass none.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, layer: CrossbarLayer
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer  # type: ignore[attr-defined]
        return layer.run_chip(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        layer: CrossbarLayer = ctx.layer
        array = layer.array
        codes, scale = array.quantize(x, layer.sample_dims)
        x_q = codes * scale
        w_q = layer.weight_from_matrix((array.written.w_int * array.written.scale).to(x.dtype))
        need = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        grad_x, grad_w = layer.product_gradients(grad.to(x.dtype), x_q.to(x.dtype), w_q, need)
        if grad_x is not None:
            full = array.full_scale(x, layer.sample_dims)
            inside = (x <= full) & (x >= (-full if array.signed else torch.zeros_like(x)))
            grad_x = grad_x * inside
        grad_b = layer.bias_gradient(grad) if ctx.needs_input_grad[2] else None
        return grad_x, None if grad_w is None else grad_w.to(weight.dtype), grad_b, None
