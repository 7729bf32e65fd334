"""Binary weights and inputs, sign(0) = -1 (Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.quant.base import WeightQuantizer
from imcsim.quant.codes import WeightCodes
from imcsim.quant.rounding import keyed_uniform


def sign(x: Tensor) -> Tensor:
    """-1 where ``x <= 0``, else 1.

    Shapes: x (*any); returns the same.

    Args:
        x: real numbers.

    Returns:
        -1 and 1, of x's dtype.

    References: L. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front.
        Electron. 6:1469802, 2025, Eq. 2.
    """
    return torch.where(x > 0, 1.0, -1.0).to(x.dtype)


class BinaryWeight(WeightQuantizer):
    """Binary weights, ``w_q = a sign(w)`` with a = 1 or ``mean|w|``.

    Straight-through; with `clip` weights stay in [-1, 1] after each step (Eq. 7). Stochastic: 1 with
    probability ``clip((w + 1) / 2, 0, 1)`` in training, the sign in evaluation.

    Reaches the array as it is: one binary code a weight.

    Args:
        scaled: a = mean|w| over the tensor, or the output.
        per_channel: one scale an output.
        clip: clip weights after each step.
        stochastic: draw the sign in training.

    References: M. Courbariaux, Y. Bengio and J.-P. David, "BinaryConnect: training deep neural networks with
        binary weights during propagations", NeurIPS 2015, Eqs. 1-3 (there sign(0) = 1).
    """

    draws: Tensor

    def __init__(
        self,
        *,
        scaled: bool = False,
        per_channel: bool = False,
        clip: bool = False,
        stochastic: bool = False,
    ) -> None:
        super().__init__()
        self.scaled, self.per_channel, self.clip, self.stochastic = scaled, per_channel, clip, stochastic
        if stochastic:
            self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        w = matrix.double()
        dims = (2,) if self.per_channel else (0, 1, 2)
        mean = w.abs().mean(dims, keepdim=True)
        scale = mean if self.scaled else torch.ones_like(mean)
        if self.stochastic and self.training:
            chance = ((w + 1) / 2).clamp(0, 1)
            return WeightCodes.single(sign(chance - keyed_uniform(w, self.key, int(self.draws))), scale)
        return WeightCodes.single(sign(w), scale)

    def update(self, matrix: Tensor) -> None:
        """Take fresh draws."""
        if self.stochastic:
            self.draws += 1

    def state(self) -> tuple[Tensor, ...]:
        """Codes of training and of evaluation differ."""
        own = super().state()
        return (*own, self.draws.new_tensor(int(self.training))) if self.stochastic else own

    def after_step(self, matrix: Tensor) -> Tensor | None:
        """Clip to [-1, 1]. Shapes: matrix (groups, outputs, inputs)."""
        return matrix.clamp(-1, 1) if self.clip else None
