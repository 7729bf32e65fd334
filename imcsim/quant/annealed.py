"""Weights and inputs on a staircase that training sees softened: what the annealing methods share."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_where
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.grids import Staircase, input_staircase, least_square_step, weight_staircase
from imcsim.quant.uniform import required


class SteppedWeight(WeightQuantizer):
    """Weights ``w_q = s code(w / s)`` with codes of `weight_staircase` and a step fixed at convert.

    The step fits the float weights best in mean square. Training sees `soft_value` until its progress is 1;
    hard values pass no gradient. Reaches the array as it is.

    Args:
        bits: width, sign included.
        per_channel: one step an output.
    """

    step: Tensor

    def __init__(self, bits: int, *, per_channel: bool) -> None:
        super().__init__()
        self.stairs, self.per_channel, self.progress = weight_staircase(bits), per_channel, 0.0
        self.register_buffer("step", torch.ones(1, 1, 1, dtype=torch.float64))

    @property
    def soft(self) -> bool:
        """In training, until its end."""
        return self.training and self.progress < 1

    def set_progress(self, fraction: float) -> None:
        """Harden."""
        self.progress = fraction

    def start(self, matrix: Tensor) -> None:
        """Fit the step."""
        self.step = least_square_step(matrix, self.stairs, per_channel=self.per_channel)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        return WeightCodes.single(self.stairs.codes(matrix.double() / self.step), self.step)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        return straight_through_where(matrix, value, torch.zeros_like(matrix))


class SteppedInput(InputQuantizer):
    """Inputs on `input_staircase` with the hardware's range; what training sees is a subclass' `soft_value`.

    Reaches the word lines as it is.

    Args:
        bits: width, sign included where there is one.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.progress = bits, 0.0

    @property
    def soft(self) -> bool:
        """In training, until its end."""
        return self.training and self.progress < 1

    def set_progress(self, fraction: float) -> None:
        """Harden."""
        self.progress = fraction

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        stairs, step = self.steps(required(span))
        return InputCodes((stairs.codes(x / step) + x * 0,), (step,))

    def steps(self, span: Span) -> tuple[Staircase, Tensor | float]:
        """The staircase, and a step of inputs."""
        stairs = input_staircase(self.bits, signed=span.signed)
        return stairs, span.high / stairs.high

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_where(x, value, torch.zeros_like(x))
