"""Figures of device cards."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from imcsim import devices, plot
from imcsim.errors import ImcsimError


def labels(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


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
