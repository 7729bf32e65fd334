from __future__ import annotations

import copy
import tomllib
from pathlib import Path

import pytest

import imcsim.devices as devices
from imcsim.devices.card import DeviceCard, read_card
from imcsim.devices.library import library_folder
from imcsim.errors import DeviceError, FileMissingError, ImcsimError

PROMISED = [
    "ideal",
    "hfox_yao2020",
    "neurram_wan2022",
    "cmo_hfox",
    "hfox_binary",
    "pcm_gst",
    "sram_8t_current",
    "sram_10t_charge",
    "sram_xnor",
    "sram_digital",
]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_cards_are_there(name: str) -> None:
    assert name in devices.available()


@pytest.mark.parametrize("name", devices.available())
def test_card_loads_cites_and_reproduces_its_points(name: str) -> None:
    card = devices.load(name)
    assert card.name == name
    window = card.conductance.window()
    devices.DeviceModel(card, g_max_S=window.g_max_S, g_min_S=window.g_min_S)
    for block_name in card.model_fields_set & set(card.blocks()):
        block = card.blocks()[block_name]
        assert block.source in card.sources, block_name
        assert block.confidence in ("A", "B", "C"), block_name
        if block.confidence == "C":
            text = (*block.assumptions, *card.assumptions, *(s.note for s in card.sources.values()))
            assert text, f"{block_name}: confidence C without a word on what was assumed"
    for points in card.points:
        assert devices.residual(card, points) <= points.residual, points.file


def test_cards_with_fits_have_points_for_every_fitted_equation() -> None:
    for name in ("pcm_gst", "neurram_wan2022", "cmo_hfox", "cmo_hfox_fine"):
        quantities = {p.quantity.split(".")[0] for p in devices.load(name).points}
        assert {"programming", "drift"} <= quantities
    # no card claims measured points: those beside them are evaluated from published fits, and say so
    for name in devices.available():
        for points in devices.load(name).points:
            assert points.kind == "evaluated from the published fit"
            assert (library_folder() / points.file).read_text().startswith("# Not measured")


def test_a_residual_that_is_too_large_shows() -> None:
    card = devices.load("pcm_gst")
    points = next(p for p in card.points if p.quantity == "programming.sigma_S")
    table = dict(points.table)
    table["sigma_S"] = tuple(1.1 * s for s in table["sigma_S"])
    assert devices.residual(card, points.model_copy(update={"table": table})) == pytest.approx(
        0.1 / 1.1, rel=1e-3
    )


def test_paper_abstract_10_nS_rederives() -> None:
    import torch

    card = devices.load("cmo_hfox_fine")
    sigma = card.programming.sigma_of(torch.tensor([9e-6], dtype=torch.float64), card.conductance.window())
    assert float(sigma) == pytest.approx(10.4e-9, rel=0.01)


def test_pelgrom_numbers_are_those_the_cards_state() -> None:
    spread = devices.load("sram_8t_current").spread
    assert spread is not None
    assert spread.sigmas()[0] == pytest.approx(0.083, abs=5e-4)
    spread = devices.load("sram_xnor").spread
    assert spread is not None
    assert spread.sigmas()[0] == pytest.approx(0.166, abs=5e-4)
    spread = devices.load("sram_10t_charge").spread
    assert spread is not None
    assert spread.sigmas()[0] == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sram_8t_current", "current"),
        ("sram_10t_charge", "charge"),
        ("sram_xnor", "divider"),
        ("sram_digital", "digital"),
    ],
)
def test_sram_cards_say_how_they_are_read(name: str, kind: str) -> None:
    readout = devices.load(name).readout
    assert readout is not None
    assert readout.kind == kind


# ---- bad input: one clear DeviceError each ----


def raw(name: str) -> dict:
    card = devices.load(name)
    data = tomllib.loads((library_folder() / f"{name}.toml").read_text())
    data.pop("points", None)
    assert DeviceCard.parse(data, name).programming == card.programming
    return data


