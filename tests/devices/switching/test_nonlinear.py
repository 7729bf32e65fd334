"""NeuroSim's non-linear update: the rule from label to curve, the curve, and cells that vary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from imcsim.devices import load
from imcsim.devices.base import Window
from imcsim.devices.switching import SWITCHING, normalised_a
from imcsim.devices.switching.nonlinear import curve, inverse_a, position
from imcsim.errors import DeviceError
from tests.tolerances import Z

CHECK_POINTS = {
    0.01: 126.269,
    1: 1.251653,
    1.75: 0.702081,
    2.4: 0.499181,
    4.88: 0.200303,
    6: 0.135619,
    9: 0.02281,
}
"""From the table Nonlinearity-NormA that comes with MLP+NeuroSim V3.0."""
PULSE = {"voltage_V": 1.0, "width_s": 1e-7}
WINDOW = Window(1e-5, 1e-6)


def model(**changes):
    given = {"nl_up": 2.4, "nl_down": -4.88, "pulses_up": 97, "pulses_down": 90, **changes}
    return SWITCHING["neurosim"].model_validate({"equation": "neurosim", "up": PULSE, "down": PULSE, **given})


@pytest.mark.parametrize(("label", "a"), CHECK_POINTS.items())
def test_label_to_a_hits_the_check_points(label: float, a: float) -> None:
    assert normalised_a(label) == pytest.approx(a, rel=1e-4)
    assert normalised_a(-label) == pytest.approx(-a, rel=1e-4)


@pytest.mark.parametrize("label", [1e-6, 1e-3, 0.3, 3.0, 9.9])
def test_the_curve_lies_as_far_from_a_line_as_its_label_says(label: float) -> None:
    p = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    off = curve(p, torch.full_like(p, 1 / normalised_a(label))) - p
    assert float(off.max()) == pytest.approx(0.07 * math.sqrt(2) * label, rel=1e-5, abs=1e-12)


def test_straight_line_and_bad_labels() -> None:
    assert normalised_a(0) == math.inf
    for bad in (10.5, -11.0, math.nan, math.inf):
        with pytest.raises(DeviceError, match=r"NL = .*from -10 to 10"):
            normalised_a(bad)


def test_many_labels_at_once_agree_with_one() -> None:
    labels = torch.tensor([-9.5, -4.88, -0.03, 0.0, 0.0101, 1.2345, 6.0], dtype=torch.float64)
    want = torch.tensor([1 / normalised_a(float(v)) for v in labels], dtype=torch.float64)
    got = inverse_a(labels)
    assert float(((got - want) / want.abs().clamp(min=1)).abs().max()) <= 2e-5


@pytest.mark.parametrize("label", [-9.0, -1.0, -1e-4, 0.0, 1e-4, 2.4, 6.0])
def test_position_inverts_the_curve(label: float) -> None:
    p = torch.linspace(0, 1, 101, dtype=torch.float64)
    inv_a = torch.full_like(p, 0.0 if label == 0 else 1 / normalised_a(label))
    torch.testing.assert_close(position(curve(p, inv_a), inv_a), p, rtol=0, atol=1e-9 * math.exp(abs(label)))


def test_up_train_is_the_published_equation() -> None:
    g = model().trace(WINDOW, "up")[:, 0].numpy()
    a, p = normalised_a(2.4) * 97, np.arange(98)
    b = WINDOW.span_S / (1 - math.exp(-97 / a))
    np.testing.assert_allclose(g, b * (1 - np.exp(-p / a)) + WINDOW.g_min_S, rtol=1e-10)


def test_down_train_walks_the_same_equation_back_as_neurosims_program_does() -> None:
    g = model().trace(WINDOW, "down")[:, 0].numpy()
    a, p = normalised_a(-4.88) * 90, np.arange(90, -1, -1)
    b = WINDOW.span_S / (1 - math.exp(-90 / a))
    np.testing.assert_allclose(g, b * (1 - np.exp(-p / a)) + WINDOW.g_min_S, rtol=1e-9)
    assert g[0] - g[9] > 5 * (g[-10] - g[-1])  # a negative label falls fastest at first


def test_equal_labels_make_one_curve_both_ways() -> None:
    m = model(nl_down=2.4, pulses_down=97)
    up, down = m.trace(WINDOW, "up"), m.trace(WINDOW, "down")
    torch.testing.assert_close(down.flip(0), up, rtol=1e-9, atol=1e-18)


def test_device_to_device_labels_have_their_spread() -> None:
    cells = model(nl_sigma=0.3).draw((20_000,), np.random.default_rng(1))
    want = inverse_a(torch.tensor([2.4 - 0.3, 2.4, 2.4 + 0.3], dtype=torch.float64))
    below = (cells["inv_a_up"] < want[1]).double().mean()
    inside = ((cells["inv_a_up"] > want[0]) & (cells["inv_a_up"] < want[2])).double().mean()
    assert abs(float(below) - 0.5) <= Z * math.sqrt(0.25 / 20_000)
    assert abs(float(inside) - 0.6827) <= Z * math.sqrt(0.22 / 20_000)


SEVEN = {
    "ag_asi": (97, 2.4, -4.88, 26e6, 12.5, 0.035),
    "taox_hfox": (128, 0.04, -0.63, 100e3, 10, 0.037),
    "pcmo": (50, 3.68, -6.76, 23e6, 6.84, 0.01),
    "alox_hfo2": (40, 1.94, -0.61, 16.9e3, 4.43, 0.05),
    "gst_pulsed": (100, 0.105, 2.4, 4.71e3, 19.8, 0.015),
    "epiram": (64, 0.5, -0.5, 81e3, 50.2, 0.02),
    "hzo_fefet": (32, 1.75, 1.46, 559e3, 45, 0.005),
}
"""Table II of the manual: states, labels, R_on, on/off, cycle-to-cycle."""


@pytest.mark.parametrize("name", SEVEN)
def test_cards_hold_neurosims_table(name: str) -> None:
    states, up, down, r_on, ratio, c2c = SEVEN[name]
    card = load(name)
    window, switching = card.conductance.window(), card.switching
    assert card.conductance.n_levels == states
    assert (switching.nl_up, switching.nl_down, switching.c2c_sigma_norm) == (up, down, c2c)
    assert 1 / window.g_max_S == pytest.approx(r_on, rel=1e-5)
    assert window.g_max_S / window.g_min_S == pytest.approx(ratio)
    for way, ends in (("up", (window.g_min_S, window.g_max_S)), ("down", (window.g_max_S, window.g_min_S))):
        trace = switching.trace(window, way)[:, 0]
        assert float(trace[0]) == pytest.approx(ends[0], rel=1e-9)
        assert float(trace[-1]) == pytest.approx(ends[1], rel=1e-6)
