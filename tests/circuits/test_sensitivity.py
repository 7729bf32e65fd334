from __future__ import annotations

import math

import pytest
import torch

from imcsim.circuits import read_variance, solve_crossbar
from imcsim.errors import CircuitError

ALL_ENDS = [
    {},
    {"drive": "both"},
    {"ground": "both"},
    {"drive": "both", "ground": "both", "source_ohm": 30.0, "sense_ohm": 20.0, "series_ohm": 2e3},
]
WIRES = {"word_line_ohm": 20.0, "bit_line_ohm": 35.0}


def test_without_wires_it_is_the_sum_of_squares(array, voltages):
    g, v, sigma = array(12, 7), voltages(5, 12), array(12, 7, g_max=1e-6, seed=2)
    torch.testing.assert_close(read_variance(g, v, sigma), v.square() @ sigma.square(), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("ends", ALL_ENDS)
@pytest.mark.parametrize("shape", [(4, 5), (9, 7)])
def test_every_sensitivity_equals_autograd(array, voltages, shape, ends):
    g, v, sigma = array(*shape), voltages(2, shape[0]), array(*shape, g_max=1e-6, seed=2)
    slope = torch.autograd.functional.jacobian(lambda g: solve_crossbar(g, v, **WIRES, **ends), g)
    wanted = (slope * sigma).square().sum((-2, -1))
    torch.testing.assert_close(read_variance(g, v, sigma, **WIRES, **ends), wanted, rtol=1e-10, atol=0.0)


def test_monte_carlo(array, voltages):
    """4000 draws: a standard deviation is known to 1 / sqrt(2 n) = 1.1 %; z = 4.5 for 24 of them."""
    g, v, draws = array(8, 6), voltages(4, 8), 4000
    sigma = 0.02 * g
    noise = torch.randn(draws, 8, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    current = solve_crossbar(g + sigma * noise, v, **WIRES)
    ratio = current.std(0) / read_variance(g, v, sigma, **WIRES).sqrt()
    assert (ratio - 1).abs().max() < 4.5 / math.sqrt(2 * draws)


def test_leading_dimensions_one_vector_and_dtype(array, voltages):
    g, v = array(2, 3, 11, 6), voltages(4, 11)
    variance = read_variance(g, v, 1e-6, **WIRES)
    assert variance.shape == (2, 3, 4, 6)
    torch.testing.assert_close(variance[1, 2], read_variance(g[1, 2], v, 1e-6, **WIRES), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(variance[:, :, 0], read_variance(g, v[0], 1e-6, **WIRES), rtol=1e-12, atol=0.0)
    assert read_variance(g.float(), v.float(), 1e-6).dtype == torch.float32


def test_gradients(array, voltages):
    g, v = array(4, 3, g_max=1.0).requires_grad_(), voltages(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, v: read_variance(g, v, 0.1, word_line_ohm=0.1, bit_line_ohm=0.2), (g, v)
    )


def test_bad_input(array, voltages):
    g, v = array(4, 3), voltages(2, 4)
    with pytest.raises(
        CircuitError, match=r"sigma_S = -1.0: standard deviations in siemens must be finite and not negative"
    ):
        read_variance(g, v, -1.0)
    with pytest.raises(CircuitError, match=r"sigma_S has shape \(3, 4\).*g's \(4, 3\)"):
        read_variance(g, v, torch.zeros(3, 4))
