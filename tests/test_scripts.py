"""The scripts that are there to be copied: each runs, and leaves a table, a figure and a record."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

from imcsim import Hardware, __version__
from imcsim.results import read_record

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NETWORK = ("--model", "tests.sweep.toys:net", "--data", "tests.sweep.toys:images", "--images", "8")


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("variation_sweep", ("--chips", "2"), 16),
        ("drift_sweep", ("--chips", "2"), 36),
        ("array_size_sweep", (), 8),
        ("design_space", ("--trials", "4"), 4),
    ],
)
def test_script_runs(name, options, points, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", [name, *NETWORK, *options, "--out", str(tmp_path)])
    script.main()
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) == points
    record = read_record(tmp_path / f"{name}.json")
    assert len(record.rows) == points
    assert record.command.startswith(f"python scripts/{name}.py --model tests.sweep.toys:net")
    assert Hardware.model_validate(record.hardware["base"]).name == script.CHIP["name"]
    assert record.machine["imcsim"] == __version__
    assert "top1" in capsys.readouterr().out
