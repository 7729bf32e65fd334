"""The planner: its model of time against what was measured, and what it does with the estimates."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import imcsim
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.kernels import planner, table
from imcsim.results import read_record
from tests.kernels.table_cases import trains

if table.instruction_set() is None:
    pytest.skip("needs numba and AVX2", allow_module_level=True)

from imcsim.kernels import simd
from imcsim.kernels.table_currents import CurrentTables
from imcsim.kernels.table_levels import LevelTables
from imcsim.kernels.table_registers import RegisterTables

RECORD = read_record(Path(__file__).resolve().parents[2] / "docs" / "results" / "planner.json")
KINDS = {LevelTables: "levels", CurrentTables: "currents", RegisterTables: "registers"}
EIGHT_BIT = Converter(127, 384, 127, 254)


@pytest.fixture(params=[simd.AVX2, simd.AVX512, simd.AVX512_VBMI, simd.AVX512_PERMUTE], ids=lambda s: s.name)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> simd.InstructionSet:
    monkeypatch.setattr(table, "instruction_set", lambda: request.param)
    return request.param


def columns(real: bool, span: int = 3) -> Columns:
    draw = torch.Generator().manual_seed(0)
    cells = torch.randint(-span, span + 1, (1, 2, 150, 8), generator=draw, dtype=torch.int8)
    return Columns(cells + 0.1 if real else cells, ((0, 128), (128, 150)), (1, 4), (0.0, 0.0))


def test_coefficients_are_those_of_the_record() -> None:
    for name, coefficients in planner.measured().items():
        for what, values in coefficients.items():
            own = [row for row in RECORD.rows if (row["isa"], row["what"]) == (name, what)]
            assert own
            off = [planner.seconds(row["counts"], values) / row["seconds"] for row in own]
            assert 1 / 3 < min(off)
            assert max(off) < 2
            assert 0.75 < statistics.median(off) < 1.25


@pytest.mark.parametrize(("real", "span"), [(False, 3), (True, 3), (False, 127)])
def test_every_instruction_set_has_its_coefficients(isa: simd.InstructionSet, real: bool, span: int) -> None:
    found = planner.estimate(columns(real, span), PulseTrain(8, 1))
    assert 0 < found.table < found.matmul
    assert found.pays_from is not None
    at = found.pays_from
    assert found.build + at * found.table <= at * found.matmul
    assert found.build + (at - 2) * found.table > (at - 2) * found.matmul


@given(train=trains(), real=st.booleans(), span=st.sampled_from([1, 3, 15, 127]))
def test_counts_are_those_of_the_tables_that_are_built(train: PulseTrain, real: bool, span: int) -> None:
    layer = columns(real, span)
    if table.supports(layer, train, (EIGHT_BIT,) * 2) is not None:
        return
    arrays = table.build(layer, train, (EIGHT_BIT,) * 2).arrays
    kind = planner.kind_of_table(layer, train)
    if kind == "levels" or not isinstance(arrays, LevelTables):  # few rows may fit
        assert kind == KINDS[type(arrays)]
        assert planner.row_groups(layer, train, kind) == arrays.group_start[-1]


CHIP = imcsim.Hardware(inputs={"range": 1.0, "signed": False}, adc={"bits": 5})
PROGRAMMED = CHIP.replace({"device.programming": {"kind": "range", "sigma": 0.02}})


def engine_in_use(layer: nn.Module) -> str:
    return layer.array.plan(torch.float32, 0).engine


def pays_from(chip: imcsim.Hardware, layer: nn.Module) -> int:
    array = imcsim.convert(layer, chip).array
    expected = planner.estimate(array.job().columns, array.job().train).pays_from
    assert expected is not None
    return expected


@torch.no_grad()
def test_tables_are_built_when_they_have_come_to_pay() -> None:
    layer = nn.Linear(200, 60).eval()
    least = pays_from(CHIP, layer)
    x = torch.rand(least, 200)
    sim, by_table = imcsim.convert(layer, CHIP), imcsim.convert(layer, CHIP, engine="table")
    few = x[: least // 3]
    assert torch.equal(sim(few), by_table(few))
    assert engine_in_use(sim) == "matmul"
    sim(few)
    assert engine_in_use(sim) == "matmul"
    assert torch.equal(sim(x[:least]), by_table(x[:least]))
    assert engine_in_use(sim) == "table"
    assert torch.equal(sim(few), by_table(few))
    assert engine_in_use(sim) == "table"


@torch.no_grad()
def test_one_call_with_enough_vectors_builds_them_at_once() -> None:
    layer = nn.Conv2d(8, 16, 3, padding=1).eval()
    sim = imcsim.convert(layer, CHIP)
    sim(torch.rand(-(-pays_from(CHIP, layer) // 64), 8, 8, 8))
    assert engine_in_use(sim) == "table"


@torch.no_grad()
def test_a_programmed_chip_keeps_to_one_engine_unless_it_is_trained() -> None:
    layer = nn.Linear(200, 60)
    sim = imcsim.convert(layer, PROGRAMMED).eval()
    sim(torch.rand(1, 200))
    assert engine_in_use(sim) == "table"
    sim = imcsim.convert(layer, PROGRAMMED).train()
    sim(torch.rand(1, 200))
    assert engine_in_use(sim) == "matmul"


def test_a_training_step_builds_no_tables_that_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights move at every step, so vectors are counted anew."""
    layer = nn.Linear(200, 60)
    sim = imcsim.convert(layer, CHIP).train()
    optimizer = torch.optim.SGD(sim.parameters(), lr=0.1)
    batch = pays_from(CHIP, layer) // 2
    monkeypatch.setattr(table, "build", None)  # calling it would raise
    for _ in range(3):
        optimizer.zero_grad()
        sim(torch.rand(batch, 200)).square().mean().backward()
        optimizer.step()
        assert engine_in_use(sim) == "matmul"


@torch.no_grad()
def test_summary_tells_the_plan_for_many_vectors() -> None:
    sim = imcsim.convert(nn.Linear(200, 60).eval(), CHIP)
    before = imcsim.summary(sim).rows
    sim(torch.rand(1, 200))
    assert imcsim.summary(sim).rows == before
    assert before[0].engine == "table"
    assert "a vector by table" in before[0].reason
    assert f"tables pay from {pays_from(CHIP, nn.Linear(200, 60))} vectors on" in before[0].reason


def test_products_are_taken_where_tables_never_pay() -> None:
    sim = imcsim.convert(nn.Linear(512, 256), PROGRAMMED.replace({"inputs.bits_per_cycle": 4}))
    (row,) = imcsim.summary(sim).rows
    assert row.engine == "matmul"
    assert "by table" in row.reason
    assert "pay from" not in row.reason
