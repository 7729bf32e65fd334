"""Codebooks: k-means centroids (Eqs. 5 and 6), or the most frequent values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from imcsim.quant.base import WeightQuantizer
from imcsim.quant.codes import WeightCodes
from imcsim.quant.rounding import need_bits

ROUNDS = 50
"""Of Lloyd's algorithm, unless it stands still before."""


def nearest(x: Tensor, values: Tensor) -> Tensor:
    """The nearest of some values, of two as near the lower (Eq. 6).

    Shapes: x (*any), values (k,) ascending; returns like x.

    Args:
        x: real numbers.
        values: the codebook.

    Returns:
        Values of the codebook.
    """
    return values[torch.searchsorted((values[1:] + values[:-1]) / 2, x.contiguous())]


def kmeans(x: Tensor, size: int) -> Tensor:
    """Centroids of least ``sum_i min_j (w_i - c_j)^2`` by Lloyd's algorithm from evenly spaced ones.

    Shapes: x (n,); returns (size,) ascending.

    Args:
        x: real numbers.
        size: k.

    Returns:
        The centroids; one that no number is nearest to stays where it was.

    Notes:
        The survey's Eq. 5 sums over all centroids for each weight; the sum is over each weight's nearest.

    References: Y. Gong et al., "Compressing deep convolutional networks using vector quantization",
        arXiv:1412.6115, 2014, Eq. 5; start as in S. Han et al., "Deep compression", ICLR 2016, section 3.2;
        the survey's Eq. 5.
    """
    low, high = x.aminmax()
    centroids = torch.linspace(0, 1, size, dtype=x.dtype, device=x.device) * (high - low) + low
    for _ in range(ROUNDS):
        place = torch.searchsorted((centroids[1:] + centroids[:-1]) / 2, x)
        count = torch.bincount(place, minlength=size).to(x.dtype)
        total = torch.zeros_like(centroids).scatter_add_(0, place, x)
        moved = torch.where(count > 0, total / count.clamp(min=1), centroids).sort().values
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def most_frequent(codes: Tensor, size: int) -> Tensor:
    """The most frequent whole numbers; of equally frequent ones those nearest to 0, then the negative.

    Shapes: codes (n,) whole numbers; returns (at most size,) ascending.

    Args:
        codes: whole numbers.
        size: how many.

    Returns:
        The numbers.

    References: C.-F. Teng et al., "Low-complexity recurrent neural network-based polar decoder with weight
        quantization mechanism", ICASSP 2019; the survey's section 3.3.
    """
    values, counts = codes.unique(return_counts=True)
    ranked = sorted(zip((-counts).tolist(), values.abs().tolist(), values.tolist(), strict=True))
    kept = sorted(value for _, _, value in ranked[:size])
    return torch.tensor(kept, dtype=codes.dtype, device=codes.device)


class CodebookWeight(WeightQuantizer):
    """Weights of a codebook whose values lie on the hardware's grid; straight-through.

    ``w_q = s nearest(w / s)`` among whole numbers of weights.bits, ``s = max|w| / (2^(bits-1) - 1)``: rounded
    centroids, or the most frequent ones. Reaches the array as these whole numbers, through the cells' levels:
    the codebook's size is what has to be stored of a weight elsewhere, weights.bits the precision of its
    entries.

    Args:
        size: entries of the codebook.
        bits: width of an entry on the arrays.
        kind: of the values.
        refit: training steps between two fits.
    """

    codebook: Tensor
    scale: Tensor
    steps: Tensor

    def __init__(self, size: int, bits: int, *, kind: Literal["kmeans", "frequent"], refit: int) -> None:
        need_bits(bits, 2, "Codebook: weights.bits", "its entries have zeros")
        super().__init__()
        self.size, self.kind, self.refit, self.top = size, kind, refit, (1 << (bits - 1)) - 1
        self.stored_bits = (size - 1).bit_length()
        self.register_buffer("codebook", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def start(self, matrix: Tensor) -> None:
        """Fit the codebook."""
        w = matrix.double().flatten()
        peak = w.abs().max()
        self.scale = torch.where(peak > 0, peak, torch.ones_like(peak)) / self.top
        if self.kind == "kmeans":
            found = torch.round(kmeans(w / self.scale, self.size))
        else:
            found = most_frequent(torch.round(w / self.scale), self.size)
        padded = torch.cat(
            [found, found[-1:].expand(self.size - len(found))]
        )  # of fewer values, a fixed shape
        self.codebook = padded.clamp(-self.top, self.top)

    def state(self) -> tuple[Tensor, ...]:
        """The codebook and its grid."""
        return (self.codebook, self.scale)

    def update(self, matrix: Tensor) -> None:
        """Fit anew every `refit` steps."""
        self.steps += 1
        if int(self.steps) % self.refit == 0:
            self.start(matrix)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes = nearest(matrix.double() / self.scale, self.codebook)
        return WeightCodes.single(codes, self.scale.reshape(1, 1, 1))
