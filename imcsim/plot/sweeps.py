"""Accuracy and SQNR over ADC bits, and accuracy over anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from imcsim.errors import InputError
from imcsim.plot.style import Rows, decorate, line_style, new_axes


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
    ax = new_axes() if ax is None else ax
    for i, (encoding, points) in enumerate(lines.items()):
        top1, low, high = (100 * points[key] for key in ("top1", "ci95_low", "ci95_high"))
        errors = np.stack([top1 - low, high - top1]).clip(min=0)
        ax.errorbar(
            points["adc_bits"], top1, yerr=errors, label=encoding, capsize=3, markersize=4, **line_style(i)
        )
    if baseline is not None:
        ax.axhline(100 * baseline, color="0.4", linestyle="--", linewidth=1, label="float")
    ax.set_ylabel("top-1 accuracy (%)")
    return _finish_bits(ax)


def accuracy_over(
    means: Rows, x: str, ax: Axes | None = None, *, by: str | None = None, baseline: float | None = None
) -> Axes:
    """Mean top-1 accuracy over anything, with 95 % intervals: what `imcsim.sweep.Results.means` gives.

    Args:
        means: dicts with mean, low and high (fractions) and the keys below.
        x: key of the horizontal axis.
        ax: where to draw; None: a new figure.
        by: key whose values have a line each.
        baseline: the float network's top-1, drawn as a line.

    Returns:
        The axes.

    Raises:
        InputError: no rows, or a row without one of the keys.
    """
    held = list(means)
    needed = ["mean", "low", "high", x, *([by] if by else [])]
    if not held:
        raise InputError("there are no rows to draw; give at least one")
    for i, row in enumerate(held):
        for key in needed:
            if key not in row:
                raise InputError(f"row {i} has no {key!r}; a row needs {', '.join(needed)}")
    lines: dict[str, list[Any]] = {}
    for row in held:
        lines.setdefault(f"{by}: {row[by]}" if by else "chip", []).append(row)
    ax = new_axes() if ax is None else ax
    for i, (label, rows) in enumerate(lines.items()):
        rows.sort(key=lambda row: float(row[x]))
        mean, low, high = (np.array([100 * row[key] for row in rows]) for key in ("mean", "low", "high"))
        errors = np.stack([mean - low, high - mean]).clip(min=0)
        at = [row[x] for row in rows]
        ax.errorbar(at, mean, yerr=errors, label=label, capsize=3, markersize=4, **line_style(i))
    if baseline is not None:
        ax.axhline(100 * baseline, color="0.4", linestyle="--", linewidth=1, label="float")
    ax.set(xlabel=x, ylabel="top-1 accuracy (%)")
    decorate(ax)
    return ax


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
    ax = new_axes() if ax is None else ax
    for i, (encoding, points) in enumerate(lines.items()):
        ax.plot(points["adc_bits"], points["sqnr_db"], label=encoding, markersize=4, **line_style(i))
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
