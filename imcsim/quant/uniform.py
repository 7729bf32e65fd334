"""Uniform quantizers: the hardware's own."""

from __future__ import annotations

from torch import Tensor

from imcsim.functional.quantize import quantize_input, quantize_weight
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_inside
from imcsim.quant.codes import InputCodes, WeightCodes


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


def required(span: Span | None) -> Span:
    """The span, which a ranged quantizer is always given."""
    if span is None:
        raise ValueError("a quantizer with the hardware's range was called without one")
    return span
