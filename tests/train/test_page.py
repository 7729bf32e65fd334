"""docs/training.md: its recipes run, and its table is the record's."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import imcsim
from benchmarks import training
from imcsim import train
from imcsim.hardware import Hardware
from imcsim.results import between_markers, read_record
from tests.train.small import CHIP, digits, perceptron

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def scope() -> dict[str, object]:
    batches = digits(64)
    sim = imcsim.convert(perceptron(), CHIP)
    imcsim.calibrate(sim, [batches[0][0]])
    return {
        "imcsim": imcsim,
        "torch": torch,
        "cross_entropy": cross_entropy,
        "model": perceptron(),
        "hardware": CHIP,
        "sim": sim,
        "batches": batches,
        "train_batches": batches,
        "calibration_batches": [batches[0][0]],
        "held_out": batches,
        "test": batches,
        "steps": len(batches),
        "up": train.ramp(0, 1, until=0.3),
    }


@pytest.mark.parametrize("which", ["epochs=3, clip_sigmas", "with train.inject(sim"])
def test_loops_run(which, scope, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if which in block]
    exec(compile(block, "training.md", "exec"), scope)


def test_the_lightning_module_trains(scope, monkeypatch):
    """Lightning calls these hooks in this order; here they are called by hand."""
    stub = types.ModuleType("lightning")
    stub.LightningModule = nn.Module
    monkeypatch.setitem(sys.modules, "lightning", stub)
    (block,) = [block for block in BLOCKS if "LightningModule" in block]
    exec("import lightning\n" + block, scope)
    module = scope["OnChip"](scope["sim"])
    optimizer = module.configure_optimizers()
    before = scope["sim"][1].weight.detach().clone()
    module.on_fit_start()
    for index, batch in enumerate(scope["batches"]):
        optimizer.zero_grad()
        module.train().training_step(batch, index).backward()
        optimizer.step()
        module.on_train_batch_end()
    module.on_fit_end()
    assert not torch.equal(scope["sim"][1].weight, before)
    assert scope["sim"][1].injection is None


def test_steps_are_the_record_s():
    record = read_record(ROOT / "docs" / "results" / "training_steps.json")
    assert between_markers(PAGE, "steps") == training.table(record)
    assert record.command in PAGE
    for row in record.rows:
        assert row["bound"] == training.CASES[row["case"]].bound
        assert Hardware.model_validate(record.hardware[row["case"]]) == training.CASES[row["case"]].hardware
    assert {(row["case"], row["work"]) for row in record.rows} == {
        (case, work) for case in training.CASES for work in training.WORKS
    }


def test_the_benchmark_runs(tmp_path, capsys):
    training.main(["--quick", "--out", str(tmp_path)])
    record = read_record(tmp_path / "results" / "training_steps.json")
    assert len(record.rows) == len(training.CASES)
    assert training.table(record) in capsys.readouterr().out
