"""The table engine equals the reference: bit for bit on whole levels, closely on real-valued cells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from imcsim.errors import EngineError
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.functional.mvm import stream_sums as reference
from imcsim.kernels import table
from tests.kernels.table_cases import Case, cases
from tests.strategies import examples
from tests.tolerances import CODES_ONE_STEP_OFF

if table.instruction_set() is None:
    pytest.skip("needs numba and AVX2", allow_module_level=True)

from imcsim.kernels import simd

SETS = simd.available()
EIGHT_BIT = Converter(127, 384, 127, 254)


@pytest.fixture(params=SETS, ids=lambda s: s.name, scope="module")
def isa(request: pytest.FixtureRequest) -> simd.InstructionSet:
    return request.param


def layer(rows: int = 96, outputs: int = 10, streams: int = 2, seed: int = 0, real: bool = False) -> Columns:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(-3, 4, (1, streams, rows, outputs), generator=generator).double()
    if real:
        cells = cells + 0.05 * torch.randn(cells.shape, generator=generator).double()
    reads = tuple((i, min(rows, i + 64)) for i in range(0, rows, 64))
    return Columns(cells, reads, tuple(4**q for q in range(streams)), (0.0,) * streams)


def codes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)


@examples(60)
@given(case=cases())
def test_whole_levels_equal_the_reference_bit_for_bit(isa: simd.InstructionSet, case: Case) -> None:
    if table.supports(case.columns, case.train, case.converters) is not None:
        return
    tables = table.build(case.columns, case.train, case.converters, isa)
    assert tables.exact
    expected = reference(case.x_int, case.columns, case.train, case.converters)
    assert torch.equal(table.stream_sums(case.x_int, tables), expected)


@examples(20)
@given(case=cases(real=True))
def test_real_cells_are_close_to_the_reference(isa: simd.InstructionSet, case: Case) -> None:
    if table.supports(case.columns, case.train, case.converters) is not None:
        return
    tables = table.build(case.columns, case.train, case.converters, isa)
    found = table.stream_sums(case.x_int, tables)
    expected = reference(case.x_int, case.columns, case.train, case.converters)
    per_output = len(case.columns.reads) * len(case.train.weights) * len(case.converters)
    off = (found - expected).abs() > 1e-9 * expected.abs().max()
    allowed = CODES_ONE_STEP_OFF * per_output * off.numel()
    assert off.sum() <= max(allowed, 2), f"{off.sum()} of {off.numel()}"


@pytest.mark.parametrize("train", [PulseTrain(8, 1), PulseTrain(7, 1, polarity=True), PulseTrain(8, 2)])
def test_real_cells_keep_60_db(isa: simd.InstructionSet, train: PulseTrain) -> None:
    columns = layer(256, 40, 4, real=True)
    x_int = codes(1, 200, 256).int() - (128 if train.polarity else 0)
    x_int = x_int.clamp(-127, 127) if train.polarity else x_int
    tables = table.build(columns, train, (EIGHT_BIT,) * 4, isa)
    expected = reference(x_int, columns, train, (EIGHT_BIT,) * 4)
    error = table.stream_sums(x_int, tables) - expected
    assert error.square().mean() <= 1e-6 * expected.square().mean()


def test_ties_at_the_ends_of_a_full_range(isa: simd.InstructionSet) -> None:
    """Levels +-192 of a symmetric 8-bit converter for 128 rows of 2-bit cells lie between two codes."""
    cells = torch.zeros(1, 1, 128, 4, dtype=torch.int64)
    cells[0, 0, :64] = torch.tensor([3, -3, 3, -3])
    columns = Columns(cells, ((0, 128),), (1,), (0.0,))
    x_int = torch.zeros(1, 3, 128, dtype=torch.uint8)
    x_int[0, 1, :64], x_int[0, 2, :63] = 255, 255
    tables = table.build(columns, PulseTrain(8, 1), (EIGHT_BIT,), isa)
    expected = reference(x_int, columns, PulseTrain(8, 1), (EIGHT_BIT,))
    assert torch.equal(table.stream_sums(x_int, tables), expected)
    assert (
        expected[0, 1, 0] == -expected[0, 1, 1] == 255 * 63 * EIGHT_BIT.step
    )  # half to even: codes 190 and 64


@pytest.mark.parametrize("real", [False, True])
def test_work_in_slabs_and_threads_gives_the_same_bits(
    isa: simd.InstructionSet, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, x_int = layer(real=real), codes(1, 500, 96)
    tables = table.build(columns, PulseTrain(8, 1), (EIGHT_BIT,) * 2, isa)
    whole = table.stream_sums(x_int, tables)
    torch.set_num_threads(3)
    try:
        assert torch.equal(table.stream_sums(x_int, tables), whole)
    finally:
        torch.set_num_threads(1)
    monkeypatch.setattr(table, "PATTERN_BYTES", 1)
    assert torch.equal(table.stream_sums(x_int, tables), whole)
    cut = torch.cat(
        [table.stream_sums(x_int[:, a:b], tables) for a, b in ((0, 7), (7, 400), (400, 500))], dim=1
    )
    assert torch.equal(cut, whole)


GEOMETRIES = [
    table.Geometry((3, 3), padding=(1, 1)),
    table.Geometry((3, 3), stride=(2, 2), padding=(1, 1)),
    table.Geometry((1, 1)),
    table.Geometry((1, 1), stride=(2, 2)),
    table.Geometry((2, 3), stride=(1, 3), padding=(2, 0), dilation=(2, 1)),
    table.Geometry((5, 2), stride=(3, 2), padding=(4, 1), dilation=(1, 3)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "train", [PulseTrain(8, 1), PulseTrain(7, 1, polarity=True), PulseTrain(8, 1, shift=128)], ids=str
)
def test_convolutions_equal_their_patches(
    isa: simd.InstructionSet, geometry: table.Geometry, groups: int, train: PulseTrain
) -> None:
    generator = torch.Generator().manual_seed(1)
    image = codes(3, 4, 11, 18).int()
    image = (image - 128).clamp(-127, 127) if train.polarity or train.shift else image
    rows = 4 // groups * geometry.kernel[0] * geometry.kernel[1]
    cells = torch.randint(-3, 4, (groups, 2, rows, 5), generator=generator)
    columns = Columns(cells, ((0, rows // 2), (rows // 2, rows)), (1, 4), (0.0, 0.0))
    converters = (EIGHT_BIT, Converter(1, 1, 127, 254))
    unfolded = F.unfold(
        image.double(), geometry.kernel, geometry.dilation, geometry.padding, geometry.stride
    )  # (batch, channels x taps, pixels)
    x_int = unfolded.transpose(1, 2).reshape(-1, groups, rows).transpose(0, 1)
    coefficients = torch.randn(2, groups, 5, generator=generator).double()
    finish = table.Finish(coefficients=coefficients)
    tables = table.build(columns, train, converters, isa)
    sums = torch.stack([(x_int[..., a:b] + train.shift).sum(-1) for a, b in columns.reads])
    expected = reference(x_int, columns, train, converters) + sum(
        c[:, None] * s[..., None] for c, s in zip(coefficients, sums, strict=True)
    )
    height, width = geometry.output_size(11, 18)
    expected = expected.transpose(0, 1).reshape(3, height, width, groups * 5).permute(0, 3, 1, 2)
    found = table.conv_stream_sums(image, geometry, tables, finish)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-9)


def test_xnor_convolution_drives_a_line_for_each_sign(isa: simd.InstructionSet) -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.randint(0, 2, (2, 3, 8, 9), generator=generator) * 2 - 1
    geometry = table.Geometry((3, 3), padding=(1, 1))
    cells = torch.randint(0, 2, (1, 1, 54, 4), generator=generator)
    columns = Columns(cells, ((0, 30), (30, 54)), (1,), (0.0,))
    converter = Converter(1, 4, 0, 7, ties_up=True)
    patches = F.unfold(image.double(), 3, padding=1).transpose(1, 2).reshape(1, -1, 27)
    lines = torch.stack([patches > 0, patches < 0], dim=-1).flatten(-2).int()
    train = PulseTrain(1, 1)
    expected = reference(lines, columns, train, (converter,)).reshape(2, 8, 9, 4).permute(0, 3, 1, 2)
    tables = table.build(columns, train, (converter,), isa)
    assert torch.equal(table.conv_stream_sums(image, geometry, tables, complementary=True), expected)
    coefficients = torch.arange(8, dtype=torch.float64).view(2, 1, 4)
    counted = (
        torch.stack([lines[..., :30].sum(-1), lines[..., 30:].sum(-1)], -1).double() @ coefficients[:, 0]
    )
    finish = table.Finish(coefficients=coefficients)
    found = table.conv_stream_sums(image, geometry, tables, finish, complementary=True)
    assert torch.equal(found - expected, counted.reshape(2, 8, 9, 4).permute(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("real", [False, True])
def test_finish_is_float64_inside(isa: simd.InstructionSet, dtype: torch.dtype, real: bool) -> None:
    columns, x_int = layer(real=real), codes(1, 50, 96)
    generator = torch.Generator().manual_seed(3)
    tables = table.build(columns, PulseTrain(8, 1), (EIGHT_BIT,) * 2, isa)
    sums = table.stream_sums(x_int, tables)
    one, many, offset = (torch.randn(1, 10, generator=generator).double() for _ in range(3))
    scale = torch.tensor(0.37, dtype=torch.float64)
    coefficients = torch.randn(2, 1, 10, generator=generator).double()
    finish = table.Finish(one, coefficients, offset, scale, many, dtype)
    x = x_int.double()
    driven = (
        x[..., :64].sum(-1)[..., None] * coefficients[0, 0]
        + x[..., 64:].sum(-1)[..., None] * coefficients[1, 0]
    )
    expected = ((sums * one + driven + offset) * scale + many).to(dtype)
    found = table.stream_sums(x_int, tables, finish)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=1e-6)


def test_baseline_is_folded_into_the_cells(isa: simd.InstructionSet) -> None:
    plain, x_int, train = layer(), codes(1, 40, 96), PulseTrain(8, 1)
    columns = Columns(plain.cells, plain.reads, plain.gains, (0.013, 0.5))
    tables = table.build(columns, train, (EIGHT_BIT,) * 2, isa)
    found, expected = table.stream_sums(x_int, tables), reference(x_int, columns, train, (EIGHT_BIT,) * 2)
    assert not tables.exact
    assert (found != expected).double().mean() < 0.02


def test_wide_cells_take_float_tables_and_stay_exact(isa: simd.InstructionSet) -> None:
    plain = layer(64, 6, 1)
    columns = Columns(plain.cells * 85, plain.reads, (1,), (0.0,))
    converter = Converter(127, 64 * 255, 127, 254)
    tables = table.build(columns, PulseTrain(8, 1), (converter,), isa)
    assert tables.exact
    x_int = codes(1, 100, 64)
    assert torch.equal(
        table.stream_sums(x_int, tables), reference(x_int, columns, PulseTrain(8, 1), (converter,))
    )


NO_GOOD = [
    ({"converters": None}, "no converters"),
    ({"train": PulseTrain(8, 1, accumulate=True)}, "accumulated"),
    ({"train": PulseTrain(8, 8)}, "digits of 8 bits"),
    ({"converters": (Converter(1, 1, 0, 65535),) * 2}, "65535 do not fit in 16 bits"),
    ({"train": PulseTrain(16, 1), "converters": (Converter(1, 1, 16000, 32767),) * 2}, "digital sums"),
]


@pytest.mark.parametrize(("change", "reason"), NO_GOOD)
def test_what_it_cannot_do_has_a_reason(change: dict, reason: str) -> None:
    asked = {"columns": layer(), "train": PulseTrain(8, 1), "converters": (EIGHT_BIT,) * 2} | change
    assert reason in str(table.supports(**asked))
    with pytest.raises(EngineError, match=r"engine = 'matmul'"):
        table.build(**asked)


def test_table_bytes_bounds_what_is_built(isa: simd.InstructionSet) -> None:
    for real in (False, True):
        columns = layer(300, 70, 3, real=real)
        tables = table.build(columns, PulseTrain(8, 1), (EIGHT_BIT,) * 3, isa)
        estimate = table.table_bytes(columns, PulseTrain(8, 1))
        assert tables.nbytes <= estimate


def test_without_numba_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    assert table.supports(layer(), PulseTrain(8, 1), (EIGHT_BIT,) * 2) == "numba is not installed"


@pytest.mark.slow
def test_kernels_are_kept_on_disk(tmp_path: object) -> None:
    """A second process finds the machine code of the first."""
    program = """
import torch
from tests.kernels.test_table import EIGHT_BIT, PulseTrain, codes, layer, table
tables = table.build(layer(), PulseTrain(8, 1), (EIGHT_BIT,) * 2)
table.stream_sums(codes(1, 40, 96), tables)
from imcsim.kernels import pack, table_entries, table_levels
kernels = [pack.pack_matrix, table_levels.run_levels, table_entries.byte_entries, table_entries.chunk_sizes]
for count in ("cache_hits", "cache_misses"):
    print(sum(sum(getattr(k.stats, count).values()) for k in kernels))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert runs == [["0", "4"], ["4", "0"]]
