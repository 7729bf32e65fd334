"""Digital sums in a register of limited width."""

from __future__ import annotations

import torch
from torch import Tensor


def saturating_product(x_int: Tensor, w_int: Tensor, reads: tuple[tuple[int, int], ...], bits: int) -> Tensor:
    """An integer product whose partial sums saturate.

    ``a_r = clamp(a_(r-1) + sum_(k in read r) w_k x_k, -2^(bits-1), 2^(bits-1) - 1)``: an adder tree sums the
    rows that are driven together exactly, the register adds one read after the other. Of one row a read,
    every single addition saturates.

    Shapes: x_int (groups, vectors, inputs); w_int (groups, outputs, inputs); returns (groups, vectors,
    outputs) float64.

    Args:
        x_int: input codes.
        w_int: integer weights.
        reads: (start, stop) of the inputs that are summed at a time, in their order.
        bits: width of the register, sign included.

    Returns:
        What the register holds after the last read.
    """
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    x, w = x_int.double(), w_int.double()
    total = torch.zeros(*x.shape[:2], w.shape[1], dtype=torch.float64, device=x.device)
    for start, stop in reads:
        total = (total + x[..., start:stop] @ w[..., start:stop].transpose(1, 2)).clamp(low, high)
    return total
