"""Ideal cells: column currents are integers, looked up as bytes by one shuffle instruction.

Lanes are vectors. A group's table is stored minus its minimum, so that sums are never negative, and byte sums
are widened before they can pass 255 (the chunk of a pair): nothing wraps. Sums that stay in a byte are
converted there (`BYTE`), others as int16. Cells are exact, and the constants of a converter are checked at
build time for every level that can occur, so codes are exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import (
    InstructionSet,
    add_i16,
    add_i32,
    add_u8,
    index_bits,
    inlined,
    kernel,
    lanes_of,
    load,
    load_table,
    look_up,
    max_i16,
    min_i16,
    multiply_add_i16,
    multiply_add_u8,
    shift_left_i32,
    splat_i16,
    splat_i32,
    splat_u8,
    store,
    unpack_high_i16,
    unpack_high_u8,
    unpack_low_i16,
    unpack_low_u8,
)
from imcsim.kernels.simd_codes import (
    affine_codes,
    byte_codes,
)
from imcsim.kernels.table_output import Epilogue, Target, finish_row, weigh_byte_totals

BYTE, CLIP, AFFINE, LIST = 0, 1, 2, 3  # how levels become codes: `LevelTables.modes`


MODE, CHUNK, OFFSET, SIGN, BYTE_TABLE, FIELDS = (
    0,
    1,
    2,
    4,
    6,
    8,
)  # fields of a pair; the last three for each of its columns
PLANE, SHIFT, BYTE_WEIGHTS, WORD_WEIGHTS, QUAD_FIELDS = (
    0,
    1,
    2,
    4,
    8,
)  # fields of a quad; weights are packed two by two


class LevelTables(NamedTuple):
    """Tables of one layer, columns two by two.

    Outputs are cut into blocks of `outputs`; a pair is two neighbouring outputs of one stream, number
    ``stream outputs / 2 + i``.
    Axes: g layer group, o block of outputs, r read, p pair. Fields of a pair: its mode, the row groups whose
    sum stays in a byte, then for each of its columns the sum of the minima (for CLIP plus the converter's
    origin), the sign (-1: stored flipped), and where its 256 bytes in `byte_tables` begin. Fields of a quad:
    first plane, shift, weights as pairs of bytes, as pairs of int16, as pairs of negated int16.
    """

    entries: NDArray[np.uint8]  # [g][o][r][p][row group][2][entry] flat; an entry minus the group's minimum
    pairs: NDArray[np.int64]  # (g, o, r, p, FIELDS)
    byte_tables: NDArray[
        np.uint8
    ]  # (distinct, 256) codes of byte sums (AVX-512 VBMI) or their clip (bytes 0 and 1)
    lists: NDArray[np.int16]  # codes of all levels of a stream, one stream after the other
    list_start: NDArray[np.int64]  # (streams,) where level 0 is in `lists`
    scales: NDArray[np.float32]  # (streams, 2) codes per level: the nearest float, and what it lacks
    origins: NDArray[np.float32]  # (streams,)
    tops: NDArray[np.int64]  # (streams,) highest code
    group_start: NDArray[np.int64]  # (reads + 1,)
    quads: NDArray[np.int64]  # (quads, QUAD_FIELDS)
    outputs: int  # of a block, even
    streams: int
    merged: int  # blocks of vectors whose planes lie in one quad: 4 of one plane, 2 of two, else 1


@inlined
def group_sums(isa: Any, index: Any, stride: Any, table: Any, first: Any, last: Any) -> Any:
    """Byte sums of groups `first` to `last` for two columns (a, b) in four planes.

    `index` is the address of the read's patterns in the quad's first plane, `stride` the bytes from group to
    group, `table` the address of the pair's tables.
    """
    lanes, width = lanes_of(isa), 1 << index_bits(isa)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat_u8(isa, 0)
    at = index + first * stride
    tables = table + first * 2 * width
    for _ in range(first, last):
        ta, tb = load_table(isa, tables), load_table(isa, tables + width)
        pattern = load(isa, at)
        a0, b0 = add_u8(a0, look_up(isa, ta, pattern)), add_u8(b0, look_up(isa, tb, pattern))
        pattern = load(isa, at + lanes)
        a1, b1 = add_u8(a1, look_up(isa, ta, pattern)), add_u8(b1, look_up(isa, tb, pattern))
        pattern = load(isa, at + 2 * lanes)
        a2, b2 = add_u8(a2, look_up(isa, ta, pattern)), add_u8(b2, look_up(isa, tb, pattern))
        pattern = load(isa, at + 3 * lanes)
        a3, b3 = add_u8(a3, look_up(isa, ta, pattern)), add_u8(b3, look_up(isa, tb, pattern))
        at += stride
        tables += 2 * width
    return a0, a1, a2, a3, b0, b1, b2, b3


@inlined
def add_totals(isa: Any, at: Any, p0: Any, p1: Any, p2: Any, p3: Any) -> Any:
    """Add four registers of int32 to memory, in the order that `weigh_byte_totals` undoes."""
    size = lanes_of(isa)
    store(at, add_i32(load(isa, at), p0))
    store(at + size, add_i32(load(isa, at + size), p1))
    store(at + 2 * size, add_i32(load(isa, at + 2 * size), p2))
    store(at + 3 * size, add_i32(load(isa, at + 3 * size), p3))


@inlined
def add_pairs(isa: Any, at: Any, low: Any, high: Any, factors: Any) -> Any:
    """Add int16 sums of vectors, low and high half of each 16, times a factor to totals."""
    zero = splat_u8(isa, 0)
    add_totals(
        isa,
        at,
        multiply_add_i16(unpack_low_i16(low, zero), factors),
        multiply_add_i16(unpack_high_i16(low, zero), factors),
        multiply_add_i16(unpack_low_i16(high, zero), factors),
        multiply_add_i16(unpack_high_i16(high, zero), factors),
    )


@inlined
def add_two(isa: Any, at: Any, c0: Any, c1: Any, weights: Any, factors: Any) -> Any:
    """Weigh byte codes of two planes, add them to totals."""
    low = multiply_add_u8(unpack_low_u8(c0, c1), weights)
    high = multiply_add_u8(unpack_high_u8(c0, c1), weights)
    add_pairs(isa, at, low, high, factors)


@inlined
def add_bytes(
    isa: Any,
    merged: Any,
    at: Any,
    table: Any,
    w01: Any,
    w23: Any,
    factor: Any,
    s0: Any,
    s1: Any,
    s2: Any,
    s3: Any,
) -> Any:
    """Convert one column's byte sums in four planes, weigh them, add them to its totals."""
    c0, c1 = byte_codes(isa, s0, table), byte_codes(isa, s1, table)
    c2, c3 = byte_codes(isa, s2, table), byte_codes(isa, s3, table)
    first, second = splat_i16(isa, w01), splat_i16(isa, w23)
    factors, block = splat_i32(isa, factor & 0xFFFF), 4 * lanes_of(isa)
    if merged == 1:
        low = multiply_add_u8(unpack_low_u8(c0, c1), first)
        high = multiply_add_u8(unpack_high_u8(c0, c1), first)
        low = add_i16(low, multiply_add_u8(unpack_low_u8(c2, c3), second))
        high = add_i16(high, multiply_add_u8(unpack_high_u8(c2, c3), second))
        add_pairs(isa, at, low, high, factors)
    elif merged == 2:
        add_two(isa, at, c0, c1, first, factors)
        add_two(isa, at + block, c2, c3, second, factors)
    else:
        zero = splat_u8(isa, 0)
        add_two(isa, at, c0, zero, first, factors)
        add_two(isa, at + block, c1, zero, first, factors)
        add_two(isa, at + 2 * block, c2, zero, first, factors)
        add_two(isa, at + 3 * block, c3, zero, first, factors)


