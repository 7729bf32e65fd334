"""Sampled means and deviations stay within z = 5 of theory; seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from imcsim.devices import Window
from imcsim.devices.base import interpolate, polynomial
from imcsim.devices.programming import (
    PROGRAMMING,
    ConstantProgramming,
    LognormalProgramming,
    NoProgramming,
    PelgromCapacitorSpread,
    PelgromCurrentSpread,
    PolynomialProgramming,
    ProportionalProgramming,
    RangeProgramming,
    TableProgramming,
    WindowSpread,
    device_spread,
    gaussian_error,
    snap_to_levels,
)
from imcsim.errors import DeviceError

Z = 5.0
N = 40_000
WINDOW = Window(40e-6, 4e-6)

EQUATIONS = [
    (ConstantProgramming(sigma_S=0.3e-6), lambda g: 0.3e-6),
    (RangeProgramming(sigma_norm=0.02), lambda g: 0.02 * 36e-6),
    (ProportionalProgramming(sigma_norm=0.1), lambda g: 0.1 * g),
    (
        PolynomialProgramming(coefficients_S=(0.2e-6, 1e-6, -0.5e-6), g_ref_S=40e-6),
        lambda g: 0.2e-6 + 1e-6 * (g / 40e-6) - 0.5e-6 * (g / 40e-6) ** 2,
    ),
    (
        TableProgramming(table={"g_S": (0.0, 20e-6, 40e-6), "sigma_S": (0.1e-6, 0.5e-6, 0.3e-6)}),
        lambda g: float(np.interp(g, [0, 20e-6, 40e-6], [0.1e-6, 0.5e-6, 0.3e-6])),
    ),
]


def within_z(sample: torch.Tensor, mean: float, std: float) -> None:
    n = sample.numel()
    x = sample.double()
    assert abs(float(x.mean()) - mean) <= Z * std / math.sqrt(n)
    assert abs(float(x.std()) - std) <= Z * std / math.sqrt(2 * n)


@pytest.mark.parametrize(("equation", "sigma"), EQUATIONS)
@pytest.mark.parametrize("g", [4e-6, 17e-6, 40e-6])  # 4 uS is g_min: cells there err too
def test_error_has_the_mean_and_deviation_asked_for(equation, sigma, g, rng) -> None:
    target = torch.full((200, N // 200), g)
    written = equation.write(target, WINDOW, rng)
    assert written.shape == target.shape
    within_z(written - target, 0.0, sigma(g))
    assert kstest(((written - target) / sigma(g)).flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(("equation", "sigma"), EQUATIONS)
def test_sigma_is_the_equation(equation, sigma) -> None:
    g = torch.tensor([4e-6, 9e-6, 20e-6, 33e-6, 40e-6], dtype=torch.float64)
    want = torch.tensor([sigma(v) for v in g.tolist()], dtype=torch.float64)
    torch.testing.assert_close(equation.sigma_of(g, WINDOW), want, rtol=1e-12, atol=0)


def test_lognormal_median_and_spread(rng) -> None:
    equation = LognormalProgramming(sigma_norm=0.25)
    target = torch.full((N,), 10e-6)
    written = equation.write(target, WINDOW, rng)
    within_z(torch.log(written.double() / 10e-6), 0.0, 0.25)
    want = float(equation.sigma_of(target[:1].double(), WINDOW))
    # the deviation of a log-normal's sample deviation is wider than a normal's: kurtosis 3.7 here
    assert float(written.std()) == pytest.approx(want, rel=Z * math.sqrt((3.7 - 1) / 4 / N) * 1.2)


def test_no_negative_conductance_and_its_stated_bias(rng) -> None:
    target = torch.zeros(N)
    written = gaussian_error(target, torch.full((), 1e-6), rng)
    assert float(written.min()) == 0.0
    std = math.sqrt(0.5 - 1 / (2 * math.pi)) * 1e-6
    assert abs(float(written.double().mean()) - 1e-6 / math.sqrt(2 * math.pi)) <= Z * std / math.sqrt(N)


@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_spread_moves_both_ends_of_the_window(shape, rng) -> None:
    for g, sigma in ((WINDOW.g_max_S, 0.05), (WINDOW.g_min_S, 0.2)):
        written = device_spread(torch.full((N,), g), WINDOW, 0.05, 0.2, shape, rng).double()
        within_z(torch.log(written / g) if shape == "lognormal" else written / g - 1, 0.0, sigma)
    middle = device_spread(torch.full((N,), 22e-6), WINDOW, 0.05, 0.2, "normal", rng)
    within_z(middle - 22e-6, 0.0, 0.5 * math.hypot(0.05 * 40e-6, 0.2 * 4e-6))


def test_spread_without_g_min_leaves_off_cells_alone(rng) -> None:
    window = Window(1.0, 0.0, normalised=True)
    written = WindowSpread(g_max_sigma_norm=0.1, g_min_sigma_norm=0.1).write(torch.zeros(100), window, rng)
    assert torch.equal(written, torch.zeros(100))


def test_pelgrom_falls_with_the_square_root_of_area() -> None:
    def sigma(factor: float) -> float:
        return PelgromCurrentSpread(
            a_vt_V_m=3.5e-9, width_m=factor * 2e-7, length_m=factor * 6e-8, overdrive_V=0.5, alpha=1.3
        ).sigmas()[0]

    areas = np.array([1.0, 2.0, 4.0, 8.0])
    slope = np.polyfit(np.log(areas**2), np.log([sigma(a) for a in areas]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=1e-9)
    assert PelgromCapacitorSpread(k_sqrt_F=1e-9, unit_capacitance_F=4e-15).sigmas()[0] == pytest.approx(
        PelgromCapacitorSpread(k_sqrt_F=1e-9, unit_capacitance_F=1e-15).sigmas()[0] / 2
    )


def test_levels_snap_to_the_nearest_state() -> None:
    states = (0.0, 1e-6, 4e-6)
    target = torch.tensor([[0.4e-6, 0.6e-6, 2.4e-6], [2.6e-6, 9e-6, 0.5e-6]])
    want = torch.tensor([[0.0, 1e-6, 1e-6], [4e-6, 4e-6, 0.0]])
    assert torch.equal(snap_to_levels(target, states), want)
    assert torch.equal(snap_to_levels(torch.tensor(states), states), torch.tensor(states))
    with pytest.raises(DeviceError, match="two increasing"):
        snap_to_levels(target, (1e-6, 1e-6))


def test_table_is_exact_at_its_nodes_and_linear_between() -> None:
    x, y = (0.0, 1.0, 3.0), (5.0, 7.0, -1.0)
    at = torch.tensor([0.0, 1.0, 3.0, 2.0, 0.25, -9.0, 9.0], dtype=torch.float64)
    want = torch.tensor([5.0, 7.0, -1.0, 3.0, 5.5, 5.0, -1.0], dtype=torch.float64)
    assert torch.equal(interpolate(at, x, y), want)


def test_horner_is_the_polynomial() -> None:
    r = torch.linspace(0, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(polynomial(r, (1.0, -2.0, 3.0)), 1 - 2 * r + 3 * r**2)


def test_same_generator_same_chip(rng_for) -> None:
    target = torch.rand(5, 7) * 40e-6
    first, second = (
        RangeProgramming(sigma_norm=0.1).write(target, WINDOW, rng_for("programming")) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_silence_is_known() -> None:
    assert NoProgramming().silent
    assert RangeProgramming(sigma_norm=0).silent
    assert not RangeProgramming(sigma_norm=0.1).silent
    assert set(PROGRAMMING) == {
        "none",
        "constant",
        "range",
        "proportional",
        "polynomial",
        "lognormal",
        "table",
    }
