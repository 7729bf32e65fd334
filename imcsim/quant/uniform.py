"""Uniform quantizers: the hardware's own, uniform affine (Eq. 1), n-bit integer (Eq. 3), levels of [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.functional.quantize import quantize_input, quantize_weight
from imcsim.quant.base import (
    InputQuantizer,
    Span,
    WeightQuantizer,
    straight_through_inside,
    straight_through_where,
)
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.rounding import RoundingWeight, need_bits


def uniform_codes(x: Tensor, scale: Tensor | float, bias: Tensor | float, low: float, high: float) -> Tensor:
    """Uniform affine quantization, ``clamp(round((x + b) / s), v_min, v_max)``.

    Shapes: x (*any); scale and bias broadcast to it; returns the same.

    Args:
        x: real numbers.
        scale: s, positive.
        bias: b.
        low: v_min.
        high: v_max.

    Returns:
        Whole numbers; ties to even.

    References: L. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front.
        Electron. 6:1469802, 2025, Eq. 1, DOI 10.3389/felec.2025.1469802.
    """
    return torch.round((x + bias) / scale).clamp(low, high)


def integer_codes(x: Tensor, bits: int) -> Tensor:
    """n-bit integers, ``clamp(round(x), -2^(n-1), 2^(n-1) - 1)``.

    Shapes: x (*any); returns the same.

    Args:
        x: real numbers.
        bits: n.

    Returns:
        Whole numbers; ties to even.

    References: L. Zhang et al., Front. Electron. 6:1469802, 2025, Eq. 3.
    """
    return uniform_codes(x, 1.0, 0.0, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def unit_codes(x: Tensor, bits: int) -> Tensor:
    """Codes of numbers of [0, 1], ``round((2^k - 1) x)``; the quantized number is ``code / (2^k - 1)``.

    Shapes: x (*any) in [0, 1]; returns the same.

    Args:
        x: real numbers.
        bits: k.

    Returns:
        Whole numbers from 0 to 2^k - 1.

    References: S. Zhou et al., "DoReFa-Net: training low bitwidth convolutional neural networks with low
        bitwidth gradients", arXiv:1606.06160, 2016.
    """
    return torch.round(((1 << bits) - 1) * x)


class HardwareWeight(WeightQuantizer):
    """The hardware's own weights, `imcsim.functional.quantize.quantize_weight`; straight-through.

    Reaches the array as it is: one code a weight.

    Args:
        bits: width, sign included.
        per_channel: one scale an output.
    """

    def __init__(self, bits: int, *, per_channel: bool) -> None:
        super().__init__()
        self.bits, self.per_channel = bits, per_channel

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes, scale = quantize_weight(matrix, self.bits, per_channel=self.per_channel)
        return WeightCodes.single(codes, scale)


class AffineWeight(RoundingWeight):
    """Uniform affine weights (Eq. 1): all 2^bits codes between the smallest and the largest weight.

    ``w_q = s (n - z)``, ``n = clamp(round((w + z s) / s), 0, 2^bits - 1)``, ``s = (max - min) / (2^bits -
    1)`` with min <= 0 <= max, ``z = round(-min / s)``, so that 0 is a code. Straight-through.

    Reaches the array as ``n - 2^(bits-1)`` with zero point ``2^(bits-1) - z``, corrected digitally from the
    sum of input codes. The code -2^(bits-1) needs an encoding that holds it: offset, isaac, twos_complement,
    or differential slices with a bit to spare.

    Args:
        bits: width.
        per_channel: one scale and zero point an output.
        stochastic: round at random in training.
    """

    def __init__(self, bits: int, *, per_channel: bool, stochastic: bool = False) -> None:
        need_bits(bits, 2, "AffineWeight: weights.bits", "use BinaryWeight for one bit")
        super().__init__(stochastic=stochastic)
        self.bits, self.per_channel = bits, per_channel

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        w = matrix.double()
        dims = (2,) if self.per_channel else (0, 1, 2)
        low, high = w.amin(dims, keepdim=True).clamp(max=0), w.amax(dims, keepdim=True).clamp(min=0)
        top, half = (1 << self.bits) - 1, 1 << (self.bits - 1)
        scale = (high - low) / top
        scale = torch.where(scale > 0, scale, 1.0)
        zero = torch.round(-low / scale)
        codes = self.round((w + zero * scale) / scale).clamp(0, top)
        return WeightCodes.single(codes - half, scale, half - zero)


class HardwareInput(InputQuantizer):
    """The hardware's own inputs, `imcsim.functional.quantize.quantize_input`; clipped ones pass no gradient.

    Reaches the word lines as it is: one code an input.

    Args:
        bits: width, sign included where there is one.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        span = required(span)
        codes, scale = quantize_input(x, span.high, self.bits, signed=span.signed)
        return InputCodes((codes,), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, required(span))


class ClippedInput(InputQuantizer):
    """Inputs clipped to a fixed range, ``clip(x, 0, high)`` or ``clip(x, -high, high)``, then uniform.

    The gradient passes inside the range; `open_ends` leaves out its ends, as Eq. 7 does. One signed bit is
    the sign, with sign(0) = -1. Reaches the word lines as it is.

    Args:
        bits: width, sign included where there is one.
        signed: whether negative inputs have codes.
        high: the range.
        open_ends: no gradient where ``|x| = high``.
    """

    ranged = False

    def __init__(self, bits: int, *, signed: bool, high: float = 1.0, open_ends: bool = False) -> None:
        super().__init__()
        self.bits, self.open_ends = bits, open_ends
        self.span = Span(high, signed)

    @property
    def signed(self) -> bool | None:
        """As given."""
        return self.span.signed

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        codes, scale = quantize_input(x, self.span.high, self.bits, signed=self.span.signed)
        return InputCodes((codes,), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        if self.open_ends:
            low = -self.span.high if self.span.signed else 0.0
            return straight_through_where(x, value, (x > low) & (x < self.span.high))
        return straight_through_inside(x, value, self.span)


def required(span: Span | None) -> Span:
    """The span, which a ranged quantizer is always given."""
    if span is None:
        raise ValueError("a quantizer with the hardware's range was called without one")
    return span
