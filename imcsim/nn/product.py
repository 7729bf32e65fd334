"""The product of a quantized input and a quantized weight: on the chip forward, the float one's gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imcsim.quant.codes import InputCodes

if TYPE_CHECKING:
    from imcsim.nn.layer import CrossbarLayer

GATE_SLOPE = 5.0
"""Of the sigmoid whose derivative stands for the gate's."""


class Product(torch.autograd.Function):
    """The product of a quantized input and a quantized weight.

    Forward on the chip, from the input's codes, or where there are none as a product of floats. Backward the
    float product's gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: CrossbarLayer,
        codes: InputCodes | None,
    ) -> Tensor:
        """Without codes the product of floats."""
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        if codes is not None:
            return layer.run_codes(codes)
        out = layer.multiply(x, layer.weight_matrix(weight), steady=False)
        shaped = layer.output_bias()
        return out if shaped is None else out + shaped

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """Gradients to x, weight and bias."""
        x, weight = ctx.saved_tensors
        layer: CrossbarLayer = ctx.layer
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        quantizer = layer.array.gradient_quantizer
        product_grad = grad if quantizer is None else quantizer(grad)
        grad_x, grad_w = layer.product_gradients(product_grad.to(x.dtype), x, weight, (need_x, need_weight))
        return grad_x, grad_w, layer.bias_gradient(grad) if need_bias else None, None, None


class GatedProduct(torch.autograd.Function):
    """Two passes, the second only where the first's output is above a threshold, the layer's or its own.

    ``y = y_1 + 1[y_1 > gate] y_2``. Backward the gate has the derivative of ``sigmoid(5 (y_1 - gate))``, and
    the input gets the gradient of the first pass: its two parts together follow it.

    References: Y. Zhang et al., "Precision gating: improving neural network efficiency with dynamic
        dual-precision activations", ICLR 2020.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        gate: Tensor,
        layer: CrossbarLayer,
        inputs: InputCodes,
    ) -> Tensor:
        """Both passes on the chip."""
        plan, terms = layer.plan_for(inputs), layer.array.written.codes.terms
        passes = layer.run_passes(inputs, plan, plain=False)
        first, second = (layer.sum_terms(out, terms) if terms > 1 else out for out in passes)
        parts = [code * scale for code, scale in zip(inputs.codes, inputs.scale, strict=True)]
        ctx.save_for_backward(weight, gate, first.to(x.dtype), second.to(x.dtype), *parts)
        ctx.layer = layer
        out, shaped = layer.joined(passes, gate), layer.output_bias()
        return (out if shaped is None else out + shaped.double()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients to x, weight, bias and gate."""
        weight, gate, first, second, coarse, fine = ctx.saved_tensors
        layer: CrossbarLayer = ctx.layer
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        quantizer = layer.array.gradient_quantizer
        product_grad = (grad if quantizer is None else quantizer(grad)).to(coarse.dtype)
        threshold = layer.output_factor(gate.to(first.dtype))
        soft = torch.sigmoid(GATE_SLOPE * (first - threshold))
        through_gate = product_grad * second * (GATE_SLOPE * soft * (1 - soft))
        grad_x, grad_w = layer.product_gradients(
            product_grad + through_gate, coarse, weight, (need_x, need_weight)
        )
        if need_weight and grad_w is not None:
            open_grad = product_grad * (first > threshold)
            _, more = layer.product_gradients(open_grad, fine, weight, (False, True))
            grad_w = grad_w if more is None else grad_w + more
        grad_b = layer.bias_gradient(grad) if need_bias else None
        of_gate = -(through_gate.sum() if gate.numel() == 1 else layer.bias_gradient(through_gate))
        return grad_x, grad_w, grad_b, of_gate.view_as(gate).to(gate.dtype), None, None
