"""Optimal clipping and magnitude-aware gradients (Sakr et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.functional.quantize import quantize_input, top_code
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_where
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.rounding import need_bits

ROUNDS = 20
"""Of the recursion, which converges in a few."""

MOMENTUM = 0.9


@dataclass(frozen=True)
class OptimalClipping(Method):
    """Ranges of least mean square error at every step (OCTAV), and gradients that see magnitudes (MAD).

    Weights and activations are clipped to [-s, s] (or [0, s]) and rounded. s solves
    ``s = E[|x| 1(|x| > s)] / (E[1(0 < |x| <= s)] / (12 N^2) + E[1(|x| > s)])`` with N codes from 0 to s. The
    gradient is 1 inside, and ``s / |x|`` where x is clipped.

    Weights follow their range at every change; an activation's range is fitted to calibration data, then a
    moving average over training batches.

    Notes:
        The original has steps of ``s 2^(1-B)``, hence ``4^-B / 3`` in the place of ``1 / (12 N^2)``; here
        codes are symmetric with N = 2^(B-1) - 1 (unsigned 2^B - 1). The original fits activations to each
        batch; here a sample's result must not depend on its batch.

    References: C. Sakr et al., "Optimal clipping and magnitude-aware differentiation for improved
        quantization-aware training", ICML 2022, Eqs. 7 and 10; the survey's section 4.5.2.
    """

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Clipped at the optimum."""
        need_bits(hardware.weights.bits, 2, "OptimalClipping: weights.bits", "use DoReFa for one bit")
        return OptimalWeight(hardware.weights.bits, per_channel=hardware.weights.scale == "per_channel")

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Clipped at the optimum."""
        need_bits(hardware.inputs.bits, 2, "OptimalClipping: inputs.bits", "use DoReFa for one bit")
        return OptimalInput(hardware.inputs.bits, signed=hardware.inputs.signed)


def optimal_clip(x: Tensor, top: int, dims: tuple[int, ...], start: Tensor | None = None) -> Tensor:
    """The clipping range of least mean square error by the recursion of `OptimalClipping`.

    Shapes: x (*any); returns x's shape with `dims` of size 1.

    Args:
        x: real numbers.
        top: N.
        dims: over which a range is shared.
        start: a first guess; None: the mean magnitude of what is not 0.

    Returns:
        s, 1 where all are 0.
    """
    magnitude = x.abs()
    used = (magnitude > 0).to(x.dtype)
    mean = magnitude.sum(dims, keepdim=True) / used.sum(dims, keepdim=True).clamp(min=1)
    s = mean if start is None else start
    for _ in range(ROUNDS):
        above = (magnitude > s).to(x.dtype)
        inside = (used - above).sum(dims, keepdim=True) / (12 * top * top)
        s = (magnitude * above).sum(dims, keepdim=True) / (inside + above.sum(dims, keepdim=True)).clamp(
            min=1e-30
        )
    return torch.where(s > 0, s, torch.where(mean > 0, mean, torch.ones_like(mean)))


def magnitude_aware(x: Tensor, high: Tensor | float, low: Tensor | float) -> Tensor:
    """The derivative of MAD: 1 on [low, high], beyond ``high / |x|``, of unsigned ones below 0 none.

    Shapes: x (*any); returns the same.

    References: C. Sakr et al., ICML 2022, Eq. 10.
    """
    outside = (high / x.abs().clamp(min=1e-30)).clamp(max=1)
    return torch.where((x >= low) & (x <= high), torch.ones_like(x), outside * ((x > 0) | (low < 0)))


class OptimalWeight(WeightQuantizer):
    """Weights clipped at the optimum. Reaches the array as it is.

    Args:
        bits: width, sign included.
        per_channel: one range an output.
    """

    def __init__(self, bits: int, *, per_channel: bool) -> None:
        super().__init__()
        self.top, self.dims = top_code(bits, signed=True), (2,) if per_channel else (0, 1, 2)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        scale = optimal_clip(matrix.double(), self.top, self.dims) / self.top
        return WeightCodes.single(torch.round(matrix.double() / scale).clamp(-self.top, self.top), scale)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        s = optimal_clip(matrix.detach(), self.top, self.dims)
        return straight_through_where(matrix, value, magnitude_aware(matrix.detach(), s, -s))


class OptimalInput(InputQuantizer):
    """Inputs clipped at the optimum of calibration and training data. Reaches the word lines as it is.

    Args:
        bits: width, sign included where there is one.
        signed: whether there is one; "auto": the first data decide.
    """

    ranged = False
    clip: Tensor
    sign: Tensor

    def __init__(self, bits: int, *, signed: bool | str) -> None:
        super().__init__()
        self.bits, self.auto = bits, signed == "auto"
        self.register_buffer("clip", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sign", torch.tensor(signed is True))

    @property
    def ready(self) -> bool:
        """Whether the range was fitted."""
        return bool(self.clip > 0)

    @property
    def signed(self) -> bool | None:
        """As given, or as the first data were."""
        return bool(self.sign) if self.ready or not self.auto else None

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        codes, scale = quantize_input(x, float(self.clip), self.bits, signed=bool(self.sign))
        return InputCodes((codes,), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        high = float(self.clip)
        slopes = magnitude_aware(x.detach(), high, -high if bool(self.sign) else 0.0)
        return straight_through_where(x, value, slopes)

    def update(self, x: Tensor) -> None:
        """A moving average of the optimum; the first data's is taken as it is."""
        if x.numel():
            if self.auto and not self.ready:
                self.sign.fill_(bool((x < 0).any()))
            self._average(x)

    def start_calibration(self) -> None:
        """Forget the range."""
        self.clip = torch.zeros_like(self.clip)
        if self.auto:
            self.sign.fill_(False)

    def observe(self, x: Tensor) -> None:
        """Follow the optimum; a negative input gives all a sign."""
        if x.numel():
            if self.auto:
                self.sign.logical_or_((x < 0).any())
            self._average(x)

    def _average(self, x: Tensor) -> None:
        kept = x.double() if bool(self.sign) else x.double().clamp(min=0)
        fitted = optimal_clip(kept.flatten(), top_code(self.bits, signed=bool(self.sign)), (0,))[0]
        self.clip = MOMENTUM * self.clip + (1 - MOMENTUM) * fitted if self.ready else fitted
