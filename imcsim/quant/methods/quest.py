"""QUEST: weights and activations in logarithmic codes of a few bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_inside
from imcsim.quant.codes import InputCodes
from imcsim.quant.logarithmic import Log2Weight, log2_codes
from imcsim.quant.methods.base import Method
from imcsim.quant.uniform import required


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


class Log2Input(InputQuantizer):
    """Radix-2 logarithmic inputs of n bits; clipped ones pass no gradient.

    0 and ``2^e``, e = 0 .. ``2^n - 2``; with a sign 0 and ``+-2^e``, e = 0 .. ``2^(n-1) - 2``. The range's
    end is nearest to the largest power. Reaches the word lines as it is: inputs.bits must hold the largest
    power.

    Args:
        bits: n, sign included where there is one.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        span = required(span)
        width = self.bits if span.signed else self.bits + 1
        high = torch.as_tensor(span.high, dtype=x.dtype, device=x.device)
        scale = 2.0 ** (torch.floor(torch.log2(high * 4 / 3)) - ((1 << (width - 1)) - 2))
        codes = log2_codes(x / scale, width)
        return InputCodes((codes if span.signed else codes.clamp(min=0),), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, required(span))
