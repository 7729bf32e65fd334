"""Rounding to whole numbers: to the nearest, or at random so that the mean is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.errors import MappingError
from imcsim.functional.noise import keyed_generator
from imcsim.quant.base import WeightQuantizer


def stochastic_round(x: Tensor, uniform: Tensor) -> Tensor:
    """Round up with the probability of the fraction: ``floor(x + u)``, u uniform on [0, 1); the mean is x.

    Shapes: x, uniform (*any), alike; returns the same.

    Args:
        x: real numbers.
        uniform: draws.

    Returns:
        Whole numbers.

    References: S. Gupta et al., "Deep learning with limited numerical precision", ICML 2015, section 3.
    """
    return torch.floor(x + uniform)


def keyed_uniform(like: Tensor, key: str, draw: int) -> Tensor:
    """Uniform draws on [0, 1) that depend on a name and a counter alone.

    Shapes: like (*any); returns the same, of its dtype and device.

    Args:
        like: what is to be rounded.
        key: the quantizer's name.
        draw: how many draws were taken before.

    Returns:
        The draws.
    """
    drawn = keyed_generator(draw, key, "stochastic rounding").random(tuple(like.shape), dtype="float64")
    return torch.from_numpy(drawn).to(like.device, like.dtype)


class RoundingWeight(WeightQuantizer):
    """A weight quantizer that rounds: to the nearest, ties to even, or while it trains at random if asked.

    Args:
        stochastic: round at random in training, with fresh draws at each forward pass.
    """

    draws: Tensor

    def __init__(self, *, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic
        if stochastic:
            self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def round(self, x: Tensor) -> Tensor:
        """Whole numbers. Shapes: x (*any); returns the same."""
        if self.stochastic and self.training:
            return stochastic_round(x, keyed_uniform(x, self.key, int(self.draws)))
        return torch.round(x)

    def update(self, matrix: Tensor) -> None:
        """Take fresh draws."""
        if self.stochastic:
            self.draws += 1

    def state(self) -> tuple[Tensor, ...]:
        """Codes of training and of evaluation differ."""
        own = super().state()
        return (*own, self.draws.new_tensor(int(self.training))) if self.stochastic else own


def need_bits(bits: int, least: int, what: str, instead: str) -> None:
    """Refuse a width that a quantizer has no codes for.

    Args:
        bits: the width.
        least: the narrowest it can be.
        what: quantizer and field.
        instead: what to do.

    Raises:
        MappingError: it is narrower.
    """
    if bits < least:
        raise MappingError(f"{what} = {bits} is too narrow: it takes {least} or more; {instead}")
