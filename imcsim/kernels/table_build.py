"""Build tables: arrange cells by groups of rows and blocks of outputs, tabulate, choose how to convert."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imcsim.functional.adc import Converter
from imcsim.functional.mvm import Columns
from imcsim.kernels.simd import InstructionSet
from imcsim.kernels.table_adc import INT16_MAX, Constants, codes_of, constants
from imcsim.kernels.table_entries import byte_entries, chunk_sizes
from imcsim.kernels.table_levels import (
    AFFINE,
    BYTE,
    BYTE_TABLE,
    CHUNK,
    CLIP,
    FIELDS,
    LIST,
    MODE,
    OFFSET,
    SIGN,
    LevelTables,
)
from imcsim.kernels.table_plan import Groups, Planes, aligned, merged_weights

COLUMNS_AT_ONCE = 256  # streams x outputs whose tables for one read stay in the second-level cache


@dataclass(frozen=True)
class Blocks:
    """How the outputs of a layer are cut into blocks, padded to whole ones.

    Attributes:
        outputs: of the layer (of one group of it).
        block: outputs in a block.
        streams: columns an output.
    """

    outputs: int
    block: int
    streams: int

    @property
    def count(self) -> int:
        """Blocks."""
        return -(-self.outputs // self.block)

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Cut the last axes (streams, outputs) into blocks.

        Shapes: values (*any, streams, outputs); returns (blocks, *any, streams x block).
        """
        pad = self.count * self.block - self.outputs
        padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, pad)])
        split = padded.reshape(*values.shape[:-1], self.count, self.block)
        return np.moveaxis(split, -2, 0).reshape(self.count, *values.shape[:-2], self.streams * self.block)


