"""scripts/chips.py and scripts/survey_plot.py: they run, and their pages say what their records say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import presets, zoo
from imcsim.results import between_markers, read_record
from imcsim.survey import survey_chips

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def script(request, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["chips"], indirect=True)
def test_the_table_of_chips_runs(script, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["chips.py", "--quick", "--out", str(tmp_path)])
    script.main()
    record = read_record(tmp_path / "results" / "chips.json")
    assert [row["preset"] for row in record.rows] == list(script.QUICK)
    printed = capsys.readouterr().out
    assert all(table in printed for table in script.tables(record).values())
    for row in record.rows:
        assert row["n"] == 50
        assert len(row["noisy"]) == len(record.seeds)
        assert row["energy_J"] > 0


@pytest.mark.parametrize("script", ["chips"], indirect=True)
def test_the_page_of_chips_says_what_the_record_says(script) -> None:
    record = read_record(DOCS / "results" / "chips.json")
    page = (DOCS / "chips" / "index.md").read_text(encoding="utf-8")
    for marker, table in script.tables(record).items():
        assert between_markers(page, marker) == table
    assert "--quick" not in record.command
    assert sorted({row["preset"] for row in record.rows}) == presets.available()
    for row in record.rows:
        peak = imcsim.load_hardware(row["preset"]).peak()
        assert row["peak_gops_per_watt"] == pytest.approx(peak.gops_per_watt)
        assert row["calibrated"] == list(peak.calibrated_parts)


@pytest.mark.parametrize("script", ["survey_plot"], indirect=True)
def test_the_survey_is_drawn_and_its_page_says_what_the_data_say(script, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["survey_plot.py", "--out", str(tmp_path)])
    script.main()
    assert (tmp_path / "images" / "survey.png").stat().st_size > 10_000
    record = read_record(DOCS / "results" / "survey.json")
    for row, now in zip(record.rows, read_record(tmp_path / "results" / "survey.json").rows, strict=True):
        assert now["key"] == row["key"]
        assert now["gops_per_watt"] == pytest.approx(row["gops_per_watt"])
    page = (DOCS / "survey.md").read_text(encoding="utf-8")
    assert between_markers(page, "corrections") == script.corrections()
    assert between_markers(page, "designs") == script.designs()


@pytest.mark.parametrize("script", ["survey_accuracy"], indirect=True)
def test_the_page_of_the_survey_says_what_the_accuracy_record_says(script) -> None:
    record = read_record(DOCS / "results" / "survey_accuracy.json")
    page = (DOCS / "survey.md").read_text(encoding="utf-8")
    for marker, table in script.tables(record).items():
        assert between_markers(page, marker) == table
    assert {row["key"] for row in record.rows if not row["trained"]} == set(survey_chips())
    assert {row["key"] for row in record.rows if row["trained"]} == {key for key, *_ in script.TRAINED}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["binary_vgg"], indirect=True)
def test_a_binary_network_is_trained_and_written_with_weights_of_two_values(
    script, tmp_path, monkeypatch
) -> None:
    draw = np.random.default_rng(0)
    for name, n in (("train", 200), ("test", 20)):
        images, labels = draw.integers(0, 256, (n, 3, 32, 32)), draw.integers(0, 10, n)
        arrays = {"images": images.astype(np.uint8), "labels": labels.astype(np.uint8)}
        np.savez(tmp_path / f"cifar10_{name}.npz", **arrays)
    command = ["vgg_small_binary01", "--data", str(tmp_path), "--epochs", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["binary_vgg.py", *command])
    with torch.random.fork_rng(devices=[]):
        script.main()
        torch.manual_seed(0)
        new = zoo.vgg_small_binary(False, neurons="0, 1")
    net = zoo.vgg_small_binary(tmp_path / "vgg_small_binary01.npz", neurons="0, 1")
    real = {"features.conv1", "classifier.fc3"}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            size = layer.weight.abs()
            assert torch.allclose(size, size.mean()) == (name not in real)
    assert not torch.equal(net.features.conv1.weight, new.features.conv1.weight)
