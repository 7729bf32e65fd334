"""Drift recovered from what the functions do: regression slopes, spreads within z = 5, Arrhenius theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from imcsim.devices import Window, load
from imcsim.devices.base import BOLTZMANN_eV_per_K
from imcsim.devices.drift import (
    ClampedLog,
    PolynomialTableDrift,
    PowerLawDrift,
    RelaxationLogDrift,
    TableDrift,
    arrhenius_acceleration,
    clamped_log,
    power_law,
)
from imcsim.devices.retention import RetentionDrift, retention

Z = 5.0
WINDOW = Window(25e-6, 1e-6)
TIMES = np.logspace(0, 8, 9)


def log_slope(values: list[float], t0: float) -> float:
    return float(np.polyfit(np.log((t0 + TIMES) / t0), np.log(values), 1)[0])


@pytest.mark.parametrize("nu", [0.0, 0.031, 0.1])
def test_power_law_slope_by_regression(nu: float) -> None:
    g = torch.tensor([20e-6], dtype=torch.float64)
    values = [float(power_law(g, nu, t, 20.0)) for t in TIMES]
    assert log_slope(values, 20.0) == pytest.approx(-nu, abs=1e-9)


def test_exponents_have_the_mean_and_spread_asked_for(rng) -> None:
    drift = PowerLawDrift(nu_mean=0.06, nu_std=0.01, t0_s=20.0)
    n = 40_000
    state = drift.draw(torch.full((n,), 20e-6), WINDOW, rng)
    nu = state["drift_nu"].double()
    assert abs(float(nu.mean()) - 0.06) <= Z * 0.01 / math.sqrt(n)
    assert abs(float(nu.std()) - 0.01) <= Z * 0.01 / math.sqrt(2 * n)
    g = torch.full((n,), 20e-6)
    values = [float(torch.log(drift.at(g, state, t, WINDOW).double()).mean()) for t in TIMES]
    slope = float(np.polyfit(np.log((20.0 + TIMES) / 20.0), values, 1)[0])
    assert slope == pytest.approx(-float(nu.mean()), abs=1e-6)


def test_one_exponent_for_all_cells_takes_no_memory(rng) -> None:
    assert PowerLawDrift(nu_mean=0.05).draw(torch.ones(3), WINDOW, rng) == {}


def test_pcm_exponent_depends_on_the_state_as_published() -> None:
    drift = load("pcm_gst").drift
    assert isinstance(drift, PowerLawDrift)
    r = np.array([1e-4, 0.01, 0.05, 0.1, 0.2, 0.4, 1.0])
    g = torch.tensor(25e-6 * r)
    np.testing.assert_allclose(
        drift.mean_of(g).numpy(), np.clip(-0.0155 * np.log(r) + 0.0244, 0.049, 0.1), rtol=1e-12
    )
    np.testing.assert_allclose(
        drift.std_of(g).numpy(), np.clip(-0.0125 * np.log(r) - 0.0059, 0.008, 0.045), rtol=1e-12
    )
    assert float(clamped_log(torch.zeros(1), -0.0155, 0.0244, 0.049, 0.1)) == pytest.approx(0.1)
    with pytest.raises(ValidationError, match=r"low = 2\.0 is above high = 1\.0"):
        ClampedLog(slope=1.0, offset=0.0, low=2.0, high=1.0)


def test_cells_at_g_min_drift_too(rng) -> None:
    drift = PowerLawDrift(nu_mean=0.05)
    g = torch.full((4,), WINDOW.g_min_S)
    assert bool((drift.at(g, {}, 1e4, WINDOW) < g).all())


# ---- relaxation with the logarithm of time ----


def cmo() -> RelaxationLogDrift:
    drift = load("cmo_hfox").drift
    assert isinstance(drift, RelaxationLogDrift)
    return drift


@pytest.mark.parametrize("seconds", [1.0, 3600.0, 86_400.0, 3.15e7])
def test_relaxation_mean_and_spread_as_published(seconds: float, rng) -> None:
    n = 40_000
    drift = cmo()
    g = torch.full((n,), 50e-6, dtype=torch.float64)
    moved = (drift.at(g, drift.draw(g, WINDOW, rng), seconds, WINDOW) - g) * 1e6
    mean = -0.08900206 * math.log(seconds)
    std = 0.04201137 * math.log(seconds) + 0.41183342
    assert abs(float(moved.mean()) - mean) <= Z * std / math.sqrt(n) + 1e-5
    assert abs(float(moved.std()) - std) <= Z * std / math.sqrt(2 * n) + 1e-5


def test_relaxation_spread_grows_with_log_time() -> None:
    drift = cmo()
    stds = [drift.std_of(t) for t in TIMES]
    assert np.polyfit(np.log(TIMES), stds, 1)[0] == pytest.approx(0.04201137e-6, rel=1e-6)


def test_relaxation_starts_without_a_jump(rng) -> None:
    drift = cmo()
    g = torch.full((1000,), 50e-6)
    state = drift.draw(g, WINDOW, rng)
    assert torch.equal(drift.at(g, state, 0.0, WINDOW), g)
    assert float((drift.at(g, state, 1e-5, WINDOW) - g).abs().max()) == 0.0
    early = float((drift.at(g, state, 1e-4, WINDOW) - g).std())
    late = float((drift.at(g, state, 1e-2, WINDOW) - g).std())
    assert 0 < early < late < 0.42e-6


# ---- tables ----


def neurram() -> PolynomialTableDrift:
    drift = load("neurram_wan2022").drift
    assert isinstance(drift, PolynomialTableDrift)
    return drift


@pytest.mark.parametrize(
    ("time_s", "c"),
    [
        (1.0, [0.348, 16.030, -43.853, 45.393, -16.815]),
        (86_400.0, [0.701, 22.086, -50.773, 47.095, -16.458]),
        (172_800.0, [0.782, 20.274, -43.507, 37.062, -11.934]),
    ],
)
def test_time_table_is_exact_at_its_nodes(time_s: float, c: list[float], rng) -> None:
    r = torch.linspace(0, 1, 11, dtype=torch.float64)
    want = sum(k * r**i for i, k in enumerate(c))
    torch.testing.assert_close(neurram().sigma_of(40e-6 * r, time_s) * 1e6, want, rtol=1e-12, atol=0)


def test_time_table_is_linear_in_log_time_between_nodes() -> None:
    drift, g = neurram(), torch.tensor([20e-6], dtype=torch.float64)
    middle = drift.sigma_of(g, math.sqrt(86_400.0))
    torch.testing.assert_close(middle, (drift.sigma_of(g, 1.0) + drift.sigma_of(g, 86_400.0)) / 2)


def test_spread_around_the_target_is_the_tables(rng_for) -> None:
    n = 40_000
    card = load("neurram_wan2022")
    target = torch.full((n,), 20e-6)
    window = Window(40e-6, 1e-6)
    programmed = card.programming.write(target, window, rng_for("programming"))
    drift = neurram()
    state = drift.draw(target, window, rng_for("drift"))
    for seconds in (0.0, 86_399.0, 172_799.0):
        error = (drift.at(programmed, state, seconds, window) - target).double()
        want = float(drift.sigma_of(target[:1], 1.0 + seconds))
        assert abs(float(error.std()) - want) <= Z * want / math.sqrt(2 * n)
        assert abs(float(error.mean())) <= Z * want / math.sqrt(n)


def test_table_from_points_is_exact_at_its_nodes() -> None:
    drift = TableDrift(
        table={
            "time_s": (1.0, 1.0, 100.0, 100.0),
            "g_S": (0.0, 1e-5, 0.0, 1e-5),
            "sigma_S": (1e-7, 2e-7, 3e-7, 6e-7),
        }
    )
    g = torch.tensor([0.0, 1e-5, 5e-6], dtype=torch.float64)
    torch.testing.assert_close(
        drift.sigma_of(g, 1.0), torch.tensor([1e-7, 2e-7, 1.5e-7], dtype=torch.float64)
    )
    torch.testing.assert_close(drift.sigma_of(g, 10.0), torch.tensor([2e-7, 4e-7, 3e-7], dtype=torch.float64))
    torch.testing.assert_close(
        drift.sigma_of(g, 1e9), torch.tensor([3e-7, 6e-7, 4.5e-7], dtype=torch.float64)
    )
    assert drift.valid_until_s == 99.0
    with pytest.raises(ValidationError, match="g_S missing"):
        TableDrift(table={"time_s": (1.0,), "sigma_S": (1.0,)})


# ---- retention: NeuroSim's four cases ----


def test_retention_directions() -> None:
    g = torch.tensor([2e-6, 10e-6, 24e-6], dtype=torch.float64)
    up, down, middle = (
        RetentionDrift(direction=d, nu_mean=0.05, target_norm=0.5 if d == "target" else None)
        for d in ("g_max", "g_min", "target")
    )
    assert bool((up.at(g, {}, 1e3, WINDOW) > g).all())
    assert bool((down.at(g, {}, 1e3, WINDOW) < g).all())
    moved = middle.at(g, {}, 1e3, WINDOW)
    assert torch.equal(moved > g, g < 13e-6)
    # they stop where they go
    assert torch.equal(up.at(g, {}, 1e300, WINDOW), torch.full_like(g, WINDOW.g_max_S))
    assert torch.equal(down.at(g, {}, 1e300, WINDOW), torch.full_like(g, WINDOW.g_min_S))
    torch.testing.assert_close(middle.at(g, {}, 1e300, WINDOW), torch.full_like(g, 13e-6))


def test_retention_random_sign_is_even_and_held(rng) -> None:
    n = 20_000
    drift = RetentionDrift(direction="random", nu_mean=0.01)
    g = torch.full((n,), 10e-6)
    state = drift.draw(g, WINDOW, rng)
    first, later = drift.at(g, state, 10.0, WINDOW), drift.at(g, state, 1e4, WINDOW)
    assert torch.equal(first > g, later > g)
    assert abs(int((later > g).sum()) - n / 2) <= Z * math.sqrt(n) / 2
    assert not bool((later == g).any())


def test_retention_slope_and_identity(rng) -> None:
    g = torch.tensor([10e-6], dtype=torch.float64)
    wide = Window(1.0, 1e-12)
    for direction, sign in (("g_max", 1), ("g_min", -1)):
        drift = RetentionDrift(direction=direction, nu_mean=0.02, t0_s=1.0)
        values = [float(drift.at(g, {}, t, wide)) for t in TIMES]
        assert log_slope(values, 1.0) == pytest.approx(sign * 0.02, abs=1e-9)
        assert torch.equal(drift.at(g, {}, 0.0, wide), g)
    beyond = torch.tensor([30e-6, 0.0], dtype=torch.float64)  # beyond g_max; nothing at all
    assert torch.equal(retention(beyond, 0.05, 0.0, 1.0, WINDOW.g_max_S, WINDOW), beyond)
    spread = RetentionDrift(direction="g_min", nu_mean=0.02, nu_std=0.005).draw(
        torch.zeros(20_000), WINDOW, rng
    )
    assert abs(float(spread["drift_nu"].std()) - 0.005) <= Z * 0.005 / math.sqrt(40_000)


def test_retention_target_goes_with_its_direction() -> None:
    with pytest.raises(ValidationError, match="target_norm"):
        RetentionDrift(direction="target", nu_mean=0.1)
    with pytest.raises(ValidationError, match="target_norm"):
        RetentionDrift(direction="g_max", nu_mean=0.1, target_norm=0.5)


# ---- temperature ----


def test_arrhenius_slope_is_the_activation_energy() -> None:
    temperatures = np.array([280.0, 300.0, 330.0, 360.0, 400.0])
    factors = [arrhenius_acceleration(1.1, t, 300.0) for t in temperatures]
    slope = np.polyfit(1 / (BOLTZMANN_eV_per_K * temperatures), np.log(factors), 1)[0]
    assert slope == pytest.approx(-1.1, rel=1e-9)
    assert factors[1] == 1.0
    # by hand: 1 eV, 300 -> 358 K: exp(1 / 8.617e-5 (1/300 - 1/358)) = 527
    assert arrhenius_acceleration(1.0, 358.0, 300.0) == pytest.approx(527, rel=0.01)


def test_without_an_activation_energy_temperature_does_nothing() -> None:
    assert PowerLawDrift(nu_mean=0.1).acceleration(400.0) == 1.0
    assert PowerLawDrift(nu_mean=0.1, activation_energy_eV=1.0).acceleration(300.0) == 1.0
