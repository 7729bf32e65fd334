"""The studies under scripts/studies: each runs, and what its page says is what its record says."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import imcsim
from imcsim.results import between_markers, read_record

ROOT = Path(__file__).resolve().parents[1]
STUDIES = (
    "programming_error",
    "programming_error_adc",
    "drift",
    "stuck_cells",
    "wires",
    "converters",
    "recovery",
    "recovery_xnor",
    "mitigation",
)
SMALL = 100_000
"""Bytes of a figure."""


@pytest.fixture(params=STUDIES)
def study(request, monkeypatch):
    """The parts of a study's script."""
    monkeypatch.syspath_prepend(ROOT / "scripts" / "studies")
    return importlib.import_module(request.param).STUDY


def test_script_runs(study, tmp_path, capsys):
    study.run(["--quick", "--out", str(tmp_path)])
    record = read_record(tmp_path / "results" / f"{study.name}.json")
    assert record.seeds == (0,)
    assert record.command == f"python scripts/studies/{study.name}.py --images 4 --seeds 1 --quick"
    printed = capsys.readouterr().out
    assert all(table in printed for table in study.tables(record).values())
    figures = [path.name for path in (tmp_path / "studies").iterdir()]
    assert figures == ([] if study.figure is None else [f"{study.name}.png"])


def test_page_says_what_the_record_says(study):
    record = read_record(ROOT / "docs" / "results" / f"{study.name}.json")
    page = (ROOT / "docs" / "studies" / f"{study.page}.md").read_text(encoding="utf-8")
    for marker, table in study.tables(record).items():
        assert between_markers(page, marker) == table
    assert record.command in page
    assert "--quick" not in record.command


def test_record_can_be_repeated(study):
    record = read_record(ROOT / "docs" / "results" / f"{study.name}.json")
    base = imcsim.Hardware.model_validate(record.hardware["base"])
    for row in record.rows:
        base.replace(row["changes"])
        assert row["n"] == record.n
        assert len(row["top1"]) in (1, len(record.seeds))
        assert row["ci95"][0] <= row["mean"] <= row["ci95"][1]


def test_figure_is_small(study):
    if study.figure is not None:
        assert (ROOT / "docs" / "studies" / f"{study.name}.png").stat().st_size < SMALL


def test_switching_page_says_what_its_record_says(monkeypatch):
    """A study without networks: its script has a command line of its own."""
    monkeypatch.syspath_prepend(ROOT / "scripts" / "studies")
    script = importlib.import_module("switching")
    record = read_record(ROOT / "docs" / "results" / "switching.json")
    page = (ROOT / "docs" / "studies" / "switching.md").read_text(encoding="utf-8")
    for marker, table in script.tables(record).items():
        assert between_markers(page, marker) == table
    assert record.command in page
    again = script.verify_row("hzo_fefet", 0.05)
    kept = next(r for r in record.rows if r.get("tolerance") == 0.05 and r["device"] == "hzo_fefet")
    assert again["pulses"] == kept["pulses"]
    for figure in ("curves", "write_verify"):
        assert (ROOT / "docs" / "studies" / f"switching_{figure}.png").stat().st_size < SMALL
