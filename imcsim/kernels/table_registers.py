"""Real-valued cells with AVX-512: float32 tables of 32 entries in two registers, five rows a group.

Lanes are vectors, as for whole levels, sixteen at a time; a vector's four planes lie in the four bytes of its
lane, and of an index only the lowest bits count, so that each plane is loaded a byte further on. Four columns
and four planes keep their sums in registers while the groups of a read are walked. Entries are in codes and
sums start from the code of zero current, so that a sum needs only to be rounded and clipped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import InstructionSet, inlined, kernel
from imcsim.kernels.simd_codes import (
    add_floats,
    add_to_int32,
    load_floats,
    look_up_floats,
    max_floats,
    min_floats,
    multiply_add_floats,
    multiply_floats,
    round_floats,
    splat_floats,
)
from imcsim.kernels.table_output import Epilogue, Target, finish_row, weigh_byte_totals

TOGETHER = 4  # columns
ENTRIES = 32
TABLE_BYTES = ENTRIES * 4
LANES = 64  # vectors of a packed block
OUTPUTS_AT_ONCE = 64  # a multiple of `TOGETHER`


class RegisterTables(NamedTuple):
    """Tables of one layer, outputs padded to blocks of four.

    Axes: g layer group, o block, q stream, r read.
    """

    entries: NDArray[np.float32]  # [g][o][q][r][row group][column][entry] flat, in codes
    starts: NDArray[np.float32]  # (streams,) code of zero current
    clips: NDArray[np.uint8]  # (g, o, streams, reads) 0: no input brings a code below 0 or above the highest
    tops: NDArray[np.float32]  # (streams,) highest code
    signs: NDArray[np.float32]  # (g, reads, streams, outputs) -1: stored flipped
    group_start: NDArray[np.int64]  # (reads + 1,)
    quad_weights: NDArray[np.float32]  # (quads, 4)
    quad_shift: NDArray[np.int64]  # (quads,)
    outputs: int  # padded to blocks of four
    streams: int


@inlined
def entry(table: Any, index: Any) -> Any:
    """One column's currents for sixteen vectors."""
    return look_up_floats(load_floats(table), load_floats(table + 64), index)


@inlined
def code(value: Any, clips: Any, top: Any) -> Any:
    """The code of a sum."""
    value = round_floats(value)
    return max_floats(min_floats(value, top), splat_floats(np.float32(0))) if clips else value


@inlined
def add_column(
    at: Any,
    shift: Any,
    sign: Any,
    clips: Any,
    top: Any,
    weights: Any,
    i: Any,
    a0: Any,
    a1: Any,
    a2: Any,
    a3: Any,
) -> Any:
    """Convert one column's sums in four planes, weigh them (whole floats, exact), add them to its totals."""
    low = multiply_floats(code(a0, clips, top), splat_floats(sign * weights[i, 0]))
    low = multiply_add_floats(code(a1, clips, top), splat_floats(sign * weights[i, 1]), low)
    high = multiply_floats(code(a2, clips, top), splat_floats(sign * weights[i, 2]))
    high = multiply_add_floats(code(a3, clips, top), splat_floats(sign * weights[i, 3]), high)
    add_to_int32(at, add_floats(low, high), shift)


