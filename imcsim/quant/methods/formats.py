"""Number formats as methods: weights, and where they have them inputs and gradients, straight-through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imcsim.errors import ConversionError, did_you_mean
from imcsim.hardware import Hardware
from imcsim.quant.base import GradientQuantizer, InputQuantizer, WeightQuantizer
from imcsim.quant.fixed import FixedPointInput, IntegerWeight
from imcsim.quant.floats import FORMATS, FloatFormat, FloatGradient, FloatInput, FloatWeight
from imcsim.quant.logarithmic import Log2Weight, Log4Gradient, Log4Weight
from imcsim.quant.methods.base import Method
from imcsim.quant.uniform import AffineWeight


@dataclass(frozen=True)
class Affine(Method):
    """Uniform affine weights (Eq. 1) on all ``2^bits`` codes, see `imcsim.quant.AffineWeight`.

    Args:
        stochastic: round at random in training.
    """

    stochastic: bool = False

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Between the smallest and the largest weight."""
        per_channel = hardware.weights.scale == "per_channel"
        return AffineWeight(hardware.weights.bits, per_channel=per_channel, stochastic=self.stochastic)


@dataclass(frozen=True)
class FixedPoint(Method):
    """Fixed-point weights (Eq. 3), see `imcsim.quant.IntegerWeight`, and inputs where asked.

    With ``fraction_bits=None, inputs=True`` it is dynamic fixed point: powers of two by layer, and whole
    numbers throughout, biases too; rescaling a sum for the next layer is a shift.

    Args:
        fraction_bits: binary places of weights; None: of each layer as many as its largest weight allows.
        stochastic: round at random in training.
        inputs: inputs too, see `imcsim.quant.FixedPointInput`; else they are the hardware's.
    """

    fraction_bits: int | None = 6
    stochastic: bool = False
    inputs: bool = False

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """On multiples of ``2^-fraction_bits``."""
        return IntegerWeight(
            hardware.weights.bits, fraction_bits=self.fraction_bits, stochastic=self.stochastic
        )

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Fixed point, or the hardware's."""
        return FixedPointInput(hardware.inputs.bits) if self.inputs else super().input_quantizer(hardware)


@dataclass(frozen=True)
class Floats(Method):
    """Floating-point weights, and as asked inputs and gradients, see `imcsim.quant.floats`.

    Args:
        form: "half" (1, 5, 10) or "fp8" (1, 5, 2).
        inputs: inputs too; else they are the hardware's.
        gradients: gradients of outputs too.
    """

    form: Literal["half", "fp8"] = "fp8"
    inputs: bool = False
    gradients: bool = False

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise ConversionError(
                f"Floats: form = {self.form!r} is not one of {', '.join(FORMATS)}."
                f"{did_you_mean(str(self.form), FORMATS)}"
            )

    @property
    def format(self) -> FloatFormat:
        """The format."""
        return FORMATS[self.form]

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """In the format."""
        return FloatWeight(self.format, hardware.weights.bits)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """In the format, or the hardware's."""
        if not self.inputs:
            return super().input_quantizer(hardware)
        return FloatInput(self.format, hardware.inputs.bits)

    def gradient_quantizer(self, hardware: Hardware) -> GradientQuantizer | None:
        """In the format, or none."""
        return FloatGradient(self.format) if self.gradients else None


@dataclass(frozen=True)
class Log4(Method):
    """Radix-4 logarithmic weights and gradients of 4 bits (Eq. 4), see `imcsim.quant.logarithmic.log4`.

    Args:
        weights: weights; else they are the hardware's.
        gradients: gradients of outputs, what the original uses it for.
    """

    weights: bool = True
    gradients: bool = False

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Log4, or the hardware's."""
        return Log4Weight(hardware.weights.bits) if self.weights else super().weight_quantizer(hardware)

    def gradient_quantizer(self, hardware: Hardware) -> GradientQuantizer | None:
        """Log4, or none."""
        return Log4Gradient() if self.gradients else None


@dataclass(frozen=True)
class Log2(Method):
    """Radix-2 logarithmic weights, see `imcsim.quant.logarithmic.Log2Weight`.

    Args:
        bits: of a code, sign included; its largest power is ``2^(2^(bits-1) - 2)``.
    """

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 6:
            raise ConversionError(f"Log2: bits = {self.bits!r} is not between 2 and 6; 4 spans 2^0 to 2^6")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Powers of two."""
        return Log2Weight(self.bits, hardware.weights.bits)
