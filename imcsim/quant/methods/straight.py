"""BinaryConnect and QNN: straight-through gradients with clipping (Eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import MappingError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, WeightQuantizer, straight_through
from imcsim.quant.binary import BinaryWeight
from imcsim.quant.codes import WeightCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.rounding import RoundingWeight
from imcsim.quant.uniform import ClippedInput


@dataclass(frozen=True)
class BinaryConnect(Method):
    """Binary weights without a scale, activations as the hardware's: ``w_q = sign(w)``, w clipped to [-1, 1].

    Call `imcsim.quant.after_step(sim)` after each step.

    Args:
        stochastic: draw the sign in training, 1 with probability ``clip((w + 1) / 2, 0, 1)``.

    Raises:
        MappingError: at convert, weights.bits is not 1.

    References: M. Courbariaux, Y. Bengio and J.-P. David, "BinaryConnect", NeurIPS 2015; the survey's Eq. 7.
    """

    stochastic: bool = False

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Binary."""
        if hardware.weights.bits != 1:
            raise MappingError(
                f"BinaryConnect has weights of -1 and 1, but weights.bits = {hardware.weights.bits}; set "
                "weights.bits = 1, or use QNN for more"
            )
        return BinaryWeight(clip=True, stochastic=self.stochastic)


@dataclass(frozen=True)
class QNN(Method):
    """Weights and activations of n bits on [-1, 1], straight-through with clipping (Eq. 7).

    Weights ``clip(w, -1, 1)`` on ``2^n - 1`` symmetric levels, of one bit ``sign(w)``; after each step
    ``w = clip(w, -1, 1)``. Activations likewise, with gradient ``g 1[|a| < 1]``.

    Call `imcsim.quant.after_step(sim)` after each step. Weights of a trained float network are small against
    [-1, 1]: train from the start, or with one bit.

    Notes:
        The original's n-bit grid is ``clip(round(x 2^(n-1)) / 2^(n-1))`` with one code more below; here it is
        symmetric, so that every encoding holds it.

    References: I. Hubara et al., "Quantized neural networks: training neural networks with low precision
        weights and activations", JMLR 18, 2017, algorithm 1 and section 4; the survey's Eq. 7.
    """

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Clipped to [-1, 1]."""
        if hardware.weights.bits == 1:
            return BinaryWeight(clip=True)
        return UnitWeight(hardware.weights.bits)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Clipped to [-1, 1]."""
        return ClippedInput(hardware.inputs.bits, signed=True, open_ends=True)


class UnitWeight(RoundingWeight):
    """Symmetric uniform weights of [-1, 1]: ``w_q = round(N clip(w, -1, 1)) / N``, ``N = 2^(bits-1) - 1``.

    Straight-through; clipped to [-1, 1] after each step. Reaches the array as it is.

    Args:
        bits: width, sign included, 2 or more.
        stochastic: round at random in training.
    """

    def __init__(self, bits: int, *, stochastic: bool = False) -> None:
        super().__init__(stochastic=stochastic)
        self.top = (1 << (bits - 1)) - 1

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes = self.round(matrix.double().clamp(-1, 1) * self.top)
        scale = torch.full((1, 1, 1), 1 / self.top, dtype=torch.float64, device=matrix.device)
        return WeightCodes.single(codes, scale)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        return straight_through(matrix, value)

    def after_step(self, matrix: Tensor) -> Tensor | None:
        """Clip to [-1, 1]. Shapes: matrix (groups, outputs, inputs)."""
        return matrix.clamp(-1, 1)
