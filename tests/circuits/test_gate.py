from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imcsim.circuits import effective_conductance, gated_conductance_approx, solve_crossbar, solve_gated
from imcsim.errors import CircuitError

WIRES = {
    "word_line_ohm": 10.0,
    "bit_line_ohm": 15.0,
    "source_ohm": 50.0,
    "sense_ohm": 40.0,
    "series_ohm": 1e3,
}


def patterns(vectors: int, rows: int, activity: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(vectors, rows, generator=generator) < activity


def test_idle_rows_are_absent(array):
    g, on = array(12, 7), patterns(5, 12)
    current = solve_gated(g, on, 0.2, **WIRES)
    for k in range(5):
        masked = torch.where(on[k][:, None], g, 0.0)
        alone = solve_crossbar(masked, torch.full((12,), 0.2, dtype=torch.float64), **WIRES)
        torch.testing.assert_close(current[k], alone, rtol=1e-12, atol=0.0)


def test_ideal_wires_give_the_product(array):
    g, on = array(12, 7), patterns(5, 12)
    torch.testing.assert_close(solve_gated(g, on, 0.2), 0.2 * on.double() @ g, rtol=1e-13, atol=0.0)


def test_an_idle_row_at_zero_volts_steals_current_and_a_gated_one_does_not(array):
    g, on = array(32, 32), patterns(4, 32)
    wires = {"word_line_ohm": 5.0, "bit_line_ohm": 5.0}
    gated = solve_gated(g, on, 0.2, **wires)
    assert (gated > solve_crossbar(g, 0.2 * on.double(), **wires)).all()
    assert (gated < 0.2 * on.double() @ g).all()


def test_leading_dimensions_and_dtype(array):
    g, on = array(2, 3, 10, 4).float(), patterns(5, 10)
    current = solve_gated(g, on, 0.2, **WIRES)
    assert current.shape == (2, 3, 5, 4)
    assert current.dtype == torch.float32
    torch.testing.assert_close(current[1, 2], solve_gated(g[1, 2], on, 0.2, **WIRES))
    one_each = on.expand(2, 3, 5, 10)
    torch.testing.assert_close(solve_gated(g, one_each, 0.2, **WIRES), current)


def test_sinh_cells(array):
    g, on = array(9, 5), patterns(3, 9)
    ideal = solve_gated(g, on, 0.3, cell="sinh", v0_V=0.1)
    torch.testing.assert_close(ideal, 0.1 * torch.sinh(torch.tensor(3.0)).double() * on.double() @ g)
    wired = solve_gated(g, on, 0.3, cell="sinh", v0_V=0.1, **WIRES)
    assert (wired <= ideal).all()


def test_gradients(array):
    g, on = array(5, 4, g_max=1.0).requires_grad_(), patterns(3, 5)
    assert torch.autograd.gradcheck(lambda g: solve_gated(g, on, 1.0, word_line_ohm=0.1, bit_line_ohm=0.2), g)


def test_the_approximation_is_exact_without_bit_line_resistance_or_idle_rows(array):
    g, on = array(16, 9), patterns(6, 16)
    no_bit_lines = {"word_line_ohm": 10.0, "source_ohm": 20.0, "series_ohm": 1e3}
    fast = 0.2 * on.double() @ gated_conductance_approx(g, 0.5, **no_bit_lines)
    torch.testing.assert_close(fast, solve_gated(g, on, 0.2, **no_bit_lines), rtol=1e-12, atol=0.0)
    everything = torch.ones(1, 16)
    fast = 0.2 * everything.double() @ gated_conductance_approx(g, 1.0, **WIRES)
    torch.testing.assert_close(fast, solve_gated(g, everything, 0.2, **WIRES), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("n", "g_max", "bound", "ideal", "voltage"),
    [(64, 1e-4, 8e-3, 0.11, 0.03), (128, 1e-4, 1.2e-2, 0.43, 0.09), (128, 1e-5, 2e-3, 0.044, 0.013)],
)
def test_the_error_that_the_docstring_states(array, n, g_max, bound, ideal, voltage):
    """rms over mean current, half of the rows on: the approximation, ideal wires, the map of a voltage-input
    array."""
    g, on = array(n, n, g_max=g_max), patterns(8, n)
    wires = {"word_line_ohm": 1.0, "bit_line_ohm": 1.0}
    exact, drive = solve_gated(g, on, 0.2, **wires), 0.2 * on.double()

    def error(t: Tensor) -> float:
        return float((drive @ t - exact).square().mean().sqrt() / exact.mean())

    assert error(gated_conductance_approx(g, 0.5, **wires)) < bound
    assert error(g) == pytest.approx(ideal, rel=0.25)
    assert error(effective_conductance(g, **wires)) == pytest.approx(voltage, rel=0.35)


def test_bad_input(array):
    g = array(4, 3)
    with pytest.raises(CircuitError, match=r"on has shape \(2, 3\); expected \(\*batch, vectors, 4\)"):
        solve_gated(g, torch.ones(2, 3), 0.2)
    with pytest.raises(CircuitError, match=r"on holds values other than 0 and 1.*one pulse a bit"):
        solve_gated(g, torch.full((2, 4), 0.5), 0.2)
    with pytest.raises(CircuitError, match="read_voltage_V = nan; allowed: one finite number"):
        solve_gated(g, torch.ones(2, 4), float("nan"))
    with pytest.raises(CircuitError, match=r"activity = 1.5; allowed: 0 to 1"):
        gated_conductance_approx(g, 1.5)
    with pytest.raises(CircuitError, match=r"bit_line_ohm = -1.0: resistances in ohm"):
        gated_conductance_approx(g, 0.5, bit_line_ohm=-1.0)
