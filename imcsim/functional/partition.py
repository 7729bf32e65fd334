"""Rows of a weight matrix on arrays, and arrays on reads."""

from __future__ import annotations

from itertools import pairwise


def row_blocks(inputs: int, rows: int, how: str) -> tuple[tuple[int, int], ...]:
    """Cut the inputs of a layer into the row blocks of its arrays.

    fill: 300 inputs on 128 rows are 128 + 128 + 44. even: ``n = ceil(inputs / rows)`` blocks, the first
        ``inputs mod n`` of
    ``ceil(inputs / n)`` rows, the rest of ``floor(inputs / n)``.

    Args:
        inputs: rows of the weight matrix.
        rows: rows of one array.
        how: fill or even.

    Returns:
        (start, stop) of each block.
    """
    count = -(-inputs // rows)
    if how == "even":
        small, larger = divmod(inputs, count)
        edges = [0]
        for block in range(count):
            edges.append(edges[-1] + small + (block < larger))
    else:
        edges = [*range(0, inputs, rows), inputs]
    return tuple(pairwise(edges))


def split_reads(
    arrays: tuple[tuple[int, int], ...], active: int
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Cut each array's rows into the groups that are driven together.

    Args:
        arrays: row ranges of the arrays.
        active: rows driven at a time.

    Returns:
        (start, stop) of each read, and the index of the array that each belongs to.
    """
    reads = [
        (first, min(first + active, stop), index)
        for index, (start, stop) in enumerate(arrays)
        for first in range(start, stop, active)
    ]
    return tuple((start, stop) for start, stop, _ in reads), tuple(index for *_, index in reads)