def blocks(outputs: int, streams: int, multiple: int) -> Blocks:
    """Blocks of about equal size, each a multiple of `multiple`, whose tables fit in the cache.

    Args:
        outputs: of the layer.
        streams: columns an output.
        multiple: of outputs that a kernel handles at once.

    Returns:
        The cut.
    """
    most = max(multiple, COLUMNS_AT_ONCE // streams // multiple * multiple)
    parts = -(-outputs // most)
    block = -(-outputs // parts)
    return Blocks(outputs, -(-block // multiple) * multiple, streams)


def signs_of(columns: Columns, cut: Blocks) -> NDArray[np.int64]:
    """Flips as signs.

    Shapes: returns (layer groups, blocks, reads, streams x block).
    """
    groups, streams, _, outputs = columns.cells.shape
    if columns.flip is None:
        flat = np.ones((len(columns.reads), groups, streams, outputs), np.int64)
    else:
        flat = columns.flip.cpu().numpy().astype(np.int64)
    by_block: NDArray[np.int64] = cut.arrange(flat)  # (blocks, reads, groups, columns)
    return np.moveaxis(by_block, 2, 0)


def quad_fields(planes: Planes) -> NDArray[np.int64]:
    """Quads as the byte kernel reads them (see `LevelTables`)."""

    def packed(low: int, high: int, bits: int) -> int:
        mask = (1 << bits) - 1
        return (low & mask) | ((high & mask) << bits)

    rows = []
    for first, weights, shift in planes.quads:
        w = merged_weights(weights, planes.merged(by_vector=False))
        row = [first, shift, packed(w[0], w[1], 8), packed(w[2], w[3], 8)]
        row += [packed(s * w[i], s * w[i + 1], 16) for s in (1, -1) for i in (0, 2)]
        rows.append(row)
    return np.array(rows, np.int64)


class LevelBuilder:
    """Tabulates integer cells; `tables` is None where a group's entries do not fit in a byte."""

    def __init__(
        self,
        isa: InstructionSet,
        columns: Columns,
        cells: NDArray[np.float64],
        per_level: int,
        converters: tuple[Converter, ...],
        planes: Planes,
        groups: Groups,
    ) -> None:
        self.isa, self.columns, self.converters = isa, columns, converters
        self.planes, self.groups, self.per_level = planes, groups, per_level
        layer_groups, streams, _, outputs = cells.shape
        self.cut = blocks(outputs, streams, 2)
        self.shape = (layer_groups, self.cut.count, len(columns.reads), streams * self.cut.block // 2, 2)
        self.fits = self._tabulate(np.rint(cells * per_level).astype(np.int16))

    @property
    def stream_of(self) -> NDArray[np.int64]:
        """(columns,) stream of each column of a block."""
        return np.repeat(np.arange(self.cut.streams), self.cut.block)

    def _tabulate(self, cells: NDArray[np.int16]) -> bool:
        """Fill entries, offsets, highs and chunks; False where an entry does not fit."""
        layer_groups, parts, reads, pairs, _ = self.shape
        start, rows = self.groups.start, self.groups.rows
        width = 1 << self.isa.index_bits
        self.entries = aligned((layer_groups * parts * len(rows) * pairs * 2 * width,), np.uint8)
        self.offsets = np.zeros(self.shape, np.int64)
        self.highs = np.zeros(self.shape, np.int64)
        self.chunks = np.zeros(self.shape[:-1], np.int64)
        at = 0
        for g in range(layer_groups):
            with_empty = np.concatenate([cells[g], np.zeros_like(cells[g, :, :1])], axis=1)
            placed = self.cut.arrange(
                np.moveaxis(with_empty[:, rows], 0, 2)
            )  # (blocks, groups, places, columns)
            for o in range(parts):
                for r in range(reads):
                    here = np.ascontiguousarray(placed[o, start[r] : start[r + 1]])
                    count = len(here)
                    out = self.entries[at : at + pairs * count * 2 * width].reshape(pairs, count, 2, width)
                    minima, spans = (np.zeros((count, pairs * 2), np.int64) for _ in range(2))
                    byte_entries(here, self.planes.digit_values, width, out, minima, spans)
                    if spans.max(initial=0) > 255:
                        return False
                    chunk_sizes(spans.reshape(count, pairs, 2), self.chunks[g, o, r])
                    self.offsets[g, o, r] = minima.sum(0).reshape(pairs, 2)
                    self.highs[g, o, r] = self.offsets[g, o, r] + spans.sum(0).reshape(pairs, 2)
                    at += out.size
        return bool(max(-self.offsets.min(), self.highs.max()) < INT16_MAX)

    @cached_property
    def constants(self) -> list[Constants]:
        """Of each stream, over the levels that can occur in it."""
        out = []
        for q, converter in enumerate(self.converters):
            low, high = self._range(q)
            out.append(constants(converter, self.per_level, low, high))
        return out

    def _pairs_of(self, q: int) -> slice:
        half = self.cut.block // 2
        return slice(q * half, (q + 1) * half)

    def _range(self, q: int) -> tuple[int, int]:
        own = self._pairs_of(q)
        return int(self.offsets[..., own, :].min()), int(self.highs[..., own, :].max())

    def _byte_tables(self, q: int, known: list[NDArray[np.uint8]]) -> tuple[NDArray[Any], ...]:
        """Which columns of stream `q` fit in bytes, their rows of the byte tables, the code of byte 0."""
        own = self._pairs_of(q)
        offsets, spans = self.offsets[..., own, :], self.highs[..., own, :] - self.offsets[..., own, :]
        if self.isa.index_bits == 6:
            low, high = self._range(q)
            codes = codes_of(np.arange(low, high + 256), self.converters[q], self.per_level)
            base = codes[offsets - low]
            fits = codes[offsets + spans - low] - base <= 255
            distinct, rows = np.unique(offsets, return_inverse=True)
            table = codes[(distinct - low)[:, None] + np.arange(256)] - codes[distinct - low, None]
        else:
            own_constants = self.constants[q]
            base = offsets + int(own_constants.origin)
            fits = own_constants.identity & (base >= -255) & (base <= own_constants.top)
            distinct, rows = np.unique(base, return_inverse=True)
            table = np.zeros((len(distinct), 256), np.int64)
            table[:, 0], table[:, 1] = -distinct, own_constants.top - distinct
        row = rows.reshape(offsets.shape) + sum(len(t) for t in known)
        known.append(np.clip(table, 0, 255).astype(np.uint8))
        return np.asarray(fits & (spans <= 255)), np.asarray(row), base

    def tables(self) -> tuple[LevelTables, NDArray[np.int64]]:
        """The arrays for the kernel, and what the totals of each (layer group, stream, output) lack."""
        quads = self.planes.quads
        small = all(
            max(map(abs, w)) <= 127 and sum(map(abs, w)) * 255 <= INT16_MAX and shift <= 14
            for _, w, shift in quads
        )
        counts = np.diff(self.groups.start)[None, None, :, None]
        modes = np.full(self.shape[:-1], CLIP, np.int8)
        byte_rows, bases = np.zeros(self.shape, np.int64), np.zeros(self.shape, np.int64)
        tables: list[NDArray[np.uint8]] = []
        lists: list[NDArray[np.int16]] = []
        list_start: list[int] = []
        for q, converter in enumerate(self.converters):
            own, low, high = self._pairs_of(q), *self._range(q)
            fits, rows, base = self._byte_tables(q, tables)
            as_bytes = small & fits.all(-1) & (self.chunks[..., own] >= counts)
            byte_rows[..., own, :], bases[..., own, :] = rows, np.where(as_bytes[..., None], base, 0)
            modes[..., own] = np.where(as_bytes, BYTE, self._word_mode(q))
            list_start.append(sum(len(x) for x in lists) - low)
            lists.append(codes_of(np.arange(low, high + 1), converter, self.per_level).astype(np.int16))
        origins = np.array([c.origin for c in self.constants], np.float32)
        shifted = self.offsets + np.repeat(origins.astype(np.int64), self.cut.block // 2)[:, None]
        signs = signs_of(self.columns, self.cut).reshape(self.shape)
        pairs = np.zeros((*self.shape[:-1], FIELDS), np.int64)
        pairs[..., MODE], pairs[..., CHUNK] = modes, self.chunks
        pairs[..., OFFSET : OFFSET + 2] = np.where((modes == CLIP)[..., None], shifted, self.offsets)
        pairs[..., SIGN : SIGN + 2] = signs
        pairs[..., BYTE_TABLE : BYTE_TABLE + 2] = byte_rows * 256
        arrays = LevelTables(
            self.entries,
            pairs,
            np.concatenate(tables),
            np.concatenate(lists),
            np.array(list_start, np.int64),
            np.array([(c.scale, c.remainder) for c in self.constants], np.float32),
            origins,
            np.array([c.top for c in self.constants], np.int64),
            self.groups.start,
            quad_fields(self.planes),
            self.cut.block,
            self.cut.streams,
            self.planes.merged(by_vector=False),
        )
        zeros = np.array([c.zero for c in self.converters])[self.stream_of].reshape(-1, 2)
        missing = (sum(self.planes.train.weights) * signs * (bases - zeros)).sum(2)
        return arrays, self.outputs_of(missing)

    def _word_mode(self, q: int) -> int:
        own, (low, high) = self.constants[q], self._range(q)
        if own.identity:
            origin = int(own.origin)
            return CLIP if max(abs(low + origin), abs(high + origin)) < INT16_MAX else LIST
        slope = float(own.scale) * max(abs(low), abs(high)) + abs(float(own.origin))
        return AFFINE if own.exact and slope < INT16_MAX else LIST

    def outputs_of(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """(layer groups, blocks, pairs, 2) to (layer groups, streams, outputs)."""
        layer_groups, parts = values.shape[:2]
        split = values.reshape(layer_groups, parts, self.cut.streams, self.cut.block)
        joined = np.moveaxis(split, 1, 2).reshape(layer_groups, self.cut.streams, parts * self.cut.block)
        return np.ascontiguousarray(joined[..., : self.cut.outputs])
