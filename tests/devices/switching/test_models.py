"""What every switching model must do, and what each rule says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from imcsim.devices import EQUATIONS, load
from imcsim.devices.base import Window
from imcsim.devices.card import DeviceCard
from imcsim.devices.switching import SWITCHING
from imcsim.errors import DeviceError
from tests.tolerances import Z

PULSE = {"voltage_V": 1.0, "width_s": 1e-7}
WINDOW = Window(1e-5, 1e-6)
TABLE = {"pulse": (0, 1, 2, 3), "up_S": (1e-6, 4e-6, 8e-6, 1e-5), "down_S": (1e-5, 5e-6, 2e-6, 1e-6)}
STEPS = {"step_up": 0.1, "step_down": 0.05}
RULES = {
    "neurosim": {"nl_up": 1.5, "nl_down": -2.0, "pulses_up": 20, "pulses_down": 25},
    "linear": STEPS,
    "soft_bounds": STEPS,
    "exponential": {
        **STEPS,
        "amplitude_up": 8e-4,
        "amplitude_down": 0.37,
        "gamma_up": 12.4,
        "gamma_down": 12.8,
        "a": 0.244,
        "b": 0.2425,
    },
    "power": {**STEPS, "gamma_up": 1.5, "gamma_down": 0.7},
    "table": {"table": TABLE},
}
PHYSICAL = ("vteam", "ion_drift", "stanford_pku")


def model(kind: str, **changes):
    if kind in PHYSICAL:
        return load(kind).switching.model_copy(update=changes)
    given = {"equation": kind, "up": PULSE, "down": PULSE, **RULES[kind], **changes}
    return SWITCHING[kind].model_validate(given)


def window_of(kind: str) -> Window:
    return load(kind).conductance.window() if kind in PHYSICAL else WINDOW


def test_every_model_is_tested_and_registered() -> None:
    assert {*RULES, *PHYSICAL} == set(SWITCHING)
    assert EQUATIONS["switching"] is SWITCHING


@pytest.mark.parametrize("kind", SWITCHING)
class TestContract:
    def test_pulses_move_one_way_and_stay_inside(self, kind: str) -> None:
        m, x = model(kind), torch.linspace(0, 1, 21, dtype=torch.float64)
        for up in (True, False):
            moved = m.apply(x, 1, up, {})
            assert moved.dtype == torch.float64
            assert bool(((moved - x) * (1 if up else -1) >= -1e-12).all())
            assert bool(((moved >= 0) & (moved <= 1)).all())
            inside = (x > 0.05) & (x < 0.95)
            assert bool(((moved - x)[inside] != 0).all())

    def test_many_pulses_are_as_many_single_ones(self, kind: str) -> None:
        m, x = model(kind), torch.linspace(0, 1, 11, dtype=torch.float64)
        count = torch.arange(11) % 4
        for up in (True, False):
            once = x
            for k in range(3):
                once = torch.where(k < count, m.apply(once, 1, up, {}), once)
            torch.testing.assert_close(m.apply(x, count, up, {}), once, rtol=0, atol=1e-9)

    def test_polarity_is_chosen_cell_by_cell(self, kind: str) -> None:
        m, x = model(kind), torch.tensor([0.4, 0.4], dtype=torch.float64)
        both = m.apply(x, 1, torch.tensor([True, False]), {})
        assert both.tolist() == [
            float(m.apply(x, 1, True, {})[0]),
            float(m.apply(x, 1, False, {})[1]),
        ]

    def test_state_and_conductance_are_inverse(self, kind: str) -> None:
        m, window = model(kind), window_of(kind)
        x = torch.linspace(0, 1, 21, dtype=torch.float64)
        g = m.conductance_S(x, window, {})
        assert bool((g.diff() > 0).all())
        torch.testing.assert_close(m.state_of(g, window, {}), x, rtol=0, atol=1e-9)
        assert float(g[0]) == pytest.approx(window.g_min_S, rel=2e-3)
        assert float(g[-1]) == pytest.approx(window.g_max_S, rel=2e-3)
        m.check(window)

    def test_cycle_to_cycle_variation(self, kind: str) -> None:
        n, start = 20_000, 0.5
        m = model(kind, c2c_sigma_norm=0.001)
        x = torch.full((n,), start, dtype=torch.float64)
        centre = float(model(kind, c2c_sigma_norm=0.0).apply(x[:1], 1, False, {})[0])
        if not 0.01 < centre < 0.99:
            pytest.skip("one pulse of this model crosses the range")
        off = m.apply(x, 1, False, {}, np.random.default_rng(0)) - centre
        assert abs(float(off.mean())) <= Z * 0.001 / math.sqrt(n)
        assert abs(float(off.std()) - 0.001) <= Z * 0.001 / math.sqrt(2 * n)

    def test_same_draws_same_cells(self, kind: str) -> None:
        m = model(kind, c2c_sigma_norm=0.01)
        a, b = (
            m.trace(window_of(kind), "up", cells=3, pulses=4, rng=np.random.default_rng(5)) for _ in range(2)
        )
        assert torch.equal(a, b)
        assert a.shape == (5, 3)

    def test_bad_direction(self, kind: str) -> None:
        with pytest.raises(DeviceError, match="direction = 'sideways' is neither"):
            model(kind).trace(window_of(kind), "sideways")


def test_linear_steps_and_soft_bounds_by_hand() -> None:
    x = torch.tensor([0.2], dtype=torch.float64)
    assert float(model("linear").apply(x, 3, True, {})) == pytest.approx(0.5)
    assert float(model("linear").apply(x, 9, False, {})) == 0.0
    assert float(model("soft_bounds").apply(x, 2, True, {})) == pytest.approx(1 - 0.8 * 0.9**2)
    assert float(model("soft_bounds").apply(x, 2, False, {})) == pytest.approx(0.2 * 0.95**2)
    assert model("linear").full_pulses == (10, 20)


def test_power_of_one_is_soft_bounds_and_of_zero_linear() -> None:
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    for gamma, other in ((1.0, "soft_bounds"), (0.0, "linear")):
        m = model("power", gamma_up=gamma, gamma_down=gamma)
        for up in (True, False):
            torch.testing.assert_close(m.apply(x, 4, up, {}), model(other).apply(x, 4, up, {}))


def test_exponential_step_by_hand() -> None:
    x = torch.tensor([0.7], dtype=torch.float64)
    z = 0.244 * 0.4 + 0.2425
    up = 0.7 + 0.1 * (1 - 8e-4 * math.exp(12.4 * z))
    down = 0.7 - 0.05 * (1 - 0.37 * math.exp(-12.8 * z))
    m = model("exponential")
    assert float(m.apply(x, 1, True, {})) == pytest.approx(up)
    assert float(m.apply(x, 1, False, {})) == pytest.approx(down)


def test_table_goes_through_its_points() -> None:
    m = model("table")
    assert m.trace(WINDOW, "up")[:, 0].tolist() == pytest.approx(TABLE["up_S"])
    assert m.trace(WINDOW, "down")[:, 0].tolist() == pytest.approx(TABLE["down_S"])


def test_step_variation_is_lognormal_with_the_mean_step() -> None:
    n, s = 40_000, 0.4
    cells = model("linear", step_sigma_norm=s).draw((n,), np.random.default_rng(2))
    logs = torch.log(cells["step_up"])
    assert abs(float(logs.std()) - s) <= Z * s / math.sqrt(2 * n)
    spread = 0.1 * math.sqrt(math.expm1(s * s))
    assert abs(float(cells["step_up"].mean()) - 0.1) <= Z * spread / math.sqrt(n)
    assert not torch.equal(cells["step_up"] / 0.1, cells["step_down"] / 0.05)


def test_bounds_vary_from_cell_to_cell() -> None:
    m = model("linear", bound_sigma_norm=0.1)
    cells = m.draw((10_000,), np.random.default_rng(3))
    ends = [m.conductance_S(torch.full((10_000,), x, dtype=torch.float64), WINDOW, cells) for x in (0.0, 1.0)]
    assert float(ends[1].std()) == pytest.approx(0.1 * WINDOW.span_S, rel=Z / math.sqrt(20_000))
    assert bool((ends[0] >= 0).all())
    assert bool((ends[1] > ends[0]).all())


def test_vteam_is_linear_in_time_and_still_below_its_thresholds() -> None:
    m = model("vteam")
    x = torch.tensor([0.5], dtype=torch.float64)
    speed = 10 * (0.25 / 0.2 - 1) ** 3 / 3e-9
    assert float(m.apply(x, 1, True, {})) == pytest.approx(0.5 + speed * 3e-10, rel=1e-9)
    quiet = m.model_copy(update={"up": m.up.model_copy(update={"voltage_V": -0.19})})
    assert float(quiet.apply(x, 5, True, {})) == 0.5


def test_ion_drift_without_window_is_strukovs_solution() -> None:
    """R dx = mu R_on / d^2 v dt: R_off x + (R_on - R_off) x^2 / 2 grows with the flux."""
    m = model("ion_drift", window="none")
    x = torch.tensor([0.1], dtype=torch.float64)
    y = float(m.apply(x, 4, True, {}))
    flux = 1e-14 * 100 / 1e-16 * 1.0 * 4 * 5e-3
    charge = [16e3 * v + (100 - 16e3) * v * v / 2 for v in (0.1, y)]
    assert charge[1] - charge[0] == pytest.approx(flux, rel=1e-6)


def test_joglekars_window_holds_a_cell_at_its_end() -> None:
    m = model("ion_drift", window="joglekar")
    x = torch.tensor([1.0], dtype=torch.float64)
    assert float(m.apply(x, 10, False, {})) == 1.0
    assert float(model("ion_drift").apply(x, 10, False, {})) < 0.95


@pytest.mark.parametrize(("kind", "start"), [("ion_drift", 0.95), ("stanford_pku", 0.3)])
def test_integration_converges_as_runge_kutta_does(kind: str, start: float) -> None:
    """Fourth order: the error falls 16-fold a halving, here by a slope fit of at least 3."""
    x = torch.tensor([start], dtype=torch.float64)
    fine = float(model(kind, substeps=256).apply(x, 1, True, {}))
    steps = np.array([1, 2, 4])
    errors = [abs(float(model(kind, substeps=int(s)).apply(x, 1, True, {})) - fine) for s in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope < -3


def test_stanford_read_conductance_and_field_threshold() -> None:
    m = model("stanford_pku")
    low, high = m.own_ends_S()
    assert (1 / high, 1 / low) == pytest.approx((542, 218_600), rel=1e-3)
    weak = m.model_copy(update={"up": m.up.model_copy(update={"voltage_V": 1.0})})
    x = torch.tensor([0.0], dtype=torch.float64)
    assert float(weak.apply(x, 5, True, {})) == 0.0
    assert float(m.apply(x, 5, True, {})) > 0.0


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("neurosim", {"nl_up": 12.0}, "nl_up"),
        ("neurosim", {"pulses_up": 0}, "pulses_up"),
        ("linear", {"step_up": 0.0}, "step_up"),
        ("table", {"table": {**TABLE, "up_S": (1, 2, 2, 3)}}, "up_S must increase"),
        ("table", {"table": {**TABLE, "pulse": (1, 2, 3, 4)}}, "starts at 1"),
        ("linear", {"up": {"voltage_V": 1.0, "width_s": 0.0}}, "width_s"),
        ("sigmoid", {}, "'sigmoid' is not a switching equation; allowed: neurosim"),
    ],
)
def test_bad_blocks_say_what_is_wrong(kind: str, change: dict, words: str) -> None:
    block = {"equation": kind, "up": PULSE, "down": PULSE, **RULES.get(kind, {}), **change}
    data = {
        "schema": 1,
        "name": "t",
        "title": "t",
        "technology": "rram",
        "confidence": "C",
        "sources": {"t": {"authors": "t", "venue": "t", "year": 2025}},
        "switching": {**block, "source": "t", "confidence": "C"},
    }
    with pytest.raises(DeviceError, match=words):
        DeviceCard.parse(data, "mine.toml")


def test_physical_models_refuse_a_window_beyond_theirs() -> None:
    with pytest.raises(DeviceError, match=r"conducts from 0.001 to 0.02 S.*set device.g_max_S"):
        model("vteam").check(Window(0.03, 0.001))
