"""Fits: a known device is found within the intervals that are stated, and wrong files say what is wrong.

Coverage is tested over seeds: of n intervals of 95 %, at least ``0.95 n - Z sqrt(0.95 0.05 n)`` hold the
truth.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from torch import nn

import imcsim
from imcsim import devices
from imcsim.devices.base import Window
from imcsim.devices.fitting import RECIPES
from imcsim.devices.switching import SWITCHING
from imcsim.errors import DeviceError, FileMissingError
from tests.tolerances import Z

PULSE = {"voltage_V": 1.6, "width_s": 50e-9}
OPTIONS = {"pulse_up": PULSE, "pulse_down": PULSE}
WINDOW = Window(1e-5, 1e-6)
SEEDS = 30


def write(path: Path, **columns) -> Path:
    table = np.column_stack([np.asarray(c, dtype=float) for c in columns.values()])
    np.savetxt(path, table, delimiter=",", header=",".join(columns), comments="", fmt="%.12g")
    return path


def targets(rng, low=2e-6, high=2e-5, n=400):
    return rng.uniform(low, high, n)


def pulse_csv(path: Path, kind: str, seed: int, cells: int, pulses: int, **parameters) -> Path:
    m = SWITCHING[kind].model_validate({"equation": kind, "up": PULSE, "down": PULSE, **parameters})
    rng = np.random.default_rng(seed)
    own = m.draw((cells,), rng)
    columns: dict[str, list] = {"pulse": [], "direction": [], "g_S": [], "cell": []}
    for way, start in ((1, 0.0), (-1, 1.0)):
        x = torch.full((cells,), start, dtype=torch.float64)
        for k in range(pulses + 1):
            columns["pulse"] += [k] * cells
            columns["direction"] += [way] * cells
            columns["g_S"] += m.conductance_S(x, WINDOW, own).tolist()
            columns["cell"] += list(range(cells))
            x = m.apply(x, 1, way > 0, own, rng)
    order = np.lexsort((columns["pulse"], -np.array(columns["direction"]), columns["cell"]))
    return write(path, **{k: np.array(v)[order] for k, v in columns.items()})


def make(kind: str, path: Path, seed: int):
    """(file, equation, options, true parameters) of a synthetic device."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal
    if kind.startswith("programming."):
        t = targets(rng)
        sigma, truth = {
            "constant": (4e-7 + 0 * t, {"sigma_S": 4e-7}),
            "proportional": (0.06 * t, {"sigma_norm": 0.06}),
            "range": (0.02 * (t.max() - t.min()) + 0 * t, {"sigma_norm": 0.02}),
            "lognormal": (None, {"sigma_norm": 0.3}),
            "polynomial": (
                (0.3 + 1.9 * (t / t.max()) - 1.1 * (t / t.max()) ** 2) * 1e-6,
                {"coefficient_0_S": 0.3e-6, "coefficient_1_S": 1.9e-6, "coefficient_2_S": -1.1e-6},
            ),
        }[kind.split(".")[1]]
        g = t * np.exp(0.3 * z(t.size)) if sigma is None else t + sigma * z(t.size)
        return write(path, target_S=t, g_S=g), kind, {}, truth
    if kind == "levels":
        level = np.tile(np.arange(4), 30)
        g = np.array([1e-6, 3e-6, 4e-6, 9e-6])[level] + 2e-7 * z(level.size)
        truth = {f"level_{k}_S": v for k, v in enumerate((1e-6, 3e-6, 4e-6, 9e-6))}
        return write(path, level=level, g_S=g), kind, {}, {**truth, "sigma_S": 2e-7}
    if kind == "drift.power_law":
        n, times = 60, np.geomspace(1, 1e5, 10)
        nu = np.repeat(0.06 + 0.012 * z(n), len(times))
        t = np.tile(times, n)
        g = (
            np.repeat(rng.uniform(5e-6, 2e-5, n), len(times))
            * (1 + t / 20) ** -nu
            * np.exp(0.004 * z(t.size))
        )
        file = write(path, cell=np.repeat(np.arange(n), len(times)), time_s=t, g_S=g)
        return file, kind, {"t0_s": 20.0}, {"nu_mean": 0.06, "nu_std": 0.012}
    if kind.startswith("read_noise."):
        cell = np.repeat(np.arange(30), 20)
        g = np.linspace(2e-6, 2e-5, 30)[cell]
        sigma, truth = {
            "proportional": (0.03 * g, {"sigma_norm": 0.03}),
            "constant": (2e-7 + 0 * g, {"sigma_S": 2e-7}),
            "range": (0.01 * 1.8e-5 + 0 * g, {"sigma_norm": 0.01}),
        }[kind.split(".")[1]]
        return write(path, cell=cell, g_S=g + sigma * z(g.size)), kind, {}, truth
    if kind == "iv.sinh":
        v = np.linspace(-0.6, 0.6, 61)
        file = write(path, voltage_V=v, current_A=1e-5 * 0.25 * np.sinh(v / 0.25) + 5e-8 * z(v.size))
        return file, kind, {}, {"g_S": 1e-5, "v0_V": 0.25}
    rules = {
        "switching.neurosim": {"nl_up": 1.75, "nl_down": -2.4},
        "switching.linear": {"step_up": 0.02, "step_down": 0.025},
        "switching.soft_bounds": {"step_up": 0.08, "step_down": 0.05},
        "switching.power": {"step_up": 0.05, "gamma_up": 1.5, "step_down": 0.05, "gamma_down": 0.7},
    }
    truth = {**rules[kind], "c2c_sigma_norm": 0.01}
    fixed = {"pulses_up": 50, "pulses_down": 50} if kind == "switching.neurosim" else {}
    cells = 2 if kind == "switching.power" else 6
    file = pulse_csv(path, kind.split(".")[1], seed, cells, 50, **truth, **fixed)
    return file, kind, OPTIONS, truth


