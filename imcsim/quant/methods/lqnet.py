"""LQ-Net: codes of -1 and 1 with a learned basis (Eqs. 10 and 11)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_inside
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.methods.base import Method

START_ROUNDS = 20
"""Rounds of the alternating fit when a basis is first fitted."""


@dataclass(frozen=True)
class LQNet(Method):
    """Learned quantization: ``w_q = sum_k v_k b_k``, ``b_k = +-1``, with K = weights.bits; inputs likewise.

    The basis v is fitted by alternating between the nearest codes for given v and the least-squares v for
    given codes, one round at each training step, averaged with `momentum`; one basis an output channel for
    weights, one a layer for activations. Weights pass gradients straight through, activations inside
    ``+-sum|v|``.

    Weights lie on K binary matrices side by side, an activation is sent in K passes of +-1 pulses; the bases
    are digital weights of outputs and passes (Eq. 11).

    Args:
        momentum: of the old basis in the moving average.

    Notes:
        An activation's codes are symmetric about 0, also behind a ReLU, as the survey's Eq. 10 has them.

    References: D. Zhang et al., "LQ-Nets: learned quantization for highly accurate and compact deep neural
        networks", ECCV 2018, Eqs. 3-8 and algorithm 1; the survey's Eqs. 10 and 11.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ConversionError(f"LQNet: momentum = {self.momentum!r} is not in [0, 1); 0.9 is the paper's")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """A basis an output."""
        return LQWeight(hardware.weights.bits, momentum=self.momentum)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """A basis a layer."""
        return LQInput(hardware.inputs.bits, momentum=self.momentum)


def signs(bits: int, like: Tensor) -> Tensor:
    """All codes of -1 and 1. Shapes: returns (2^bits, bits), of `like`'s dtype and device."""
    return torch.tensor(list(product((-1.0, 1.0), repeat=bits)), dtype=like.dtype, device=like.device)


def nearest_codes(x: Tensor, basis: Tensor) -> Tensor:
    """For each number the code whose level ``sum_k v_k b_k`` is nearest; of two as near the lower level.

    Shapes: x (rows, n), basis (rows, K); returns (K, rows, n).

    Args:
        x: real numbers.
        basis: v of each row.

    Returns:
        -1 and 1.

    References: D. Zhang et al., ECCV 2018, Eq. 5; the survey's Eq. 10.
    """
    codes = signs(basis.shape[1], basis)
    levels, order = (basis @ codes.T).sort(dim=1)
    middle = (levels[:, 1:] + levels[:, :-1]) / 2
    place = torch.searchsorted(middle.contiguous(), x.contiguous())
    chosen = order.gather(1, place)
    return codes[chosen].permute(2, 0, 1)


def fitted_basis(x: Tensor, codes: Tensor) -> Tensor:
    """The basis of least squares for given codes, ``(B B^T)^+ B x``.

    Shapes: x (rows, n), codes (K, rows, n); returns (rows, K).

    Args:
        x: real numbers.
        codes: -1 and 1.

    Returns:
        v of each row.

    References: D. Zhang et al., ECCV 2018, Eq. 8.
    """
    b = codes.transpose(0, 1)
    gram, target = b @ b.transpose(1, 2), (b @ x.unsqueeze(-1))
    return (torch.linalg.pinv(gram, hermitian=True) @ target).squeeze(-1)


def start_basis(x: Tensor, bits: int) -> Tensor:
    """A basis of powers of two that spans twice the mean magnitude, then `START_ROUNDS` rounds of the fit.

    Shapes: x (rows, n) float64; returns (rows, K).
    """
    mean = x.abs().mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    powers = 2.0 ** torch.arange(bits, dtype=x.dtype, device=x.device)
    basis = 2 * mean * powers / powers.sum() if bits > 1 else mean
    for _ in range(START_ROUNDS):
        basis = fitted_basis(x, nearest_codes(x, basis))
    return basis


class LQWeight(WeightQuantizer):
    """``w_q = sum_k v_k b_k`` with a basis an output. Reaches the array as K planes of -1 and 1.

    Args:
        bits: K.
        momentum: of the old basis in the moving average.
    """

    planes = True
    basis: Tensor

    def __init__(self, bits: int, *, momentum: float) -> None:
        super().__init__()
        self.bits, self.momentum = bits, momentum
        self.register_buffer("basis", torch.empty(0, dtype=torch.float64))

    def start(self, matrix: Tensor) -> None:
        """Fit the basis. Shapes: matrix (groups, outputs, inputs)."""
        self.basis = start_basis(matrix.double().flatten(0, 1), self.bits)

    def update(self, matrix: Tensor) -> None:
        """One round of the fit."""
        x, basis = matrix.double().flatten(0, 1), self.basis.double()
        fitted = fitted_basis(x, nearest_codes(x, basis))
        self.basis = self.momentum * basis + (1 - self.momentum) * fitted

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        basis = self.basis.double()
        codes = nearest_codes(matrix.double().flatten(0, 1), basis).unflatten(1, matrix.shape[:2])
        return WeightCodes(codes, basis.T.unflatten(1, matrix.shape[:2]).unsqueeze(-1))


class LQInput(InputQuantizer):
    """``x_q = sum_k v_k b_k`` with a basis a layer. Reaches the word lines in K passes of +-1 pulses.

    Args:
        bits: K.
        momentum: of the old basis in the moving average.
    """

    planes, ranged = True, False
    basis: Tensor
    fitted: Tensor

    def __init__(self, bits: int, *, momentum: float) -> None:
        super().__init__()
        self.bits, self.momentum = bits, momentum
        self.register_buffer("basis", torch.ones(bits, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def signed(self) -> bool | None:
        """+-1 pulses."""
        return True

    @property
    def passes(self) -> int:
        """K."""
        return self.bits

    @property
    def ready(self) -> bool:
        """Whether the basis was fitted."""
        return bool(self.fitted)

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        basis = self.basis.double()
        codes = nearest_codes(x.double().reshape(1, -1), basis[None]).to(x.dtype)
        bad = x * 0  # what is not finite stays so
        return InputCodes(tuple(code.view_as(x) + bad for code in codes), tuple(basis.tolist()))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_inside(x, value, Span(float(self.basis.abs().sum()), signed=True))

    def update(self, x: Tensor) -> None:
        """One round of the fit; of the first data all rounds."""
        if x.numel() == 0:
            return
        row = x.double().reshape(1, -1)
        if not self.ready:
            self.basis = start_basis(row, self.bits)[0]
            self.fitted.fill_(True)
            return
        fitted = fitted_basis(row, nearest_codes(row, self.basis.double()[None]))[0]
        self.basis = self.momentum * self.basis.double() + (1 - self.momentum) * fitted

    def start_calibration(self) -> None:
        """Forget the basis."""
        self.fitted.fill_(False)

    def observe(self, x: Tensor) -> None:
        """Fit the basis."""
        self.update(x)
