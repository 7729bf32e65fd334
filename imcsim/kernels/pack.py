"""Packing: bytes of input codes become patterns, one a group of rows, plane and vector.

Patterns lie as ``[layer group][block of vectors][group of rows][plane][lane]``, a register each. A block's
codes are first laid out with vectors side by side, ``[part][row][lane]``: by a byte transposition for
matrices, by copying row segments of the image for convolutions. The same few vector operations then pick the
bits of all its vectors at once.
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
    splat_u8,
    store,
    transpose16,
    unpack_high_i16,
    unpack_high_u8,
    unpack_low_i16,
    unpack_low_u8,
)
from imcsim.kernels.table_plan import Groups, Planes

SPILL = 16  # bytes beyond a segment that copying may read and write


class Layout(NamedTuple):
    """`Planes` and `Groups` of `imcsim.kernels.table_plan` as arrays."""

    rows: NDArray[np.int64]  # (groups, places) row of each place, -1: empty
    reads: NDArray[np.int64]  # (reads, 2) range of rows of each read
    part: NDArray[np.int64]  # (planes,) where each plane's digit sits
    shift: NDArray[np.int64]
    mask: NDArray[np.int64]
    weight: NDArray[np.int64]
    whole_bytes: bool  # a code is the sum of its bytes
    digit_bits: int  # bits of a row in a pattern, with the sign
    magnitude_bits: int  # without it
    sign_part: int  # the part that holds signs, or -1
    quad_plane: NDArray[np.int64]  # (quads,) first plane of each
    merged: int  # blocks of vectors whose planes lie side by side in `patterns`
    place: int  # left shift of a pattern
    by_vector: bool  # for float tables: a vector's four planes side by side
    paired: bool  # a code is the pulses of two word lines, a bit each


class Segments(NamedTuple):
    """Where a convolution's patches lie in the padded image; strides in bytes."""

    tap: NDArray[np.int64]  # (rows,) offset of each row's tap from the corner of a patch
    image: int
    line: int  # from an output line to the next
    part: int
    group: int
    height: int  # of the output
    width: int


@inlined
def interleave(isa: Any, planes: Any, lanes: Any, target: Any) -> Any:
    """Four planes of a block to four bytes a vector.

    Vector ``16 j + 4 i + k`` comes at ``4 (i lanes / 16 + j) + k``.
    """
    p0, p1 = load(isa, planes), load(isa, planes + lanes)
    p2, p3 = load(isa, planes + 2 * lanes), load(isa, planes + 3 * lanes)
    low01, high01 = unpack_low_u8(p0, p1), unpack_high_u8(p0, p1)
    low23, high23 = unpack_low_u8(p2, p3), unpack_high_u8(p2, p3)
    store(target, unpack_low_i16(low01, low23))
    store(target + lanes, unpack_high_i16(low01, low23))
    store(target + 2 * lanes, unpack_low_i16(high01, high23))
    store(target + 3 * lanes, unpack_high_i16(high01, high23))