@inlined
def widen(isa: Any, at: Any, sums: Any) -> Any:
    """Add byte sums to int16 levels in memory: low half, then high half."""
    lanes, zero = lanes_of(isa), splat_u8(isa, 0)
    store(at, add_i16(load(isa, at), unpack_low_u8(sums, zero)))
    store(at + lanes, add_i16(load(isa, at + lanes), unpack_high_u8(sums, zero)))


@inlined
def add_two_words(isa: Any, at: Any, c0: Any, c1: Any, weights: Any) -> Any:
    """Weigh int16 codes of two planes, add them to totals."""
    lanes = lanes_of(isa)
    store(at, add_i32(load(isa, at), multiply_add_i16(unpack_low_i16(c0, c1), weights)))
    store(at + lanes, add_i32(load(isa, at + lanes), multiply_add_i16(unpack_high_i16(c0, c1), weights)))


@kernel
def add_words(
    isa: InstructionSet,
    merged: int,
    at: int,
    levels: int,
    clip: bool,
    scale: float,
    remainder: float,
    origin: float,
    top: int,
    w01: int,
    w23: int,
    shift: int,
) -> None:
    """Convert one column's int16 levels (at address `levels`) in four planes, weigh and add them."""
    lanes = lanes_of(isa)
    first, second = splat_i32(isa, w01), splat_i32(isa, w23)
    lowest, highest = splat_i16(isa, 0), splat_i16(isa, top)
    for half in range(2):
        own = levels + half * lanes
        c0, c1 = load(isa, own), load(isa, own + 2 * lanes)
        c2, c3 = load(isa, own + 4 * lanes), load(isa, own + 6 * lanes)
        if not clip:
            c0, c1 = affine_codes(c0, scale, remainder, origin), affine_codes(c1, scale, remainder, origin)
            c2, c3 = affine_codes(c2, scale, remainder, origin), affine_codes(c3, scale, remainder, origin)
        c0, c1 = max_i16(min_i16(c0, highest), lowest), max_i16(min_i16(c1, highest), lowest)
        c2, c3 = max_i16(min_i16(c2, highest), lowest), max_i16(min_i16(c3, highest), lowest)
        here = at + 2 * half * lanes
        if merged == 1:
            low = multiply_add_i16(unpack_low_i16(c0, c1), first)
            high = multiply_add_i16(unpack_high_i16(c0, c1), first)
            low = add_i32(low, multiply_add_i16(unpack_low_i16(c2, c3), second))
            high = add_i32(high, multiply_add_i16(unpack_high_i16(c2, c3), second))
            store(here, add_i32(load(isa, here), shift_left_i32(low, shift)))
            store(here + lanes, add_i32(load(isa, here + lanes), shift_left_i32(high, shift)))
        elif merged == 2:
            add_two_words(isa, here, c0, c1, first)
            add_two_words(isa, here + 4 * lanes, c2, c3, second)
        else:
            zero = splat_u8(isa, 0)
            add_two_words(isa, here, c0, zero, first)
            add_two_words(isa, here + 4 * lanes, c1, zero, first)
            add_two_words(isa, here + 8 * lanes, c2, zero, first)
            add_two_words(isa, here + 12 * lanes, c3, zero, first)


