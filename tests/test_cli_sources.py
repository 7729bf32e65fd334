"""`imcsim sweep`, and networks that are not the zoo's on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import imcsim
from imcsim import cli
from imcsim.cli.sweep import FAILED
from imcsim.results import read_record
from tests.sweep import toys

NETWORK = ["--model", "tests.sweep.toys:net"]
STUDY = """
[study]
model = "tests.sweep.toys:net"
data = "tests.sweep.toys:images"
images = 20
repeats = 2

[hardware.adc]
bits = 8
range = "calibrated"

[hardware.device]
programming = { kind = "range", sigma = 0.02 }

[axes]
"adc.bits" = [5, 8]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), prog_name="imcsim", catch_exceptions=False)


@pytest.fixture
def study(tmp_path) -> Path:
    file = tmp_path / "bits.toml"
    file.write_text(STUDY)
    return file


def test_a_sweep_says_what_it_will_do_does_it_and_does_nothing_again(study, tmp_path):
    plan = json.loads(run("sweep", str(study), "--dry-run", "--json").stdout)
    assert (plan["points"], plan["done"], plan["to_do"]) == (4, 0, 4)
    assert plan["seconds"] == pytest.approx(4 * plan["seconds_each"])
    assert "4 points: 0 done" in run("sweep", str(study), "--dry-run").stdout
    found = json.loads(run("sweep", str(study), "--json", "--csv", str(tmp_path / "a.csv")).stdout)
    assert [row["adc.bits"] for row in found["rows"]] == [5, 5, 8, 8]
    assert found["failed"] == 0
    assert len(pd.read_csv(tmp_path / "a.csv")) == 4
    again = json.loads(run("sweep", str(study), "--json", "--record", str(tmp_path)).stdout)
    assert again["rows"] == found["rows"]  # the seconds too: nothing was measured anew
    assert read_record(tmp_path / "bits.json").command == f"imcsim sweep {study}"
    assert json.loads(run("sweep", str(study), "--dry-run", "--json").stdout)["seconds"] == 0
    table = run("sweep", str(study)).stdout
    assert all(word in table for word in ("adc.bits", "top1", "4 rows in", "0 failed"))


def test_a_sweep_with_failures_ends_with_another_code(study, tmp_path):
    study.write_text(STUDY.replace("[5, 8]", "[5, 99]"))
    done = run("sweep", str(study), "--rows", str(tmp_path / "here.sqlite"))
    assert done.exit_code == FAILED
    assert "2 failed" in done.stdout
    assert (tmp_path / "here.sqlite").is_file()


def test_a_sweep_with_a_search_table_searches(study):
    goals = '[search]\ntrials = 3\nobjectives = { top1 = "maximize", energy_J = "minimize" }\n'
    study.write_text(STUDY.replace("images = 20", "images = 20\ncosts = true") + goals)
    found = json.loads(run("sweep", str(study), "--json").stdout)
    assert len(found["trials"]) == 3
    assert "front of 3 trials" in run("sweep", str(study)).stdout
    assert "a search of 3 trials over adc.bits" in run("sweep", str(study), "--dry-run").stdout


def test_evaluate_takes_a_network_and_data_from_elsewhere():
    arguments = ["--dataset", "tests.sweep.toys:images", "--images", "20", "--hardware", "isaac", "--json"]
    found = json.loads(run("evaluate", *NETWORK, *arguments).stdout)
    model, (images, labels) = toys.net(), toys.images()
    chip = imcsim.load_hardware("isaac")
    sim = imcsim.convert(model, chip)
    imcsim.calibrate(sim, [images])
    want = imcsim.evaluate(sim, [(images[:20], labels[:20])], reference=model)
    assert found["chip"]["top1"] == want.top1
    assert found["chip"]["sqnr_db"] == pytest.approx(want.sqnr_db, abs=1e-3)


def test_estimate_takes_a_network_from_elsewhere():
    found = json.loads(run("estimate", *NETWORK, "--shape", "1,8,8", "--json").stdout)
    want = imcsim.estimate(toys.net(), toys.images()[0][:1], imcsim.load_hardware("isaac"))
    assert found["energy_J"] == want.energy_J


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "none.toml"], "study file 'none.toml' does not exist"),
        (["sweep"], "Missing argument"),
        (["evaluate", *NETWORK], "says nothing of its data"),
        (["evaluate", "--model", "a.pt"], "is a checkpoint: weights without a network"),
        (["evaluate", "--model", "none.onnx"], "'none.onnx' does not exist"),
        (["evaluate", *NETWORK, "--dataset", "cifar"], "Did you mean 'cifar10'?"),
        (["estimate", *NETWORK], "add --shape"),
        (["estimate", *NETWORK, "--shape", "1x8"], "is not a list of sizes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says):
    done = run(*arguments)
    assert done.exit_code == cli.BAD_INPUT
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_sweep_s_options_are_checked(study):
    assert "--backend 'dask' is not one of" in run("sweep", str(study), "--backend", "dask").stderr
    study.write_text(STUDY + "[search]\ntrials = 2\n")
    assert "it needs objectives and trials" in run("sweep", str(study)).stderr


def test_shells_can_complete():
    assert "--install-completion" in run("--help").stdout
