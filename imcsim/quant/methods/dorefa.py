"""DoReFa-Net: weights, activations and gradients of few bits (Eqs. 8 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.functional.noise import keyed_generator
from imcsim.hardware import Hardware
from imcsim.quant.base import GradientQuantizer, InputQuantizer, WeightQuantizer, straight_through
from imcsim.quant.binary import BinaryWeight
from imcsim.quant.codes import WeightCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.uniform import ClippedInput, unit_codes


@dataclass(frozen=True)
class DoReFa(Method):
    """DoReFa-Net.

    Weights ``2 quant_k(tanh w / (2 max|tanh w|) + 1/2) - 1``, of one bit ``mean|w| sign(w)``; activations
    ``quant_k(clip(a, 0, 1))``, of one bit ``sign(a)`` unless inputs.signed is false; gradients
    ``2 max|g| [quant_k(g / (2 max|g|) + 1/2 + noise) - 1/2]``, with max over each sample.
    ``quant_k(x) = round((2^k - 1) x) / (2^k - 1)``.

    Activations below 0 are lost: keep a first layer whose inputs have a sign without a method,
    ``{"*": DoReFa(), "conv1": None}``, as the original does with first and last layers.

    Args:
        gradient_bits: k of gradients; None: gradients stay real.
        gradient_noise: add ``sigma / (2^k - 1)``, sigma uniform on [-1/2, 1/2], before gradients are rounded.

    Notes:
        The survey's Eq. 8 prints the 1/2 inside the denominators; here it is outside, as in the original's
        Eqs. 9 and 12. The weights' ``2^k`` levels are odd multiples of ``1 / (2^k - 1)``: codes with a zero
        point of a half, corrected digitally. One-bit activations follow the survey's Eq. 9; the original's
        are 0 and 1, which inputs.signed = false gives.

    References: S. Zhou et al., "DoReFa-Net: training low bitwidth convolutional neural networks with low
        bitwidth gradients", arXiv:1606.06160, 2016, Eqs. 7-12; the survey's Eqs. 8 and 9.
    """

    gradient_bits: int | None = None
    gradient_noise: bool = True

    def __post_init__(self) -> None:
        if self.gradient_bits is not None and not 1 <= self.gradient_bits <= 16:
            raise ConversionError(
                f"DoReFa: gradient_bits = {self.gradient_bits!r} is not between 1 and 16; give None for "
                "gradients that are not quantized"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Through tanh, or binary with the mean magnitude."""
        if hardware.weights.bits == 1:
            return BinaryWeight(scaled=True)
        return DoReFaWeight(hardware.weights.bits)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Clipped to [0, 1]."""
        signs = hardware.inputs.bits == 1 and hardware.inputs.signed is not False
        return ClippedInput(hardware.inputs.bits, signed=signs)

    def gradient_quantizer(self, hardware: Hardware) -> GradientQuantizer | None:
        """Of `gradient_bits`."""
        if self.gradient_bits is None:
            return None
        return DoReFaGradient(self.gradient_bits, noise=self.gradient_noise)


class DoReFaWeight(WeightQuantizer):
    """``w_q = 2 quant_k(tanh w / (2 max|tanh w|) + 1/2) - 1``; straight through the rounding alone.

    Reaches the array as ``n - 2^(k-1)``, n the code of 0 to 2^k - 1, with a zero point of 1/2: the digital
    side adds half the sum of input codes. The code -2^(k-1) needs an encoding that holds it: offset, isaac,
    twos_complement, or differential slices with a bit to spare.

    Args:
        bits: k, 2 or more.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes = unit_codes(squashed(matrix.double()) / 2 + 0.5, self.bits)
        scale = torch.full((1, 1, 1), 2 / ((1 << self.bits) - 1), dtype=torch.float64, device=matrix.device)
        return WeightCodes.single(codes - (1 << (self.bits - 1)), scale, 0.5)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        return straight_through(squashed(matrix), value)


def squashed(w: Tensor) -> Tensor:
    """``tanh w / max|tanh w|``, in [-1, 1]; 0 where all weights are. Shapes: w (*any); returns the same."""
    bent = torch.tanh(w)
    top = bent.abs().max()
    return bent / torch.where(top > 0, top, torch.ones_like(top))


class DoReFaGradient(GradientQuantizer):
    """``2 max|g| [quant_k(g / (2 max|g|) + 1/2 + noise) - 1/2]``, max over each sample.

    Args:
        bits: k.
        noise: add ``sigma / (2^k - 1)``, sigma uniform on [-1/2, 1/2], before rounding.
    """

    def __init__(self, bits: int, *, noise: bool) -> None:
        super().__init__()
        self.bits, self.noise, self.passes = bits, noise, 0

    def forward(self, grad: Tensor) -> Tensor:
        """Shapes: grad (batch, ...)."""
        dims = tuple(range(1, grad.dim())) or (0,)
        top = grad.abs().amax(dims, keepdim=True)
        top = torch.where(top > 0, top, torch.ones_like(top))
        unit = grad / (2 * top) + 0.5
        if self.noise:
            drawn = keyed_generator(self.passes, self.key, "gradient noise").random(tuple(grad.shape))
            unit = unit + torch.from_numpy(drawn - 0.5).to(grad) / ((1 << self.bits) - 1)
            self.passes += 1
        levels = (1 << self.bits) - 1
        return 2 * top * (unit_codes(unit, self.bits).clamp(0, levels) / levels - 0.5)
