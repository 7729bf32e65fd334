"""What every crossbar layer does: quantize, run the arrays, scale; with the gradients of its quantizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.functional.noise import ReadStream
from imcsim.kernels.collapsed import Collapsed, combine, pulse_energy
from imcsim.kernels.engines import Choice
from imcsim.nn.array import CrossbarArray
from imcsim.nn.product import GatedProduct, Product
from imcsim.quant.codes import InputCodes


class CrossbarLayer(nn.Module):
    """Mixin of the crossbar layers: `weight` stays the float master copy, `array` holds what was programmed.

    A subclass says how its weight is a matrix (`weight_matrix`), how codes become vectors on the word lines
    and products outputs (`vectors`, `serial`), how one product is applied directly (`multiply`), and the
    product's gradients (`product_gradients`).
    """

    array: CrossbarArray
    weight: Tensor
    bias: Any
    sample_dims: ClassVar[int]
    """Trailing input dimensions that share a dynamic range."""
    injection: Callable[[Tensor], Tensor] | None = None
    """What the layer computes in training mode in place of its chip; see `imcsim.train.inject`."""

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

    def by_vectors(self, x_int: Tensor, product: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Codes (batch, ...) to what a product makes of them, (batch, outputs, ...) float64.

        `product` takes vectors (groups, vectors, inputs) and the sample that the first belongs to, and
        returns (groups, vectors, outputs); it may be called for a few samples at a time.
        """
        raise NotImplementedError

    def serial(self, x_int: Tensor, stream: ReadStream | None) -> Tensor:
        """Codes (batch, ...) to integer products (batch, outputs, ...) float64, through `array`."""
        run = self.array.plan(x_int.dtype, 0).run
        return self.by_vectors(x_int, lambda x, first: run(x, None if stream is None else stream.skip(first)))

    def multiply(self, x_int: Tensor, matrix: Tensor, *, steady: bool) -> Tensor:
        """Codes (batch, ...) times (groups, outputs, inputs) in one product, (batch, outputs, ...).

        `steady`: sums of real numbers are taken in an order that does not depend on the batch's size.
        """
        raise NotImplementedError

    def output_constant(self, constant: Tensor) -> Tensor:
        """(groups, outputs) in a shape that broadcasts to the output."""
        raise NotImplementedError

    def sum_terms(self, out: Tensor, terms: int) -> Tensor:
        """(batch, terms x outputs, ...) with the terms of each output added, in their order."""
        raise NotImplementedError

    def input_sums(self, x_int: Tensor) -> Tensor:
        """Sum of the codes (batch, ...) that reach each output, in a shape that broadcasts to the output."""
        raise NotImplementedError

    def output_factor(self, factor: Tensor) -> Tensor:
        """A factor of the weights (groups or 1, outputs or 1, 1) in a shape that broadcasts to the output."""
        raise NotImplementedError

    def output_scale(self, input_scale: Tensor | float) -> Tensor:
        """``s_w s_x`` in a shape that broadcasts to the output."""
        return self.output_factor(self.array.written.scale) * input_scale

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
        self.sync()
        return self.run_codes(self.array.quantize(x, self.sample_dims))

    def run_codes(self, inputs: InputCodes) -> Tensor:
        """The layer's output for quantized inputs, bias included; `sync` first.

        ``sum_tu s_t s_u ((w_t + z_t) (x_u + z) summed over the inputs) + bias``: products on the chip, zero
        points, scales and sums over terms digital.

        Shapes: inputs (batch, ...); returns (batch, outputs, ...), of the codes' dtype.
        """
        array, dtype = self.array, inputs.codes[0].dtype
        plan, written = self.plan_for(inputs), array.written
        bias, terms = self.output_bias(), written.codes.terms
        if bias is not None and array.input_quantizer.whole_bias:
            step = self.output_scale(inputs.scale[0])
            bias = (bias.double() / step).round() * step
        if plan.product is None and not all(bool(codes.sum().isfinite()) for codes in inputs.codes):
            raise InputError(
                f"layer {array.name!r} got an input that is not finite; a pulse cannot be nan or inf: "
                "check the data and the layers before it"
            )
        plain = len(inputs.codes) == terms == 1 and not inputs.zero and written.zero is None
        if plain and plan.finish is not None and not isinstance(inputs.scale[0], Tensor):
            out = self.tabulated(inputs.codes[0], plan, self.output_scale(inputs.scale[0]), bias)
            if out is not None:
                return out
        out = self.joined(self.run_passes(inputs, plan, plain=plain), array.input_quantizer.gate)
        if bias is not None:
            out += bias.double()
        return out.to(dtype)

    def plan_for(self, inputs: InputCodes) -> Choice:
        """The engine for these inputs, which count as sent."""
        vectors = sum(self.vector_count(codes) for codes in inputs.codes)
        return self.array.plan(inputs.codes[0].dtype, vectors)

    def run_passes(self, inputs: InputCodes, plan: Choice, *, plain: bool) -> list[Tensor]:
        """The scaled product of each pass. `plain`: one pass, one term, no zero points.

        Shapes: inputs (batch, ...); returns (batch, terms x outputs, ...) float64 each.
        """
        x = inputs.codes[0]
        stream = self.read_stream(x.shape[0] if x.dim() > 1 else 1)
        passes = []
        for u, (codes, scale) in enumerate(zip(inputs.codes, inputs.scale, strict=True)):
            of_pass = stream if stream is None or u == 0 else replace(stream, name=f"{stream.name} pass {u}")
            product = self._product(codes, plan, of_pass)
            if not plain:
                product = self._with_zero_points(product.double(), codes, inputs.zero)
            factor = self.output_scale(scale)
            passes.append(
                product.double().mul_(factor) if product.dtype != torch.float64 else product.mul_(factor)
            )
        return passes

    def joined(self, passes: list[Tensor], gate: Tensor | None) -> Tensor:
        """Passes and terms added; with a gate the second pass only where the first's output is above it.

        Shapes: passes (batch, terms x outputs, ...) each; returns (batch, outputs, ...).
        """
        terms = self.array.written.codes.terms
        if gate is None:
            out = sum(passes[1:], passes[0])
            return self.sum_terms(out, terms) if terms > 1 else out
        first, second = (self.sum_terms(out, terms) if terms > 1 else out for out in passes)
        opened = first > self.output_factor(gate.detach().double())
        self.array.input_quantizer.note_gate(opened)
        return first + second * opened

    def _product(self, codes: Tensor, plan: Choice, stream: ReadStream | None) -> Tensor:
        """One pass of codes through the arrays, (batch, terms x outputs, ...)."""
        if plan.product is not None:
            return self._collapsed(codes, plan.product, stream)
        if stream is not None:
            stream = replace(stream, vectors=self.vectors(codes[:1] if codes.dim() > 1 else codes).shape[1])
        return self.serial(codes, stream)

    def _with_zero_points(self, product: Tensor, codes: Tensor, zero: float) -> Tensor:
        """The product of codes with what zero points add; padding has none.

        Shapes: product (batch, terms x outputs, ...) float64; codes (batch, ...); returns like product.
        """
        written = self.array.written
        z_w = None if written.zero is None else self.output_factor(written.zero)
        if z_w is not None:
            product = product + z_w * self.input_sums(codes)
        if zero:
            one = torch.ones_like(codes[:1] if codes.dim() > 1 else codes)
            sums = self.multiply(one, written.w_int.double(), steady=False)
            if z_w is not None:
                sums = sums + z_w * self.input_sums(one)
            product = product + zero * sums
        return product

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

    def check_kind(self, x: Tensor) -> None:
        """Raise InputError where x is not a dense floating-point tensor."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"layer {self.array.name!r} takes a floating-point tensor, but got {kind}; convert it "
                "with .float()"
            )
        if x.layout != torch.strided:
            raise InputError(
                f"layer {self.array.name!r} takes a dense tensor, but got {x.layout}; convert it with "
                ".to_dense()"
            )

    def chip_forward(self, x: Tensor) -> Tensor:
        """`forward` of every crossbar layer: outside autocast, in the weight's dtype, differentiable.

        Shapes: x (batch, ...).

        Raises:
            InputError: x is not a floating-point tensor.
        """
        self.check_kind(x)
        device_type = x.device.type
        autocast = torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, enabled=False):
            inner = x.to(self.weight.dtype if self.weight.dtype.itemsize >= 4 else torch.float32)
            learned = () if self.array.method is None else self.array.parameters()
            sources = (inner, self.weight, self.bias, *learned)
            learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in sources)
            if self.training and self.injection is not None:
                out = self.injection(inner)
            elif learns or self.array.soft:
                out = self.training_forward(inner)
            else:
                with torch.no_grad():
                    out = self.run_chip(inner)
            return out.to(torch.get_autocast_dtype(device_type) if autocast else x.dtype)

    def training_forward(self, x: Tensor) -> Tensor:
        """The layer's output with gradients: those of its product at quantized input and weight.

        They reach input, weight and the quantizers' parameters through the quantizers' own. Where one of
        these is soft the product is digital, of soft values.

        Shapes: x (batch, ...); returns (batch, outputs, ...), of x's dtype.
        """
        array = self.array
        if self.training and array.method is not None:
            array.update_quantizers(self.weight_matrix(self.weight.detach()), x.detach())
        if not array.weight_quantizer.soft:
            self.sync()
        x_q, codes = array.input_value(x, self.sample_dims)
        weight = self.weight_from_matrix(array.weight_value(self.weight_matrix(self.weight))).to(x.dtype)
        gate = array.input_quantizer.gate
        if gate is not None and codes is not None:
            return GatedProduct.apply(x_q, weight, self.bias, gate, self, codes)  # type: ignore[no-untyped-call]
        on_chip = None if array.soft else codes
        return Product.apply(x_q, weight, self.bias, self, on_chip)  # type: ignore[no-untyped-call]

    def calibration_forward(self, x: Tensor, float_forward: Callable[[], Tensor]) -> Tensor:
        """The layer while calibration looks at its inputs: in floats, quantized where a method trains it.

        Where only shapes are asked for, on the meta device, in floats.

        Shapes: x (batch, ...); returns (batch, outputs, ...).
        """
        self.check_kind(x)
        array = self.array
        if array.method is None or x.is_meta:
            return float_forward()
        self.sync()
        if array.inputs_known:
            x, _ = array.input_value(x, self.sample_dims)
        weight = array.weight_value(self.weight_matrix(self.weight))
        out = self.multiply(x, weight.to(x.dtype), steady=False)
        bias = self.output_bias()
        return out if bias is None else out + bias
