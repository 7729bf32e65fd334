"""PACT: activations with a learned clipping range (Eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.errors import ConversionError
from imcsim.functional.quantize import quantize_input
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer
from imcsim.quant.binary import BinaryWeight
from imcsim.quant.codes import InputCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.methods.dorefa import DoReFaWeight

SMALLEST = 1e-6
"""The least that a learned range or step may become."""


@dataclass(frozen=True)
class PACT(Method):
    """Parameterized clipping of activations; weights as in DoReFa-Net.

    ``a_q = round(clip(a, 0, alpha) (2^k - 1) / alpha) alpha / (2^k - 1)``; gradient to a: 1 inside; to alpha:
    1 where ``a >= alpha``. `imcsim.quant.penalty(sim)` is ``decay sum alpha^2``; add it to the loss.

    `imcsim.calibrate` sets alpha to the largest input. Inputs below 0 are lost: keep a first layer whose
    inputs have a sign without a method.

    Args:
        alpha: where it starts without calibration.
        decay: L2 on alpha.

    References: J. Choi et al., "PACT: parameterized clipping activation for quantized neural networks",
        arXiv:1805.06085, 2018, Eqs. 1-3; the survey's Eq. 13.
    """

    alpha: float = 10.0
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if not self.alpha > 0 or not self.decay >= 0:
            raise ConversionError(
                f"PACT: alpha = {self.alpha!r} must be positive and decay = {self.decay!r} not negative"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """DoReFa-Net's."""
        bits = hardware.weights.bits
        return BinaryWeight(scaled=True) if bits == 1 else DoReFaWeight(bits)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """With a learned range."""
        return PACTInput(hardware.inputs.bits, alpha=self.alpha, decay=self.decay)


class PACTInput(InputQuantizer):
    """``a_q = round(clip(a, 0, alpha) / s) s``, ``s = alpha / (2^k - 1)``. Reaches the word lines as it is.

    Args:
        bits: k.
        alpha: where the range starts.
        decay: L2 on it.
    """

    ranged = False

    def __init__(self, bits: int, *, alpha: float, decay: float) -> None:
        super().__init__()
        self.bits, self.decay = bits, decay
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self._seen = 0.0

    @property
    def signed(self) -> bool | None:
        """No sign."""
        return False

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        codes, scale = quantize_input(x, max(float(self.alpha.detach()), SMALLEST), self.bits, signed=False)
        return InputCodes((codes,), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return _Clipped.apply(x, self.alpha, value)  # type: ignore[no-untyped-call]

    def penalty(self) -> Tensor | None:
        """``decay alpha^2``."""
        return self.decay * self.alpha.square() if self.decay else None

    def start_calibration(self) -> None:
        """Forget the largest input."""
        self._seen = 0.0

    def observe(self, x: Tensor) -> None:
        """The range becomes the largest input seen."""
        self._seen = max(self._seen, float(x.max()))
        with torch.no_grad():
            self.alpha.fill_(self._seen or 1.0)


class _Clipped(torch.autograd.Function):
    """Backward: 1 to a on [0, alpha), to alpha the sum where ``a >= alpha``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, alpha = ctx.saved_tensors
        above = x >= alpha
        return grad * ((x >= 0) & ~above), (grad * above).sum().to(alpha.dtype), None