def broken(name: str, path: str, value: object) -> str:
    data = copy.deepcopy(raw(name))
    *folders, key = path.split(".")
    table = data
    for folder in folders:
        table = table.setdefault(folder, {})
    if value is None:
        del table[key]
    else:
        table[key] = value
    with pytest.raises(DeviceError) as error:
        DeviceCard.parse(data, "mine.toml")
    message = str(error.value)
    assert isinstance(error.value, ImcsimError)
    assert isinstance(error.value, ValueError)
    assert "mine.toml" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        (
            "pcm_gst",
            "programming.equation",
            "polynomal",
            ["polynomal", "Did you mean 'polynomial'?", "lognormal"],
        ),
        ("pcm_gst", "drift.equation", None, ["drift", "equation None", "retention"]),
        ("pcm_gst", "programming.g_ref_S", None, ["programming", "g_ref_S", "missing"]),
        ("pcm_gst", "programming.g_reff_S", 1.0, ["g_reff_S", "unknown key", "Did you mean 'g_ref_S'?"]),
        ("pcm_gst", "programing", {}, ["programing", "unknown key", "Did you mean 'programming'?"]),
        (
            "hfox_yao2020",
            "programming.sigma_S",
            -1e-6,
            ["programming", "sigma_S", "-1e-06", "greater than or equal to 0"],
        ),
        (
            "hfox_yao2020",
            "conductance.g_min_S",
            30e-6,
            ["conductance", "g_min_S = 3e-05", "not below g_max_S"],
        ),
        ("hfox_yao2020", "conductance.on_off_ratio", 10.0, ["g_min_S and on_off_ratio", "one of them"]),
        ("hfox_yao2020", "conductance.levels", 1, ["levels", "greater than or equal to 2"]),
        ("hfox_yao2020", "programming.source", "yao2021", ["yao2021", "[sources]", "yao2020"]),
        ("hfox_yao2020", "programming.confidence", None, ["[programming]", "confidence"]),
        ("pcm_gst", "programming.coefficients_S", [1e-6, -3e-6], ["negative sigma"]),
        ("pcm_gst", "drift.g_ref_S", None, ["g_ref_S is needed"]),
        ("pcm_gst", "drift.nu_std", -0.1, ["nu_std", "not negative"]),
        ("cmo_hfox", "drift.t0_s", 1.0, ["t0_s = 1.0", "age 0 is as programmed"]),
        ("neurram_wan2022", "drift.times_s", [1.0, 2.0], ["2 times but 3"]),
        ("neurram_wan2022", "drift.times_s", [1.0, 3.0, 2.0], ["increase"]),
        ("pcm_gst", "read_noise.white.amplitude", {"equation": "pink"}, ["pink", "proportional"]),
        ("pcm_gst", "technology", "pram", ["technology", "pram"]),
    ],
)
def test_bad_cards_say_what_is_wrong(name: str, path: str, value: object, words: list[str]) -> None:
    message = broken(name, path, value)
    for word in words:
        assert word in message, message


def test_a_name_that_is_almost_right_gets_a_hint() -> None:
    with pytest.raises(
        FileMissingError, match=r"no device card 'pcm_gts'.*cmo_hfox.*Did you mean 'pcm_gst'\?"
    ):
        devices.load("pcm_gts")


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"my\.toml.*does not exist"):
        devices.load(tmp_path / "my.toml")


def test_a_card_of_the_users_own_with_measured_points(tmp_path: Path) -> None:
    (tmp_path / "sigma.csv").write_text("# from the lab\ng_S,sigma_S\n1e-6,1e-7\n5e-6,2e-7\n1e-5,4e-7\n")
    (tmp_path / "mine.toml").write_text(
        """
schema = 1
name = "mine"
title = "Lab device"
technology = "rram"
confidence = "B"
[sources.lab]
authors = "us"
venue = "lab book"
year = 2025
[conductance]
g_max_S = 1e-5
g_min_S = 1e-6
source = "lab"
confidence = "B"
[programming]
equation = "table"
file = "sigma.csv"
source = "lab"
confidence = "B"
[[points]]
file = "sigma.csv"
quantity = "programming.sigma_S"
kind = "measured"
residual = 1e-9
"""
    )
    card = devices.load(str(tmp_path / "mine.toml"))
    assert devices.residual(card, card.points[0]) < 1e-12
    (tmp_path / "sigma.csv").write_text("g_S,sigma_S\n1e-6,many\n")
    with pytest.raises(DeviceError, match=r"sigma\.csv' line 2: 'many' is not a number"):
        read_card(tmp_path / "mine.toml")
    (tmp_path / "sigma.csv").unlink()
    with pytest.raises(FileMissingError, match=r"sigma\.csv"):
        read_card(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text("schema = ")
    with pytest.raises(DeviceError, match="is not TOML"):
        read_card(tmp_path / "mine.toml")


def test_windows_follow_card_and_override() -> None:
    conductance = devices.load("hfox_yao2020").conductance
    assert conductance.window() == devices.Window(20e-6, 2e-6)
    assert conductance.window(on_off_ratio=float("inf")).g_min_S == 0.0
    assert conductance.window(g_max_S=10e-6, on_off_ratio=4.0).g_min_S == pytest.approx(2.5e-6)
    assert devices.load("ideal").conductance.window() == devices.Window(1.0, 0.0, normalised=True)
    with pytest.raises(DeviceError, match=r"on_off_ratio = 0\.5"):
        conductance.window(on_off_ratio=0.5)
    with pytest.raises(DeviceError, match="0 <= g_min_S < g_max_S"):
        devices.Window(1e-6, 2e-6)
    with pytest.raises(DeviceError, match="g_max_S"):
        devices.Window(0.0, 0.0)
