"""FracBNN: binary weights, activations of one bit or two by a learned gate."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, WeightQuantizer
from imcsim.quant.binary import BinaryWeight
from imcsim.quant.gated import GatedInput
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class FracBNN(Method):
    """Gated dual-precision activations; binary weights where weights.bits is 1.

    These are ``mean|w| sign(w)`` of each output, with more bits weights are the hardware's. ``y = y_1 +
    1[y_1 > gate] y_2``, see `imcsim.quant.gated.GatedInput`. `imcsim.quant.penalty(sim)` is ``decay sum (gate
    - target)^2``; `imcsim.quant.count_gates` counts how many second bits were needed.

    Args:
        high: activations lie on [-high, high].
        gate: where the threshold starts.
        target: the larger, the rarer the second bit.
        decay: of the gates' squared distance from the target.
        per_channel: one gate an output channel, as FracBNN has it; False: one a layer, as in Precision
            gating.

    Notes:
        The original's weights are +-1 without a scale, and its gates start at -1 of their sums. On the chip
        the second pass is read everywhere, and dropped where the gate is closed; costs count it in full.
        While ranges are calibrated the gate is open.

    References: Y. Zhang et al., "FracBNN", FPGA 2021, and the authors' code, github.com/cornell-zhang/FracBNN
        (gates by channel, their loss); the survey's section 5.1.
    """

    high: float = 1.0
    gate: float = 0.0
    target: float = 0.0
    decay: float = 0.0
    per_channel: bool = True

    def __post_init__(self) -> None:
        if not self.high > 0 or not self.decay >= 0:
            raise ConversionError(
                f"FracBNN: high = {self.high!r} must be positive and decay = {self.decay!r} not negative"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Binary, or the hardware's."""
        if hardware.weights.bits > 1:
            return super().weight_quantizer(hardware)
        return BinaryWeight(scaled=True, per_channel=True)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Gated."""
        return GatedInput(
            high=self.high,
            gate=self.gate,
            target=self.target,
            decay=self.decay,
            per_channel=self.per_channel,
        )
