"""Additive noise annealing (Eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.annealed import SteppedInput, SteppedWeight
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer
from imcsim.quant.methods.base import Method
from imcsim.quant.uniform import required


@dataclass(frozen=True)
class ANA(Method):
    """Training sees the mean of the quantizer over noise on its argument, whose width falls to zero.

    ``E[quant(w + nu)]``, nu uniform on [-sigma, sigma] steps: each unit step of the staircase becomes
    ``clip((u - theta + sigma) / (2 sigma), 0, 1)``, of slope ``1 / (2 sigma)``. ``sigma = width (1 -
    p)^power`` at progress p (`imcsim.quant.set_progress`); at 1 the quantizer is hard.

    Two bits are ternary, as in the survey's Fig. 6.

    Args:
        width: sigma at the start, in steps.
        power: of the schedule.
        inputs: activations too, over the hardware's range; else they are the hardware's.

    Notes:
        Training is digital until the end: its values are no codes. The step is fitted at convert. The
        original anneals layers one after another; call `set_progress` on parts of a model for that.

    References: M. Spallanzani et al., "Additive noise annealing and approximation properties of quantized
        neural networks", arXiv:1905.10452, 2019; the survey's Eq. 14.
    """

    width: float = 0.5
    power: float = 1.0
    inputs: bool = True

    def __post_init__(self) -> None:
        if not self.width > 0 or not self.power > 0:
            raise ConversionError(f"ANA: width = {self.width!r} and power = {self.power!r} must be positive")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Annealed."""
        weights = hardware.weights
        return ANAWeight(weights.bits, weights.scale == "per_channel", self.width, self.power)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Annealed, or the hardware's."""
        if not self.inputs:
            return super().input_quantizer(hardware)
        return ANAInput(hardware.inputs.bits, self.width, self.power)


def noise_width(width: float, power: float, progress: float) -> float:
    """The schedule ``width (1 - p)^power``."""
    return width * (1 - progress) ** power


def uniform_step(u: Tensor, sigma: float) -> Tensor:
    """The unit step's mean over uniform noise, ``clip((u + sigma) / (2 sigma), 0, 1)``.

    Shapes: u (*any); returns the same.

    Args:
        u: distance from the threshold.
        sigma: half the noise's width.

    Returns:
        The mean, with slope ``1 / (2 sigma)`` inside.
    """
    return ((u + sigma) / (2 * sigma)).clamp(0, 1)


class ANAWeight(SteppedWeight):
    """See `ANA`.

    Args:
        bits: width, sign included.
        per_channel: one step an output.
        width: sigma at the start, in steps.
        power: of the schedule.
    """

    def __init__(self, bits: int, per_channel: bool, width: float, power: float) -> None:
        super().__init__(bits, per_channel=per_channel)
        self.width, self.power = width, power

    def soft_value(self, matrix: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        sigma, step = noise_width(self.width, self.power, self.progress), self.step.to(matrix.dtype)
        return step * self.stairs.smoothed(matrix / step, lambda u: uniform_step(u, sigma))


class ANAInput(SteppedInput):
    """See `ANA`.

    Args:
        bits: width, sign included where there is one.
        width: sigma at the start, in steps.
        power: of the schedule.
    """

    def __init__(self, bits: int, width: float, power: float) -> None:
        super().__init__(bits)
        self.width, self.power = width, power

    def soft_value(self, x: Tensor, span: Span | None) -> Tensor:
        """Shapes: x (*any)."""
        sigma = noise_width(self.width, self.power, self.progress)
        stairs, step = self.steps(required(span))
        return step * stairs.smoothed(x / step, lambda u: uniform_step(u, sigma))
