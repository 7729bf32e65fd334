"""Logarithmic quantizers: radix-4 Log4 (Eq. 4), radix 2, and the number system LNS (Eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.quant.base import (
    GradientQuantizer,
    InputQuantizer,
    Span,
    WeightQuantizer,
    straight_through_inside,
)
from imcsim.quant.binary import sign
from imcsim.quant.codes import InputCodes, WeightCodes, digit_terms, wide_weight_codes
from imcsim.quant.rounding import need_bits
from imcsim.quant.uniform import required

LOG4_LEVELS = tuple(4.0**n for n in range(-3, 4))
LOG4_THRESHOLDS = tuple(0.625 * level for level in LOG4_LEVELS)


def log4(x: Tensor) -> Tensor:
    """Radix-4 logarithmic numbers of 4 bits: 0 and ``+-4^n``, n = -3 .. 3.

    ``|x|`` in ``(0.625 x 4^n, 0.625 x 4^(n+1)]`` gives ``4^n``: thresholds midway between neighbours,
    ``(4^n + 4^(n-1)) / 2 = 0.625 x 4^n``. Underflow: ``|x| <= 0.625 x 4^-3`` gives 0. Overflow: beyond
    ``4^3`` all give ``4^3``.

    Shapes: x (*any); returns the same.

    Args:
        x: real numbers.

    Returns:
        The values.

    Notes:
        The survey's Eq. 4 gives a magnitude for each n and no zero: seven magnitudes and the eighth code of
        three exponent bits, which is zero here. At its lower end the same rule, midway to a next level
        ``4^-4``, decides what underflows.

    References: X. Sun et al., "Ultra-low precision 4-bit training of deep neural networks", NeurIPS 2020;
        the survey's Eq. 4.
    """
    levels = torch.tensor((0.0, *LOG4_LEVELS), dtype=x.dtype, device=x.device)
    thresholds = torch.tensor(LOG4_THRESHOLDS, dtype=x.dtype, device=x.device)
    return levels[torch.searchsorted(thresholds, x.abs().contiguous())] * x.sign()


def log2_codes(u: Tensor, bits: int) -> Tensor:
    """Radix-2 logarithmic codes of n bits: 0 and ``+-2^e``, e = 0 .. ``2^(n-1) - 2``.

    The nearest power of two in value, thresholds midway, ``1.5 x 2^e``; ``|u| <= 1/2`` gives 0; larger ones
    saturate.

    Shapes: u (*any); returns the same.

    Args:
        u: real numbers in units of the smallest power.
        bits: n, sign included, 2 or more.

    Returns:
        The codes.
    """
    powers = 2.0 ** torch.arange((1 << (bits - 1)) - 1, dtype=u.dtype, device=u.device)
    levels = torch.cat([powers.new_zeros(1), powers])
    thresholds = (levels[1:] + levels[:-1]) / 2
    return levels[torch.searchsorted(thresholds, u.abs().contiguous())] * u.sign()


class Log4Weight(WeightQuantizer):
    """Log4 weights, ``w_q = s log4(w / s)``, ``s = max|w| / 4^3``; straight-through.

    Reaches the array as the whole numbers 0, ``+-4^(n+3)`` up to 4096: 14 bits. Where weights.bits is less,
    their digits lie on further columns (digital slice weights).

    Args:
        bits: width of a weight on the arrays.
    """

    stored_bits = 4

    def __init__(self, bits: int) -> None:
        need_bits(bits, 2, "Log4: weights.bits", "its codes have zeros")
        super().__init__()
        self.bits = bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        scale = _over(matrix.double().abs().amax((0, 1, 2), keepdim=True), LOG4_LEVELS[-1])
        codes = log4(matrix.double() / scale) * 4**3
        return wide_weight_codes(codes, scale / 4**3, self.bits)


class Log4Gradient(GradientQuantizer):
    """Log4 gradients, ``g_q = s log4(g / s)``, ``s = max|g| / 4^3`` over the batch's layer."""

    def forward(self, grad: Tensor) -> Tensor:
        """Shapes: grad (batch, ...)."""
        scale = _over(grad.abs().max(), LOG4_LEVELS[-1])
        return log4(grad / scale) * scale


class Log2Weight(WeightQuantizer):
    """Radix-2 logarithmic weights of n bits; straight-through.

    ``w_q = s log2(w / s)`` with the largest power at ``2^floor(log2(4 max|w| / 3))``, so that the largest
    weight is nearest to it. Reaches the array as powers of two, on further columns where weights.bits is too
    few.

    Args:
        code_bits: n.
        bits: width of a weight on the arrays.
    """

    def __init__(self, code_bits: int, bits: int) -> None:
        need_bits(min(code_bits, bits), 2, "Log2Weight: bits", "its codes have zeros")
        super().__init__()
        self.code_bits, self.bits, self.stored_bits = code_bits, bits, code_bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        top = (1 << (self.code_bits - 1)) - 2
        peak = matrix.double().abs().amax((0, 1, 2), keepdim=True)
        peak = torch.where(peak > 0, peak, 1.0)
        scale = 2.0 ** (torch.floor(torch.log2(peak * 4 / 3)) - top)
        return wide_weight_codes(log2_codes(matrix.double() / scale, self.code_bits), scale, self.bits)