@kernel
def emit_patterns(
    isa: InstructionSet, layout: Layout, codes: NDArray[np.uint8], first_plane: int, out: NDArray[np.uint8]
) -> None:
    """Pick the digits of one block; its planes are `first_plane` and the next of `out`.

    Shapes: codes (parts, rows, lanes and spill); out (groups, planes, lanes), or by vector (groups, quads x
        4, lanes) where each quad's bytes are [vector][plane], vectors in the order of `interleave`.
    """
    stride, part_stride, lanes = codes.shape[2], codes.shape[1] * codes.shape[2], out.shape[2]
    source, target = codes.ctypes.data, out.ctypes.data
    places = layout.rows.shape[1]
    one = splat_u8(isa, 1)
    own = np.zeros((max(4, len(layout.part)), lanes), np.uint8)
    for group in range(layout.rows.shape[0]):
        for plane in range(len(layout.part)):
            pattern = splat_u8(isa, 0)
            mask = splat_u8(isa, layout.mask[plane])
            base = source + layout.part[plane] * part_stride
            for j in range(places):
                row = layout.rows[group, j]
                if row >= 0:
                    digit = shift_right_u16(load(isa, base + row * stride), layout.shift[plane])
                    digit = and_bits(digit, mask)
                    if layout.sign_part >= 0:
                        sign = and_bits(
                            load(isa, source + layout.sign_part * part_stride + row * stride), one
                        )
                        digit = or_bits(digit, shift_left_i16(sign, layout.magnitude_bits))
                    pattern = or_bits(pattern, shift_left_i16(digit, j * layout.digit_bits + layout.place))
            if layout.by_vector:
                store(own.ctypes.data + plane * lanes, pattern)
            else:
                store(target + (group * out.shape[1] + first_plane + plane) * lanes, pattern)
        if layout.by_vector:
            for i in range(len(layout.quad_plane)):
                planes = own.ctypes.data + layout.quad_plane[i] * lanes
                interleave(isa, planes, lanes, target + (group * out.shape[1] + 4 * i) * lanes)


@kernel
def sum_codes(layout: Layout, codes: NDArray[np.uint8], sums: NDArray[np.int32]) -> None:
    """Sums of one block's codes, as they are sent, over the rows of each read.

    Shapes: codes (parts, rows, lanes and spill); sums (reads, lanes).
    """
    lanes = sums.shape[1]
    pieces = layout.part.max() + 1 if layout.whole_bytes else len(layout.part)
    for r in range(layout.reads.shape[0]):
        start, stop = layout.reads[r, 0], layout.reads[r, 1]
        line = sums[r]
        line[:] = 0
        for row in range(start, stop):
            for i in range(pieces):
                if layout.paired:
                    bits = codes[i, row]
                    for lane in range(lanes):
                        line[lane] += (np.int32(bits[lane]) & 1) + (np.int32(bits[lane]) >> 1)
                    continue
                if layout.whole_bytes:
                    bits = codes[i, row]
                    for lane in range(lanes):
                        line[lane] += np.int32(bits[lane]) << (8 * i)
                    continue
                bits = codes[layout.part[i], row]
                shift, mask, weight = (
                    np.int32(layout.shift[i]),
                    np.int32(layout.mask[i]),
                    np.int32(layout.weight[i]),
                )
                if layout.sign_part < 0:
                    for lane in range(lanes):
                        line[lane] += ((np.int32(bits[lane]) >> shift) & mask) * weight
                else:
                    sign = codes[layout.sign_part, row]
                    for lane in range(lanes):
                        digit = ((np.int32(bits[lane]) >> shift) & mask) * weight
                        line[lane] += digit * (1 - 2 * np.int32(sign[lane]))


