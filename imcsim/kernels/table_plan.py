"""How pulses become look-up patterns: the layout that the packers, the tables and the kernels share.

Rows that are driven together are taken a few at a time, a *group*. In one input cycle the digits of a group
form a *pattern*, a number below 64 (or 16 with AVX2); the current that the group adds to a column is looked
up by its pattern. A *plane* is one input cycle; planes are handled four at a time, a *quad*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imcsim.functional.dac import PulseTrain

CACHE_LINE = 64
QUAD = 4  # planes whose sums a kernel keeps in registers at once


def aligned(shape: tuple[int, ...], dtype: type[np.generic], blank: bool = True) -> NDArray[Any]:
    """An array that starts at a cache line, so that no register's worth of it lies across two.

    Args:
        shape: of the array.
        dtype: of its elements.
        blank: fill it with zeros.

    Returns:
        The array.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = (np.zeros if blank else np.empty)(
        size + 2 * CACHE_LINE, np.uint8
    )  # registers may be read beyond it
    skip = -raw.ctypes.data % CACHE_LINE
    return raw[skip : skip + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Planes:
    """Where each cycle's digit sits in the bytes of an input code, and what it weighs.

    Attributes:
        train: the pulses.
        part: the byte of the code (see `byte_parts`) that holds each cycle's digit.
        shift: its position in that byte.
        mask: its bits, after the shift.
        parts: bytes of a code, without the sign.
        by_digit: digits cross bytes, so that each has a byte of its own.
    """

    train: PulseTrain
    part: tuple[int, ...]
    shift: tuple[int, ...]
    mask: tuple[int, ...]
    parts: int
    by_digit: bool

    @property
    def signed(self) -> bool:
        """Whether a row's digit carries a sign bit."""
        return self.train.polarity

    @property
    def digit_bits(self) -> int:
        """Bits that one row takes in a pattern."""
        return self.train.bits_per_cycle + self.signed

    def stored(self, by_vector: bool) -> int:
        """Planes in packed patterns: the cycles, at least a quad; for float tables whole quads."""
        return QUAD * len(self.quads) if by_vector else max(QUAD, len(self.train.weights))

    @cached_property
    def digit_values(self) -> NDArray[np.int16]:
        """The digit that each value of a row's bits stands for."""
        code = np.arange(1 << self.digit_bits)
        magnitude = code & self.train.digit_max
        negative = self.signed & (code > self.train.digit_max)
        return np.where(negative, -magnitude, magnitude).astype(np.int16)

    def merged(self, by_vector: bool) -> int:
        """Blocks of vectors that share a quad where there are one or two cycles only."""
        cycles = len(self.train.weights)
        return 1 if by_vector or cycles > 2 else QUAD // cycles

    @property
    def drives(self) -> NDArray[np.float64]:
        """What each value of a row's bits drives, in digits."""
        digit = self.digit_values.astype(np.float64)
        if self.train.drive is None:
            return digit
        return np.array(self.train.drive)[np.abs(self.digit_values)] * np.sign(digit)

    @cached_property
    def quads(self) -> list[tuple[int, tuple[int, ...], int]]:
        """First plane, four weights and shift of each quad.

        A plane's weight is ``weight << shift`` in one of the quads that hold it, 0 in the others.
        """
        weights, out = self.train.weights, []
        for first in range(0, len(weights), QUAD):
            start = max(0, min(first, len(weights) - QUAD))
            own = [weights[i] if first <= i < len(weights) else 0 for i in range(start, start + QUAD)]
            shift = min((w & -w).bit_length() - 1 for w in own if w)
            out.append((start, tuple(w >> shift for w in own), shift))
        return out


def planes(train: PulseTrain) -> Planes:
    """Lay out the cycles of `train`.

    Args:
        train: the pulses; not accumulated in analog.

    Returns:
        Where each digit is found.
    """
    bits, magnitude = train.bits_per_cycle, train.magnitude_bits
    at = list(range(0, magnitude, bits))
    width = [min(bits, magnitude - b) for b in at]
    if train.sign_cycle:
        at, width = [*at, magnitude], [*width, 1]
    mask = tuple((1 << w) - 1 for w in width)
    if any(b // 8 != (b + w - 1) // 8 for b, w in zip(at, width, strict=True)):
        count = len(at)
        return Planes(train, tuple(range(count)), (0,) * count, mask, count, by_digit=True)
    part, shift = tuple(b // 8 for b in at), tuple(b % 8 for b in at)
    return Planes(train, part, shift, mask, max(part) + 1, by_digit=False)


def byte_parts(x_int: Tensor, layout: Planes) -> Tensor:
    """Input codes as bytes that hold their digits; for signed pulses a last byte tells the sign.

    Shapes: x_int (*any); returns (parts, *any) uint8, with one part more for signed pulses.

    Args:
        x_int: integer codes.
        layout: from `planes`.

    Returns:
        The bytes, least significant first.
    """
    train = layout.train
    if layout.parts == 1 and not train.sign_cycle:  # digits within a byte
        if not train.polarity:
            return (x_int + train.shift if train.shift else x_int).to(torch.uint8).unsqueeze(0)
        out = torch.empty(2, *x_int.shape, dtype=torch.uint8)
        out[0], out[1] = x_int.abs(), x_int < 0
        return out
    code = x_int.to(torch.int32) + train.shift
    value = code.abs() if train.polarity else code
    if layout.by_digit:
        at = [*range(0, train.magnitude_bits, train.bits_per_cycle)]
        at = [*at, train.magnitude_bits] if train.sign_cycle else at
        pieces = [(value >> b) & m for b, m in zip(at, layout.mask, strict=True)]
    else:
        pieces = [(value >> (8 * i)) & 255 for i in range(layout.parts)]
    if train.polarity:
        pieces.append((code < 0).to(torch.int32))
    return torch.stack(pieces).to(torch.uint8)


@dataclass(frozen=True)
class Groups:
    """Which rows form each group.

    Attributes:
        start: (reads + 1,) first group of each read.
        rows: (groups, rows per group) the row of each place, or -1 for an empty one.
    """

    start: NDArray[np.int64]
    rows: NDArray[np.int64]


def groups(reads: tuple[tuple[int, int], ...], rows_per_group: int) -> Groups:
    """Cut each read into groups of rows, the last one filled with empty places.

    Args:
        reads: ranges of rows driven together.
        rows_per_group: places in a group.

    Returns:
        The groups.
    """
    start, rows = [0], []
    for first, last in reads:
        count = -(-(last - first) // rows_per_group)
        row = np.arange(first, first + count * rows_per_group)
        rows.append(np.where(row < last, row, -1))
        start.append(start[-1] + count)
    return Groups(
        np.array(start, np.int64), np.concatenate(rows).astype(np.int64).reshape(-1, rows_per_group)
    )


def merged_weights(weights: tuple[int, ...], merged: int) -> tuple[int, ...]:
    """A quad's four weights where `merged` blocks share it: each pair of planes as one block weighs it.

    Args:
        weights: of the planes of one block, 0 beyond its cycles.
        merged: blocks that share the quad.

    Returns:
        The same weights (1), those of two planes twice (2), or that of one plane and a zero twice (4).
    """
    return {1: weights, 2: weights[:2] * 2, 4: (weights[0], 0) * 2}[merged]
