"""nBitQNN: training on a mixture of float and quantized weights (Eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import WeightQuantizer, straight_through_where
from imcsim.quant.logarithmic import Log2Weight
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class NBitQNN(Method):
    """Training sees ``alpha w + (1 - alpha) quant(w)``, with gradient alpha; activations are the hardware's.

    quant is the radix-2 logarithmic quantizer of `bits`; evaluation sees it alone.

    Args:
        alpha: share of the float weights, between 0 and 1.
        bits: of a code, sign included; None: weights.bits, at most 6.

    References: J. Chen et al., "An efficient deep neural network framework with n-bit quantization for
        FPGA" (nBitQNN), 2020, after the survey's Eq. 16; its text was not at hand.
    """

    alpha: float = 0.5
    bits: int | None = 4

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not (self.bits is None or 2 <= self.bits <= 6):
            raise ConversionError(
                f"NBitQNN: alpha = {self.alpha!r} must be between 0 and 1, bits = {self.bits!r} between 2 "
                "and 6 or None"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Mixed in training, hard after."""
        bits = min(hardware.weights.bits, 6) if self.bits is None else self.bits
        return MixedWeight(bits, hardware.weights.bits, self.alpha)


class MixedWeight(Log2Weight):
    """See `NBitQNN`; reaches the array as `Log2Weight`.

    Args:
        code_bits: of a code.
        bits: width of a weight on the arrays.
        alpha: share of the float weights.
    """

    def __init__(self, code_bits: int, bits: int, alpha: float) -> None:
        super().__init__(code_bits, bits)
        self.alpha, self.progress = alpha, 0.0

    @property
    def soft(self) -> bool:
        """In training, until its end."""
        return self.training and self.progress < 1

    def set_progress(self, fraction: float) -> None:
        """Hard at 1."""
        self.progress = fraction

    def soft_value(self, matrix: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        quantized = self.encode(matrix.detach()).value().to(matrix.dtype)
        return self.alpha * matrix + (1 - self.alpha) * quantized

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """The hard value, whose slope is the mixture's. Shapes: (groups, outputs, inputs)."""
        return straight_through_where(matrix, value, matrix.new_full((), self.alpha).expand_as(matrix))
