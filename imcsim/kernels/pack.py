"""Packing: bytes of input codes become patterns, one a group of rows, plane and vector.

Patterns lie as ``[block of vectors][group][plane][lane]``, a register each. A block's codes are first laid out with vectors side by
side, ``[row][lane]``, by a byte transposition for matrices and by copying row segments of the image for convolutions; the same
few vector operations then pick the bits of all its vectors at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import (
    InstructionSet,
    and_bits,
    copy16,
    inlined,
    kernel,
    load,
    or_bits,
    shift_left_i16,
    shift_right_u16,
    splat_i16,
    splat_u8,
    store,
    transpose16,
)

SPILL = 16  # bytes that copying a segment may write beyond it


class Layout(NamedTuple):
    """`Planes` and `Groups` as arrays (see `imcsim.kernels.table_plan`)."""

    rows: NDArray[np.int64]  # (groups, rows per group)
    part: NDArray[np.int64]  # (planes,)
    shift: NDArray[np.int64]
    mask: NDArray[np.int64]
    digit_bits: int
    magnitude_bits: int  # bits of a digit without its sign
    sign_part: int  # -1: no sign
    place: int  # left shift of the whole pattern: 0 for byte tables, 4 for float tables


class Segments(NamedTuple):
    """Where the convolution's patches lie in the padded image; all in bytes."""

    tap: NDArray[np.int64]  # (rows,) offset of each row's tap from the patch's corner
    image: int  # stride of an image
    line: int  # stride of an output line
    part: int
    group: int
    height: int  # output size
    width: int


@inlined
def _emit(isa: InstructionSet, layout: Layout, codes: int, stride: int, part_stride: int, out: int) -> None:
    """One block: bits of ``codes[part][row][lane]`` to ``out[group][plane][lane]``. Row `rows` of each part is zero."""
    count, places = layout.rows.shape
    stored = max(4, len(layout.part))
    one = splat_u8(isa, 1)
    for group in range(count):
        for plane in range(len(layout.part)):
            pattern = splat_u8(isa, 0)
            mask = splat_u8(isa, layout.mask[plane])
            base = codes + layout.part[plane] * part_stride
            for j in range(places):
                row = layout.rows[group, j]
                if row >= 0:
                    digit = shift_right_u16(load(isa, base + row * stride), layout.shift[plane])
                    digit = and_bits(digit, mask)
                    if layout.sign_part >= 0:
                        sign = and_bits(load(isa, codes + layout.sign_part * part_stride + row * stride), one)
                        digit = or_bits(digit, shift_left_i16(sign, layout.magnitude_bits))
                    pattern = or_bits(pattern, shift_left_i16(digit, j * layout.digit_bits + layout.place))
            store(out + (group * stored + plane) * isa_lanes(isa), pattern)
