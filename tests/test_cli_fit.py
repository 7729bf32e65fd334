"""`imcsim devices fit`: a fit printed, a card and a figure written, and one line for bad input."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from imcsim import cli, devices


def run(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments), prog_name="imcsim", catch_exceptions=False)


def csv_of(path):
    rng = np.random.default_rng(0)
    target = rng.uniform(2e-6, 2e-5, 300)
    table = np.column_stack([target, target * (1 + 0.05 * rng.standard_normal(300))])
    np.savetxt(path, table, delimiter=",", header="target_S,g_S", comments="")
    return str(path)


def test_prints_and_writes(tmp_path) -> None:
    file, card, plot = csv_of(tmp_path / "m.csv"), tmp_path / "mine.toml", tmp_path / "fit.png"
    where = ("--card", str(card), "--plot", str(plot))
    done = run("devices", "fit", file, "--equation", "programming.proportional", *where)
    assert done.exit_code == 0, done.output
    assert "sigma_norm = 0.0" in done.stdout
    assert done.stderr.splitlines() == [f"{card} written", f"{plot} written"]
    assert devices.load(card).programming.equation == "proportional"
    assert plot.read_bytes().startswith(b"\x89PNG")
    done = run("devices", "fit", file, "--equation", "polynomial", "--option", "degree=1", "--json")
    assert list(json.loads(done.stdout)["parameters"]) == ["coefficient_0_S", "coefficient_1_S"]


def test_bad_input_is_one_line(tmp_path) -> None:
    file = csv_of(tmp_path / "m.csv")
    for arguments, words in (
        (("--equation", "sinh"), "no column 'voltage_V'"),
        (("--equation", "polynomial", "--option", "degree"), "is not NAME=VALUE"),
        (("--equation", "polynomial", "--option", "degree=["), "is not NAME=VALUE"),
        (("--equation", "programming.range", "--plot", str(tmp_path / "a.xyz")), "has no known ending"),
    ):
        done = run("devices", "fit", file, *arguments)
        assert done.exit_code == cli.BAD_INPUT
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
