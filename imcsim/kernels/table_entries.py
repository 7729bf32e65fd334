"""Tabulate: every sum that a group of rows can add to a column, and how many groups a byte holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import kernel


@kernel
def byte_entries(
    cells: NDArray[np.int16],
    values: NDArray[np.int16],
    width: int,
    entries: NDArray[np.uint8],
    minima: NDArray[np.int64],
    spans: NDArray[np.int64],
) -> None:
    """Tables of one read of one layer group.

    Shapes: cells (row groups, places, columns), columns ordered block of outputs, pair, side; values: the
        digit that each value of a row's bits stands for; entries (pairs, row groups, 2, entry); minima and
        spans (row groups, columns).
    """
    sums = np.zeros(width, np.int64)
    digits, places = len(values), cells.shape[1]
    for column in range(cells.shape[2]):
        for group in range(cells.shape[0]):
            known = 1
            sums[0] = 0
            for j in range(places):
                cell = np.int64(cells[group, j, column])
                for d in range(1, digits):
                    for i in range(known):
                        sums[d * known + i] = sums[i] + values[d] * cell
                known *= digits
            lowest, highest = sums[:known].min(), sums[:known].max()
            minima[group, column], spans[group, column] = lowest, highest - lowest
            for i in range(known):
                entries[column // 2, group, column % 2, i] = sums[i] - lowest


@kernel
def chunk_sizes(spans: NDArray[np.int64], chunks: NDArray[np.int64]) -> None:
    """The longest chunks, equal but for the last, whose byte sums cannot pass 255 in either column of a pair.

    Shapes: spans (row groups, pairs, 2); chunks (pairs,).
    """
    count = spans.shape[0]
    for p in range(spans.shape[1]):
        pieces = 1
        while True:
            size = (count + pieces - 1) // pieces
            worst = 0
            for first in range(0, count, size):
                for side in range(2):
                    worst = max(worst, spans[first : first + size, p, side].sum())
            if worst <= 255 or size == 1:
                break
            pieces += 1
        chunks[p] = size


@kernel
def float_entries(
    cells: NDArray[np.float64], values: NDArray[np.float64], entries: NDArray[np.float32]
) -> None:
    """Tables of one stream of sixteen outputs; summed in float64.

    Shapes: cells (row groups, places, 16); values: what each value of a row's bits drives; entries (row
        groups, 16, 16).
    """
    columns = cells.shape[2]
    sums = np.zeros((entries.shape[1], columns), np.float64)
    for group in range(cells.shape[0]):
        known = 1
        for j in range(cells.shape[1]):
            for d in range(1, len(values)):
                for i in range(known):
                    for c in range(columns):
                        sums[d * known + i, c] = sums[i, c] + values[d] * cells[group, j, c]
            known *= len(values)
        for i in range(known):
            for c in range(columns):
                entries[group, i, c] = sums[i, c]
