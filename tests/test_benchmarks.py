"""The benchmark under benchmarks/: it runs, and what its page says is what its record says."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import page, planner, run, timing
from benchmarks.cases import CASES
from imcsim import Hardware
from imcsim.kernels.planner import measured
from imcsim.results import between_markers, read_record

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SMALL = 100_000
"""Bytes of a figure."""


@pytest.fixture(scope="module")
def record():
    return read_record(DOCS / "results" / "performance.json")


@pytest.fixture(scope="module")
def text():
    return (DOCS / "performance.md").read_text(encoding="utf-8")


def test_quick_run(tmp_path, capsys):
    run.main(["--quick", "--out", str(tmp_path)])
    found = read_record(tmp_path / "results" / "performance.json")
    assert found.command == "python -m benchmarks.run --quick"
    assert {row["part"] for row in found.rows} >= {"bounds", "build", "scaling", "test set"}
    printed = capsys.readouterr().out
    assert all(table in printed for table in page.tables(found).values())
    assert {path.stem for path in (tmp_path / "images").iterdir()} == set(page.FIGURES)


def test_quick_run_of_the_planners_measurement(tmp_path):
    """What it writes has a coefficient for every count of the model, none negative."""
    planner.main(["--quick", "--out", str(tmp_path)])
    (fitted,) = tomllib.loads((tmp_path / "costs.toml").read_text()).values()
    used = measured()["avx2"]
    for what, coefficients in fitted.items():
        assert coefficients.keys() == used[what].keys()
        assert min(coefficients.values()) >= 0
    assert read_record(tmp_path / "planner.json").command == "python -m benchmarks.planner --quick"


def test_page_says_what_the_record_says(record, text):
    tables = page.tables(record)
    assert set(re.findall(r"<!-- begin: (.+) -->", text)) == set(tables)
    for marker, table in tables.items():
        assert between_markers(text, marker) == table
    assert record.command in text
    assert "--quick" not in record.command


def test_record_holds_every_bound(record):
    found = {(row["case"], row["work"]): row for row in record.rows if row["part"] == "bounds"}
    for key, case in CASES.items():
        for name, bound in case.bounds.items():
            row = found[key, name]
            assert row["bound"] == bound
            if bound is not None:
                assert row["met"] == (row["ratio"] <= bound)
                assert row["met"] or row["profile"]


def test_memory_beyond_what_torch_takes_is_bounded(record):
    peak = {(r["case"], r["work"], r["batch"]): r["peak_bytes"] for r in record.rows if r["part"] == "memory"}
    assert {case for case, _, _ in peak} >= {"torch", "levels", "currents", "matmul"}
    for (_, work, batch), own in peak.items():
        assert own - peak["torch", work, batch] < 300e6


def test_record_can_be_repeated(record):
    costs = {"tile": None, "components": {}}  # which take no time
    for row in record.rows:
        if "hardware" in row:
            then = Hardware.model_validate(record.hardware[row["hardware"]])
            assert then.replace(costs) == CASES[row["hardware"]].hardware.replace(costs)


def test_figures_are_small(text):
    for name in page.FIGURES:
        assert (DOCS / "images" / f"{name}.png").stat().st_size < SMALL
        assert f"(images/{name}.png)" in text


def test_pairs_are_taken_by_turns():
    order = []
    found = timing.compare(lambda: order.append("plain"), lambda: order.append("ours"), seconds=1e-9)
    one_way, other_way = ["plain"] * 2 + ["ours"] * 2, ["ours"] * 2 + ["plain"] * 2
    assert order == ["plain", "ours", *one_way, *other_way, *one_way, *other_way, *one_way]
    assert found["pairs"] == timing.MIN_ROUNDS
    low, high = found["ratio_quartiles"]
    assert low <= found["ratio"] <= high
    assert math.isfinite(found["cpu_ratio"])
