"""Write-verify: the loop by hand, its distribution, its costs, and whole networks written by it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import imcsim
from imcsim import devices
from imcsim.devices import WriteReport, bind_write_verify, load, write_verify
from imcsim.devices.model import DeviceModel
from imcsim.errors import DeviceError, HardwareError
from imcsim.functional.noise import keyed_generator
from tests.devices.test_model import small_card
from tests.tolerances import Z

PULSE = {"voltage_V": 2.0, "width_s": 1e-6}
LINEAR = {"equation": "linear", "step_up": 0.1, "step_down": 0.1, "up": PULSE, "down": PULSE}
WRITE = {"kind": "write_verify", "tolerance": 0.02, "max_pulses": 100}


def card(**switching):
    return small_card(conductance={"g_max_S": 1.1e-5, "g_min_S": 1e-6}, switching={**LINEAR, **switching})


def test_without_noise_a_cell_takes_the_pulses_one_counts_by_hand() -> None:
    target = torch.tensor([1e-6, 1.4e-6, 3.1e-6, 1.1e-5], dtype=torch.float64)
    got = write_verify(card(), target, tolerance=0.06, max_pulses=20)
    assert got.pulses.tolist() == [0, 0, 2, 10]
    assert got.reads.tolist() == [1, 1, 3, 11]
    assert bool(got.converged.all())
    torch.testing.assert_close(
        got.conductance_S, torch.tensor([1e-6, 1e-6, 3e-6, 1.1e-5]), rtol=1e-6, atol=1e-12
    )
    # V^2 t times the conductance before each pulse
    assert float(got.energy_J[2]) == pytest.approx(4 * 1e-6 * (1e-6 + 2e-6))
    assert got.time_s.tolist() == pytest.approx([1e-7, 1e-7, 2 * 1e-6 + 3e-7, 1e-5 + 11e-7])


def test_steps_that_are_too_large_never_arrive_and_stop() -> None:
    target = torch.full((5,), 1e-6 + 0.55e-5, dtype=torch.float64)
    got = write_verify(card(), target, tolerance=0.01, max_pulses=30)
    assert not bool(got.converged.any())
    assert got.pulses.tolist() == [30] * 5
    again = write_verify(card(), target, tolerance=0.01, max_pulses=30, retries=2)
    assert again.pulses.tolist() == [3 * 30 + 2 * 10] * 5
    assert again.report().failed == 5


def test_small_steps_leave_one_step_below_the_target() -> None:
    """Approached from below without noise, a cell stops at the first step within tolerance."""
    got = write_verify(card(step_up=0.001), tolerance=0.01, max_pulses=2000, cells=500)
    error = got.error_S / 1e-5
    assert bool(got.converged.all())
    assert float(error.min()) >= -0.01 - 1e-6
    assert float(error.max()) <= 0.001 + 1e-6


def test_read_noise_widens_what_is_accepted() -> None:
    quiet = card(step_up=0.02, step_down=0.02, c2c_sigma_norm=0.01)
    noisy = quiet.model_copy(
        update={
            "read_noise": devices.load("cmo_hfox").read_noise.model_copy(
                update={
                    "white": devices.load("cmo_hfox").read_noise.white.model_copy(
                        update={
                            "amplitude": devices.EQUATIONS["read_noise"]["range"](
                                equation="range", sigma_norm=0.02
                            ),
                            "read_time_s": None,
                        }
                    ),
                    "flicker": None,
                }
            )
        }
    )
    a, b = (write_verify(c, tolerance=0.01, max_pulses=500, cells=4000).report() for c in (quiet, noisy))
    assert b.error_sigma_S > 1.5 * a.error_sigma_S


@pytest.mark.parametrize("name", ["taox_hfox", "hzo_fefet", "gst_pulsed"])
def test_distribution_pulses_and_tolerance(name: str) -> None:
    """Errors of converged cells are within tolerance; a tighter one takes more pulses and leaves less."""
    span = load(name).conductance.window().span_S
    loose, tight = (write_verify(name, tolerance=t, max_pulses=400, cells=2000) for t in (0.03, 0.005))
    for got, tolerance in ((loose, 0.03), (tight, 0.005)):
        assert float(got.error_S[got.converged].abs().max()) <= tolerance * span * (1 + 1e-5)
        assert got.report().failed_fraction < 0.02
    assert tight.report().pulses_mean > loose.report().pulses_mean
    assert tight.error_S[tight.converged].std() < loose.error_S[loose.converged].std()


def test_uniform_within_a_tolerance_much_below_the_step() -> None:
    """Steps of 10 % that vary by 3 %: what is accepted at 0.5 % is uniform, sigma = tol / sqrt(3)."""
    got = write_verify(card(c2c_sigma_norm=0.03), tolerance=0.005, max_pulses=3000, cells=3000)
    error = got.error_S[got.converged] / 1e-5
    n, sigma = len(error), 0.005 / math.sqrt(3)
    # the fourth moment of a uniform distribution: var(s^2) = 0.8 s^4 / n
    assert abs(float(error.var()) - sigma**2) <= Z * sigma**2 * math.sqrt(0.8 / n) * 1.5


def test_same_seed_same_cells_and_reports_add_up() -> None:
    a, b, other = (
        write_verify("taox_hfox", tolerance=0.02, max_pulses=50, cells=500, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(a.conductance_S, b.conductance_S)
    assert not torch.equal(a.conductance_S, other.conductance_S)
    total = a.report() + other.report()
    assert total.cells == 1000
    assert total.pulses == int(a.pulses.sum() + other.pulses.sum())
    assert total.error_mean_S == pytest.approx(float(torch.cat([a.error_S, other.error_S]).mean()))
    spread = torch.cat([a.error_S, other.error_S]).std(correction=0)
    assert total.error_sigma_S == pytest.approx(float(spread), rel=1e-6)
    assert WriteReport() + total == total


def test_blocks_bound_memory_and_keep_all_cells(monkeypatch) -> None:
    monkeypatch.setattr("imcsim.devices.verifying.BLOCK", 64)
    how = bind_write_verify(card(step_up=0.01, step_down=0.01), 0.02, 200)
    model = DeviceModel(card(), g_max_S=1.1e-5, g_min_S=1e-6, programming_override=how)
    target = torch.linspace(1e-6, 1.1e-5, 300).view(2, 5, 30)
    seen: list[WriteReport] = []
    g = model.program(target, lambda purpose: keyed_generator(0, "x", purpose), log=seen.append)[
        "conductance_S"
    ]
    assert g.shape == target.shape
    assert float((g - target).abs().max()) <= 0.02 * 1e-5 * (1 + 1e-4)
    assert [report.cells for report in seen] == [300]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))


def chip(**device) -> imcsim.Hardware:
    given = {"card": "taox_hfox", "programming": WRITE, **device}
    return imcsim.Hardware.model_validate({"device": given, "inputs": {"range": "dynamic"}})


def test_a_network_is_written_by_pulses_and_reports_them() -> None:
    sim = imcsim.convert(net(), chip())
    report = imcsim.write_report(sim)
    assert list(report) == ["0", "2"]
    assert report["0"].cells == 2 * 4 * 20 * 16
    total = sum(report.values(), WriteReport())
    assert total.pulses > 0
    assert total.energy_J > 0
    target = sim[0].array.target_conductance()
    off = (sim[0].array.cells["conductance_S"] - target).double()
    assert report["0"].error_sigma_S == pytest.approx(float(off.std(correction=0)), rel=1e-3)
    imcsim.program(sim, seed=3)
    assert imcsim.write_report(sim)["0"] != report["0"]
    imcsim.program(sim, seed=0)
    assert imcsim.write_report(sim) == report
    assert imcsim.write_report(imcsim.convert(net(), chip(programming={"kind": "none"}))) == {}


def test_a_written_network_survives_the_disk(tmp_path) -> None:
    sim = imcsim.convert(net(), chip())
    x = torch.randn(3, 20)
    imcsim.save(sim, tmp_path / "a.safetensors")
    assert torch.equal(imcsim.load(tmp_path / "a.safetensors", net())(x), sim(x))
    chip().save(tmp_path / "chip.toml")
    assert imcsim.load_hardware(tmp_path / "chip.toml") == chip()


def test_summary_says_that_a_card_with_pulses_is_written_exactly() -> None:
    row = imcsim.summary(imcsim.convert(net(), chip(programming={"kind": "card"}))).rows[0]
    assert "kind = 'write_verify'" in row.warnings
    assert "write_verify" not in imcsim.summary(imcsim.convert(net(), chip())).rows[0].warnings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": 1.5}, "tolerance"),
        ({"max_pulses": 0}, "max_pulses"),
        ({"retries": -1}, "retries"),
        ({"pulses": 3}, "pulses.*unknown key"),
    ],
)
def test_bad_descriptions(given: dict, words: str) -> None:
    with pytest.raises(HardwareError, match=f"device.programming.*{words}"):
        chip(programming={**WRITE, **given})


@pytest.mark.parametrize("name", ["pcm_gst", "ideal", "hfox_binary"])
def test_a_card_without_switching_says_so(name: str) -> None:
    words = rf"'write_verify' needs a switching model, but card '{name}' has no \[switching\].*devices.fit"
    with pytest.raises(DeviceError, match=words):
        imcsim.convert(net(), chip(card=name))
    with pytest.raises(DeviceError, match=words):
        write_verify(name, tolerance=0.01, max_pulses=10)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tolerance": -1.0}, "tolerance = -1.0; give a fraction"),
        ({"max_pulses": 0}, "max_pulses = 0; give at least 1"),
        ({"read_s": math.inf}, "read_s = inf"),
        ({"target_S": torch.tensor([math.nan])}, "not finite conductances"),
        ({"target_S": torch.tensor([])}, "target_S is empty"),
    ],
)
def test_bad_calls(given: dict, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        write_verify("taox_hfox", **{"tolerance": 0.1, "max_pulses": 10, **given})
