"""Quantized tensors as what arrays hold and word lines carry: integer codes, scales, zero points, terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from imcsim.errors import MappingError


@dataclass(frozen=True)
class WeightCodes:
    """A quantized weight matrix, ``w = sum_t scale_t (codes_t + zero_t)``.

    Each term lies on columns of its own; scales, zero points and the sum over terms are digital, as are the
    corrections that zero points need: ``zero sum_k x_k``.

    Attributes:
        codes: (terms, groups, outputs, inputs) whole numbers, float64.
        scale: (terms, groups or 1, outputs or 1, 1) float64.
        zero: like `scale`, multiples of 1/2; None: 0.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None = None

    @staticmethod
    def single(codes: Tensor, scale: Tensor, zero: Tensor | float | None = None) -> WeightCodes:
        """One term.

        Shapes: codes (groups, outputs, inputs); scale (groups or 1, outputs or 1, 1).

        Args:
            codes: whole numbers.
            scale: their scale.
            zero: the zero point, a number or like `scale`.

        Returns:
            The codes.
        """
        scale = scale.double()
        if zero is not None:
            zero = torch.as_tensor(zero, dtype=torch.float64, device=scale.device).expand_as(scale)[None]
        return WeightCodes(codes.double()[None], scale[None], zero)

    @property
    def terms(self) -> int:
        """Columns an output takes beyond its slices."""
        return self.codes.shape[0]

    def value(self) -> Tensor:
        """The quantized weights. Shapes: returns (groups, outputs, inputs) float64."""
        codes = self.codes if self.zero is None else self.codes + self.zero
        return reduce(torch.add, codes * self.scale)

    def stacked(self, values: Tensor) -> Tensor:
        """Codes, scales or zero points with terms as further outputs, a term's outputs side by side.

        Shapes: (terms, groups or 1, outputs or 1, n) -> (groups or 1, terms x outputs, n); of one term
        (groups or 1, outputs or 1, n).
        """
        if self.terms == 1:
            return values[0]
        spread = values.expand(-1, -1, self.codes.shape[2], -1)
        return spread.transpose(0, 1).flatten(1, 2)


@dataclass(frozen=True)
class InputCodes:
    """Quantized inputs, ``x = sum_t scale_t (codes_t + zero)``; each term is sent in a pass of its own.

    Padding of a convolution is a true zero: it drives no word line, and the zero point is not added to it.

    Attributes:
        codes: whole numbers like the input, of its dtype, one tensor a pass.
        scale: of each pass: a number, or a tensor that broadcasts to the input.
        zero: the zero point, a multiple of 1/2; corrected digitally by sums of weights.
    """

    codes: tuple[Tensor, ...]
    scale: tuple[Tensor | float, ...]
    zero: float = 0.0

    def value(self) -> Tensor:
        """The quantized inputs, of the codes' dtype."""
        terms = [
            (code + self.zero if self.zero else code) * scale
            for code, scale in zip(self.codes, self.scale, strict=True)
        ]
        return reduce(torch.add, terms)


def digit_terms(codes: Tensor, bits: int) -> tuple[list[Tensor], list[float]]:
    """Whole numbers too wide for a code of `bits` as several codes.

    ``codes = sum_t 2^((bits-1) t) digit_t``, ``|digit_t| < 2^(bits-1)``, digits of the magnitude with the
    number's sign.

    Shapes: codes (*any); returns tensors like it.

    Args:
        codes: whole numbers, float64, below 2^53.
        bits: width of a digit, sign included.

    Returns:
        The digits, least significant first, at least one, and their weights.

    Raises:
        MappingError: one-bit digits, which have no zero.
    """
    if bits < 2:
        raise MappingError(
            f"integer codes with zeros do not fit codes of {bits} bit; give weights.bits or inputs.bits "
            "of at least 2, or a binary quantizer"
        )
    base, magnitude, sign = float(1 << (bits - 1)), codes.abs(), codes.sign()
    digits: list[Tensor] = []
    weights: list[float] = []
    while not digits or bool((magnitude > 0).any()):
        digits.append(magnitude.remainder(base) * sign)
        weights.append(base ** len(weights))
        magnitude = (magnitude / base).floor()
    return digits, weights


def wide_weight_codes(codes: Tensor, scale: Tensor, bits: int) -> WeightCodes:
    """Integer weights of any width on cells of `bits`, by `digit_terms`.

    Shapes: codes (groups, outputs, inputs); scale (groups or 1, outputs or 1, 1).

    Args:
        codes: whole numbers.
        scale: their scale.
        bits: width of a weight on the arrays.

    Returns:
        The codes, of as many terms as the largest needs.
    """
    digits, weights = digit_terms(codes.double(), bits)
    scales = torch.stack([scale.double() * weight for weight in weights])
    return WeightCodes(torch.stack(digits), scales)


def wide_input_codes(codes: Tensor, scale: float, bits: int) -> InputCodes:
    """Integer inputs of any width in passes of `bits`, sign included, by `digit_terms`.

    Args:
        codes: whole numbers.
        scale: their scale.
        bits: width of a signed input on the word lines.

    Returns:
        The codes, of as many passes as the largest needs.
    """
    digits, weights = digit_terms(codes.double(), bits)
    return InputCodes(tuple(d.to(codes.dtype) for d in digits), tuple(scale * weight for weight in weights))
