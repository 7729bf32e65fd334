"""Real-valued cells: column currents are summed in float32 from tables in memory.

Lanes are columns, sixteen at a time; a pattern says which sixteen entries of a group's table to add. Each
vector of inputs walks the groups of a read once per quad of planes, its sums staying in registers; converted
codes are whole floats, exact, and leave as int32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import (
    InstructionSet,
    inlined,
    kernel,
    lanes_of,
    load_i64,
    load_u32,
)
from imcsim.kernels.simd_codes import (
    add_floats,
    add_to_int32,
    load_floats,
    max_floats,
    min_floats,
    multiply_add_floats,
    multiply_floats,
    round_floats,
    splat_floats,
)
from imcsim.kernels.table_output import Epilogue, Target, finish_row

COLUMNS = 16  # lanes
TABLE_BYTES = 16 * COLUMNS * 4  # sixteen entries of sixteen float32


class CurrentTables(NamedTuple):
    """Tables of one layer, outputs padded to blocks of sixteen.

    Axes: g layer group, o block, q stream, r read.
    """

    entries: NDArray[
        np.float32
    ]  # [g][o][q][r][row group][entry][column] flat; folded: in codes, else in levels
    starts: NDArray[np.float32]  # (streams, outputs) what sums start from; folded: the code of zero current
    scales: NDArray[np.float32]  # (streams, outputs) codes per level, and
    origins: NDArray[np.float32]  # (streams, outputs) the code of zero current, where they are not folded in
    clips: NDArray[np.uint8]  # (g, o, streams, reads) 0: no input brings a code below 0 or above the highest
    tops: NDArray[np.float32]  # (streams, outputs) highest code
    signs: NDArray[np.float32]  # (g, reads, streams, outputs) -1: stored flipped
    group_start: NDArray[np.int64]  # (reads + 1,)
    quad_weights: NDArray[np.float32]  # (quads, 4)
    quad_shift: NDArray[np.int64]  # (quads,)
    outputs: int  # padded to blocks of sixteen
    streams: int
    folded: bool  # the converter's constants are in the entries


@inlined
def entry(table: Any, pattern: Any, plane: Any) -> Any:
    """Sixteen columns' currents of one group: `pattern` holds a byte a plane, an entry's number times 16."""
    return load_floats(table + 4 * ((pattern >> (8 * plane)) & 255))


@inlined
def one_vector(table: Any, pattern: Any, stride: Any, count: Any, start: Any) -> Any:
    """Currents of one vector in four planes."""
    a0 = a1 = a2 = a3 = start
    for _ in range(count):
        bits = load_u32(pattern)
        a0, a1 = add_floats(a0, entry(table, bits, 0)), add_floats(a1, entry(table, bits, 1))
        a2, a3 = add_floats(a2, entry(table, bits, 2)), add_floats(a3, entry(table, bits, 3))
        table += TABLE_BYTES
        pattern += stride
    return a0, a1, a2, a3


@inlined
def two_vectors(table: Any, pattern: Any, stride: Any, count: Any, start: Any) -> Any:
    """Currents of two neighbouring vectors in four planes: enough sums in flight for AVX-512."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = start
    for _ in range(count):
        bits = load_i64(pattern)
        a0, a1 = add_floats(a0, entry(table, bits, 0)), add_floats(a1, entry(table, bits, 1))
        a2, a3 = add_floats(a2, entry(table, bits, 2)), add_floats(a3, entry(table, bits, 3))
        b0, b1 = add_floats(b0, entry(table, bits, 4)), add_floats(b1, entry(table, bits, 5))
        b2, b3 = add_floats(b2, entry(table, bits, 6)), add_floats(b3, entry(table, bits, 7))
        table += TABLE_BYTES
        pattern += stride
    return a0, a1, a2, a3, b0, b1, b2, b3


@inlined
def code(value: Any, folded: Any, clips: Any, scale: Any, origin: Any, top: Any) -> Any:
    """The code of a sum; of levels, product and sum are rounded each, as at build time."""
    if not folded:
        value = add_floats(multiply_floats(value, scale), origin)
    value = round_floats(value)
    return max_floats(min_floats(value, top), splat_floats(np.float32(0))) if clips else value


@inlined
def add_codes(
    at: Any,
    shift: Any,
    folded: Any,
    clips: Any,
    scale: Any,
    origin: Any,
    top: Any,
    w0: Any,
    w1: Any,
    w2: Any,
    w3: Any,
    a0: Any,
    a1: Any,
    a2: Any,
    a3: Any,
) -> Any:
    """Convert the currents of four planes, weigh them (whole floats, exact), add them to the totals."""
    low = multiply_floats(code(a0, folded, clips, scale, origin, top), w0)
    high = multiply_floats(code(a2, folded, clips, scale, origin, top), w2)
    low = multiply_add_floats(code(a1, folded, clips, scale, origin, top), w1, low)
    high = multiply_add_floats(code(a3, folded, clips, scale, origin, top), w3, high)
    add_to_int32(at, add_floats(low, high), shift)


