"""Figures of what chips cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imcsim import ppa
from imcsim.errors import InputError
from imcsim.plot_chips import SHOWN, estimate_bars, survey_efficiency
from imcsim.survey import survey_points
from tests.ppa.chips import chip

LAYERS = [ppa.LayerShape("conv", 1, 64, 147, vectors=100, activations=100), ppa.LayerShape("fc", 1, 10, 1024)]


def test_bars_add_up_to_the_layers_energies() -> None:
    report = ppa.estimate_layers(LAYERS, chip("isaac"))
    ax = estimate_bars(report)
    stacks = ax.containers
    assert len(stacks) == SHOWN + 1  # the last one is what is left
    layers = sum(np.array([bar.get_height() for bar in stack[:-1]]) for stack in stacks)
    assert layers == pytest.approx([row.energy_J for row in report.rows if row.energy_J])
    whole = sum(stack[-1].get_height() for stack in stacks)
    assert whole == pytest.approx(max(row.energy_J for row in report.rows))
    assert stacks[0].get_label() == "adc"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["conv", "fc", "all"]
    assert any(text.get_text().endswith("%") for text in ax.texts)


def test_nothing_to_draw() -> None:
    costs = ppa.costs_from({"components": {"a": {"event": "pool", "energy_pJ": 1.0}}})
    with pytest.raises(InputError, match="no energy to draw"):
        estimate_bars(ppa.estimate_layers(LAYERS, chip("isaac"), costs=costs))


def test_published_points_are_drawn_as_corrected_and_as_printed() -> None:
    points = survey_points()
    rows = pd.DataFrame([{"key": "isaac", "weight_bits": 16, "gops_per_watt": 600.0, "gops_per_mm2": 0.0}])
    power, area = survey_efficiency(points, rows)
    drawn = np.concatenate([line.get_ydata() for line in power.lines])
    for value in (627.5, 380.0, 1084.0, 1_084_000.0, 600.0):
        assert value in drawn
    by_label = {line.get_label(): line for line in area.lines}
    assert len(by_label["simulated, imcsim"].get_ydata()) == 0  # isaac's 0 is no figure
    assert set(by_label["SRAM in-memory"].get_ydata()) == {57.0, 5461.0}
    with pytest.raises(InputError, match="two panels, but 1"):
        survey_efficiency(points, rows, [power])
