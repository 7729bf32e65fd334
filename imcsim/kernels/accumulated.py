"""Digital sums that saturate, fast: only vectors whose sums can leave the register are added read by read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.kernels.job import Job
from imcsim.kernels.precision import single_is_exact

BLOCK_ELEMENTS = 1 << 16
"""Registers at work at a time, so that they stay in a cache."""

_EXACT_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Accumulated:
    """`imcsim.functional.accumulate.saturating_product` of one layer, bit for bit.

    Attributes:
        weight: (groups, inputs, outputs) in the dtype that holds every sum exactly.
        magnitude: their magnitudes.
        reads: inputs of each read.
        bits: width of the register.
    """

    weight: Tensor
    magnitude: Tensor
    reads: tuple[tuple[int, int], ...]
    bits: int

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return 2 * self.weight.numel() * self.weight.element_size()

    def __call__(self, x_int: Tensor) -> Tensor:
        """Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64."""
        x, high = x_int.to(self.weight.dtype), (1 << (self.bits - 1)) - 1
        out = (x @ self.weight).double()
        # |x| |w| bounds every sum on the way: where it fits nothing saturates, and the order does not matter
        risky = ((x.abs() @ self.magnitude).amax((0, 2)) > high).nonzero().flatten()
        groups, _, outputs = out.shape
        for some in risky.split(max(1, BLOCK_ELEMENTS // (groups * outputs))):
            out[:, some] = self._read_by_read(x[:, some]).double()
        return out

    def _read_by_read(self, x: Tensor) -> Tensor:
        low, high = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        total = x.new_zeros(*x.shape[:2], self.weight.shape[2])
        for start, stop in self.reads:
            total.baddbmm_(x[..., start:stop], self.weight[:, start:stop]).clamp_(low, high)
        return total


def build(job: Job, bits: int) -> Accumulated:
    """The product of a layer whose sums can leave their register.

    Args:
        job: the layer.
        bits: width of the register.

    Returns:
        The product.
    """
    exact = single_is_exact(job.w_int.device) and job.largest_sum + (1 << (bits - 1)) < _EXACT_FLOAT32
    weight = job.w_int.transpose(1, 2).to(torch.float32 if exact else torch.float64).contiguous()
    return Accumulated(weight, weight.abs(), job.input_reads, bits)
