"""What a device card says: error of writing, drift, read noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from imcsim.devices.base import Window
from imcsim.devices.card import DeviceCard
from imcsim.devices.noise import ReadNoise
from imcsim.errors import InputError
from imcsim.plot.style import PALETTE, decorate

CELLS = 4000
"""Cells drawn for each state where a card's drift is shown."""


def device_card(card: DeviceCard, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """What a card says: error of writing over conductance and, where it has them, drift and read noise.

    Drift is that of 4,000 cells a state, drawn with seed 0: mean and one standard deviation to each side.

    Args:
        card: the card.
        axes: one a panel (as many as the card fills); None: a new figure.

    Returns:
        The axes, one a panel.

    Raises:
        InputError: another number of axes than the card fills.
    """
    panels = [_writing]
    if card.drift is not None:
        panels.append(_drift)
    if card.read_noise is not None:
        panels.append(_read_noise)
    if axes is None:
        figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
        axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
        figure.suptitle(card.name)
    if len(axes) != len(panels):
        raise InputError(f"card {card.name!r} fills {len(panels)} panels, but {len(axes)} axes were given")
    for panel, ax in zip(panels, axes, strict=True):
        panel(card, ax)
    return list(axes)


def _unit(window: Window) -> tuple[float, str]:
    """Factor and unit for axes."""
    return (1.0, "fraction of g_max") if window.normalised else (1e6, "µS")


def _grid(window: Window) -> Tensor:
    return torch.linspace(window.g_min_S, window.g_max_S, 201, dtype=torch.float64)


def _writing(card: DeviceCard, ax: Axes) -> None:
    window = card.conductance.window()
    factor, unit = _unit(window)
    g = _grid(window)
    ax.plot(
        factor * g, factor * card.programming.sigma_of(g, window), color=PALETTE[0], label="programming error"
    )
    for points in card.points:
        if points.quantity == "programming.sigma_S":
            x, y = (np.array(points.table[key]) for key in ("g_S", "sigma_S"))
            ax.plot(factor * x, factor * y, ".", color=PALETTE[1], label=points.kind)
    if card.spread is not None:
        ax.plot(
            factor * g, factor * _spread_sigma(card, g, window), color=PALETTE[2], label="device to device"
        )
    ax.set(title="writing", xlabel=f"target conductance ({unit})", ylabel=f"standard deviation ({unit})")
    ax.set_ylim(bottom=0)
    decorate(ax)


def _spread_sigma(card: DeviceCard, g: Tensor, window: Window) -> Tensor:
    """``sqrt((level s_max)^2 + ((1 - level) s_min)^2)``, s the deviations of g_max and g_min themselves."""
    if card.spread is None:
        raise ValueError("the card has no spread")
    high, low, shape = card.spread.sigmas()
    level = (g - window.g_min_S) / window.span_S
    if shape == "lognormal":
        high, low = (float(np.sqrt(np.expm1(s * s) * np.exp(s * s))) for s in (high, low))
    return ((level * high * window.g_max_S) ** 2 + ((1 - level) * low * window.g_min_S) ** 2).sqrt()


def _drift(card: DeviceCard, ax: Axes) -> None:
    drift, window = card.drift, card.conductance.window()
    if drift is None:
        raise ValueError("the card has no drift")
    factor, unit = _unit(window)
    end = drift.valid_until_s or 3.15e7
    times = np.geomspace(min(1.0, end / 10), end, 60)
    for i, fraction in enumerate((1.0, 0.5, 0.25)):
        target = torch.full((CELLS,), window.g_min_S + fraction * window.span_S)
        state = drift.draw(target, window, np.random.Generator(np.random.Philox(0)))
        g = torch.stack([drift.at(target, state, float(t), window) for t in times]).double() * factor
        mean, std = g.mean(1), g.std(1)
        ax.plot(times, mean, color=PALETTE[i], label=f"{100 * fraction:.0f} % of the range")
        ax.fill_between(times, mean - std, mean + std, color=PALETTE[i], alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.set(
        title=f"drift ({drift.equation})",
        xlabel="time since the verify read (s)",
        ylabel=f"conductance ({unit})",
    )
    decorate(ax)


def _read_noise(card: DeviceCard, ax: Axes) -> None:
    window = card.conductance.window()
    factor, unit = _unit(window)
    g = _grid(window)
    for i, (label, sigma) in enumerate(_noise_kinds(card.read_noise or ReadNoise(), g, window).items()):
        ax.plot(factor * g, factor * sigma, color=PALETTE[i], linestyle="-" if i == 0 else "--", label=label)
    ax.set(title="read noise", xlabel=f"conductance ({unit})", ylabel=f"standard deviation ({unit})")
    ax.set_ylim(bottom=0)
    decorate(ax)


def _noise_kinds(noise: ReadNoise, g: Tensor, window: Window) -> dict[str, Tensor]:
    """Standard deviations by kind of noise."""
    found = {}
    if noise.white is not None:
        found["white, one read"] = noise.white.sigma_of(g, 0.0, window)
    if noise.flicker is not None:
        grown = np.sqrt(np.log1p(86_400 / noise.flicker.window_s))
        found["1/f, held after a day"] = noise.flicker.amplitude.amplitude_S(g, window) * grown
    if noise.telegraph is not None:
        t = noise.telegraph
        settled = np.sqrt(2 * t.fraction * t.probability * (1 - t.probability))
        found["telegraph, settled"] = t.amplitude.amplitude_S(g, window) * settled
    return found
