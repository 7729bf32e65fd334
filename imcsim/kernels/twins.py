"""The table kernels again, in NumPy: what the tests hold the kernels to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.pack import Layout
from imcsim.kernels.table_adc import float_codes
from imcsim.kernels.table_currents import COLUMNS, CurrentTables
from imcsim.kernels.table_levels import (
    AFFINE,
    BYTE,
    BYTE_TABLE,
    CHUNK,
    LIST,
    MODE,
    OFFSET,
    SIGN,
    LevelTables,
)
from imcsim.kernels.table_output import Epilogue
from imcsim.kernels.table_registers import ENTRIES, TOGETHER, RegisterTables


def patterns_of(parts: NDArray[np.uint8], layout: Layout) -> NDArray[np.int64]:
    """What `emit_patterns` picks.

    Shapes: parts (parts, vectors, rows); returns (groups, planes, vectors).

    Args:
        parts: bytes of the input codes.
        layout: where digits sit and which rows go together.

    Returns:
        The patterns.
    """
    groups, places = layout.rows.shape
    out = np.zeros((groups, len(layout.part), parts.shape[1]), np.int64)
    for group in range(groups):
        for plane, (part, shift, mask) in enumerate(zip(layout.part, layout.shift, layout.mask, strict=True)):
            for j in range(places):
                row = layout.rows[group, j]
                if row >= 0:
                    digit = (parts[part, :, row].astype(np.int64) >> shift) & mask
                    if layout.sign_part >= 0:
                        digit |= parts[layout.sign_part, :, row].astype(np.int64) << layout.magnitude_bits
                    out[group, plane] |= digit << (j * layout.digit_bits)
    return out


def entries_of(cells: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """All sums that a group of rows can add to a column.

    Shapes: cells (groups, places, columns); returns (groups, patterns, columns).

    Args:
        cells: levels.
        values: what each value of a row's bits drives.

    Returns:
        The sums.
    """
    places, base = cells.shape[1], len(values)
    out = np.zeros((cells.shape[0], base**places, cells.shape[2]))
    for pattern in range(base**places):
        for j in range(places):
            out[:, pattern] += values[pattern // base**j % base] * cells[:, j]
    return out


def unpacked(tables: LevelTables) -> NDArray[np.int64]:
    """Entries by index. Shapes: returns (layer groups, blocks, pairs, row groups, 2, entries)."""
    layer_groups, blocks, reads, pairs, _ = tables.pairs.shape
    starts = tables.group_start
    width = tables.entries.size // (layer_groups * blocks * pairs * starts[-1] * 2)
    out = np.zeros((layer_groups, blocks, pairs, starts[-1], 2, width), np.int64)
    flat = tables.entries.reshape(layer_groups, blocks, -1)
    at = 0
    for r in range(reads):
        count = starts[r + 1] - starts[r]
        size = pairs * count * 2 * width
        own = flat[:, :, at : at + size].reshape(layer_groups, blocks, pairs, count, 2, width)
        out[:, :, :, starts[r] : starts[r + 1]] = own
        at += size
    return out


def level_totals(
    tables: LevelTables, patterns: NDArray[np.int64], weights: tuple[int, ...], clips: bool
) -> NDArray[np.int64]:
    """Totals of `run_levels`, one conversion after the other.

    Shapes: patterns (layer groups, row groups, planes, vectors); returns (layer groups, streams, padded
        outputs, vectors).

    Args:
        tables: from the builder.
        patterns: packed inputs.
        weights: of the planes.
        clips: byte tables hold the ends of a clip, not codes.

    Returns:
        The totals.
    """
    layer_groups, blocks, reads, pairs, _ = tables.pairs.shape
    entries = unpacked(tables)
    out = np.zeros((layer_groups, tables.streams, blocks * tables.outputs, patterns.shape[3]), np.int64)
    for g, o, r, p, side in np.ndindex(layer_groups, blocks, reads, pairs, 2):
        q, first = divmod(2 * p, tables.outputs)
        pair = tables.pairs[g, o, r, p]
        own = range(tables.group_start[r], tables.group_start[r + 1])
        for plane, weight in enumerate(weights):
            looked_up = np.stack([entries[g, o, p, group, side][patterns[g, group, plane]] for group in own])
            for start in range(0, len(own), pair[CHUNK]):
                if looked_up[start : start + pair[CHUNK]].sum(0).max() > 255:
                    raise OverflowError("a byte sum would wrap")
            code = _codes(tables, pair, side, q, looked_up.sum(0), clips)
            out[g, q, o * tables.outputs + first + side] += weight * pair[SIGN + side] * code
    return out


def _codes(
    tables: LevelTables, pair: NDArray[np.int64], side: int, q: int, sums: NDArray[np.int64], clips: bool
) -> NDArray[np.int64]:
    if pair[MODE] == BYTE:
        table = tables.byte_tables.reshape(-1)[pair[BYTE_TABLE + side] :][:256].astype(np.int64)
        return np.clip(sums, table[0], table[1]) if clips else table[sums]
    levels = sums + pair[OFFSET + side]
    if pair[MODE] == AFFINE:
        levels = float_codes(levels, tables.scales[q, 0], tables.scales[q, 1], tables.origins[q]).astype(
            np.int64
        )
    elif pair[MODE] == LIST:
        levels = tables.lists[tables.list_start[q] + levels].astype(np.int64)
    return np.clip(levels, 0, tables.tops[q])


def current_totals(
    tables: CurrentTables, patterns: NDArray[np.int64], weights: tuple[int, ...]
) -> NDArray[np.int64]:
    """Totals of `run_currents`, groups summed in the same order.

    Shapes: patterns (layer groups, row groups, planes, vectors); returns (layer groups, streams, padded
        outputs, vectors).

    Args:
        tables: from the builder.
        patterns: packed inputs.
        weights: of the planes.

    Returns:
        The totals.
    """
    layer_groups, reads = tables.signs.shape[:2]
    shape = (layer_groups, tables.outputs // COLUMNS, tables.streams, tables.group_start[-1], 16, COLUMNS)
    entries = tables.entries.reshape(shape)
    out = np.zeros((layer_groups, tables.streams, tables.outputs, patterns.shape[3]), np.int64)
    for g, o, q, r in np.ndindex(layer_groups, shape[1], tables.streams, reads):
        columns = slice(o * COLUMNS, (o + 1) * COLUMNS)
        for plane, weight in enumerate(weights):
            current = np.tile(tables.starts[q, columns], (patterns.shape[3], 1))
            for group in range(tables.group_start[r], tables.group_start[r + 1]):
                current += entries[g, o, q, group][patterns[g, group, plane]]
            if not tables.folded:
                current = current * tables.scales[q, columns] + tables.origins[q, columns]
            code = np.rint(current)
            code = np.clip(code, 0, tables.tops[q, columns]) * tables.signs[g, r, q, columns]
            out[g, q, columns] += weight * code.T.astype(np.int64)
    return out


def register_totals(
    tables: RegisterTables, patterns: NDArray[np.int64], weights: tuple[int, ...]
) -> NDArray[np.int64]:
    """Totals of `run_registers`, groups summed in the same order.

    Shapes: patterns (layer groups, row groups, planes, vectors); returns (layer groups, streams, padded
        outputs, vectors).

    Args:
        tables: from the builder.
        patterns: packed inputs.
        weights: of the planes.

    Returns:
        The totals.
    """
    layer_groups, reads = tables.signs.shape[:2]
    blocks, groups = tables.outputs // TOGETHER, tables.group_start[-1]
    entries = tables.entries.reshape(layer_groups, blocks, tables.streams, groups, TOGETHER, ENTRIES)
    out = np.zeros((layer_groups, tables.streams, tables.outputs, patterns.shape[3]), np.int64)
    for g, o, q, r, c in np.ndindex(layer_groups, blocks, tables.streams, reads, TOGETHER):
        column = o * TOGETHER + c
        for plane, weight in enumerate(weights):
            current = np.full(patterns.shape[3], tables.starts[q], np.float32)
            for group in range(tables.group_start[r], tables.group_start[r + 1]):
                current += entries[g, o, q, group, c][patterns[g, group, plane]]
            code = np.clip(np.rint(current), 0, tables.tops[q]) * tables.signs[g, r, q, column]
            out[g, q, column] += weight * code.astype(np.int64)
    return out


def outputs_of(totals: NDArray[np.int64], epilogue: Epilogue, sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """What `finish_row` writes.

    Shapes: totals (layer groups, streams, padded outputs, vectors); sums (reads, layer groups, vectors) of
        the codes sent; returns (layer groups, vectors, outputs).

    Args:
        totals: of the streams.
        epilogue: what to do to them.
        sums: for the corrections.

    Returns:
        The outputs, float64.
    """
    outputs = epilogue.constants.shape[2]
    out = np.zeros((totals.shape[0], outputs, totals.shape[3]))
    for q, factor in enumerate(epilogue.factors):
        out += factor * (totals[:, q, :outputs] + epilogue.constants[:, q, :, None])
    if epilogue.compensation.size:
        out *= epilogue.compensation[:, :, None]
    for r in range(len(epilogue.coefficients)):
        out += epilogue.coefficients[r][:, :, None] * sums[r][:, None]
    if epilogue.offset.size:
        out += epilogue.offset[:, :, None]
    if epilogue.scale.size:
        out *= epilogue.scale[:, :, None]
    if epilogue.bias.size:
        out += epilogue.bias[:, :, None]
    return np.moveaxis(out, 1, 2)
