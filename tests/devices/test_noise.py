"""Read noise: amplitudes, growth with log time, telegraph statistics; z = 5, seeds fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from imcsim.devices import Window, load
from imcsim.devices.noise import (
    NOISE,
    CMONoise,
    ConstantNoise,
    PCMNoise,
    ProportionalNoise,
    RangeNoise,
    WhiteNoise,
    flicker_offset,
    log_time_growth,
    telegraph_offset,
)

Z = 5.0
WINDOW = Window(25e-6, 1e-6)
G = torch.tensor([0.0, 1e-6, 9e-6, 25e-6], dtype=torch.float64)


@pytest.mark.parametrize(
    ("amplitude", "want"),
    [
        (ProportionalNoise(sigma_norm=0.01), [0.0, 1e-8, 9e-8, 25e-8]),
        (RangeNoise(sigma_norm=0.01), [24e-8] * 4),
        (ConstantNoise(sigma_S=1e-7), [1e-7] * 4),
        (CMONoise(k_S=0.02773e-6), [0.0, 0.0, 0.02773e-6 * math.log10(9), 0.02773e-6 * math.log10(25)]),
        (
            PCMNoise(g_ref_S=25e-6, q=0.0088, power=0.65, q_max=0.2),
            [0.0, 1e-6 * 0.0088 * 25**0.65, 9e-6 * 0.0088 / 0.36**0.65, 25e-6 * 0.0088],
        ),
    ],
)
def test_amplitudes_are_their_equations(amplitude, want) -> None:
    got = amplitude.amplitude_S(G, WINDOW)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-20)
    assert bool(torch.isfinite(got).all())
    assert amplitude.equation in NOISE


def test_white_noise_without_a_read_time_does_not_grow() -> None:
    white = WhiteNoise(amplitude={"equation": "proportional", "sigma_norm": 0.02})
    assert torch.equal(white.sigma_of(G, 0.0, WINDOW), white.sigma_of(G, 1e9, WINDOW))


def test_time_zero_is_no_error() -> None:
    assert log_time_growth(0.0, 1e-6) == 0.0
    assert log_time_growth(1e-6, 1e-6) == 0.0
    white = WhiteNoise(amplitude={"equation": "cmo", "k_S": 1e-8}, read_time_s=1e-6)
    assert torch.equal(white.sigma_of(G, 0.0, WINDOW), torch.zeros_like(G))


@pytest.mark.parametrize("card", ["pcm_gst", "cmo_hfox"])
@pytest.mark.parametrize("time_s", [40.0, 1e4, 1e7])
def test_fast_and_slow_parts_add_up_to_the_published_noise(card: str, time_s: float) -> None:
    noise = load(card).read_noise
    assert noise is not None
    assert noise.white is not None
    assert noise.flicker is not None
    g = torch.tensor([10e-6, 20e-6], dtype=torch.float64)
    seconds = time_s - noise.white.t0_s
    fast = noise.white.sigma_of(g, seconds, WINDOW)
    slow = noise.flicker.amplitude.amplitude_S(g, WINDOW) * math.sqrt(
        math.log1p(seconds / noise.flicker.window_s)
    )
    t_read = noise.white.read_time_s
    assert t_read is not None
    published = noise.white.amplitude.amplitude_S(g, WINDOW) * math.sqrt(
        math.log((time_s + t_read) / (2 * t_read))
    )
    torch.testing.assert_close(torch.hypot(fast, slow), published, rtol=1e-6, atol=0)


def test_flicker_variance_grows_with_log_time(rng_for) -> None:
    n = 40_000
    amplitude = torch.full((n,), 1e-7)
    times = np.logspace(2, 9, 8)
    variances = [float(flicker_offset(amplitude, t, 1.0, rng_for(f"{t}")).double().var()) for t in times]
    x = np.log(times)
    slope = float(np.polyfit(x, variances, 1)[0])
    # var of a sample variance s^2: 2 s^4 / n; the slope's deviation follows from the regression's weights
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    deviation = math.sqrt(float((weights**2 * 2 * (1e-14 * x) ** 2 / n).sum()))
    assert abs(slope - 1e-14) <= Z * deviation + 1e-20
    assert abs(variances[0] - 1e-14 * math.log1p(100.0)) <= Z * variances[0] * math.sqrt(2 / n)


def test_slow_noise_is_zero_at_age_zero_and_held_for_a_cell(rng_for) -> None:
    amplitude = torch.full((500,), 1e-7)
    assert torch.equal(flicker_offset(amplitude, 0.0, 1.0, rng_for("a")), torch.zeros(500))
    assert torch.equal(telegraph_offset(amplitude, 0.0, 0.4, 0.5, 3.0, rng_for("a")), torch.zeros(500))
    one, two = (flicker_offset(amplitude, t, 1.0, rng_for("a")) for t in (10.0, 1e4))
    torch.testing.assert_close(two / one, torch.full((500,), math.sqrt(math.log1p(1e4) / math.log1p(10.0))))


@pytest.mark.parametrize("seconds", [0.5, 3.0, 1e9])
def test_telegraph_is_two_state_with_the_stated_variance(seconds: float, rng) -> None:
    n, a, p, fraction, tau = 100_000, 2e-7, 0.3, 0.25, 3.0
    step = telegraph_offset(torch.full((n,), a, dtype=torch.float64), seconds, p, fraction, tau, rng)
    assert set((step / a).unique().tolist()) <= {-1.0, 0.0, 1.0}
    chance = fraction * 2 * p * (1 - p) * (1 - math.exp(-seconds / tau))  # of having changed
    changed = int((step != 0).sum())
    assert abs(changed - n * chance) <= Z * math.sqrt(n * chance * (1 - chance))
    assert abs(float(step.mean())) <= Z * a * math.sqrt(chance / n)
    assert float(step.var()) == pytest.approx(a * a * chance, rel=Z / math.sqrt(n * chance))


def test_a_column_of_white_noise_is_a_sum_of_independent_normals(rng_for) -> None:
    """Per-cell draws have the column variance sum v^2 sigma^2 that the layers use."""
    rows, reads = 32, 20_000
    g = torch.linspace(1e-6, 25e-6, rows, dtype=torch.float64)
    v = torch.linspace(0, 1, rows, dtype=torch.float64)
    white = load("pcm_gst").read_noise
    assert white is not None
    assert white.white is not None
    sigma = white.white.sigma_of(g, 0.0, WINDOW)
    draws = torch.from_numpy(rng_for("cells").standard_normal((reads, rows)))
    column = (draws * sigma) @ v
    want = float((v.square() @ sigma.square()).sqrt())
    assert abs(float(column.std()) - want) <= Z * want / math.sqrt(2 * reads)
