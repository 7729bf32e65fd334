"""Each table kernel equals its NumPy twin, and nothing wraps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain, digits
from imcsim.functional.mvm import Columns
from imcsim.kernels import table, table_plan
from tests.kernels.table_cases import Case, cases
from tests.strategies import examples

if table.instruction_set() is None:
    pytest.skip("needs numba and AVX2", allow_module_level=True)

from imcsim.kernels import pack, simd, table_entries, table_levels, table_registers, twins
from imcsim.kernels.table_output import Epilogue

SETS = simd.available()


@pytest.fixture(params=SETS, ids=lambda s: s.name, scope="module")
def isa(request: pytest.FixtureRequest) -> simd.InstructionSet:
    return request.param


def packed(case: Case, tables: table.Tables) -> tuple[np.ndarray, np.ndarray]:
    """Patterns by the kernel, without lanes that no vector fills, and the twin's."""
    groups, vectors, inputs = case.x_int.shape
    lanes = tables.isa.lanes
    parts = table_plan.byte_parts(case.x_int, tables.planes)
    padded = torch.nn.functional.pad(parts, (0, -inputs % 16, 0, -vectors % lanes)).contiguous()
    finish = table.Finish(coefficients=torch.zeros(len(case.columns.reads), groups, tables.shape[2]).double())
    out, sums = table._pattern_arrays(tables, groups, vectors, finish)
    pack.pack_matrix(tables.isa, tables.layout, padded.numpy(), 0, groups * sums.shape[1], out, sums)
    expected = np.stack([twins.patterns_of(parts[:, g].numpy(), tables.layout) for g in range(groups)])
    sent = case.x_int.double() + case.train.shift
    by_read = torch.stack([sent[..., a:b].sum(-1) for a, b in case.columns.reads], dim=1)
    np.testing.assert_array_equal(
        np.moveaxis(sums, 1, 2).reshape(groups, len(case.columns.reads), -1)[..., :vectors], by_read
    )
    if tables.layout.by_vector:
        return _by_plane(out, tables)[..., :vectors] >> tables.layout.place, expected
    merged, cycles = tables.layout.merged, len(tables.layout.part)
    if merged > 1:
        out = out.reshape(groups, out.shape[1], out.shape[2], merged, cycles, lanes)
        out = np.moveaxis(out, 3, 2).reshape(groups, -1, out.shape[2], cycles, lanes)
    found = np.moveaxis(out, 1, 3).reshape(groups, *out.shape[2:4], -1)
    return found[:, :, : expected.shape[2], :vectors], expected


