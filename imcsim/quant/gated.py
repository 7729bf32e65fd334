"""Gated dual-precision activations: a second bit only where the first bit's output is large (FracBNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imcsim.quant.base import InputQuantizer, Span, straight_through_inside
from imcsim.quant.binary import sign
from imcsim.quant.codes import InputCodes


def dual_bits(x: Tensor, high: float) -> tuple[Tensor, Tensor]:
    """Two bits of -1 and 1: ``x_q = high (2 b_1 + b_2) / 3``, the nearest of -1, -1/3, 1/3 and 1 times high.

    Shapes: x (*any); returns b_1 and b_2 like it.

    Args:
        x: real numbers.
        high: the range.

    Returns:
        The first bit, sign(x), and the second.
    """
    first = sign(x)
    return first, sign(x - first * (2 / 3) * high)


class GatedInput(InputQuantizer):
    """Activations of one or two bits on [-high, high], by output: ``y = y_1 + 1[y_1 > gate] y_2``.

    ``y_1`` is the product with the first bit's ``2/3 high b_1``, ``y_2`` with the second's ``1/3 high b_2``;
    the gate is learned, one a layer. Gradients pass inside the range. Reaches the word lines in two passes
    of +-1 pulses; the gate is digital.

    Args:
        high: the range.
        gate: where the threshold starts.
        target: what `penalty` pulls it to.
        decay: of its squared distance from there.

    References: Y. Zhang et al., "FracBNN: accurate and FPGA-efficient binary neural networks with fractional
        activations", FPGA 2021, section 3.2; Y. Zhang et al., "Precision gating", ICLR 2020.
    """

    planes, ranged = True, False

    def __init__(self, *, high: float, gate: float, target: float, decay: float) -> None:
        super().__init__()
        self.span, self.target, self.decay = Span(high, signed=True), target, decay
        self.threshold = nn.Parameter(torch.tensor(gate))

    @property
    def signed(self) -> bool | None:
        """+-1 pulses."""
        return True

    @property
    def gate(self) -> Tensor | None:
        """The threshold."""
        return self.threshold

    @property
    def passes(self) -> int:
        """The second pass is read whether the gate is open or not."""
        return 2

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        high = float(self.span.high)
        first, second = dual_bits(x, high)
        bad = x * 0  # what is not finite stays so
        return InputCodes((first + bad, second + bad), (2 / 3 * high, high / 3))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, self.span)

    def penalty(self) -> Tensor | None:
        """``decay (gate - target)^2``."""
        return self.decay * (self.threshold - self.target).square() if self.decay else None