KINDS = [kind for kind in RECIPES if not kind.endswith(".table")]


@pytest.mark.parametrize("kind", KINDS)
def test_truth_lies_in_the_stated_interval_as_often_as_stated(kind: str, tmp_path) -> None:
    hits = total = 0
    for seed in range(SEEDS if not kind.startswith("switching") else 10):
        file, equation, options, truth = make(kind, tmp_path / "m.csv", seed)
        got = devices.fit(file, equation=equation, **options)
        # means of six cells have few degrees of freedom, so normal intervals over cells are left out
        skip = (
            () if kind not in ("switching.neurosim", "switching.linear", "switching.soft_bounds") else truth
        )
        for name, value in truth.items():
            if name in skip and name != "c2c_sigma_norm":
                continue
            estimate = got.parameters[name]
            assert estimate.low <= estimate.value <= estimate.high
            hits += estimate.low <= value <= estimate.high
            total += 1
        assert got.residual_rms == pytest.approx(1.0, abs=0.15)
    assert hits >= 0.95 * total - Z * math.sqrt(0.95 * 0.05 * total)


@pytest.mark.parametrize(
    ("kind", "truth", "spread"),
    [
        ("neurosim", {"nl_up": 1.75, "nl_down": -2.4}, ("nl_sigma", 0.25)),
        ("soft_bounds", {"step_up": 0.08, "step_down": 0.05}, ("step_sigma_norm", 0.2)),
        ("linear", {"step_up": 0.02, "step_down": 0.025}, ("step_sigma_norm", 0.15)),
    ],
)
def test_cells_that_differ_are_told_from_pulses_that_do(kind, truth, spread, tmp_path) -> None:
    """Both variations of 20 cells and the means lie in their intervals as often as stated.

    With 40 cells and 100 seeds of neurosim it was 95 to 98 % (nl_up, nl_down, nl_sigma).
    """
    fixed = {"pulses_up": 60, "pulses_down": 60} if kind == "neurosim" else {}
    everything = {**truth, spread[0]: spread[1], "c2c_sigma_norm": 0.006}
    hits = total = 0
    for seed in range(100, 110):
        file = pulse_csv(tmp_path / "p.csv", kind, seed, 20, 60, **everything, **fixed)
        got = devices.fit(file, equation=f"switching.{kind}", **OPTIONS)
        hits += sum(got.parameters[n].low <= v <= got.parameters[n].high for n, v in everything.items())
        total += len(everything)
    assert hits >= 0.95 * total - Z * math.sqrt(0.95 * 0.05 * total)


