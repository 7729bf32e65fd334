from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imcsim.circuits import effective_conductance, solve_crossbar

FEW = settings(max_examples=25, deadline=None)
OHMS = st.one_of(st.just(0.0), st.floats(1e-3, 1e4))


@st.composite
def arrays(draw: st.DrawFn) -> Tensor:
    rows, cols = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    g = 10 ** draw(st.floats(-7.0, -3.0)) * torch.rand(rows, cols, generator=generator, dtype=torch.float64)
    return g * (torch.rand(rows, cols, generator=generator) < draw(st.floats(0.3, 1.0)))


def close(got: Tensor, wanted: Tensor) -> bool:
    return bool((got - wanted).abs().max() <= 1e-11 * wanted.abs().max())


@FEW
@given(arrays(), OHMS, OHMS, OHMS, OHMS)
def test_reciprocity(g, word, bit, source, sense):
    """Sources and grounds may change places: the array is then read from the other side."""

    def other_side(t: Tensor) -> Tensor:
        return t.flip(0, 1).mT

    forward = effective_conductance(g, word, bit, source_ohm=source, sense_ohm=sense)
    back = effective_conductance(other_side(g), bit, word, source_ohm=sense, sense_ohm=source)
    assert close(other_side(back), forward)


@FEW
@given(arrays(), OHMS, OHMS, st.sampled_from(["left", "both"]), st.sampled_from(["bottom", "both"]))
def test_kirchhoffs_current_law(g, word, bit, drive, ground):
    """All word lines at 1 V: what enters leaves. Each row's own current is no more than its cells could
    draw."""
    t = effective_conductance(g, word, bit, drive=drive, ground=ground)
    assert (t >= -1e-12 * g.max()).all()
    assert (t.sum(1) <= g.sum(1) * (1 + 1e-12)).all()
    assert (t.sum(0) <= g.sum(0) * (1 + 1e-12)).all()


@FEW
@given(arrays(), OHMS, OHMS, st.floats(1.1, 10.0))
def test_more_resistance_loses_more_current(g, word, bit, factor):
    ones = torch.ones(g.shape[0], dtype=torch.float64)
    total = solve_crossbar(g, ones, word, bit).sum()
    slack = 1e-12 * g.sum()
    assert solve_crossbar(g, ones, factor * word, bit).sum() <= total + slack
    assert solve_crossbar(g, ones, word, factor * bit).sum() <= total + slack
    assert solve_crossbar(g, ones, word, bit, series_ohm=factor).sum() <= total + slack


@FEW
@given(arrays(), OHMS, OHMS, st.floats(0.1, 10.0))
def test_only_products_of_conductance_and_resistance_matter(g, word, bit, scale):
    assert close(
        effective_conductance(scale * g, word / scale, bit / scale),
        scale * effective_conductance(g, word, bit),
    )


@FEW
@given(arrays(), OHMS, OHMS)
def test_idle_rows_above_and_columns_beside_change_nothing(g, word, bit):
    """Open cells added above and on the right leave the rest alone."""
    cols = g.shape[1]
    larger = torch.nn.functional.pad(g, (0, 3, 2, 0))
    t = effective_conductance(larger, word, bit)
    assert close(t[2:, :cols], effective_conductance(g, word, bit))
    assert t[:2].abs().max() <= 1e-15 * g.max()
    assert t[:, cols:].abs().max() <= 1e-15 * g.max()


@pytest.mark.parametrize("drive", ["left", "both"])
@pytest.mark.parametrize("ground", ["bottom", "both"])
@pytest.mark.parametrize("shape", [(3, 4), (7, 6)])
def test_gradients(array, shape, drive, ground):
    g = array(*shape, g_max=1.0).requires_grad_()
    ohms = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.2, 0.3, 0.05, 0.4)]

    def of(g, word, bit, source, sense, series):
        return effective_conductance(
            g, word, bit, source_ohm=source, sense_ohm=sense, series_ohm=series, drive=drive, ground=ground
        )

    assert torch.autograd.gradcheck(of, (g, *ohms))


def test_gradients_of_ideal_wires_and_open_cells(array):
    """At the edge of what is allowed, where gradcheck's central differences cannot go: one-sided
    differences."""
    g, step = array(6, 6, g_max=1.0), 1e-7
    g[2, 3] = 0.0
    word = torch.zeros((), dtype=torch.float64)
    weight = array(6, 6, g_max=1.0, seed=5)

    def of(g: Tensor, word: Tensor) -> Tensor:
        return (weight * effective_conductance(g, word, 0.5)).sum()

    leaves = (g.clone().requires_grad_(), word.clone().requires_grad_())
    by_g, by_word = torch.autograd.grad(of(*leaves), leaves)
    nudged = g.clone()
    nudged[2, 3] = step
    assert float((of(nudged, word) - of(g, word)) / step) == pytest.approx(float(by_g[2, 3]), rel=1e-5)
    assert float((of(g, word + step) - of(g, word)) / step) == pytest.approx(float(by_word), rel=1e-5)


def test_second_derivatives(array):
    g = array(3, 3, g_max=1.0).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda g: effective_conductance(g, 0.1, 0.2), g)
