"""Build float32 tables of real-valued cells, for look-ups in memory or in registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imcsim.functional.adc import Converter
from imcsim.functional.mvm import Columns
from imcsim.kernels.table_adc import Constants, constants
from imcsim.kernels.table_currents import COLUMNS, CurrentTables
from imcsim.kernels.table_entries import float_entries
from imcsim.kernels.table_plan import Groups, Planes, aligned
from imcsim.kernels.table_registers import ENTRIES, TOGETHER, RegisterTables

FOLDED_TOP = 1023
"""Codes so high still leave float32 sums in codes, counted from 0, precise to 1e-4 of a code."""


def build_currents(
    columns: Columns,
    cells: NDArray[np.float64],
    per_level: int | None,
    converters: tuple[Converter, ...],
    planes: Planes,
    groups: Groups,
) -> tuple[CurrentTables, NDArray[np.int64]] | None:
    """Tabulate cells as float32.

    Shapes: cells (layer groups, streams, inputs, outputs).

    Args:
        columns: how they are read.
        cells: their levels, with any baseline.
        per_level: cells are multiples of ``1 / per_level`` and codes must be exact; None: real numbers.
        converters: one a stream.
        planes: where digits sit.
        groups: which rows go together.

    Returns:
        The arrays for the kernel and the constant that the totals of each (layer group, stream, output) lack;
        None where no float32 constants reproduce a converter on whole levels.
    """
    layer_groups, streams, _, outputs = cells.shape
    padded = -(-outputs // COLUMNS) * COLUMNS
    parts, start = padded // COLUMNS, groups.start
    values = planes.drives
    shape = (layer_groups, parts, streams, len(groups.rows), 16, COLUMNS)
    entries = aligned(shape, np.float32)
    found = [_float_constants(cells[:, q], columns, c, per_level, values) for q, c in enumerate(converters)]
    if not all(c.exact for c in found):
        return None
    folded = per_level is None and max(c.top for c in converters) <= FOLDED_TOP
    for g in range(layer_groups):
        for q in range(streams):
            own = np.zeros((cells.shape[2] + 1, padded))
            own[:-1, :outputs] = (
                cells[g, q] * (converters[q].num / converters[q].den) if folded else cells[g, q]
            )
            for o in range(parts):
                here = np.ascontiguousarray(own[:, o * COLUMNS : (o + 1) * COLUMNS][groups.rows])
                float_entries(here, values, entries[g, o, q])
    signs, missing = _signs(columns, converters, planes, padded)

    def per_column(of_stream: list[np.float32]) -> NDArray[np.float32]:
        return np.repeat(np.array(of_stream, np.float32)[:, None], padded, axis=1)

    quads = planes.quads
    arrays = CurrentTables(
        entries.reshape(-1),
        per_column([c.origin if folded else np.float32(0) for c in found]),
        per_column([c.scale for c in found]),
        per_column([c.origin for c in found]),
        _clips(entries, start, found, folded),
        per_column([np.float32(c.top) for c in found]),
        signs,
        start,
        np.array([q[1] for q in quads], np.float32),
        np.array([q[2] for q in quads], np.int64),
        padded,
        streams,
        folded,
    )
    return arrays, missing


def build_registers(
    columns: Columns,
    cells: NDArray[np.float64],
    converters: tuple[Converter, ...],
    planes: Planes,
    groups: Groups,
) -> tuple[RegisterTables, NDArray[np.int64]]:
    """Tabulate real-valued cells for look-ups in registers.

    Shapes: cells (layer groups, streams, inputs, outputs).

    Args:
        columns: how they are read.
        cells: their levels, with any baseline.
        converters: one a stream, of at most `FOLDED_TOP` + 1 codes.
        planes: where digits sit.
        groups: which rows go together.

    Returns:
        The arrays for the kernel and the constant that the totals of each (layer group, stream, output) lack.
    """
    layer_groups, streams, inputs, outputs = cells.shape
    padded = -(-outputs // TOGETHER) * TOGETHER
    shape = (layer_groups, padded // TOGETHER, streams, len(groups.rows), TOGETHER, ENTRIES)
    entries = aligned(shape, np.float32)
    scratch = np.zeros((len(groups.rows), ENTRIES, padded), np.float32)
    for g in range(layer_groups):
        for q in range(streams):
            own = np.zeros((inputs + 1, padded))
            own[:-1, :outputs] = cells[g, q] * (converters[q].num / converters[q].den)
            float_entries(np.ascontiguousarray(own[groups.rows]), planes.drives, scratch)
            split = scratch.reshape(len(groups.rows), ENTRIES, -1, TOGETHER)
            entries[g, :, q] = split.transpose(2, 0, 3, 1)
    found = [_float_constants(cells[:, q], columns, c, None, planes.drives) for q, c in enumerate(converters)]
    signs, missing = _signs(columns, converters, planes, padded)
    quads = planes.quads
    arrays = RegisterTables(
        entries.reshape(-1),
        np.array([c.origin for c in found], np.float32),
        _clips(entries.swapaxes(4, 5), groups.start, found, folded=True),
        np.array([c.top for c in found], np.float32),
        signs,
        groups.start,
        np.array([q[1] for q in quads], np.float32),
        np.array([q[2] for q in quads], np.int64),
        padded,
        streams,
    )
    return arrays, missing


def _signs(
    columns: Columns, converters: tuple[Converter, ...], planes: Planes, padded: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Flips as signs, and what totals of absolute codes lack.

    Shapes: returns (layer groups, reads, streams, padded), (layer groups, streams, outputs).
    """
    layer_groups, streams, _, outputs = columns.cells.shape
    flips = np.ones((len(columns.reads), layer_groups, streams, outputs), np.float32)
    if columns.flip is not None:
        flips[:] = columns.flip.cpu().numpy()
    signs = np.zeros((layer_groups, len(columns.reads), streams, padded), np.float32)
    signs[..., :outputs] = np.moveaxis(flips, 1, 0)
    zeros = np.array([c.zero for c in converters], np.int64)
    return signs, -sum(planes.train.weights) * zeros[:, None] * flips.astype(np.int64).sum(0)