def test_a_single_train_is_enough(tmp_path) -> None:
    file = pulse_csv(
        tmp_path / "p.csv", "neurosim", 0, 1, 40, nl_up=2.0, nl_down=-3.0, pulses_up=40, pulses_down=40
    )
    got = devices.fit(file, equation="switching.neurosim", **OPTIONS)
    assert got.parameters["nl_up"].value == pytest.approx(2.0, abs=1e-6)
    assert got.parameters["nl_down"].value == pytest.approx(-3.0, abs=1e-6)


def test_tables_hold_what_was_measured(tmp_path) -> None:
    rng = np.random.default_rng(0)
    t = np.repeat([2e-6, 5e-6, 1e-5], 200)
    file = write(
        tmp_path / "p.csv", target_S=t, g_S=t + np.repeat([1e-7, 3e-7, 2e-7], 200) * rng.standard_normal(600)
    )
    got = devices.fit(file, equation="programming.table")
    card = devices.load(got.save(tmp_path / "t.toml"))
    sigma = card.programming.sigma_of(torch.tensor([2e-6, 5e-6, 1e-5]), card.conductance.window())
    assert sigma.tolist() == pytest.approx([1e-7, 3e-7, 2e-7], rel=Z / math.sqrt(400))
    file = pulse_csv(
        tmp_path / "c.csv", "neurosim", 0, 3, 30, nl_up=1.0, nl_down=-1.0, pulses_up=30, pulses_down=30
    )
    got = devices.fit(file, equation="switching.table", **OPTIONS)
    card = got.card("t")
    want = SWITCHING["neurosim"].model_validate(
        {"equation": "neurosim", "up": PULSE, "down": PULSE, "nl_up": 1.0, "nl_down": -1.0}
        | {"pulses_up": 30, "pulses_down": 30}
    )
    torch.testing.assert_close(
        card.switching.trace(WINDOW, "up"), want.trace(WINDOW, "up"), rtol=1e-6, atol=1e-14
    )


def test_a_whole_card_grows_fit_by_fit_and_writes_a_network(tmp_path) -> None:
    """The recipe of docs/your_own_device.md: the fitted card's accuracy equals the true one's, chip by chip.

    Draws are keyed, so that both chips of a seed have the same normals; outputs then differ by what the
    parameters differ, a few percent of the noise. Agreement in top-1 within 2 points of 500 samples.
    """
    path = tmp_path / "mine.toml"
    for kind in ("programming.proportional", "read_noise.proportional", "drift.power_law"):
        file, equation, options, _ = make(kind, tmp_path / "m.csv", 3)
        devices.fit(file, equation=equation, **options).save(path)
    file, equation, options, _ = make("switching.neurosim", tmp_path / "m.csv", 3)
    devices.fit(file, equation=equation, **options).save(path)
    card = devices.load(path)
    assert card.name == "mine"
    assert set(card.blocks()) >= {"conductance", "programming", "read_noise", "drift", "switching"}
    assert len(card.sources) == 4
    true = card.model_copy(
        update={
            "programming": card.programming.model_copy(update={"sigma_norm": 0.06}),
            "drift": card.drift.model_copy(update={"nu_mean": 0.06, "nu_std": 0.012}),
            "read_noise": devices.load(path).read_noise.model_copy(
                update={
                    "white": card.read_noise.white.model_copy(
                        update={
                            "amplitude": card.read_noise.white.amplitude.model_copy(
                                update={"sigma_norm": 0.03}
                            )
                        }
                    )
                }
            ),
        }
    )
    found = {}
    for name, device in (("fitted", card), ("true", true)):
        found[name] = [accuracy(device, tmp_path / f"{name}.toml", seed) for seed in range(3)]
    assert found["fitted"] == pytest.approx(found["true"], abs=0.02)
    assert max(found["true"]) < 0.97  # the device costs something: agreement is not for want of noise


