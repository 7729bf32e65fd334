"""Rows of one layer in different formats: Mix and Match, and 4 or 8 bits by quantization error."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from imcsim.quant.base import WeightQuantizer
from imcsim.quant.codebook import nearest
from imcsim.quant.codes import WeightCodes, wide_weight_codes
from imcsim.quant.rounding import need_bits


def sp2_codes(bits: int) -> tuple[list[int], int]:
    """Magnitudes that are sums of two powers of two, as whole numbers, and what stands for 1.

    ``q_1 + q_2``, ``q_i`` in {0, 1/2, ..., 2^-(2^m_i - 1)}, ``m_1 = ceil((bits-1) / 2)``, ``m_2 =
    floor((bits-1) / 2)``. Of 4 bits 0, 1, 2, 4, 5, 6 and 8 eighths.

    Args:
        bits: width of a code, sign included, 3 or more.

    Returns:
        The magnitudes, ascending, and the unit.

    References: S.-E. Chang et al., "Mix and match: a novel FPGA-centric deep neural network quantization
        framework", HPCA 2021, section III.
    """
    first, second = bits // 2, (bits - 1) // 2
    one = 1 << ((1 << first) - 1)
    parts = [[0, *(one >> i for i in range(1, 1 << m))] for m in (first, second)]
    return sorted({a + b for a, b in product(*parts)}), one


def row_scales(w: Tensor) -> Tensor:
    """``max|w|`` of each output, 1 where all are 0. Shapes: (groups, outputs, inputs) -> (..., 1)."""
    peak = w.abs().amax(2, keepdim=True)
    return torch.where(peak > 0, peak, torch.ones_like(peak))


def chosen_rows(score: Tensor, share: float) -> Tensor:
    """The share of outputs with the lowest score, rounded; of equal ones the first.

    Shapes: score (groups, outputs, 1); returns the same, bool.
    """
    count = round(share * score.numel())
    order = score.flatten().argsort(stable=True)
    chosen = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    chosen[order[:count]] = True
    return chosen.view_as(score)


class MixAndMatchWeight(WeightQuantizer):
    """Outputs of small variance in sums of two powers of two, the others uniform; straight-through.

    Each output is scaled to its largest magnitude. Reaches the array as whole numbers, through the cells'
    levels; where a sum needs more than weights.bits its digits lie on further columns.

    Args:
        code_bits: width of a code in either format, sign included.
        share: of outputs in sums of powers.
        bits: width of a weight on the arrays.
    """

    def __init__(self, code_bits: int, *, share: float, bits: int) -> None:
        need_bits(min(code_bits, bits), 2, "MixAndMatch: bits", "its codes have zeros")
        super().__init__()
        self.code_bits, self.share, self.bits, self.stored_bits = code_bits, share, bits, code_bits

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        w = matrix.double()
        scale, top = row_scales(w), (1 << (self.code_bits - 1)) - 1
        magnitudes, one = sp2_codes(self.code_bits)
        levels = torch.tensor(magnitudes, dtype=w.dtype, device=w.device)
        sums = nearest((w / scale * one).abs(), levels) * w.sign()
        powers = chosen_rows(w.var(2, keepdim=True, correction=0), self.share)
        codes = torch.where(powers, sums, torch.round(w / scale * top))
        return wide_weight_codes(codes, torch.where(powers, scale / one, scale / top), self.bits)


class IntraLayerWeight(WeightQuantizer):
    """Outputs that 4 bits represent worst get 8, the others 4; straight-through.

    Each output is symmetric with a scale of its own, ``max|w| / 7`` or ``max|w| / 127``; its error is the
    mean square of the 4-bit one. Reaches the array as it is, in weights of 8 bits.

    Args:
        share: of outputs with 8 bits.
        bits: width of a weight on the arrays, at least 8.
    """

    def __init__(self, *, share: float, bits: int) -> None:
        need_bits(bits, 8, "IntraLayer: weights.bits", "its wider outputs have 8 bits")
        super().__init__()
        self.share, self.stored_bits = share, 4 + 4 * share

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        w = matrix.double()
        peak = row_scales(w)
        narrow, wide = peak / 7, peak / 127
        error = (torch.round(w / narrow) * narrow - w).square().mean(2, keepdim=True)
        scale = torch.where(chosen_rows(-error, self.share), wide, narrow)
        return WeightCodes.single(torch.round(w / scale), scale)
