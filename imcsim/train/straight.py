"""Straight-through gradients of rounding and clipping, also to the ranges that they depend on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from imcsim.functional.adc import Converter, convert
from imcsim.functional.quantize import quantize_input, top_code


def rounded_input(x: Tensor, full_scale: Tensor | float, bits: int, *, signed: bool) -> Tensor:
    """Inputs as their codes stand for, ``s_x rint(clip(x) / s_x)``.

    Backward: what is inside the range passes, what is clipped does not. A range that requires a gradient gets
    that of learned step sizes, ``(x_q - x) / range`` inside and +-1 at the ends, divided by ``sqrt(n top)``.

    Shapes: x (*any); full_scale a number, a scalar tensor, or one that broadcasts to x; returns like x.

    Args:
        x: inputs.
        full_scale: the magnitude that maps to the top code; a scalar parameter is learned.
        bits: width of the code.
        signed: whether codes have a sign.

    Returns:
        The rounded inputs.

    References: S. K. Esser et al., "Learned step size quantization", ICLR 2020 (the gradient and its scale).
    """
    return _RoundedInput.apply(x, full_scale, bits, signed)  # type: ignore[no-untyped-call]


class _RoundedInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, full_scale: Tensor | float, bits: int, signed: bool) -> Tensor:
        learned = isinstance(full_scale, Tensor) and full_scale.dim() == 0
        full = float(full_scale) if learned else full_scale
        codes, scale = quantize_input(x, full, bits, signed=signed)
        out = codes.mul_(scale)
        held = (out,) if learned and full_scale.requires_grad else ()  # type: ignore[union-attr]
        ctx.save_for_backward(x, *held)
        ctx.full, ctx.signed, ctx.top = full, signed, top_code(bits, signed=signed)  # type: ignore[attr-defined]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, *held = ctx.saved_tensors
        full = ctx.full
        if isinstance(full, Tensor):
            inside = (x <= full) & (x >= (-full if ctx.signed else torch.zeros_like(full)))
            return grad * inside, None, None, None
        low = -full if ctx.signed else 0.0
        passed = _inside(grad, x, low, full)
        if not held:
            return passed, None, None, None
        slope = _range_slope(x, held[0], low, full)
        return passed, (grad * slope).sum() / math.sqrt(x.numel() * ctx.top), None, None


def _inside(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """The gradient where ``low <= x <= high``, else 0, in one pass over memory."""
    kind = np.float32 if x.dtype == torch.float32 else np.float64
    below, above = np.nextafter(kind(low), kind(-np.inf)), np.nextafter(kind(high), kind(np.inf))
    return torch.ops.aten.hardtanh_backward(grad, x, float(below), float(above))


def _range_slope(x: Tensor, rounded: Tensor, low: float, high: float) -> Tensor:
    """Derivative of a rounded and clipped value with respect to its range."""
    inside = (rounded - x) / high
    return torch.where(x > high, 1.0, torch.where(x < low, -1.0 if low < 0 else 0.0, inside)).to(x.dtype)


def converted(current: Tensor, converter: Converter, high: Tensor | None = None) -> Tensor:
    """Column currents as their converter reads them, in levels: ``step (code - origin)``.

    Backward: what is within the codes passes, what is clipped does not. `high`, if given, is the parameter
    that the converter's range was made of, and gets the gradient of `rounded_input`.

    Shapes: current (*any); returns the same.

    Args:
        current: levels.
        converter: the quantizer.
        high: upper end of its range in levels; None: nothing is learned.

    Returns:
        What is read.
    """
    return _Converted.apply(current, high, converter)  # type: ignore[no-untyped-call]


class _Converted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, current: Tensor, high: Tensor | None, converter: Converter) -> Tensor:
        read = (convert(current, converter) + converter.residue) * converter.step
        ctx.converter = converter  # type: ignore[attr-defined]
        ctx.save_for_backward(current, read)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        current, read = ctx.saved_tensors
        converter: Converter = ctx.converter
        low = -converter.origin * converter.step
        high = (converter.top - converter.origin) * converter.step
        passed = None
        if ctx.needs_input_grad[0]:
            passed = grad * ((current >= low) & (current <= high))
        if not ctx.needs_input_grad[1]:
            return passed, None, None
        slope = _range_slope(current, read, low, high)
        return passed, (grad * slope).sum() / math.sqrt(current.numel() * converter.top), None
