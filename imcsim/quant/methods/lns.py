"""LNS-Madam: a logarithmic number system and the multiplicative optimizer that trains in it (Eq. 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imcsim.errors import ConversionError, InputError
from imcsim.hardware import Hardware
from imcsim.quant.base import GradientQuantizer, WeightQuantizer
from imcsim.quant.logarithmic import LNSWeight, lns
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class LNSMadam(Method):
    """Weights (and gradients) of the logarithmic number system; train them with `Madam`.

    ``w_q = sign(w) s 2^(w_hat / gamma)``, ``w_hat = clip(round(gamma log2(|w| / s)), 0, 2^(b-1) - 1)``, b =
    weights.bits, s such that the largest weight has the largest code. Straight-through.

    Args:
        gamma: codes an octave, a power of two.
        linear: take ``2^f ~ 1 + f`` for the fraction f of the exponent.
        gradients: quantize gradients of outputs likewise, by the largest of each batch.

    Notes:
        The survey's Eq. 12 prints x_c in the exponent; it is x_hat / gamma. Activations are the hardware's.

    References: J. Zhao et al., "LNS-Madam", IEEE Trans. Computers 71, 2022, Eqs. 2 and 5; the survey's
        Eq. 12.
    """

    gamma: int = 8
    linear: bool = False
    gradients: bool = False

    def __post_init__(self) -> None:
        if self.gamma not in (1, 2, 4, 8, 16, 32, 64):
            raise ConversionError(f"LNSMadam: gamma = {self.gamma!r} is not a power of two from 1 to 64")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Of weights.bits."""
        bits = hardware.weights.bits
        return LNSWeight(bits, gamma=self.gamma, linear=self.linear, bits=bits)

    def gradient_quantizer(self, hardware: Hardware) -> GradientQuantizer | None:
        """Of weights.bits, or none."""
        return LNSGradient(hardware.weights.bits, gamma=self.gamma) if self.gradients else None


class LNSGradient(GradientQuantizer):
    """Gradients of the logarithmic number system, the largest magnitude with the largest code; 0 stays 0.

    Args:
        bits: b.
        gamma: the base factor.
    """

    def __init__(self, bits: int, *, gamma: int) -> None:
        super().__init__()
        self.bits, self.gamma = bits, gamma

    def forward(self, grad: Tensor) -> Tensor:
        """Shapes: grad (batch, ...)."""
        peak = grad.abs().max()
        scale = torch.where(peak > 0, peak, torch.ones_like(peak)) * 2.0 ** (
            -((1 << (self.bits - 1)) - 1) / self.gamma
        )
        return torch.where(grad == 0, grad, lns(grad, scale, self.gamma, self.bits))


class Madam(torch.optim.Optimizer):
    """Multiplicative weight updates: ``log2|w| -= lr sign(w) clip(g / sqrt(v))``.

    ``v = beta v + (1 - beta) g^2``, divided by ``1 - beta^t``. A weight keeps its sign; magnitudes stay below
    `bound` times the root mean square that the tensor started with. With `step` the exponents stay on
    multiples of ``1 / step``, an update in low precision.

    Args:
        params: parameters; give biases and normalization a group of their own with another optimizer, since
            what starts at 0 stays there.
        lr: change of ``log2|w|`` for a gradient of its root mean square.
        beta: of the moving average.
        clip: largest ``|g| / sqrt(v)``.
        bound: of a magnitude over the first root mean square; None: no bound.
        step: exponents an octave; None: real exponents.

    Raises:
        InputError: an option outside its range.

    Notes:
        The original's exponent base is e; here it is 2, as the number system's, so that lr is in octaves.

    References: J. Bernstein et al., "Learning compositional functions via multiplicative weight updates",
        NeurIPS 2020, algorithm 1; J. Zhao et al., "LNS-Madam", 2022, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.0**-6,
        *,
        beta: float = 0.999,
        clip: float = 10.0,
        bound: float | None = 3.0,
        step: int | None = None,
    ) -> None:
        if not lr > 0 or not 0 <= beta < 1 or not clip > 0 or (step is not None and step < 1):
            raise InputError(
                f"Madam: lr = {lr!r} and clip = {clip!r} must be positive, beta = {beta!r} in [0, 1), step = "
                f"{step!r} None or at least 1"
            )
        super().__init__(params, {"lr": lr, "beta": beta, "clip": clip, "bound": bound, "step": step})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["steps"] = 0
            state["square"] = torch.zeros_like(weight)
            state["bound"] = (group["bound"] or float("inf")) * float(weight.square().mean().sqrt())
        state["steps"] += 1
        square = (
            state["square"].mul_(group["beta"]).addcmul_(weight.grad, weight.grad, value=1 - group["beta"])
        )
        root = (square / (1 - group["beta"] ** state["steps"])).sqrt()
        ratio = torch.where(root > 0, weight.grad / root, torch.zeros_like(root))
        ratio.clamp_(-group["clip"], group["clip"])
        exponent = torch.log2(weight.abs()) - group["lr"] * weight.sign() * ratio
        if group["step"] is not None:
            exponent = torch.round(exponent * group["step"]) / group["step"]
        weight.copy_((weight.sign() * 2.0**exponent).clamp_(-state["bound"], state["bound"]))