def accuracy(device, path: Path, seed: int) -> float:
    data = device.model_dump(
        by_alias=True, exclude_none=True, exclude_unset=True, serialize_as_any=True, mode="json"
    )
    path.write_text(tomli_w.dumps(data))
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(32, 10)
    layer.weight.data = torch.randn(10, 32, generator=generator)
    layer.bias.data.zero_()
    x = torch.rand(500, 32, generator=generator)
    chip = imcsim.Hardware.model_validate({"device": {"card": str(path)}, "inputs": {"range": "dynamic"}})
    sim = imcsim.convert(layer, chip)
    imcsim.program(sim, seed=seed)
    imcsim.age(sim, 1e4)
    imcsim.seed_reads(sim, seed)
    return float((sim(x).argmax(1) == layer(x).argmax(1)).float().mean())


def test_prints_plots_and_leaves_other_tables_alone(tmp_path) -> None:
    file, equation, options, _ = make("programming.proportional", tmp_path / "m.csv", 0)
    got = devices.fit(file, equation=equation, **options)
    assert "sigma_norm = 0.0" in str(got)
    assert "95 % intervals" in str(got)
    ax = got.plot()
    ax.figure.savefig(tmp_path / "fit.png")
    path = tmp_path / "mine.toml"
    path.write_text(
        'schema = 1\nname = "mine"\ntitle = "x"\ntechnology = "pcm"\nconfidence = "A"\n'
        '[sources.me]\nauthors = "me"\nvenue = "lab"\nyear = 2026\n'
        '[conductance]\ng_max_S = 3e-5\nsource = "me"\nconfidence = "A"\n'
    )
    card = devices.load(got.save(path))
    assert card.conductance.g_max_S == 3e-5
    assert card.technology == "pcm"
    assert card.programming.sigma_norm == got.parameters["sigma_norm"].value
    assert got.card("other", technology="fefet").technology == "fefet"


def test_biased_cells_are_noted(tmp_path) -> None:
    rng = np.random.default_rng(0)
    t = targets(rng)
    file = write(tmp_path / "m.csv", target_S=t, g_S=1.05 * t + 0.02 * t * rng.standard_normal(t.size))
    got = devices.fit(file, equation="programming.proportional")
    assert any("the equation has no bias" in note for note in got.notes)


def test_cells_near_zero_are_left_out_of_the_error(tmp_path) -> None:
    rng = np.random.default_rng(0)
    t = np.repeat(np.linspace(0, 1e-5, 21), 50)
    g = (t + 5e-7 * rng.standard_normal(t.size)).clip(min=0)
    got = devices.fit(write(tmp_path / "m.csv", target_S=t, g_S=g), equation="programming.constant")
    assert any("rows left out" in note for note in got.notes)
    assert got.parameters["sigma_S"].value == pytest.approx(5e-7, rel=Z / math.sqrt(2 * got.rows))


