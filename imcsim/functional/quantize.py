"""Weights and inputs as integer codes."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize_weight(weight: Tensor, bits: int, *, per_channel: bool) -> tuple[Tensor, Tensor]:
    """Round weights to signed integers.

    ``w_int = rint(w / s_w)``, ``s_w = max|w| / (2^(bits-1) - 1)`` (1 where all are zero);
    ``bits = 1``: ``w_int = sign(w)`` with sign(0) = -1 and ``s_w = mean|w|``.

    Shapes: weight (groups, outputs, inputs); returns w_int of the same shape and s_w (groups or 1, outputs or
    1, 1), both float64.

    Args:
        weight: real weights, any float dtype; computed in float64.
        bits: width of the code, sign included.
        per_channel: one scale an output instead of one for all.

    Returns:
        The codes and their scale.

    References: C. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", 2025, Eqs.
        1-3.
    """
    w = weight.double()
    dims = (2,) if per_channel else (0, 1, 2)
    if bits == 1:
        scale = w.abs().mean(dims, keepdim=True)
        return torch.where(w > 0, 1.0, -1.0).to(w.dtype), scale
    scale = w.abs().amax(dims, keepdim=True) / ((1 << (bits - 1)) - 1)
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.round(w / scale), scale


def top_code(bits: int, *, signed: bool) -> int:
    """The largest input code: ``2^bits - 1`` unsigned, ``2^(bits-1) - 1`` signed, 1 for one bit."""
    return 1 if bits == 1 else (1 << (bits - signed)) - 1


def quantize_input(
    x: Tensor, full_scale: Tensor | float, bits: int, *, signed: bool
) -> tuple[Tensor, Tensor | float]:
    """Round inputs to integer codes, in the dtype of `x`.

    Unsigned: ``x_int = rint(clip(x, 0, range) / s_x)``, ``s_x = range / (2^bits - 1)``. Signed: magnitude on
        ``bits - 1`` bits,
    ``x_int = rint(clip(x, -range, range) / s_x)``, ``s_x = range / (2^(bits-1) - 1)``. Signed with one bit:
    the sign of x, with
    sign(0) = -1, and ``s_x = range``.

    Shapes: x (*any); full_scale a number or a tensor that broadcasts to x; returns codes like x, and s_x like
    full_scale.

    Args:
        x: inputs.
        full_scale: the magnitude that maps to the top code, positive.
        bits: width of the code.
        signed: whether codes have a sign.

    Returns:
        The codes and the scale.
    """
    scale = full_scale / top_code(bits, signed=signed)
    if bits == 1 and signed:
        codes = (x > 0).to(x.dtype).mul_(2).sub_(1)
        return codes.add_(x, alpha=0), scale  # plus zero times x: what is not finite stays so
    if isinstance(full_scale, Tensor):
        low = -full_scale if signed else torch.zeros_like(full_scale)
        return torch.maximum(torch.minimum(x, full_scale), low).div_(scale).round_(), scale
    return x.clamp(-full_scale if signed else 0.0, full_scale).div_(scale).round_(), scale
