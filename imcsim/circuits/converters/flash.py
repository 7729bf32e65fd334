"""Comparators side by side: flash converters and sense amplifiers, on even and uneven references."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def ladder_error(resistors: Tensor) -> Tensor:
    """Error of the taps of a resistor string: ``n sum_{i<k} R_i / sum_i R_i - k``.

    Shapes: resistors (converters, n), in nominal ones; returns (converters, n - 1), LSB.
    """
    n = resistors.shape[1]
    sums = resistors.cumsum(1)
    taps = torch.arange(1, n, dtype=resistors.dtype)
    return n * sums[:, :-1] / sums[:, -1:] - taps


def parallel_levels(references: Tensor, offsets: Tensor | None) -> Tensor:
    """Decision levels of comparators with offsets, whose outputs are counted.

    Counting turns a comparator out of order into one that decides later: the k-th code begins at the k-th of
    the sorted levels, and the transfer ascends.

    Shapes: references (converters or 1, comparators); offsets (converters, comparators); returns (converters,
        comparators).
    Units: LSB.

    Args:
        references: nominal levels.
        offsets: added to each; None: none.

    Returns:
        The levels, ascending.
    """
    return references if offsets is None else (references + offsets).sort(dim=1).values


def middle_values(references: tuple[float, ...]) -> tuple[float, ...]:
    """What codes stand for where nothing else is said: 0, the middles between references, 1 (fractions)."""
    return (0.0, *((a + b) / 2 for a, b in pairwise(references)), 1.0)


def logarithmic(codes: int, base: float, *, bipolar: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Values that are powers of a base, and the references between them.

    Unipolar: 0 and ``base^-(codes - 2 - k)``, k from 0 to codes - 2. Bipolar: the same on both sides of zero,
    ``codes`` rounded down to an odd number. Values are told apart at their geometric means, the smallest from
    zero half a step below it.

    Args:
        codes: how many, 2 or more (3 bipolar).
        base: ratio of neighbouring values, above 1.
        bipolar: zero lies in the middle of the range.

    Returns:
        References and values, fractions of the range.

    References: D. Miyashita, E. H. Lee, B. Murmann, "Convolutional neural networks using logarithmic data
        representation", arXiv:1603.01025, 2016.
    """
    steps = (codes - 1) // 2 if bipolar else codes - 1
    values = [base ** -float(steps - 1 - k) for k in range(steps)]
    references = [value / base**0.5 for value in values]
    if not bipolar:
        return tuple(references), (0.0, *values)
    below = [0.5 - r / 2 for r in reversed(references)], [0.5 - v / 2 for v in reversed(values)]
    above = [0.5 + r / 2 for r in references], [0.5 + v / 2 for v in values]
    return (*below[0], *above[0]), (*below[1], 0.5, *above[1])