@kernel
def add_read(
    isa: InstructionSet,
    tables: CurrentTables,
    g: int,
    output: int,
    q: int,
    r: int,
    table: int,
    pattern: int,
    stored: int,
    totals: int,
) -> None:
    """Sixteen columns of one stream, one read, one block of vectors.

    `table` is the address of the columns' tables, `pattern` of the block's patterns, with `stored` planes,
    `totals` of the block's totals [vector][column].
    """
    lanes = lanes_of(isa)
    start = tables.group_start[r]
    count = tables.group_start[r + 1] - start
    folded, clips = tables.folded, tables.clips[g, output // COLUMNS, q, r] != 0
    zero_code = load_floats(tables.starts[q, output:].ctypes.data)
    scale = load_floats(tables.scales[q, output:].ctypes.data)
    origin = load_floats(tables.origins[q, output:].ctypes.data)
    top = load_floats(tables.tops[q, output:].ctypes.data)
    sign = load_floats(tables.signs[g, r, q, output:].ctypes.data)
    stride = stored * lanes
    across = lanes // 16
    for i in range(len(tables.quad_shift)):
        first = pattern + (start * stored + 4 * i) * lanes
        shift = tables.quad_shift[i]
        w0 = multiply_floats(splat_floats(tables.quad_weights[i, 0]), sign)
        w1 = multiply_floats(splat_floats(tables.quad_weights[i, 1]), sign)
        w2 = multiply_floats(splat_floats(tables.quad_weights[i, 2]), sign)
        w3 = multiply_floats(splat_floats(tables.quad_weights[i, 3]), sign)
        for place in range(0, lanes, 2):  # vectors lie as `imcsim.kernels.pack.interleave` says
            piece, k = place // 4, place % 4
            at = totals + (16 * (piece % across) + 4 * (piece // across) + k) * COLUMNS * 4
            here = first + 4 * place
            if lanes == 64:
                a0, a1, a2, a3, b0, b1, b2, b3 = two_vectors(table, here, stride, count, zero_code)
                add_codes(at, shift, folded, clips, scale, origin, top, w0, w1, w2, w3, a0, a1, a2, a3)
                add_codes(
                    at + COLUMNS * 4, shift, folded, clips, scale, origin, top, w0, w1, w2, w3, b0, b1, b2, b3
                )
            else:
                for _ in range(2):
                    a0, a1, a2, a3 = one_vector(table, here, stride, count, zero_code)
                    add_codes(at, shift, folded, clips, scale, origin, top, w0, w1, w2, w3, a0, a1, a2, a3)
                    here += 4
                    at += COLUMNS * 4


@kernel
def run_currents(
    isa: InstructionSet,
    tables: CurrentTables,
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

    An item is some blocks of vectors by sixteen outputs.

    Shapes: patterns (layer groups, blocks, groups, planes, lanes); sums (layer groups, blocks, reads, lanes);
        the outputs flat, the one that is not wanted empty.
    """
    blocks, stored, lanes = patterns.shape[1], patterns.shape[3], lanes_of(isa)
    pieces = (blocks + blocks_at_once - 1) // blocks_at_once
    parts = tables.outputs // COLUMNS
    reads, all_groups = len(tables.group_start) - 1, tables.group_start[-1]
    all_outputs = epilogue.constants.shape[2]
    raw = np.empty(blocks_at_once * lanes * COLUMNS * 4 + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    totals = raw[skip : skip + blocks_at_once * lanes * COLUMNS * 4].view(np.int32)
    totals = totals.reshape(blocks_at_once * lanes, COLUMNS)
    weighed = np.empty((blocks_at_once * lanes, COLUMNS), np.float64)
    row = np.empty(blocks_at_once * lanes, np.float64)
    constants = np.empty(COLUMNS, np.int32)
    for item in range(first, last):
        g, rest = item // (pieces * parts), item % (pieces * parts)
        o, b0 = rest // pieces, (rest % pieces) * blocks_at_once
        b1 = min(blocks, b0 + blocks_at_once)
        used = min(COLUMNS, all_outputs - o * COLUMNS)
        weighed[:] = 0.0
        for q in range(tables.streams):
            totals[:] = 0
            base = (((g * parts + o) * tables.streams + q) * all_groups) * TABLE_BYTES
            for r in range(reads):
                table = tables.entries.ctypes.data + base + tables.group_start[r] * TABLE_BYTES
                for b in range(b0, b1):
                    at = totals.ctypes.data + (b - b0) * lanes * COLUMNS * 4
                    pattern = patterns.ctypes.data + (g * blocks + b) * all_groups * stored * lanes
                    add_read(isa, tables, g, o * COLUMNS, q, r, table, pattern, stored, at)
            constants[:] = 0
            for c in range(used):
                constants[c] = epilogue.constants[g, q, o * COLUMNS + c]
            factor = epilogue.factors[q]
            for n in range((b1 - b0) * lanes):
                for c in range(COLUMNS):
                    weighed[n, c] += factor * np.float64(np.int32(totals[n, c] + constants[c]))
        first_vector = start + b0 * lanes
        last_vector = min(stop, start + b1 * lanes)
        part = row[: (b1 - b0) * lanes]
        for c in range(used):
            part[:] = weighed[: len(part), c]
            output = o * COLUMNS + c
            finish_row(
                sums[g, b0:b1], epilogue, target, g, output, first_vector, last_vector, part, out32, out64
            )
