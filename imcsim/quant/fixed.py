"""Fixed-point numbers: whole numbers times a power of two, so that rescaling is a shift (Eq. 3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from imcsim.functional.quantize import top_code
from imcsim.quant.base import InputQuantizer, Span, straight_through_inside, straight_through_where
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.rounding import RoundingWeight, need_bits
from imcsim.quant.uniform import required


def power_of_two(high: Tensor | float) -> Tensor:
    """The smallest power of two that is not below a magnitude, exactly; of 0 it is 1.

    Shapes: high (*any) or a number; returns the same, float64.

    Args:
        high: the magnitude.

    Returns:
        ``2^ceil(log2(high))``.
    """
    mantissa, exponent = torch.frexp(torch.as_tensor(high, dtype=torch.float64))
    exponent = torch.where((mantissa == 0.5) | (mantissa == 0), exponent - 1, exponent)
    exponent = torch.where(mantissa == 0, 0, exponent)
    return torch.ldexp(torch.ones_like(mantissa), exponent)


class IntegerWeight(RoundingWeight):
    """n-bit fixed-point weights (Eq. 3): ``w_q = 2^-f clamp(round(2^f w), -2^(n-1), 2^(n-1) - 1)``.

    Straight-through inside the range, no gradient outside. Reaches the array as it is; the code -2^(n-1)
    needs an encoding that holds it, see `AffineWeight`.

    Args:
        bits: n.
        fraction_bits: f; None: of each layer as many as its largest weight allows, ``2^(n-1-f)`` is the
            smallest power of two that is not below ``max|w|`` (dynamic fixed point).
        stochastic: round at random in training.
    """

    def __init__(self, bits: int, *, fraction_bits: int | None, stochastic: bool = False) -> None:
        need_bits(bits, 2, "IntegerWeight: weights.bits", "use BinaryWeight for one bit")
        super().__init__(stochastic=stochastic)
        self.bits, self.fraction_bits = bits, fraction_bits

    def step(self, matrix: Tensor) -> Tensor:
        """``2^-f``. Shapes: matrix (groups, outputs, inputs); returns (1, 1, 1) float64."""
        if self.fraction_bits is None:
            step = power_of_two(matrix.detach().abs().max()) / (1 << (self.bits - 1))
        else:
            step = torch.tensor(2.0**-self.fraction_bits, dtype=torch.float64, device=matrix.device)
        return step.view(1, 1, 1)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        half, step = 1 << (self.bits - 1), self.step(matrix)
        codes = self.round(matrix.double() / step).clamp(-half, half - 1)
        return WeightCodes.single(codes, step)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        half, scaled = 1 << (self.bits - 1), matrix.detach().double() / self.step(matrix)
        return straight_through_where(matrix, value, (scaled >= -half) & (scaled <= half - 1))


class FixedPointInput(InputQuantizer):
    """n-bit fixed-point inputs: ``x_q = 2^-f clamp(round(2^f x))``; clipped ones pass no gradient.

    ``2^(m-f)``, m the bits without the sign, is the smallest power of two that is not below the range. Codes
    reach ``2^m - 1``, with a sign on either side (-2^m is left out, as no sign-magnitude pulse has it). The
    layer's bias is rounded to the scale of its sums, so that its output is a whole number times a power of
    two. Reaches the word lines as it is.

    Args:
        bits: n, sign included where there is one.
    """

    whole_bias: ClassVar[bool] = True

    def __init__(self, bits: int) -> None:
        need_bits(bits, 2, "FixedPointInput: inputs.bits", "one bit has no place for a fraction")
        super().__init__()
        self.bits = bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        span = required(span)
        top = top_code(self.bits, signed=span.signed)
        step = power_of_two(span.high).to(x.device) / (top + 1)
        codes = torch.round(x / step.to(x.dtype)).clamp(-top if span.signed else 0, top)
        return InputCodes((codes,), (step if isinstance(span.high, Tensor) else float(step),))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        span = required(span)
        high = power_of_two(span.high).to(x.device, x.dtype)
        return straight_through_inside(x, value, Span(high, span.signed))
