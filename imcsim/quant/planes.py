"""Bit planes: an image's integer is sent bit by bit as -1 and 1, so that a binary chip reads it (FBNA)."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.quant.base import InputQuantizer, Span, straight_through_inside
from imcsim.quant.codes import InputCodes
from imcsim.quant.rounding import need_bits


class BitPlaneInput(InputQuantizer):
    """Inputs of ``2^n`` even steps in n planes of -1 and 1, ``x_q = sum_i s 2^(i-1) (b_i + z)``.

    On [0, high] ``s = high / (2^n - 1)`` and z = 1, so that ``(b_i + 1) / 2`` are the bits of a whole number;
    on [-high, high] ``s = 2 high / (2^n - 1)`` and z = 0. Gradients pass inside the range. Reaches the word
    lines in n passes of +-1 pulses, added digitally with weights that are powers of two; z is digital.

    Args:
        bits: n.
        high: the range.
        signed: whether it goes to -high.
    """

    planes, ranged = True, False

    def __init__(self, bits: int, *, high: float, signed: bool) -> None:
        need_bits(bits, 1, "BitPlanes: bits", "8 are an ordinary image")
        super().__init__()
        self.bits, self.span = bits, Span(high, signed)

    @property
    def signed(self) -> bool | None:
        """+-1 pulses."""
        return True

    @property
    def passes(self) -> int:
        """One a plane."""
        return self.bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        high, signed = float(self.span.high), self.span.signed
        top = (1 << self.bits) - 1
        step = high * (2 if signed else 1) / top
        shifted = x + high if signed else x
        code = torch.round(shifted / step).clamp(0, top).nan_to_num().to(torch.int64)
        bad = x * 0  # what is not finite stays so
        planes = tuple(((code >> i) & 1) * 2 - 1 + bad for i in range(self.bits))
        return InputCodes(
            planes, tuple(step * 2.0 ** (i - 1) for i in range(self.bits)), 0.0 if signed else 1.0
        )

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, self.span)
