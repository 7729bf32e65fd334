"""Floating-point formats: half (1, 5, 10) and FP8 (1, 5, 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.quant.base import (
    GradientQuantizer,
    InputQuantizer,
    Span,
    WeightQuantizer,
    straight_through_where,
)
from imcsim.quant.codes import InputCodes, WeightCodes, wide_input_codes, wide_weight_codes


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format with subnormal numbers, without infinities: it saturates.

    Attributes:
        exponent_bits: e; the exponent's bias is ``2^(e-1) - 1`` and its highest code is left out, as in IEEE
            754.
        fraction_bits: f.
    """

    exponent_bits: int
    fraction_bits: int

    @property
    def lowest_exponent(self) -> int:
        """That of the smallest normal number."""
        return 2 - (1 << (self.exponent_bits - 1))

    @property
    def largest(self) -> float:
        """The largest number."""
        return 2.0 ** ((1 << (self.exponent_bits - 1)) - 1) * (2 - 2.0**-self.fraction_bits)

    @property
    def unit(self) -> float:
        """The smallest positive number, of which all are multiples."""
        return 2.0 ** (self.lowest_exponent - self.fraction_bits)


HALF = FloatFormat(5, 10)
FP8 = FloatFormat(5, 2)
FORMATS = {"half": HALF, "fp8": FP8}


def round_float(x: Tensor, form: FloatFormat) -> Tensor:
    """The nearest number of a format, ties to even; too large ones become the largest.

    ``2^(E-f) rint(x / 2^(E-f))``, ``E = max(floor(log2|x|), lowest exponent)``.

    Shapes: x (*any); returns the same.

    Args:
        x: real numbers.
        form: the format.

    Returns:
        Numbers of the format, of x's dtype.

    References: IEEE 754-2008, half precision; N. Wang et al., "Training deep neural networks with 8-bit
        floating point numbers", NeurIPS 2018 (1, 5, 2); the survey's Table 1.
    """
    _, exponent = torch.frexp(x)  # x = mantissa 2^exponent, 1/2 <= |mantissa| < 1
    place = (exponent - 1).clamp(min=form.lowest_exponent) - form.fraction_bits
    step = torch.ldexp(torch.ones_like(x), place)
    return (torch.round(x / step) * step).clamp(-form.largest, form.largest)


class FloatWeight(WeightQuantizer):
    """Weights in a floating-point format, straight-through.

    Reaches the array as whole multiples of the format's smallest number, whose digits lie on as many columns
    as they need (digital slice weights, `imcsim.quant.codes.digit_terms`).

    Args:
        form: the format.
        bits: width of a weight on the arrays.
    """

    def __init__(self, form: FloatFormat, bits: int) -> None:
        super().__init__()
        self.form, self.bits = form, bits
        self.stored_bits = 1 + form.exponent_bits + form.fraction_bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes = round_float(matrix.double(), self.form) / self.form.unit
        return wide_weight_codes(codes, codes.new_full((1, 1, 1), self.form.unit), self.bits)


class FloatInput(InputQuantizer):
    """Inputs in a floating-point format; beyond its largest number they pass no gradient.

    Reaches the word lines as whole multiples of the format's smallest number, in as many passes as their
    digits need.

    Args:
        form: the format.
        bits: width of a signed input on the word lines.
    """

    ranged = False

    def __init__(self, form: FloatFormat, bits: int) -> None:
        super().__init__()
        self.form, self.bits = form, bits

    @property
    def signed(self) -> bool | None:
        """With a sign."""
        return True

    @property
    def passes(self) -> int:
        """Digits of the format's largest number."""
        return -(-int(self.form.largest / self.form.unit).bit_length() // (self.bits - 1))

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        return wide_input_codes(round_float(x, self.form) / self.form.unit, self.form.unit, self.bits)

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_where(x, value, x.abs() <= self.form.largest)


class FloatGradient(GradientQuantizer):
    """Gradients in a floating-point format.

    Args:
        form: the format.
    """

    def __init__(self, form: FloatFormat) -> None:
        super().__init__()
        self.form = form

    def forward(self, grad: Tensor) -> Tensor:
        """Shapes: grad (batch, ...)."""
        return round_float(grad, self.form)
