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
    """Sources and grounds may change places: the array seen from the other side is the transpose."""
    forward = effective_conductance(g, word, bit, source_ohm=source, sense_ohm=sense)
    turned = g.flip(0).mT  # rotate so that bit lines leave on the left, and word lines end at the bottom
    back = effective_conductance(turned.flip(0).flip(1), bit, word, source_ohm=sense, sense_ohm=source)
    # In the turned array word line c' is the old bit line, entered from its bottom.
    assert close(back.flip(0).flip(1).mT.flip(0), forward) or close(_other_side(g, word, bit, source, sense), forward)


def _other_side(g, word, bit, source, sense):
    turned = g.flip(0).mT.flip(0)
    return effective_conductance(turned, bit, word, source_ohm=sense, sense_ohm=source).flip(0).mT.flip(0)


@FEW
@given(arrays(), OHMS, OHMS, st.sampled_from(["left", "both"]), st.sampled_from(["bottom", "both"]))
def test_kirchhoffs_current_law(g, word, bit, drive, ground):
    """All word lines at 1 V: what enters leaves. Each row's own current is no more than its cells could draw."""
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
    assert close(effective_conductance(scale * g, word / scale, bit / scale), scale * effective_conductance(g, word, bit))


@FEW
@given(arrays(), OHMS, OHMS)
def test_idle_rows_above_and_columns_beside_change_nothing(g, word, bit):
    """Open cells added above and on the right leave the rest alone."""
    rows, cols = g.shape
    larger = torch.nn.functional.pad(g, (0, 3, 2, 0))
    t = effective_conductance(larger, word, bit)
    assert close(t[2:, :cols], effective_conductance(g, word, bit))
    assert not t[:2].any()
    assert not t[:, cols:].any()


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
    g = array(6, 6, g_max=1.0)
    g[2, 3] = 0.0
    word = torch.zeros((), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda g: effective_conductance(g, word, 0.5), g.requires_grad_())


def test_second_derivatives(array):
    g = array(3, 3, g_max=1.0).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda g: effective_conductance(g, 0.1, 0.2), g)
