"""Every published chip: loads, round-trips, runs a network, and is exact where its converters lose
nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim import ppa, presets
from imcsim.errors import HardwareError

NAMES = presets.available()
DOCS = Path(__file__).parents[1] / "docs" / "chips"
LOSSLESS = ("chen2022", "isaac", "isaac_pe", "isaac_se", "pipelayer", "puma")
"""Presets whose converters, as shipped, lose nothing on full arrays."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integer_product(layer: nn.Linear, x: Tensor, chip: imcsim.Hardware, peak: float) -> Tensor:
    """The layer on integers, worked out from the contract's arithmetic alone."""
    w, weights, inputs = layer.weight.detach(), chip.weights.bits, chip.inputs.bits
    if weights == 1:
        w_int, s_w = torch.where(w > 0, 1.0, -1.0).double(), w.abs().mean()
    else:
        s_w = w.abs().max() / (2 ** (weights - 1) - 1)
        w_int = (w / s_w).round()
    signed = chip.inputs.signed
    if inputs == 1 and signed:
        x_int, s_x = torch.where(x > 0, 1.0, -1.0).double(), peak
    else:
        s_x = peak / (2 ** (inputs - signed) - 1)
        x_int = (x.clamp(-peak if signed else 0, peak) / s_x).round()
    return (x_int @ w_int.T) * (s_w * s_x)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_and_round_trips(name: str, tmp_path: Path) -> None:
    chip = imcsim.load_hardware(name)
    assert chip.name == name
    chip.save(tmp_path / "chip.toml")
    assert imcsim.load_hardware(tmp_path / "chip.toml") == chip


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_page(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for part in ("The paper says.", "Modelled.", "Departs.", "Unknown."):
        assert f"**{part}**" in text
    assert f"({name}.md)" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_the_presets_of_the_issue_are_there() -> None:
    asked = (
        "isaac isaac_pe isaac_se pipelayer puma xnor_rram sun2018_parallel zhu2019 liu2021 wang2019 yao2020 "
    )
    asked += "gi2022 chen2022 kim2022 conv_sram xnor_sram"
    assert asked.split() == sorted(NAMES, key=asked.split().index)


@pytest.mark.parametrize("name", NAMES)
def test_every_component_says_who_says_so(name: str) -> None:
    for row in imcsim.load_hardware(name).peak().rows:
        assert row.source
        assert row.confidence in ("A", "B", "C")


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_a_small_network(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)).eval()
    x = torch.randn(5, 2, 6, 6, generator=generator(1))
    sim = imcsim.convert(net, imcsim.load_hardware(name))
    imcsim.calibrate(sim, [x])
    y = sim(x)
    assert y.isfinite().all()
    assert torch.allclose(sim(x[2:4]), y[2:4], rtol=1e-5, atol=1e-6)
    assert imcsim.estimate(sim, x).energy_J > 0


@pytest.mark.parametrize("as_shipped", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_integer_network_where_converters_lose_nothing(name: str, as_shipped: bool) -> None:
    """With the preset's converters where they suffice, else with as many bits as that takes."""
    if as_shipped != (name in LOSSLESS):
        return
    chip = imcsim.load_hardware(name)
    peak = 1.0 if chip.inputs.bits <= 2 else 3.0
    signed = chip.inputs.signed if isinstance(chip.inputs.signed, bool) else True
    chip = chip.replace({"inputs.range": peak, "inputs.signed": signed})
    if not as_shipped:
        plain = {"kind": "uniform", "subtract": chip.adc.subtract, "per": chip.adc.per}
        chip = chip.replace({"adc": plain})
        chip = chip.replace({"adc.bits": ppa.lossless_bits(chip, signed=signed)})
    divider = chip.array.readout == "divider"  # counts exactly where every line is driven
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = nn.Linear(512 if divider else 300, 9, bias=False).double()
    x = torch.randn(8, layer.in_features, dtype=torch.float64, generator=generator(2)).clamp(-peak, peak)
    x = x.sign() if divider else x
    assert torch.equal(imcsim.convert(layer, chip)(x), integer_product(layer, x, chip, peak))


def test_presets_that_extend_another_differ_only_where_they_say(tmp_path: Path) -> None:
    base, variant = (imcsim.load_hardware(name) for name in ("isaac", "isaac_pe"))
    assert variant.replace({"name": "isaac", "tile.units_per_tile": 12}) == base
    own = tmp_path / "mine.toml"
    own.write_text('extends = "isaac"\n[adc]\nbits = 6\n')
    assert imcsim.load_hardware(own) == base.replace({"adc.bits": 6})
    same_name = tmp_path / "isaac.toml"  # one's own version of a preset
    same_name.write_text(own.read_text())
    assert imcsim.load_hardware(same_name) == imcsim.load_hardware(own)
    own.write_text('extends = "isac"\n')
    with pytest.raises(HardwareError, match=r"mine\.toml.*extends = 'isac' is not another preset.*'isaac'"):
        imcsim.load_hardware(own)
    own.write_text('extends = "isaac"\n[adc]\nbitz = 6\n')
    with pytest.raises(HardwareError, match=r"mine\.toml.*bitz"):
        imcsim.load_hardware(own)


# ---- what single chips compute


def test_ternary_inputs_of_xnor_sram_drive_neither_line_at_zero() -> None:
    chip = imcsim.load_hardware("xnor_sram").replace({"inputs.range": 1.0, "adc": None})
    layer = nn.Linear(40, 6, bias=False).double()
    x = torch.randint(-1, 2, (7, 40), generator=generator(4)).double()
    assert bool((x == 0).any())
    sim = imcsim.convert(layer, chip)
    product = x @ torch.where(layer.weight > 0, 1.0, -1.0).double().T * layer.weight.abs().mean()
    assert torch.allclose(sim(x), product, rtol=1e-12)


def test_neurons_of_sun2018_are_one_and_zero() -> None:
    chip = imcsim.load_hardware("sun2018_parallel").replace({"inputs.range": 1.0, "adc": None})
    layer = nn.Linear(40, 6, bias=False).double()
    x = torch.randint(0, 2, (7, 40), generator=generator(5)).double()
    sim = imcsim.convert(layer, chip)
    product = x @ torch.where(layer.weight > 0, 1.0, -1.0).double().T * layer.weight.abs().mean()
    assert torch.allclose(sim(x), product, rtol=1e-12)


def test_yao_weights_have_fifteen_levels() -> None:
    chip = imcsim.load_hardware("yao2020")
    sim = imcsim.convert(nn.Linear(64, 64), chip)
    codes = sim.array.written.w_int
    assert (int(codes.min()), int(codes.max())) in ((-7, 7), (-7, 6), (-6, 7))
    imcsim.convert(nn.Linear(64, 64), chip.replace({"device.card": "hfox_yao2020", "device.g_max_S": None}))


def test_zhu_spreads_a_weight_over_fourteen_arrays() -> None:
    report = ppa.estimate_layers([ppa.LayerShape("full", 1, 256, 256)], imcsim.load_hardware("zhu2019"))
    assert report.rows[0].arrays == 14
