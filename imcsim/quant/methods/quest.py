"""QUEST: weights and activations in logarithmic codes of a few bits."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, WeightQuantizer
from imcsim.quant.logarithmic import Log2Input, Log2Weight
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class QUEST(Method):
    """Radix-2 logarithmic weights and inputs of the same bits, 2 to 4; one bit is the hardware's own +-1.

    Args:
        bits: of a code, sign included where there is one.

    Notes: exponents are rounded midway in value, thresholds ``1.5 x 2^e``; the paper's rounding was not at
    hand.

    References: K. Ueyoshi et al., "QUEST: A 7.49 TOPS multi-purpose log-quantized DNN inference engine
        stacked on 96 MB 3D SRAM using inductive-coupling technology in 40 nm CMOS", ISSCC 2018.
    """

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 4:
            raise ConversionError(
                f"QUEST: bits = {self.bits!r} is not between 2 and 4; for 1 leave the method out and set "
                "weights.bits = 1 and inputs.bits = 1"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Powers of two."""
        return Log2Weight(self.bits, hardware.weights.bits)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Powers of two."""
        return Log2Input(self.bits)
