"""Figures: accuracy and SQNR over ADC bits, what a device card says, conductances of an array.

Every function draws into the axes it is given, or into a new figure of its own, and returns the axes; a
figure made here belongs to no window and no global state (``ax.figure.savefig("sweep.png")``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from imcsim.devices.base import Window
from imcsim.devices.card import DeviceCard
from imcsim.devices.noise import ReadNoise
from imcsim.errors import InputError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people with any colour vision tell apart.

References: M. Okabe, K. Ito, "Color universal design", 2008.
"""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Rows = Iterable[Mapping[str, Any]]

CELLS = 4000
"""Cells drawn for each state where a card's drift is shown."""


def _new(width: float = 5.0, height: float = 3.6) -> Axes:
    return Figure(figsize=(width, height), layout="constrained").subplots()


def _style(index: int) -> dict[str, Any]:
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}


# ---- sweeps over ADC bits --------------------------------------------------------------------------------


def accuracy_vs_adc_bits(rows: Rows, ax: Axes | None = None, *, baseline: float | None = None) -> Axes:
    """Top-1 accuracy over ADC bits, a line an encoding, with 95 % intervals.

    Args:
        rows: dicts with encoding, adc_bits, top1, ci95_low and ci95_high (fractions).
        ax: where to draw; None: a new figure.
        baseline: the float network's top-1, drawn as a line.

    Returns:
        The axes.

    Raises:
        InputError: no rows, or a row without one of the keys.
    """
    lines = _by_encoding(rows, ("top1", "ci95_low", "ci95_high"))
    ax = _new() if ax is None else ax
    for i, (encoding, points) in enumerate(lines.items()):
        top1, low, high = (100 * points[key] for key in ("top1", "ci95_low", "ci95_high"))
        errors = np.stack([top1 - low, high - top1]).clip(min=0)
        ax.errorbar(
            points["adc_bits"], top1, yerr=errors, label=encoding, capsize=3, markersize=4, **_style(i)
        )
    if baseline is not None:
        ax.axhline(100 * baseline, color="0.4", linestyle="--", linewidth=1, label="float")
    ax.set_ylabel("top-1 accuracy (%)")
    return _finish_bits(ax)


def sqnr_vs_adc_bits(rows: Rows, ax: Axes | None = None) -> Axes:
    """SQNR of the logits over ADC bits, a line an encoding; points without a finite SQNR are left out.

    Args:
        rows: dicts with encoding, adc_bits and sqnr_db.
        ax: where to draw; None: a new figure.

    Returns:
        The axes.

    Raises:
        InputError: no rows, or a row without one of the keys.
    """
    lines = _by_encoding(rows, ("sqnr_db",))
    ax = _new() if ax is None else ax
    for i, (encoding, points) in enumerate(lines.items()):
        ax.plot(points["adc_bits"], points["sqnr_db"], label=encoding, markersize=4, **_style(i))
    ax.set_ylabel("SQNR of the logits (dB)")
    return _finish_bits(ax)


def adc_sweep(rows: Rows, *, baseline: float | None = None) -> Figure:
    """Accuracy and SQNR over ADC bits side by side.

    Args:
        rows: as for `accuracy_vs_adc_bits` and `sqnr_vs_adc_bits`.
        baseline: the float network's top-1.

    Returns:
        The figure.

    Raises:
        InputError: no rows, or a row without one of the keys.
    """
    held = list(rows)
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    accuracy_vs_adc_bits(held, left, baseline=baseline)
    sqnr_vs_adc_bits(held, right)
    return figure


def _by_encoding(rows: Rows, keys: tuple[str, ...]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Encoding -> key -> values in order of ADC bits; what is not finite becomes nan."""
    held = list(rows)
    if not held:
        raise InputError("there are no rows to draw; give at least one")
    needed = ("encoding", "adc_bits", *keys)
    for i, row in enumerate(held):
        for key in needed:
            if key not in row:
                raise InputError(f"row {i} has no {key!r}; a row needs {', '.join(needed)}")
    out = {}
    for encoding in dict.fromkeys(str(row["encoding"]) for row in held):
        mine = sorted((r for r in held if str(r["encoding"]) == encoding), key=lambda r: r["adc_bits"])
        out[encoding] = {
            key: np.array([np.nan if r[key] is None else float(r[key]) for r in mine])
            for key in ("adc_bits", *keys)
        }
        for values in out[encoding].values():
            values[~np.isfinite(values)] = np.nan
    return out


def _finish_bits(ax: Axes) -> Axes:
    ax.set_xlabel("ADC bits")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


# ---- devices ---------------------------------------------------------------------------------------------


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
    _decorate(ax)


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
    _decorate(ax)


def _read_noise(card: DeviceCard, ax: Axes) -> None:
    window = card.conductance.window()
    factor, unit = _unit(window)
    g = _grid(window)
    for i, (label, sigma) in enumerate(_noise_kinds(card.read_noise or ReadNoise(), g, window).items()):
        ax.plot(factor * g, factor * sigma, color=PALETTE[i], linestyle="-" if i == 0 else "--", label=label)
    ax.set(title="read noise", xlabel=f"conductance ({unit})", ylabel=f"standard deviation ({unit})")
    ax.set_ylim(bottom=0)
    _decorate(ax)


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


def _decorate(ax: Axes) -> None:
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")


def conductance_histogram(
    conductance: Tensor | ArrayLike,
    ax: Axes | None = None,
    *,
    target: Tensor | ArrayLike | None = None,
    normalised: bool = False,
    bins: int = 100,
) -> Axes:
    """How the conductances of cells are distributed.

    Units: siemens, drawn in microsiemens; fractions of g_max where `normalised`.

    Args:
        conductance: of every cell, any shape.
        ax: where to draw; None: a new figure.
        target: what was aimed at, likewise; drawn as lines where there are at most 64 of them.
        normalised: the numbers are fractions of g_max.
        bins: bins of the histogram.

    Returns:
        The axes.

    Raises:
        InputError: no cells, or values that are not finite.
    """
    factor, unit = (1.0, "fraction of g_max") if normalised else (1e6, "µS")
    values = _flat(conductance)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError("conductance_histogram needs finite conductances of at least one cell")
    ax = _new() if ax is None else ax
    ax.hist(factor * values, bins=bins, color=PALETTE[0])
    states = np.unique(_flat(target)) if target is not None else np.empty(0)
    if 0 < states.size <= 64:
        for i, state in enumerate(states):
            ax.axvline(factor * state, color=PALETTE[1], linewidth=0.8, label="target" if i == 0 else None)
        ax.legend(frameon=False)
    ax.set_xlabel(f"conductance ({unit})")
    ax.set_ylabel("cells")
    return ax


def _flat(values: Tensor | ArrayLike) -> NDArray[np.float64]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64).ravel()
