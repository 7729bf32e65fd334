"""DSQ: differentiable soft quantization (section 4.2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.methods.pact import SMALLEST

LEAST_ALPHA, MOST_ALPHA = 1e-4, 0.49


@dataclass(frozen=True)
class DSQ(Method):
    """Hard codes forward, the gradient of a row of tanh backward, with learned range and softness.

    On the interval of width ``D = (u - l) / (2^b - 1)`` with middle m, ``phi(x) = tanh(k (x - m)) /
    tanh(k D / 2)``, ``Q_S = l + D (i + (phi + 1) / 2)``, beyond the range l or u; the hard one has sign(phi).
    alpha is the gap of ``tanh(k D / 2) = 1 - alpha``, hence ``k = log(2 / alpha - 1) / D``: as alpha falls
    Q_S becomes the hard one. u and alpha are learned; `imcsim.quant.penalty(sim)` is ``decay sum alpha``.

    Args:
        alpha: where it starts, between 0 and 1/2.
        decay: weight of alpha in the loss, which pulls Q_S towards the hard quantizer.

    Notes:
        The original learns l and u apart. Here weights have l = -u, so that their levels are odd multiples of
        D / 2, codes with a zero point of a half; activations have l = 0, or -u where inputs.signed says so.
        u starts at the largest magnitude: of weights at convert, of activations at calibration or the first
        training batch.

    References: R. Gong et al., "Differentiable soft quantization: bridging full-precision and low-bit neural
        networks", ICCV 2019, Eqs. 2-13; the survey's section 4.2.4.
    """

    alpha: float = 0.2
    decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5 or not self.decay >= 0:
            raise ConversionError(
                f"DSQ: alpha = {self.alpha!r} must be between 0 and 0.5, decay = {self.decay!r} not negative"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """With l = -u."""
        return DSQWeight(hardware.weights.bits, alpha=self.alpha, decay=self.decay)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """With l = 0, or -u."""
        signed = hardware.inputs.signed is True
        return DSQInput(hardware.inputs.bits, signed=signed, alpha=self.alpha, decay=self.decay)


def soft_uniform(x: Tensor, low: Tensor | float, high: Tensor, levels: int, alpha: Tensor) -> Tensor:
    """``Q_S`` of DSQ, see there.

    Shapes: x (*any); low, high, alpha broadcast to it; returns the same.

    Args:
        x: real numbers.
        low: l.
        high: u.
        levels: ``2^b``.
        alpha: between 0 and 1/2.

    Returns:
        The soft value, differentiable in everything.

    References: R. Gong et al., ICCV 2019, Eqs. 3-7.
    """
    width = (high - low) / (levels - 1)
    k = torch.log(2 / alpha - 1) / width
    inside = torch.minimum(torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device)), high)
    i = ((inside - low) / width).detach().floor().clamp(0, levels - 2)
    middle = low + (i + 0.5) * width
    phi = torch.tanh(k * (inside - middle)) / (1 - alpha)
    return low + width * (i + (phi + 1) / 2)


class _Softness(nn.Module):
    """alpha and u."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.high = nn.Parameter(torch.tensor(1.0))
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def u(self) -> Tensor:
        """u, positive."""
        return self.high.clamp(min=SMALLEST)

    def a(self) -> Tensor:
        """alpha, inside its bounds."""
        return self.alpha.clamp(LEAST_ALPHA, MOST_ALPHA)


class DSQWeight(WeightQuantizer):
    """Weights of ``2^b`` levels on [-u, u]. Reaches the array as `DoReFaWeight` does, by a zero point of 1/2.

    One bit: -u and u, with no zero point.

    Args:
        bits: b.
        alpha: where alpha starts.
        decay: its weight in the loss.
    """

    def __init__(self, bits: int, *, alpha: float, decay: float) -> None:
        super().__init__()
        self.bits, self.decay = bits, decay
        self.softness = _Softness(alpha)

    def start(self, matrix: Tensor) -> None:
        """The range starts at the largest magnitude, of one bit the mean one."""
        magnitude = matrix.abs()
        self.softness.high.fill_(float(magnitude.mean() if self.bits == 1 else magnitude.max()) or 1.0)

    def state(self) -> tuple[Tensor, ...]:
        """Codes depend on the range."""
        return (self.softness.high,)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        u = self.softness.u().detach().double().reshape(1, 1, 1)
        if self.bits == 1:
            return WeightCodes.single(torch.where(matrix > 0, 1.0, -1.0), u)
        half, width = 1 << (self.bits - 1), 2 * u / ((1 << self.bits) - 1)
        codes = torch.ceil(matrix.double() / width - 1).clamp(-half, half - 1)
        return WeightCodes.single(codes, width, 0.5)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        u = self.softness.u()
        return straight_through(soft_uniform(matrix, -u, u, 1 << self.bits, self.softness.a()), value)

    def penalty(self) -> Tensor | None:
        """``decay alpha``."""
        return self.decay * self.softness.a() if self.decay else None


class DSQInput(InputQuantizer):
    """Activations of ``2^b`` levels on [0, u], or [-u, u]. Reaches the word lines as it is.

    Signed ones are ``2^b - 1`` levels with 0 among them; one signed bit is the sign.

    Args:
        bits: b.
        signed: whether negative inputs have codes.
        alpha: where alpha starts.
        decay: its weight in the loss.
    """

    ranged = False
    fitted: Tensor

    def __init__(self, bits: int, *, signed: bool, alpha: float, decay: float) -> None:
        super().__init__()
        self.bits, self.has_sign, self.decay = bits, signed, decay
        self.softness = _Softness(alpha)
        self.register_buffer("fitted", torch.tensor(False))
        self._seen = 0.0

    @property
    def signed(self) -> bool | None:
        """As given."""
        return self.has_sign

    @property
    def ready(self) -> bool:
        """Whether u was fitted."""
        return bool(self.fitted)

    @property
    def levels(self) -> int:
        """Of the range."""
        return (1 << self.bits) - 1 if self.has_sign and self.bits > 1 else 1 << self.bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        u = float(self.softness.u().detach())
        if self.has_sign and self.bits == 1:
            return InputCodes((torch.where(x > 0, 1.0, -1.0).to(x.dtype) + x * 0,), (u,))
        top = (self.levels - 1) // (2 if self.has_sign else 1)
        codes = torch.ceil(x.clamp(-u if self.has_sign else 0.0, u) / (u / top) - 0.5)
        return InputCodes((codes,), (u / top,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        u = self.softness.u()
        low = -u if self.has_sign else 0.0
        return straight_through(soft_uniform(x, low, u, self.levels, self.softness.a()), value)

    def penalty(self) -> Tensor | None:
        """``decay alpha``."""
        return self.decay * self.softness.a() if self.decay else None

    def update(self, x: Tensor) -> None:
        """Fit u to the first training batch, unless calibration did."""
        if not self.ready and x.numel():
            self.observe(x)

    def start_calibration(self) -> None:
        """Forget u."""
        self._seen = 0.0
        self.fitted.fill_(False)

    def observe(self, x: Tensor) -> None:
        """The range is the largest magnitude seen."""
        self._seen = max(self._seen, float((x.abs() if self.has_sign else x).max()))
        with torch.no_grad():
            self.softness.high.fill_(self._seen if self._seen > 0 else 1.0)
        self.fitted.fill_(True)