@pytest.mark.parametrize(
    ("equation", "columns", "options", "words"),
    [
        (
            "programming.range",
            {"target": [1, 2]},
            {},
            r"no column 'target_S'.*Did you mean 'target'\?.*It has target",
        ),
        ("programming.range", {"target_S": [1, 2], "g_S": [1, 2]}, {}, "2 rows, but equation .* needs 10"),
        ("programming.range", {"target_S": [1e-6] * 10, "g_S": [1e-6] * 10}, {}, "at least two different"),
        ("programming.constant", {"target_S": [1e-6] * 10, "g_S": [1e-6] * 10}, {}, "no error to fit"),
        ("programming.constant", {"target_S": [-1e-6] * 10, "g_S": [1e-6] * 10}, {}, "0 or more"),
        (
            "drift.power_law",
            {"cell": [0] * 9, "time_s": range(9), "g_S": [-1] + [1] * 8},
            {},
            "row 1, but must be above",
        ),
        (
            "drift.power_law",
            {"cell": [0] * 9, "time_s": range(9), "g_S": [1] * 9},
            {},
            "1 cells; drift needs at least 3",
        ),
        ("drift.power_law", {"cell": [0.5] * 9, "time_s": range(9), "g_S": [1] * 9}, {}, "whole number"),
        ("read_noise.range", {"cell": range(12), "g_S": [1] * 12}, {}, "0 repeated reads"),
        (
            "iv.sinh",
            {"voltage_V": [0, 1, 1, -1], "current_A": [0, 1, 1, -1]},
            {},
            "3 or more different voltages",
        ),
        (
            "levels",
            {"level": [0, 0, 1, 1], "g_S": [2, 2, 1, 1]},
            {},
            "level 1 conducts 1 S on average, not more",
        ),
        (
            "switching.linear",
            {"pulse": range(4), "direction": [1] * 4, "g_S": range(4)},
            {},
            "give pulse_up = ",
        ),
        (
            "switching.linear",
            {"pulse": range(4), "direction": [1] * 4, "g_S": range(4)},
            OPTIONS,
            "rising and falling trains are needed",
        ),
        (
            "switching.linear",
            {"pulse": [0, 2, 3, 4], "direction": [1] * 4, "g_S": range(4)},
            OPTIONS,
            "pulse 2 follows pulse 0",
        ),
        (
            "switching.linear",
            {"pulse": range(4), "direction": [2] * 4, "g_S": range(4)},
            OPTIONS,
            "direction = 2; 1 where pulses raise",
        ),
        (
            "switching.linear",
            {"pulse": [0, 1, 0, 1], "direction": [1, 1, -1, -1], "g_S": [5, 6, 2, 1]},
            OPTIONS,
            "must start at the ends",
        ),
        (
            "proportional",
            {"cell": [1], "g_S": [1]},
            {},
            "in several blocks; say which: programming.proportional",
        ),
        (
            "drift.powerlaw",
            {"cell": [1]},
            {},
            r"cannot be fitted; allowed: levels.*Did you mean 'drift.power_law'",
        ),
        (
            "sinh",
            {"voltage_V": range(4), "current_A": range(4)},
            {"t0_s": 1.0},
            "'t0_s' is not one .* allowed: none",
        ),
        ("polynomial", {"target_S": [1]}, {"degree": 9}, "degree = 9; give a whole number from 0 to 6"),
    ],
)
def test_wrong_files_and_options(equation, columns, options, words, tmp_path) -> None:
    file = write(tmp_path / "m.csv", **columns)
    with pytest.raises(DeviceError, match=words):
        devices.fit(file, equation=equation, **options)


def test_missing_file_and_bad_paths(tmp_path) -> None:
    with pytest.raises(FileMissingError, match=r"do not exist; give the path of a \.csv file"):
        devices.fit(tmp_path / "no.csv", equation="levels")
    file, equation, options, _ = make("levels", tmp_path / "m.csv", 0)
    got = devices.fit(file, equation=equation, **options)
    with pytest.raises(DeviceError, match=r"end it in \.toml"):
        got.save(tmp_path / "card.json")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(DeviceError, match="is not TOML"):
        got.save(tmp_path / "bad.toml")