@kernel
def add_read(
    tables: RegisterTables,
    g: int,
    o: int,
    q: int,
    r: int,
    table: int,
    pattern: int,
    stored: int,
    totals: int,
    column_stride: int,
) -> None:
    """Four columns of one stream, one read, one block of vectors.

    `table` is the address of the columns' tables, `pattern` of the block's patterns, with `stored` planes,
    `totals` of the block's totals, `column_stride` bytes from column to column.
    """
    start = tables.group_start[r]
    count = tables.group_start[r + 1] - start
    zero_code, top = splat_floats(tables.starts[q]), splat_floats(tables.tops[q])
    clips, weights = tables.clips[g, o, q, r] != 0, tables.quad_weights
    first = o * TOGETHER
    sign0, sign1 = tables.signs[g, r, q, first], tables.signs[g, r, q, first + 1]
    sign2, sign3 = tables.signs[g, r, q, first + 2], tables.signs[g, r, q, first + 3]
    for i in range(len(tables.quad_shift)):
        shift = tables.quad_shift[i]
        for lane in range(0, LANES, 16):
            index, at = pattern + (start * stored + 4 * i) * LANES + 4 * lane, table
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero_code
            c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = zero_code
            for _ in range(count):
                i0, i1 = load_floats(index), load_floats(index + 1)  # a byte on, the next plane is lowest
                i2, i3 = load_floats(index + 2), load_floats(index + 3)
                a0, a1 = add_floats(a0, entry(at, i0)), add_floats(a1, entry(at, i1))
                a2, a3 = add_floats(a2, entry(at, i2)), add_floats(a3, entry(at, i3))
                at += TABLE_BYTES
                b0, b1 = add_floats(b0, entry(at, i0)), add_floats(b1, entry(at, i1))
                b2, b3 = add_floats(b2, entry(at, i2)), add_floats(b3, entry(at, i3))
                at += TABLE_BYTES
                c0, c1 = add_floats(c0, entry(at, i0)), add_floats(c1, entry(at, i1))
                c2, c3 = add_floats(c2, entry(at, i2)), add_floats(c3, entry(at, i3))
                at += TABLE_BYTES
                d0, d1 = add_floats(d0, entry(at, i0)), add_floats(d1, entry(at, i1))
                d2, d3 = add_floats(d2, entry(at, i2)), add_floats(d3, entry(at, i3))
                at += TABLE_BYTES
                index += stored * LANES
            total = totals + lane * 4
            add_column(total, shift, sign0, clips, top, weights, i, a0, a1, a2, a3)
            total += column_stride
            add_column(total, shift, sign1, clips, top, weights, i, b0, b1, b2, b3)
            total += column_stride
            add_column(total, shift, sign2, clips, top, weights, i, c0, c1, c2, c3)
            total += column_stride
            add_column(total, shift, sign3, clips, top, weights, i, d0, d1, d2, d3)


@kernel
def run_registers(
    isa: InstructionSet,
    tables: RegisterTables,
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

    An item is some blocks of vectors by some outputs, one read after the other: the patterns of a read then
    stay in the second-level cache while all columns walk them.

    Shapes: patterns (layer groups, blocks, groups, planes, lanes); sums (layer groups, blocks, reads, lanes);
        the outputs flat, the one that is not wanted empty.
    """
    blocks, stored = patterns.shape[1], patterns.shape[3]
    pieces = (blocks + blocks_at_once - 1) // blocks_at_once
    most = min(tables.outputs, OUTPUTS_AT_ONCE)
    parts, all_groups = (tables.outputs + most - 1) // most, tables.group_start[-1]
    all_outputs, width = epilogue.constants.shape[2], blocks_at_once * LANES
    raw = np.empty(tables.streams * most * width * 4 + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    totals = raw[skip : skip + tables.streams * most * width * 4].view(np.int32)
    totals = totals.reshape(tables.streams, most, width)
    row = np.empty(width, np.float64)
    for item in range(first, last):
        g, rest = item // (pieces * parts), item % (pieces * parts)
        first_output, b0 = rest // pieces * most, (rest % pieces) * blocks_at_once
        b1 = min(blocks, b0 + blocks_at_once)
        beyond = min(first_output + most, tables.outputs)
        totals[:] = 0
        for r in range(len(tables.group_start) - 1):
            for o in range(first_output // TOGETHER, beyond // TOGETHER):
                for q in range(tables.streams):
                    number = ((g * (tables.outputs // TOGETHER) + o) * tables.streams + q) * all_groups
                    table = (number + tables.group_start[r]) * TOGETHER * TABLE_BYTES
                    table += tables.entries.ctypes.data
                    for b in range(b0, b1):
                        at = (q * most + o * TOGETHER - first_output) * width + (b - b0) * LANES
                        pattern = patterns.ctypes.data + (g * blocks + b) * all_groups * stored * LANES
                        at = totals.ctypes.data + at * 4
                        add_read(tables, g, o, q, r, table, pattern, stored, at, width * 4)
        first_vector = start + b0 * LANES
        last_vector = min(stop, start + b1 * LANES)
        part = row[: (b1 - b0) * LANES]
        for output in range(first_output, min(beyond, all_outputs)):
            part[:] = 0.0
            for q in range(tables.streams):
                constant, own = epilogue.constants[g, q, output], totals[q, output - first_output]
                weigh_byte_totals(own, LANES, constant, epilogue.factors[q], part)
            finish_row(
                sums[g, b0:b1], epilogue, target, g, output, first_vector, last_vector, part, out32, out64
            )
