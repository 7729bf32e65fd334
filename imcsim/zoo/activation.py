"""The activations that networks of this zoo can be built with, those of binary neurons among them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from imcsim.errors import DataError, did_you_mean

Activation = Literal["relu", "hardtanh", "sign", "step"]


class _Binary(torch.autograd.Function):
    """high where x > 0, else low; the gradient is that of a line between them, from -1 to 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x.abs() < 1)
        ctx.slope = (high - low) / 2
        return (x > 0).to(x.dtype).mul_(high - low).add_(low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return (grads[0] * inside).mul_(ctx.slope), None, None


def _binary(x: Tensor, low: float, high: float) -> Tensor:
    out: Tensor = _Binary.apply(x, low, high)  # type: ignore[no-untyped-call]
    return out


torch.fx.wrap("_binary")


class Sign(nn.Hardtanh):
    """1 where x > 0, else -1; trained with hardtanh's gradient.

    Shapes: x (*any); returns the same.

    Notes: chips of one-bit inputs send these values as they are.

    References: M. Courbariaux et al., "Binarized neural networks", NeurIPS 2016, section 1.3.
    """

    def forward(self, x: Tensor) -> Tensor:
        """-1 or 1."""
        return _binary(x, -1.0, 1.0)


class Step(nn.Hardtanh):
    """1 where x > 0, else 0; trained with the gradient of hardtanh over 2.

    Shapes: x (*any); returns the same.

    Notes: for chips of one-bit inputs with ``inputs.signed = false``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1."""
        return _binary(x, 0.0, 1.0)


_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "hardtanh": nn.Hardtanh,
    "sign": Sign,
    "step": Step,
}


def activation_module(name: str, network: str) -> nn.Module:
    """An activation by name.

    Args:
        name: relu; hardtanh, for activations that a training method makes -1 and +1; sign or step, for those
            that are -1 and 1, or 0 and 1, without one.
        network: what it is for, named in the error.

    Returns:
        A module.

    Raises:
        DataError: an unknown activation.
    """
    if name not in _MODULES:
        raise DataError(
            f"{network} got activation = {name!r}; it must be one of {', '.join(_MODULES)}."
            f"{did_you_mean(str(name), _MODULES)}"
        )
    return _MODULES[name]()
