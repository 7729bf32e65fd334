"""ProxQuant: a proximal step towards the codes after each step of the optimizer (Eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.annealed import SteppedWeight
from imcsim.quant.base import WeightQuantizer
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class ProxQuant(Method):
    """Training sees float weights, which a proximal step pulls to the codes; activations are the hardware's.

    ``w = prox(w - lr grad)``, ``prox(w) = q + sign(w - q) max(|w - q| - lambda s, 0)`` with q the nearest
    quantized weight and s the step: the proximal operator of ``R(w) = |w - q|``, for binary weights the
    W-shaped one. ``lambda = rate t`` after t steps. Call `imcsim.quant.after_step(sim)` after each step and
    `set_progress(sim, 1)` at the end, when weights become hard.

    Args:
        rate: growth of lambda a step, in steps of the quantizer.

    Notes:
        The original's binary weights are -1 and 1; here they are +-s with s fitted at convert, as BatchNorm
        makes no difference of it and trained networks start near.

    References: Y. Bai, Y.-X. Wang and E. Liberty, "ProxQuant: quantized neural networks via proximal
        operators", ICLR 2019, Eqs. 8-11; the survey's Eq. 15.
    """

    rate: float = 1e-4

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ConversionError(f"ProxQuant: rate = {self.rate!r} must be positive")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Float in training, hard after."""
        return ProxWeight(hardware.weights.bits, hardware.weights.scale == "per_channel", self.rate)


def proximal_step(w: Tensor, q: Tensor, amount: Tensor | float) -> Tensor:
    """``argmin_x |x - w|^2 / 2 + amount |x - q|``: w moves to q by `amount`, and no further.

    Shapes: w, q (*any); amount broadcasts to them; returns the same.

    Args:
        w: weights.
        q: their nearest quantized ones.
        amount: lambda.

    Returns:
        The new weights.

    References: Y. Bai et al., ICLR 2019, Eq. 11.
    """
    away = w - q
    return q + away.sign() * (away.abs() - amount).clamp(min=0)


class ProxWeight(SteppedWeight):
    """See `ProxQuant`.

    Args:
        bits: width, sign included.
        per_channel: one step an output.
        rate: growth of lambda a step.
    """

    steps: Tensor

    def __init__(self, bits: int, per_channel: bool, rate: float) -> None:
        super().__init__(bits, per_channel=per_channel)
        self.rate = rate
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def state(self) -> tuple[Tensor, ...]:
        """The step alone."""
        return (self.step,)

    def soft_value(self, matrix: Tensor) -> Tensor:
        """The weights themselves. Shapes: (groups, outputs, inputs)."""
        return matrix

    def after_step(self, matrix: Tensor) -> Tensor | None:
        """The proximal step. Shapes: (groups, outputs, inputs) both."""
        self.steps += 1
        step = self.step.to(matrix.dtype)
        quantized = step * self.stairs.codes(matrix / step)
        return proximal_step(matrix, quantized, self.rate * int(self.steps) * step)
