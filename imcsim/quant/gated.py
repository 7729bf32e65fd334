"""Gated dual-precision activations: a second bit only where the first bit's output is large (FracBNN)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass
class GateCount:
    """Outputs of a gated layer.

    Attributes:
        opened: those whose second pass counted.
        seen: all.
    """

    opened: int = 0
    seen: int = 0

    @property
    def fraction(self) -> float:
        """Part of the second pass that was needed; 1 + it are the mean bits of an activation."""
        return self.opened / self.seen if self.seen else 0.0


class GatedInput(InputQuantizer):
    """Activations of one or two bits on [-high, high], by output: ``y = y_1 + 1[y_1 > gate] y_2``.

    ``y_1`` is the product with the first bit's ``2/3 high b_1``, ``y_2`` with the second's ``1/3 high b_2``;
    the gate is learned, one an output channel or one a layer. Gradients pass inside the range. Reaches the
    word lines in two passes of +-1 pulses; the gate is digital.

    Args:
        high: the range.
        gate: where the threshold starts.
        target: what `penalty` pulls it to.
        decay: of its squared distance from there, summed over the gates.
        per_channel: one gate an output channel.

    References: Y. Zhang et al., "FracBNN: accurate and FPGA-efficient binary neural networks with fractional
        activations", FPGA 2021; Y. Zhang et al., "Precision gating", ICLR 2020.
    """

    planes, ranged = True, False

    def __init__(
        self, *, high: float, gate: float, target: float, decay: float, per_channel: bool = False
    ) -> None:
        super().__init__()
        self.span, self.target, self.decay = Span(high, signed=True), target, decay
        self.per_channel = per_channel
        self.threshold = nn.Parameter(torch.tensor(gate))
        self.count: GateCount | None = None

    def start(self, matrix: Tensor) -> None:
        """A gate for each of the matrix's outputs. Shapes: matrix (groups, outputs, inputs)."""
        if self.per_channel:
            first = self.threshold.detach().expand(*matrix.shape[:2], 1)
            self.threshold = nn.Parameter(first.clone())

    @property
    def signed(self) -> bool | None:
        """+-1 pulses."""
        return True

    @property
    def gate(self) -> Tensor | None:
        """The thresholds."""
        return self.threshold if self.per_channel else self.threshold.view(1, 1, 1)

    def note_gate(self, opened: Tensor) -> None:
        """Count within `count_gates`."""
        if self.count is not None:
            self.count.opened += int(opened.sum())
            self.count.seen += opened.numel()

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
        """``decay sum (gate - target)^2``."""
        return self.decay * (self.threshold - self.target).square().sum() if self.decay else None


@contextmanager
def count_gates(model: nn.Module) -> Iterator[dict[str, GateCount]]:
    """Count how much of the second pass the gates of a converted model let through.

    Args:
        model: a converted model; what it runs inside the context, in eval or training mode, is counted.

    Yields:
        The counts by layer name, filled as it runs.
    """
    gated = [m for m in model.modules() if isinstance(m, GatedInput)]
    counts = {m.key.removesuffix(" input"): GateCount() for m in gated}
    for m, count in zip(gated, counts.values(), strict=True):
        m.count = count
    try:
        yield counts
    finally:
        for m in gated:
            m.count = None
