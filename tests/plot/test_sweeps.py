"""Figures of sweeps: axes are labelled, and hold the data that was given."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from imcsim import plot
from imcsim.errors import InputError

ROWS = [
    {"encoding": e, "adc_bits": b, "top1": t, "ci95_low": t - 0.03, "ci95_high": t + 0.02, "sqnr_db": s}
    for e, b, t, s in [
        ("differential", 6, 0.80, 14.0),
        ("differential", 4, 0.30, 2.0),
        ("differential", 5, 0.60, 8.0),
        ("offset", 5, 0.20, 1.0),
        ("offset", 6, 0.50, float("inf")),
    ]
]


def labels(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def test_accuracy_lines_are_sorted_and_in_per_cent() -> None:
    ax = plot.accuracy_vs_adc_bits(ROWS, baseline=0.9)
    assert ax.get_xlabel() == "ADC bits"
    assert ax.get_ylabel() == "top-1 accuracy (%)"
    assert sorted(labels(ax)) == ["differential", "float", "offset"]
    first, second = ax.containers
    np.testing.assert_allclose(first[0].get_xydata(), [[4, 30], [5, 60], [6, 80]])
    np.testing.assert_allclose(second[0].get_xydata(), [[5, 20], [6, 50]])
    bars = first[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[27, 32], [57, 62], [77, 82]])
    (baseline,) = [line for line in ax.get_lines() if line.get_label() == "float"]
    np.testing.assert_allclose(baseline.get_ydata(), [90, 90])
    assert first[0].get_color() != second[0].get_color()


def test_sqnr_leaves_out_what_is_infinite() -> None:
    ax = plot.sqnr_vs_adc_bits(ROWS)
    assert ax.get_ylabel() == "SQNR of the logits (dB)"
    differential, offset = ax.get_lines()
    np.testing.assert_allclose(differential.get_ydata(), [2, 8, 14])
    np.testing.assert_allclose(offset.get_ydata(), [1, np.nan])


def test_the_sweep_has_both_panels(tmp_path) -> None:
    figure = plot.adc_sweep(iter(ROWS), baseline=0.9)
    assert [ax.get_ylabel() for ax in figure.axes] == ["top-1 accuracy (%)", "SQNR of the logits (dB)"]
    figure.savefig(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


@pytest.mark.parametrize("draw", [plot.accuracy_vs_adc_bits, plot.sqnr_vs_adc_bits])
def test_axes_given_are_used_and_returned(draw) -> None:
    ax = Figure().subplots()
    assert draw(ROWS, ax) is ax
    assert draw(ROWS) is not ax


def test_rows_that_cannot_be_drawn_say_why() -> None:
    with pytest.raises(InputError, match="there are no rows to draw"):
        plot.accuracy_vs_adc_bits([])
    with pytest.raises(InputError, match="row 0 has no 'ci95_low'; a row needs encoding, adc_bits"):
        plot.accuracy_vs_adc_bits([{"encoding": "offset", "adc_bits": 4, "top1": 0.1}])


@pytest.mark.slow
def test_importing_it_touches_no_pyplot() -> None:
    code = "import sys, imcsim.plot; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