@kernel
def add_read(
    isa: InstructionSet,
    tables: LevelTables,
    g: int,
    o: int,
    r: int,
    pattern: int,
    stored: int,
    totals: int,
    column_stride: int,
    levels: NDArray[np.int16],
) -> None:
    """All columns of one block of outputs, one read, one block of vectors.

    `pattern` is the address of the block's patterns, with `stored` planes; `totals` of its int32 totals,
    `column_stride` bytes from column to column; `levels` is a scratch of 8 registers for each of two columns.
    """
    start, count = tables.group_start[r], tables.group_start[r + 1] - tables.group_start[r]
    lanes, width = lanes_of(isa), 1 << index_bits(isa)
    half = tables.outputs // 2
    pairs = tables.streams * half
    all_groups = tables.group_start[-1]
    first_table = ((g * tables.pairs.shape[1] + o) * all_groups + start) * pairs * 2 * width
    table, byte_tables = tables.entries.ctypes.data + first_table, tables.byte_tables.ctypes.data
    wide, merged = int(levels.ctypes.data), tables.merged
    pair, quads = tables.pairs[g, o, r], tables.quads
    for p in range(pairs):
        mode, q = pair[p, MODE], p // half
        total_a = totals + 2 * p * column_stride
        total_b = total_a + column_stride
        for i in range(quads.shape[0]):
            index = pattern + (start * stored + quads[i, PLANE]) * lanes
            shift = quads[i, SHIFT]
            if mode == BYTE:
                a0, a1, a2, a3, b0, b1, b2, b3 = group_sums(isa, index, stored * lanes, table, 0, count)
                w01, w23 = quads[i, BYTE_WEIGHTS], quads[i, BYTE_WEIGHTS + 1]
                codes, factor = byte_tables + pair[p, BYTE_TABLE], pair[p, SIGN] << shift
                add_bytes(isa, merged, total_a, codes, w01, w23, factor, a0, a1, a2, a3)
                codes, factor = byte_tables + pair[p, BYTE_TABLE + 1], pair[p, SIGN + 1] << shift
                add_bytes(isa, merged, total_b, codes, w01, w23, factor, b0, b1, b2, b3)
                continue
            for j in range(16):
                store(wide + j * lanes, splat_i16(isa, pair[p, OFFSET + j // 8]))
            chunk = pair[p, CHUNK]
            for first in range(0, count, chunk):
                last = min(first + chunk, count)
                a0, a1, a2, a3, b0, b1, b2, b3 = group_sums(isa, index, stored * lanes, table, first, last)
                widen(isa, wide, a0)
                widen(isa, wide + 2 * lanes, a1)
                widen(isa, wide + 4 * lanes, a2)
                widen(isa, wide + 6 * lanes, a3)
                widen(isa, wide + 8 * lanes, b0)
                widen(isa, wide + 10 * lanes, b1)
                widen(isa, wide + 12 * lanes, b2)
                widen(isa, wide + 14 * lanes, b3)
            if mode == LIST:
                base = tables.list_start[q]
                for j in range(8 * lanes):
                    levels[j] = tables.lists[base + levels[j]]
            clip, top = mode != AFFINE, tables.tops[q]
            scale, remainder, origin = tables.scales[q, 0], tables.scales[q, 1], tables.origins[q]
            at = WORD_WEIGHTS + (1 - pair[p, SIGN])  # 0 or 2 further
            add_words(
                isa,
                merged,
                total_a,
                wide,
                clip,
                scale,
                remainder,
                origin,
                top,
                quads[i, at],
                quads[i, at + 1],
                shift,
            )
            at = WORD_WEIGHTS + (1 - pair[p, SIGN + 1])
            wide_b = wide + 8 * lanes
            add_words(
                isa,
                merged,
                total_b,
                wide_b,
                clip,
                scale,
                remainder,
                origin,
                top,
                quads[i, at],
                quads[i, at + 1],
                shift,
            )
        table += count * 2 * width


@kernel
def run_levels(
    isa: InstructionSet,
    tables: LevelTables,
    epilogue: Epilogue,
    target: Target,
    patterns: NDArray[np.uint8],
    sums: NDArray[np.int32],
    start: int,
    stop: int,
    blocks_at_once: int,
    first: int,
    last: int,
    out32: NDArray[np.float32],
    out64: NDArray[np.float64],
) -> None:
    """Do items `first` to `last` of the work on vectors `start` to `stop`.

    An item is some blocks of vectors by a block of outputs.

    Shapes: patterns (layer groups, blocks, groups, planes, lanes); sums (layer groups, blocks, reads, lanes);
        the outputs flat, the one that is not wanted empty.
    """
    blocks, stored, lanes = patterns.shape[1], patterns.shape[3], lanes_of(isa)
    vectors = tables.merged * lanes  # of a block
    pieces = (blocks + blocks_at_once - 1) // blocks_at_once
    parts = tables.pairs.shape[1]
    columns = tables.streams * tables.outputs
    raw = np.empty((columns * blocks_at_once * 4 * tables.merged + 16) * lanes + 64, np.uint8)
    skip = -raw.ctypes.data % 64  # registers should not lie across two cache lines
    levels = raw[skip : skip + 16 * lanes].view(np.int16)
    totals = raw[skip + 16 * lanes :][: columns * blocks_at_once * vectors * 4].view(np.int32)
    totals = totals.reshape(columns, blocks_at_once * vectors)
    row = np.empty(blocks_at_once * vectors, np.float64)
    all_outputs = epilogue.constants.shape[2]
    for item in range(first, last):
        g, rest = item // (pieces * parts), item % (pieces * parts)
        o, b0 = rest // pieces, (rest % pieces) * blocks_at_once
        b1 = min(blocks, b0 + blocks_at_once)
        totals[:] = 0
        for r in range(len(tables.group_start) - 1):
            for b in range(b0, b1):
                at = totals.ctypes.data + (b - b0) * vectors * 4
                pattern = patterns[g, b].ctypes.data
                add_read(isa, tables, g, o, r, pattern, stored, at, totals.shape[1] * 4, levels)
        first_vector = start + b0 * vectors
        last_vector = min(stop, start + b1 * vectors)
        own_sums = sums[g, b0 * tables.merged : b1 * tables.merged]
        used = row[: (b1 - b0) * vectors]
        for c in range(min(tables.outputs, all_outputs - o * tables.outputs)):
            output = o * tables.outputs + c
            used[:] = 0.0
            for q in range(tables.streams):
                constant = epilogue.constants[g, q, output]
                weigh_byte_totals(totals[q * tables.outputs + c], lanes, constant, epilogue.factors[q], used)
            finish_row(own_sums, epilogue, target, g, output, first_vector, last_vector, used, out32, out64)