@kernel
def pack_matrix(
    isa: InstructionSet,
    layout: Layout,
    parts: NDArray[np.uint8],
    first: int,
    last: int,
    patterns: NDArray[np.uint8],
    sums: NDArray[np.int32],
) -> None:
    """Pack blocks `first` to `last` of matrices; block b of layer group g is number ``g blocks + b``.

    Shapes: parts (parts, layer groups, vectors, rows), vectors and rows padded to whole blocks and to
        multiples of 16; patterns (layer groups, blocks / merged, groups, planes, lanes); sums (layer groups,
        blocks, reads, lanes), no reads: not wanted.
    """
    lanes, blocks, merged = patterns.shape[4], sums.shape[1], layout.merged
    rows = parts.shape[3]
    codes = np.zeros((parts.shape[0], rows, lanes + SPILL), np.uint8)
    for item in range(first, last):
        g, b = item // blocks, item % blocks
        for p in range(parts.shape[0]):
            source = parts.ctypes.data + ((p * parts.shape[1] + g) * parts.shape[2] + b * lanes) * rows
            for lane in range(0, lanes, 16):
                for row in range(0, rows, 16):
                    target = codes.ctypes.data + (p * rows + row) * (lanes + SPILL) + lane
                    transpose16(source + lane * rows + row, rows, target, lanes + SPILL)
        emit_patterns(isa, layout, codes, b % merged * len(layout.part), patterns[g, b // merged])
        if sums.shape[2]:
            sum_codes(layout, codes, sums[g, b])


@kernel
def pack_patches(
    isa: InstructionSet,
    layout: Layout,
    segments: Segments,
    image: NDArray[np.uint8],
    start: int,
    stop: int,
    first: int,
    last: int,
    patterns: NDArray[np.uint8],
    sums: NDArray[np.int32],
) -> None:
    """Pack blocks `first` to `last` of the output pixels `start` to `stop`, counted over the images.

    Shapes: image: bytes of all parts; patterns and sums as for `pack_matrix`.
    """
    lanes, blocks, merged = patterns.shape[4], sums.shape[1], layout.merged
    rows, parts = len(segments.tap), len(image) // segments.part
    stride = lanes + SPILL
    codes = np.zeros((parts, rows, stride), np.uint8)
    corner, lane_of, length = np.empty(lanes, np.int64), np.empty(lanes, np.int64), np.empty(lanes, np.int64)
    for item in range(first, last):
        g, b = item // blocks, item % blocks
        pixel, lane, pieces = start + b * lanes, 0, 0
        while lane < lanes and pixel < stop:
            x = pixel % segments.width
            line = pixel // segments.width
            y, n = line % segments.height, line // segments.height
            run = min(segments.width - x, lanes - lane, stop - pixel)
            corner[pieces] = n * segments.image + y * segments.line + x + g * segments.group
            lane_of[pieces], length[pieces] = lane, run
            pieces, lane, pixel = pieces + 1, lane + run, pixel + run
        for p in range(parts):
            source = image.ctypes.data + p * segments.part
            for row in range(rows):
                target = codes.ctypes.data + (p * rows + row) * stride
                tap = source + segments.tap[row]
                for i in range(pieces):
                    for done in range(0, length[i], 16):
                        copy16(tap + corner[i] + done, target + lane_of[i] + done)
        emit_patterns(isa, layout, codes, b % merged * len(layout.part), patterns[g, b // merged])
        if sums.shape[2]:
            sum_codes(layout, codes, sums[g, b])


def layout_arrays(
    planes: Planes, groups: Groups, reads: tuple[tuple[int, int], ...], place: int | None
) -> Layout:
    """`Planes` and `Groups` in the form that the kernels take.

    Args:
        planes: where digits sit.
        groups: which rows go together.
        reads: ranges of rows driven together.
        place: for float tables: left shift of a pattern; None: byte tables.

    Returns:
        The arrays.
    """
    train = planes.train
    magnitude = planes.digit_bits - planes.signed
    return Layout(
        groups.rows,
        np.array(reads, np.int64),
        np.array(planes.part, np.int64),
        np.array(planes.shift, np.int64),
        np.array(planes.mask, np.int64),
        np.array(train.weights, np.int64),
        not (planes.signed or planes.by_digit or train.sign_cycle),
        planes.digit_bits,
        magnitude,
        planes.parts if planes.signed else -1,
        np.array([q[0] for q in planes.quads], np.int64),
        planes.merged(place is not None),
        place or 0,
        place is not None,
        paired=False,
    )


def paired(layout: Layout) -> Layout | None:
    """The layout that packs one code for each pair of complementary word lines: bit 0 drives the first.

    The patterns are the same as from a code for each line, at half the work.

    Args:
        layout: of the lines one by one.

    Returns:
        The layout, or None where a group of rows would cut a pair apart.
    """
    if layout.digit_bits != 1 or layout.rows.shape[1] % 2 or (layout.reads % 2).any():
        return None
    rows = np.ascontiguousarray(layout.rows[:, ::2]) // 2
    mask, reads = np.full_like(layout.mask, 3), layout.reads // 2
    return layout._replace(rows=rows, reads=reads, mask=mask, digit_bits=2, magnitude_bits=2, paired=True)
