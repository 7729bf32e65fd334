"""The training studies: scripts run and go on, pages say what records say, the survey's table is whole."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

import imcsim
from imcsim.results import between_markers, read_record

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts" / "studies"


@pytest.fixture
def methods(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("methods")


@pytest.fixture
def vgg(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("vgg_small")


def few(tmp_path: Path, *options: str) -> list[str]:
    """A trial of the methods script: the package's MNIST images, one epoch, one seed."""
    places = ["--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    size = ["--images", "384", "--test-images", "100", "--epochs", "1", "--seeds", "1", "--parts", "lenet5"]
    return [*size, *places, *options]


def test_methods_script_runs_and_goes_on(methods, tmp_path, capsys) -> None:
    methods.main(few(tmp_path, "--only", "LSQ"))
    first = read_record(tmp_path / "results" / "methods.json")
    assert [row["part"] for row in first.rows] == ["float", "lenet5"]
    methods.main(few(tmp_path, "--only", "LSQ", "ANA (14), ternary"))
    both = read_record(tmp_path / "results" / "methods.json")
    assert both.rows[:2] == first.rows  # not measured again
    assert [row["method"] for row in both.rows[2:]] == ["hardtanh", "ANA (14), ternary"]
    assert both.rows[1]["average_bit_width"] == pytest.approx(2.45, abs=0.05)
    printed = capsys.readouterr().out
    assert all(table in printed for table in methods.tables(both).values())


def test_every_entry_converts_at_every_width_it_is_run_at(methods) -> None:
    resnet = methods.zoo.resnet8()
    for entry in methods.ENTRIES:
        net = methods.zoo.lenet5(norm=True, activation=entry.activation)
        ends = {"conv1": methods.BASE, "fc3": methods.BASE}
        qat = None if entry.method is None else {"*": entry.method, "conv1": None, "fc3": None}
        imcsim.convert(net, {"*": entry.chip(), **ends}, qat=qat)
        if entry.resnet:
            imcsim.convert(resnet, entry.at(4), qat=entry.method)


def test_wrong_names(methods, tmp_path) -> None:
    with pytest.raises(SystemExit, match="no method named 'LSQ2'"):
        methods.main(few(tmp_path, "--only", "LSQ2"))


def test_page_says_what_the_record_says(methods) -> None:
    record = read_record(ROOT / "docs" / "results" / "methods.json")
    page = (ROOT / "docs" / "studies" / "methods.md").read_text(encoding="utf-8")
    for marker, table in methods.tables(record).items():
        assert between_markers(page, marker) == table
    assert record.command in page


def test_the_record_is_complete_and_reaches_its_goals(methods) -> None:
    record = read_record(ROOT / "docs" / "results" / "methods.json")
    lenet = dict(methods.summarised(record, "lenet5"))
    assert set(lenet) == {entry.name for entry in methods.ENTRIES}
    assert all(row["n"] == 10_000 and row["training_images"] == 60_000 for r in lenet.values() for row in r)
    assert all(len({row["steps"] for row in rows}) == 1 for rows in lenet.values())

    def mean(name: str) -> float:
        return sum(row["top1"] for row in lenet[name]) / len(lenet[name])

    assert mean("uniform, 8 b") >= 0.990
    assert mean("QNN (7), 1 b") >= 0.975
    assert all([row["seed"] for row in rows] == [0, 1, 2] for rows in lenet.values())


def test_the_surveys_table_2_is_whole(vgg) -> None:
    """Row numbers, counts by method, and the notation column, retyped from the survey's page."""
    rows = vgg.settings()
    assert [s.row for s in rows] == list(range(1, 25))
    notation = (
        "111 000 110 111 010 000 010 011 100 000 011 010 000 111 000 001 111 011 101 110 111 011 101 110"
    )
    assert [f"{s.bias:d}{s.affine:d}{s.augmentation:d}" for s in rows] == notation.split()
    counts = {}
    for setting in rows:
        counts[setting.method] = counts.get(setting.method, 0) + 1
    assert counts == {
        "BNN": 3, "DoReFa": 4, "ANA": 3, "ProxQuant": 3, "nBQNN": 3, "LQ-net": 4, "Sigmoid-QN": 4,
    }  # fmt: skip
    assert (rows[6].weights, rows[6].activations, rows[6].gradients) == (1, 2, 4)
    assert {s.epochs for s in rows} == {900, 500, 1000, 700, 400, 100}


def test_every_row_of_table_2_converts(vgg) -> None:
    for setting in vgg.settings():
        net = vgg.zoo.vgg_small(
            width=0.05, bias=setting.bias, affine=setting.affine, activation=setting.activation
        )
        method = setting.training_method()
        ends = {vgg.FIRST: None, vgg.LAST: None} if setting.ends == "real" else {}
        sim = imcsim.convert(net, setting.chips(), qat={"*": method, **ends})
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert (rows[vgg.FIRST].became == "digital") == (setting.ends == "real")


def vgg_trial(tmp_path: Path, epochs: int, name: str) -> list[str]:
    size = [
        "--width",
        "0.05",
        "--images",
        "64",
        "--test-images",
        "40",
        "--batch",
        "32",
        "--float-epochs",
        "1",
    ]
    places = ["--checkpoint", str(tmp_path / f"{name}.pt"), "--out", str(tmp_path / name)]
    return ["--row", "21", "--epochs", str(epochs), *size, *places]


def test_vgg_small_goes_on_where_it_stopped(vgg, tmp_path, monkeypatch) -> None:
    """Interrupted after the first of two quantized epochs, the rest gives the same weights and accuracy."""
    vgg.main(vgg_trial(tmp_path, 2, "whole"))
    write, seen = vgg.Checkpoint.write, []

    def interrupted(self, net, phase, position):
        write(self, net, phase, position)
        seen.append(phase)
        if seen == ["float", "quantized"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(vgg.Checkpoint, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vgg.main(vgg_trial(tmp_path, 2, "parts"))
    vgg.main(vgg_trial(tmp_path, 2, "parts"))
    assert seen == ["float", "quantized", "quantized"]
    one, other = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, other["net"][key]) for key, value in one["net"].items())
    rows = [
        json.loads((tmp_path / name / "vgg_small.json").read_text())["rows"] for name in ("whole", "parts")
    ]
    assert rows[0][0]["top1"] == rows[1][0]["top1"]


def test_vgg_small_wrong_row(vgg, tmp_path) -> None:
    with pytest.raises(SystemExit, match="rows 1 to 24"):
        vgg.main(["--row", "25", "--checkpoint", str(tmp_path / "x.pt")])


def test_mixed_precision_study_runs_and_its_page_says_what_its_record_says(
    monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    study = importlib.import_module("mixed_precision")
    monkeypatch.setattr(study, "CALIBRATION", 4)
    monkeypatch.setattr(study, "OPTIONS", {"weights.bits": (3, 5)})
    study.main(["--images", "4", "--bits", "4", "--probes", "1", "--out", str(tmp_path)])
    trial = read_record(tmp_path / "results" / "mixed_precision.json")
    assert [row["by"] for row in trial.rows] == ["uniform", "sqnr", "hessian"]
    assert study.tables(trial)["mixed_precision"] in capsys.readouterr().out
    record = read_record(ROOT / "docs" / "results" / "mixed_precision.json")
    page = (ROOT / "docs" / "mixed_precision.md").read_text(encoding="utf-8")
    assert between_markers(page, "mixed_precision") == study.tables(record)["mixed_precision"]
    assert record.command in page
