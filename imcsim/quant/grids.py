"""The staircases that quantizers climb: thresholds, steps between codes, and the codes at their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Staircase:
    """Codes ``low + jump sum_i [u > threshold_i]`` of a number u counted in steps.

    Attributes:
        low: the lowest code.
        jump: between neighbouring codes: 1, of binary ones 2.
        thresholds: midway between codes, ascending.
    """

    low: float
    jump: float
    thresholds: tuple[float, ...]

    @property
    def high(self) -> float:
        """The highest code."""
        return self.low + self.jump * len(self.thresholds)

    def codes(self, u: Tensor) -> Tensor:
        """The nearest code; at a threshold the lower one, so that sign(0) = -1.

        Shapes: u (*any); returns the same.
        """
        first = self.thresholds[0]
        steps = torch.ceil((u - first) / self.jump).clamp(0, len(self.thresholds))
        return self.low + self.jump * steps

    def smoothed(self, u: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        """``low + jump sum_i step(u - threshold_i)``: the staircase with another step than the unit step.

        Shapes: u (*any); returns the same.

        Args:
            u: numbers counted in steps.
            step: rises from 0 to 1 around 0.

        Returns:
            The soft codes.
        """
        out = torch.full_like(u, self.low)
        for threshold in self.thresholds:
            out = out + self.jump * step(u - threshold)
        return out


def weight_staircase(bits: int) -> Staircase:
    """Symmetric weights: -1 and 1 of one bit, else ``-(2^(bits-1) - 1)`` to ``2^(bits-1) - 1``."""
    if bits == 1:
        return Staircase(-1.0, 2.0, (0.0,))
    top = (1 << (bits - 1)) - 1
    return Staircase(float(-top), 1.0, tuple(k + 0.5 for k in range(-top, top)))


def input_staircase(bits: int, *, signed: bool) -> Staircase:
    """Inputs: as weights where signed, else 0 to ``2^bits - 1``."""
    if signed:
        return weight_staircase(bits)
    return Staircase(0.0, 1.0, tuple(k + 0.5 for k in range((1 << bits) - 1)))


def least_square_step(
    matrix: Tensor, stairs: Staircase, *, per_channel: bool, candidates: int = 100
) -> Tensor:
    """The step with which a staircase fits weights best, in mean square.

    Binary: ``mean|w|``, which is the optimum; else the best of ``max|w| / high x j / candidates``.

    Shapes: matrix (groups, outputs, inputs); returns (groups or 1, outputs or 1, 1) float64.

    Args:
        matrix: real weights.
        stairs: the codes.
        per_channel: one step an output instead of one for all.
        candidates: how many are tried.

    Returns:
        The step, 1 where all weights are zero.
    """
    w = matrix.double()
    dims = (2,) if per_channel else (0, 1, 2)
    if len(stairs.thresholds) == 1:
        best = w.abs().mean(dims, keepdim=True)
        return torch.where(best > 0, best, 1.0)
    # an all-zero tensor has step 0 until the end: its codes are 0 / 0, its error nan, which is never less
    top = w.abs().amax(dims, keepdim=True) / stairs.high
    best, least = top, torch.full_like(top, float("inf"))
    for j in range(1, candidates + 1):
        step = top * (j / candidates)
        error = (stairs.codes(w / step) * step - w).square().sum(dims, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return torch.where(best > 0, best, 1.0)
