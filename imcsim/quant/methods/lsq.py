"""LSQ: learned step sizes of weights and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.functional.quantize import quantize_input, top_code
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.methods.base import Method
from imcsim.quant.methods.pact import SMALLEST
from imcsim.quant.rounding import need_bits


@dataclass(frozen=True)
class LSQ(Method):
    """Learned step size quantization.

    ``v_q = s round(clip(v / s, -Q_n, Q_p))``; gradient to v: 1 inside; to s: ``round(v/s) - v/s`` inside,
    ``-Q_n`` or ``Q_p`` beyond, times ``1 / sqrt(count Q_p)``. The step starts at ``2 mean|v| / sqrt(Q_p)``:
    of weights at convert, of activations at calibration or the first training batch.

    Notes:
        Weights are symmetric, ``Q_n = Q_p = 2^(bits-1) - 1``, where the original has one code more below; so
        are signed activations. Weights have one step a layer, or one an output with weights.scale =
        "per_channel". Two or more bits.

    References: S. K. Esser et al., "Learned step size quantization", ICLR 2020, Eqs. 1-3 and section 2.
    """

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """With learned steps."""
        need_bits(hardware.weights.bits, 2, "LSQ: weights.bits", "use DoReFa or LQNet for binary weights")
        return LSQWeight(hardware.weights.bits, per_channel=hardware.weights.scale == "per_channel")

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """With a learned step."""
        need_bits(hardware.inputs.bits, 2, "LSQ: inputs.bits", "use DoReFa or LQNet for binary activations")
        signed = None if hardware.inputs.signed == "auto" else hardware.inputs.signed
        return LSQInput(hardware.inputs.bits, signed=signed)


class LSQWeight(WeightQuantizer):
    """``w_q = s round(clip(w / s, -Q, Q))`` with learned s. Reaches the array as it is.

    Args:
        bits: width, sign included.
        per_channel: one step an output.
    """

    def __init__(self, bits: int, *, per_channel: bool) -> None:
        super().__init__()
        self.top, self.per_channel = top_code(bits, signed=True), per_channel
        self.step = nn.Parameter(torch.ones(1, 1, 1))

    def start(self, matrix: Tensor) -> None:
        """``2 mean|w| / sqrt(Q)``."""
        dims = (2,) if self.per_channel else (0, 1, 2)
        step = 2 * matrix.abs().mean(dims, keepdim=True) / self.top**0.5
        self.step.data = torch.where(step > 0, step, 1.0).to(self.step)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        step = self.step.detach().double().clamp(min=SMALLEST)
        return WeightCodes.single(torch.round(matrix.double() / step).clamp(-self.top, self.top), step)

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        count = matrix.numel() / self.step.numel()
        return _Stepped.apply(  # type: ignore[no-untyped-call]
            matrix, self.step, value, -self.top, self.top, (count * self.top) ** -0.5
        )


class LSQInput(InputQuantizer):
    """``x_q = s round(clip(x / s, -Q_n, Q_p))`` with learned s. Reaches the word lines as it is.

    Args:
        bits: width, sign included where there is one.
        signed: whether there is one; None: the data that the step is fitted to decide.
    """

    ranged = False
    fitted: Tensor
    sign: Tensor

    def __init__(self, bits: int, *, signed: bool | None) -> None:
        super().__init__()
        self.bits, self.auto = bits, signed is None
        self.step = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("sign", torch.tensor(bool(signed)))
        self._sum, self._count = 0.0, 0

    @property
    def signed(self) -> bool | None:
        """As given, or as the data were."""
        return bool(self.sign) if self.ready or not self.auto else None

    @property
    def ready(self) -> bool:
        """Whether the step was fitted."""
        return bool(self.fitted)

    @property
    def top(self) -> int:
        """Q_p."""
        return top_code(self.bits, signed=bool(self.sign))

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        high = max(float(self.step.detach()), SMALLEST) * self.top
        codes, scale = quantize_input(x, high, self.bits, signed=bool(self.sign))
        return InputCodes((codes,), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        count = x[0].numel() if x.dim() > 1 else x.numel()
        low = -self.top if bool(self.sign) else 0
        return _Stepped.apply(  # type: ignore[no-untyped-call]
            x, self.step, value, low, self.top, (max(count, 1) * self.top) ** -0.5
        )

    def update(self, x: Tensor) -> None:
        """Fit the step to the first training batch, unless calibration did."""
        if not self.ready and x.numel():
            self.observe(x)

    def start_calibration(self) -> None:
        """Forget the step."""
        self.fitted.fill_(False)
        if self.auto:
            self.sign.fill_(False)
        self._sum, self._count = 0.0, 0

    def observe(self, x: Tensor) -> None:
        """The step becomes ``2 mean|x| / sqrt(Q_p)`` over what was seen."""
        if self.auto:
            self.sign.logical_or_((x < 0).any())
        self._sum, self._count = self._sum + float(x.abs().double().sum()), self._count + x.numel()
        step = 2 * self._sum / max(self._count, 1) / self.top**0.5
        with torch.no_grad():
            self.step.fill_(step or 1.0)
        self.fitted.fill_(True)


class _Stepped(torch.autograd.Function):
    """Backward: the derivatives of LSQ to what is quantized and to the step, the latter times a factor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, value: Tensor, low: float, high: float, factor: float
    ) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.low, ctx.high, ctx.factor = low, high, factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        x, step = ctx.saved_tensors
        u = x / step.clamp(min=SMALLEST)
        inside = (u >= ctx.low) & (u <= ctx.high)
        slope = torch.where(inside, u.round() - u, u.clamp(ctx.low, ctx.high))
        grad_step = (grad * slope).sum_to_size(step.shape) if step.dim() else (grad * slope).sum()
        return grad * inside, (grad_step * ctx.factor).to(step.dtype), None, None, None, None