class Log2Input(InputQuantizer):
    """Radix-2 logarithmic inputs of n bits; clipped ones pass no gradient.

    0 and ``2^e``, e = 0 .. ``2^n - 2``; with a sign 0 and ``+-2^e``, e = 0 .. ``2^(n-1) - 2``. The range's
    end is nearest to the largest power. Reaches the word lines as it is: inputs.bits must hold the largest
    power.

    Args:
        bits: n, sign included where there is one.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        span = required(span)
        width = self.bits if span.signed else self.bits + 1
        high = torch.as_tensor(span.high, dtype=x.dtype, device=x.device)
        scale = 2.0 ** (torch.floor(torch.log2(high * 4 / 3)) - ((1 << (width - 1)) - 2))
        codes = log2_codes(x / scale, width)
        return InputCodes((codes if span.signed else codes.clamp(min=0),), (scale,))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, required(span))


def lns_exponents(x: Tensor, scale: Tensor | float, gamma: int, bits: int) -> Tensor:
    """``x_hat = clip(round(gamma log2(|x| / s)), 0, 2^(b-1) - 1)``.

    Shapes: x (*any); scale broadcasts to it; returns the same.

    Args:
        x: real numbers; 0 has the lowest exponent.
        scale: s.
        gamma: the base factor, codes an octave.
        bits: b.

    Returns:
        The exponents, in units of 1 / gamma.

    References: J. Zhao et al., "LNS-Madam: low-precision training in logarithmic number system using
        multiplicative weight update", IEEE Trans. Computers 71, 2022; the survey's Eq. 12.
    """
    logs = torch.log2((x / scale).abs())
    return torch.round(logs * gamma).clamp(0, (1 << (bits - 1)) - 1)


def lns(x: Tensor, scale: Tensor | float, gamma: int, bits: int, *, linear: bool = False) -> Tensor:
    """Numbers of the logarithmic number system, ``sign(x) s 2^(x_hat / gamma)``.

    Linear: ``x_hat / gamma = i + f`` and ``2^f ~ 1 + f``.

    Shapes: x (*any); scale broadcasts to it; returns the same.

    Args:
        x: real numbers; sign(0) = -1.
        scale: s, the smallest magnitude.
        gamma: the base factor.
        bits: b.
        linear: approximate the fraction's power.

    Returns:
        The values.

    Notes:
        The survey's Eq. 12 prints x_c / gamma in the exponent; it is x_hat / gamma.

    References: as of `lns_exponents`.
    """
    exponents = lns_exponents(x, scale, gamma, bits)
    if not linear:
        return sign(x) * scale * 2.0 ** (exponents / gamma)
    whole = torch.floor(exponents / gamma)
    return sign(x) * scale * 2.0**whole * (1 + exponents / gamma - whole)


class LNSWeight(WeightQuantizer):
    """Weights of the logarithmic number system with the largest magnitude as its largest number.

    Straight-through. Reaches the array through digital slice weights: with ``x_hat = gamma i + f`` the
    weights of each remainder f are powers of two ``+-2^i`` on columns of their own, whose sums get the
    digital weight ``s 2^(f / gamma)``; linear, ``(gamma + f) 2^i`` are whole numbers. Either has further
    columns where weights.bits is too few.

    Args:
        code_bits: b.
        gamma: the base factor, a power of two.
        linear: ``2^f ~ 1 + f``.
        bits: width of a weight on the arrays.
    """

    def __init__(self, code_bits: int, *, gamma: int, linear: bool, bits: int) -> None:
        need_bits(min(code_bits, bits), 2, "LNSMadam: weights.bits", "its codes have exponents")
        super().__init__()
        self.code_bits, self.gamma, self.linear, self.bits = code_bits, gamma, linear, bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        w = matrix.double()
        top = (1 << (self.code_bits - 1)) - 1
        largest = lns(torch.ones(()).double() * 2.0**top, 1.0, self.gamma, self.code_bits, linear=self.linear)
        scale = _over(w.abs().amax((0, 1, 2), keepdim=True), float(largest))
        exponents = lns_exponents(w, scale, self.gamma, self.code_bits)
        whole = torch.floor(exponents / self.gamma)
        rest, powers = exponents - self.gamma * whole, sign(w) * 2.0**whole
        if self.linear:
            return wide_weight_codes(powers * (self.gamma + rest), scale / self.gamma, self.bits)
        codes, scales = [], []
        for f in range(self.gamma):
            digits, weights = digit_terms(torch.where(rest == f, powers, 0.0), self.bits)
            codes += digits
            scales += [scale * (2.0 ** (f / self.gamma) * weight) for weight in weights]
        return WeightCodes(torch.stack(codes), torch.stack(scales))


def _over(peak: Tensor, top: float) -> Tensor:
    """``peak / top``, 1 where the peak is 0."""
    return torch.where(peak > 0, peak / top, torch.ones_like(peak))