def _clips(
    entries: NDArray[np.float32], start: NDArray[np.int64], found: list[Constants], folded: bool
) -> NDArray[np.uint8]:
    """Where a sum can leave the codes. Shapes: returns (layer groups, blocks, streams, reads)."""
    if not folded:
        return np.ones((*entries.shape[:3], len(start) - 1), np.uint8)
    low = np.add.reduceat(entries.min(axis=4), start[:-1], axis=3).min(-1)
    high = np.add.reduceat(entries.max(axis=4), start[:-1], axis=3).max(-1)
    origins = np.array([c.origin for c in found])[:, None]
    tops = np.array([c.top for c in found])[:, None]
    return ((low + origins < -0.499) | (high + origins > tops + 0.499)).astype(np.uint8)


def _float_constants(
    cells: NDArray[np.float64],
    columns: Columns,
    converter: Converter,
    per_level: int | None,
    values: NDArray[np.float64],
) -> Constants:
    """Constants for one stream, in codes per level; for whole levels checked over those that can occur."""
    if per_level is None:
        scale, origin = np.float32(converter.num / converter.den), np.float32(converter.origin)
        if converter.ties_up:  # a current of exactly zero is a tie where zero is midway between two codes
            origin += np.spacing(np.float32(max(1.0, converter.top)))
        return Constants(scale, np.float32(0), origin, converter.top, identity=False, exact=True)
    low = high = 0.0
    for first, last in columns.reads:
        own = cells[:, first:last]
        positive, negative = own.clip(min=0).sum(1), own.clip(max=0).sum(1)
        high = max(high, float((positive * values.max() + negative * values.min()).max(initial=0)))
        low = min(low, float((negative * values.max() + positive * values.min()).min(initial=0)))
    found = constants(converter, per_level, round(low * per_level), round(high * per_level))
    alone = found.exact and found.remainder == 0  # this kernel has no remainder
    return replace(found, scale=np.float32(found.scale * per_level), exact=alone)
