from __future__ import annotations

import pytest
import torch

from imcsim.circuits import effective_conductance, solve_crossbar
from imcsim.errors import CircuitError

WIRES = {"word_line_ohm": 20.0, "bit_line_ohm": 35.0}


def sinh(g, v, v0, **wires):
    return solve_crossbar(g, v, cell="sinh", v0_V=v0, **wires)


def test_ideal_wires_give_the_formula(array, voltages):
    g, v = array(12, 7), voltages(5, 12)
    wanted = torch.einsum("rc,nr->nc", g, 0.1 * torch.sinh(v / 0.1))
    torch.testing.assert_close(sinh(g, v, 0.1), wanted, rtol=1e-12, atol=1e-18)


def test_one_cell_satisfies_its_equation():
    g, v, ohm, v0 = torch.tensor([[1e-4]], dtype=torch.float64), 1.5, 3e3, 0.1
    current = sinh(g, torch.tensor([v], dtype=torch.float64), v0, word_line_ohm=ohm)
    across = v - ohm * current
    torch.testing.assert_close(g[0] * v0 * torch.sinh(across / v0), current, rtol=1e-10, atol=0.0)


def test_large_v0_is_a_linear_cell_and_the_departure_is_of_second_order(array, voltages, worst):
    g, v = array(16, 16), voltages(4, 16)
    linear = solve_crossbar(g, v, **WIRES)
    assert worst(sinh(g, v, 1e5, **WIRES), linear) < 1e-9
    ratio = worst(sinh(g, v, 4.0, **WIRES), linear) / worst(sinh(g, v, 8.0, **WIRES), linear)
    assert ratio == pytest.approx(4.0, rel=0.02)


def test_odd_in_the_voltage_and_zero_at_zero(array, voltages):
    g, v = array(10, 6), voltages(3, 10)
    torch.testing.assert_close(sinh(g, -v, 0.1, **WIRES), -sinh(g, v, 0.1, **WIRES), rtol=1e-11, atol=1e-18)
    assert not sinh(g, 0 * v, 0.1, **WIRES).any()


@pytest.mark.parametrize(
    "ends", [{}, {"drive": "both"}, {"ground": "both"}, {"drive": "both", "ground": "both"}]
)
def test_batches_and_vectors_are_solved_on_their_own(array, voltages, ends):
    g, v = array(3, 9, 6), voltages(4, 9)
    current = sinh(g, v, 0.05, **WIRES, **ends)
    assert current.shape == (3, 4, 6)
    for i in range(3):
        for k in range(4):
            alone = sinh(g[i], v[k], 0.05, **WIRES, **ends)
            torch.testing.assert_close(current[i, k], alone, rtol=1e-10, atol=1e-18)


def test_v0_may_differ_from_cell_to_cell(array, voltages):
    g, v = array(8, 4), voltages(8)
    v0 = 0.05 + array(8, 4, g_max=0.2, seed=4)
    torch.testing.assert_close(
        sinh(g, v, v0), (v[:, None].div(v0).sinh() * v0 * g).sum(0), rtol=1e-12, atol=0.0
    )


def test_a_64_by_64_array_of_steep_cells(array, voltages):
    g, v = array(64, 64), 5 * voltages(2, 64).abs()
    current = sinh(g, v, 0.1, word_line_ohm=1.0, bit_line_ohm=1.0)
    assert (current > solve_crossbar(g, v, 1.0, 1.0)).all()
    assert (current < torch.einsum("rc,nr->nc", g, 0.1 * torch.sinh(v / 0.1))).all()


def test_an_exponential_that_overflows_where_the_wires_do_not(array):
    """The cell that would carry 1e43 times its low-voltage current is held at a few V0 by its wire."""
    g, v = array(4, 4), torch.full((4,), 1.0, dtype=torch.float64)
    current = sinh(g, v, 0.01, word_line_ohm=100.0)
    assert torch.isfinite(current).all()
    assert current.sum() < 4 * 1.0 / 100.0


@pytest.mark.parametrize("ends", [{}, {"drive": "both", "ground": "both"}])
def test_gradients(array, ends):
    g = array(4, 3, g_max=1.0).requires_grad_()
    v = torch.tensor([[0.9, -0.4, 0.6, 1.1]], dtype=torch.float64, requires_grad=True)
    v0, word, series = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.4, 0.1, 0.2))

    def of(g, v, v0, word, series):
        return sinh(g, v, v0, word_line_ohm=word, bit_line_ohm=0.3, series_ohm=series, source_ohm=0.1, **ends)

    assert torch.autograd.gradcheck(of, (g, v, v0, word, series))


def test_small_signals_see_the_map(array):
    """The derivative of the currents at zero voltage is the effective conductance."""
    g = array(7, 5)
    jacobian = torch.autograd.functional.jacobian(lambda v: sinh(g, v, 0.1, **WIRES), g.new_zeros(7))
    torch.testing.assert_close(jacobian.mT, effective_conductance(g, **WIRES), rtol=1e-10, atol=0.0)


def test_what_cannot_be_solved_is_said(array):
    with pytest.raises(
        CircuitError,
        match=r"Newton's method stopped .* up to 50 V and V0 down to 0.01 V.*lower v or raise v0_V",
    ):
        sinh(array(3, 3), torch.full((3,), 50.0, dtype=torch.float64), 0.01)
