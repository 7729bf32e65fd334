"""Rows on arrays and arrays on reads: every row once, no array too long."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.partition import row_blocks, split_reads


@given(st.integers(1, 5000), st.integers(1, 600), st.sampled_from(["fill", "even"]))
def test_every_row_once_in_as_few_arrays_as_can_be(inputs: int, rows: int, how: str) -> None:
    blocks = row_blocks(inputs, rows, how)
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(inputs))
    assert len(blocks) == math.ceil(inputs / rows)
    sizes = [stop - start for start, stop in blocks]
    assert max(sizes) <= rows
    if how == "even":
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)
        assert sizes.count(math.ceil(inputs / len(blocks))) >= inputs % len(blocks)
    else:
        assert all(size == rows for size in sizes[:-1])


def test_the_contracts_example() -> None:
    assert row_blocks(300, 128, "fill") == ((0, 128), (128, 256), (256, 300))
    assert row_blocks(300, 128, "even") == ((0, 100), (100, 200), (200, 300))
    assert row_blocks(290, 128, "even") == ((0, 97), (97, 194), (194, 290))


@given(st.integers(1, 600), st.integers(1, 130), st.integers(1, 130), st.sampled_from(["fill", "even"]))
def test_reads_stay_on_their_array(inputs: int, rows: int, active: int, how: str) -> None:
    arrays = row_blocks(inputs, rows, how)
    reads, owner = split_reads(arrays, active)
    assert [row for start, stop in reads for row in range(start, stop)] == list(range(inputs))
    for (start, stop), array in zip(reads, owner, strict=True):
        assert stop - start <= active
        assert arrays[array][0] <= start
        assert stop <= arrays[array][1]
    assert len(reads) == sum(math.ceil((stop - start) / active) for start, stop in arrays)
