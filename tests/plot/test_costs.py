"""Figures of costs: bars add up, fronts are not beaten."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import imcsim
from imcsim import plot
from imcsim.errors import InputError
from imcsim.plot.costs import front_of


@pytest.fixture(scope="module")
def found():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    return imcsim.estimate(net, torch.rand(1, 3, 8, 8), imcsim.load_hardware("isaac"))


def test_energy_bars_add_up_to_the_layers(found) -> None:
    ax = plot.breakdown(found)
    tops: dict[float, float] = {}
    for bar in ax.patches:
        tops[bar.get_x()] = tops.get(bar.get_x(), 0.0) + bar.get_height()
    np.testing.assert_allclose(list(tops.values()), [row.energy_J for row in found.rows])
    assert ax.get_ylabel() == "energy a sample (J)"
    assert any(label.endswith(" others") for label in ax.get_legend_handles_labels()[1])


def test_area_bars_add_up_to_the_chip(found) -> None:
    ax = plot.breakdown(found, of="area")
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(found.area_mm2)


def test_only_energy_and_area_can_be_broken_down(found) -> None:
    with pytest.raises(InputError, match="of = 'latency' is not one of energy, area"):
        plot.breakdown(found, of="latency")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points) -> None:
    front = [points[i] for i in front_of(points)]
    for cost, value in points:
        beaten = any(c <= cost and v >= value for c, v in front)
        assert beaten
    for cost, value in front:
        assert not any((c < cost and v >= value) or (c <= cost and v > value) for c, v in points)


def test_the_front_is_drawn_and_named() -> None:
    rows = [
        {"energy": 3.0, "top1": 0.9, "name": "a"},
        {"energy": 1.0, "top1": 0.5, "name": "b"},
        {"energy": 2.0, "top1": 0.4, "name": "c"},
    ]
    ax = plot.pareto(rows, "energy", label="name")
    np.testing.assert_allclose(ax.get_lines()[1].get_xydata(), [[1, 0.5], [3, 0.9]])
    assert [text.get_text() for text in ax.texts] == ["b", "a"]
    with pytest.raises(InputError, match="row 1 has no 'energy'; a row needs energy, top1"):
        plot.pareto([rows[0], {"top1": 1.0}], "energy")
    with pytest.raises(InputError, match="there are no rows to draw"):
        plot.pareto([], "energy")
