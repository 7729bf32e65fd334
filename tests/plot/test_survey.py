"""Efficiency of published chips: points as corrected and as printed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imcsim.errors import InputError
from imcsim.plot import survey_efficiency
from imcsim.survey import survey_points


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
