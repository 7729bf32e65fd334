"""Figures: axes are labelled, and hold the data that was given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from imcsim import devices, plot
from imcsim.errors import ImcsimError, InputError

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


@pytest.mark.parametrize("name", devices.available())
def test_every_card_can_be_drawn(name) -> None:
    card = devices.load(name)
    axes = plot.device_card(card)
    assert len(axes) == 1 + (card.drift is not None) + (card.read_noise is not None)
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in axes)


def test_a_card_s_panels_hold_its_equations() -> None:
    card = devices.load("pcm_gst")
    window = card.conductance.window()
    writing, drift, noise = plot.device_card(card)
    g, sigma = (torch.from_numpy(np.asarray(v)) * 1e-6 for v in writing.get_lines()[0].get_data())
    torch.testing.assert_close(sigma, card.programming.sigma_of(g, window))
    assert labels(writing) == ["programming error", "evaluated from the published fit"]
    times, full = drift.get_lines()[0].get_data()
    nu = card.drift.mean_of(torch.tensor([25e-6], dtype=torch.float64)).item()
    expected = 25 * (1 + times[-1] / 20) ** -nu
    assert full[0] == pytest.approx(25, rel=0.01)
    assert full[-1] == pytest.approx(expected, rel=0.03)
    assert labels(drift) == ["100 % of the range", "50 % of the range", "25 % of the range"]
    assert labels(noise) == ["white, one read", "1/f, held after a day"]
    assert drift.get_xscale() == "log"


def test_device_to_device_spread_is_that_of_the_samples() -> None:
    card = devices.load("hfox_binary")
    window = card.conductance.window()
    (ax,) = plot.device_card(card)
    line = next(line for line in ax.get_lines() if line.get_label() == "device to device")
    g = torch.full((200_000,), window.g_max_S)
    written = card.spread.write(g, window, np.random.Generator(np.random.Philox(1))).double()
    # the deviation of 200,000 samples is within 4 / sqrt(2 n) = 0.63 % at z = 4
    assert line.get_ydata()[-1] == pytest.approx(1e6 * float(written.std()), rel=0.0064)


def test_a_card_takes_as_many_axes_as_it_fills() -> None:
    card, axes = devices.load("pcm_gst"), list(Figure().subplots(1, 3))
    assert plot.device_card(card, axes) == axes
    with pytest.raises(ImcsimError, match="fills 3 panels, but 2 axes were given"):
        plot.device_card(card, axes[:2])


def test_histogram_counts_every_cell() -> None:
    target = torch.tensor([1e-6, 2e-6]).repeat(500)
    ax = plot.conductance_histogram(target * 1.01, target=target, bins=10)
    assert sum(patch.get_height() for patch in ax.patches) == 1000
    assert ax.get_xlabel() == "conductance (µS)"
    assert ax.get_ylabel() == "cells"
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.get_lines()], [1, 2])
    assert (
        plot.conductance_histogram([0.1, 1.0], normalised=True).get_xlabel()
        == "conductance (fraction of g_max)"
    )


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_histogram_refuses_what_it_cannot_draw(values) -> None:
    with pytest.raises(InputError, match="finite conductances of at least one cell"):
        plot.conductance_histogram(values)


@pytest.mark.slow
def test_importing_it_touches_no_pyplot() -> None:
    code = "import sys, imcsim.plot; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