def _by_plane(out: np.ndarray, tables: table.Tables) -> np.ndarray:
    """Undo `interleave`.

    (layer groups, blocks, groups, quads x 4, lanes) to (layer groups, groups, planes, vectors).
    """
    groups, blocks, rows, stored, lanes = out.shape
    quads = out.reshape(groups, blocks, rows, stored // 4, 4, lanes // 16, 4, 4)  # i, j, k, plane
    planes = np.transpose(quads, (0, 2, 3, 7, 1, 5, 4, 6)).reshape(
        groups, rows, stored // 4, 4, blocks * lanes
    )
    result = np.zeros((groups, rows, len(tables.layout.part), blocks * lanes), np.uint8)
    for i, first in enumerate(tables.layout.quad_plane):
        for j in range(min(4, result.shape[2])):
            result[:, :, first + j] = planes[:, :, i, j]
    return result


@examples(25)
@given(case=cases())
def test_kernels_on_whole_levels(isa: simd.InstructionSet, case: Case) -> None:
    check(isa, case)


@examples(15)
@given(case=cases(real=True))
def test_kernels_on_real_cells(isa: simd.InstructionSet, case: Case) -> None:
    check(isa, case)


def check(isa: simd.InstructionSet, case: Case) -> None:
    if table.supports(case.columns, case.train, case.converters) is not None:
        return
    tables = table.build(case.columns, case.train, case.converters, isa)
    found, expected = packed(case, tables)
    np.testing.assert_array_equal(found, expected)
    weights = case.train.weights
    if isinstance(tables.arrays, table_levels.LevelTables):
        totals = twins.level_totals(tables.arrays, expected, weights, clips=isa.index_bits != 6)
    elif isinstance(tables.arrays, table_registers.RegisterTables):
        totals = twins.register_totals(tables.arrays, expected, weights)
    else:
        totals = twins.current_totals(tables.arrays, expected, weights)
    none = np.empty((0, 0))
    epilogue = Epilogue(tables.factors, tables.constants, none, np.empty((0, 0, 0)), none, none, none)
    outputs = twins.outputs_of(totals, epilogue, np.empty((0, 0, 0), np.int64))
    np.testing.assert_array_equal(table.stream_sums(case.x_int, tables).numpy(), outputs)


@given(case=cases())
def test_patterns_stand_for_digits(case: Case) -> None:
    layout = table_plan.planes(case.train)
    if layout.digit_bits > 4:
        return
    groups = table_plan.groups(case.columns.reads, 4 // layout.digit_bits)
    arrays = pack.layout_arrays(layout, groups, case.columns.reads, place=None)
    parts = table_plan.byte_parts(case.x_int[0], layout).numpy()
    patterns = twins.patterns_of(parts, arrays)
    expected = digits(case.x_int[0].double(), case.train).numpy()
    for group, rows in enumerate(groups.rows):
        for place, row in enumerate(rows):
            bits = (patterns[group] >> (place * layout.digit_bits)) & ((1 << layout.digit_bits) - 1)
            wanted = expected[:, :, row] if row >= 0 else 0 * expected[:, :, 0]
            np.testing.assert_array_equal(layout.digit_values[bits], wanted)


@pytest.mark.parametrize("digit_bits", [1, 2, 3, 4])
def test_entries(digit_bits: int) -> None:
    rng = np.random.default_rng(digit_bits)
    places, values = 4 // digit_bits, np.arange(1 << digit_bits).astype(np.int16)
    cells = rng.integers(-3, 4, (5, places, 16)).astype(np.int16)
    expected = twins.entries_of(cells, values)
    count = expected.shape[1]
    entries, minima, spans = (
        np.zeros((8, 5, 2, 16), np.uint8),
        np.zeros((5, 16), np.int64),
        np.zeros((5, 16), np.int64),
    )
    table_entries.byte_entries(cells, values, 16, entries, minima, spans)
    by_column = np.moveaxis(entries, 0, 1).transpose(0, 3, 1, 2).reshape(5, 16, 16)[:, :count]
    np.testing.assert_array_equal(by_column + minima[:, None], expected)
    np.testing.assert_array_equal(spans, expected.max(1) - expected.min(1))
    floats = np.zeros((5, 16, 16), np.float32)
    table_entries.float_entries(cells.astype(np.float64), values.astype(np.float64), floats)
    np.testing.assert_array_equal(floats[:, :count], expected.astype(np.float32))


@pytest.mark.parametrize("rows", [85, 86, 128, 256])
def test_byte_sums_never_wrap(isa: simd.InstructionSet, rows: int) -> None:
    """85 rows at level 3 fill a byte exactly, one more would wrap."""
    cells = torch.full((1, 1, rows, 2), 3)
    cells[..., 1] = -3
    columns = Columns(cells, ((0, rows),), (1,), (0.0,))
    converter = Converter(1, 1, 768, 1536)
    tables = table.build(columns, PulseTrain(8, 1), (converter,), isa)
    x_int = torch.full((1, 1, rows), 255, dtype=torch.uint8)
    assert table.stream_sums(x_int, tables).tolist() == [[[255.0 * 3 * rows, -255.0 * 3 * rows]]]
    assert (tables.arrays.pairs[..., table_levels.CHUNK].max() * isa.index_bits * 3 <= 255) or rows == 85


def test_a_wrapping_table_is_caught_by_the_twin(isa: simd.InstructionSet) -> None:
    columns = Columns(torch.full((1, 1, 128, 2), 3), ((0, 128),), (1,), (0.0,))
    tables = table.build(columns, PulseTrain(8, 1), (Converter(1, 1, 0, 500),), isa)
    tables.arrays.pairs[..., table_levels.CHUNK] = 128
    full = np.full((1, len(tables.layout.rows), 8, 1), (1 << isa.index_bits) - 1)
    with pytest.raises(OverflowError, match="would wrap"):
        twins.level_totals(tables.arrays, full, PulseTrain(8, 1).weights, clips=isa.index_bits != 6)
