"""Efficiency of published chips over their precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imcsim.errors import InputError
from imcsim.plot.style import MARKERS, PALETTE

KINDS = {"fpga": "FPGA", "digital": "digital ASIC", "sram": "SRAM in-memory", "rram": "RRAM in-memory"}

EFFICIENCIES = {"gops_per_watt": "GOPS/W", "gops_per_mm2": "GOPS/mm²"}


def survey_efficiency(
    points: pd.DataFrame, simulated: pd.DataFrame | None = None, axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """Power and area efficiency over the bits of weights, published and simulated together.

    Published figures are drawn as corrected; where that is not what is printed, the printed one is drawn
    open and joined to it. Simulated ones are crosses, joined to the published one of the same key.

    Args:
        points: from `imcsim.survey.survey_points`.
        simulated: key, weight_bits, gops_per_watt and gops_per_mm2, nan or 0 where there is none.
        axes: two; None: a new figure.

    Returns:
        The axes: power efficiency, area efficiency.

    Raises:
        InputError: another number of axes than two.
    """
    if axes is None:
        axes = list(Figure(figsize=(13.0, 5.6), layout="constrained").subplots(1, 2))
    if len(axes) != 2:
        raise InputError(f"survey_efficiency draws two panels, but {len(axes)} axes were given")
    for ax, (column, unit) in zip(axes, EFFICIENCIES.items(), strict=True):
        shown = points[points[f"{column}_corrected"].notna()]
        crosses = None if simulated is None else simulated[simulated[column] > 0]
        shift = _shifts(shown, crosses)
        for i, (kind, label) in enumerate(KINDS.items()):
            style = {"color": PALETTE[i], "marker": MARKERS[i]}
            _published(ax, shown[shown["kind"] == kind], column, label, style, shift)
        if crosses is not None:
            _simulated(ax, crosses, shown, column, shift)
        ax.set(
            xscale="log", yscale="log", xlabel="bits of weights (beside each other where equal)", ylabel=unit
        )
        ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        ax.margins(y=0.12)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, frameon=False)
    return list(axes)


def _shifts(points: pd.DataFrame, crosses: pd.DataFrame | None) -> dict[str, float]:
    """Factors of the abscissa by key, so that designs of equal precision stand beside each other."""
    bits = {str(row["key"]): float(row["weight_bits_corrected"]) for _, row in points.iterrows()}
    if crosses is not None:
        bits |= {
            str(row["key"]): float(row["weight_bits"])
            for _, row in crosses.iterrows()
            if row["key"] not in bits
        }
    shifts = {}
    for value in set(bits.values()):
        keys = [key for key, own in bits.items() if own == value]
        for place, key in zip(
            np.linspace(-0.38, 0.38, len(keys)) if len(keys) > 1 else [0.0], keys, strict=True
        ):
            shifts[key] = 2.0**place
    return shifts


def _published(
    ax: Axes, rows: pd.DataFrame, column: str, label: str, style: dict[str, Any], shift: dict[str, float]
) -> None:
    at = rows["weight_bits_corrected"] * rows["key"].map(shift)
    ax.plot(at, rows[f"{column}_corrected"], linestyle="", label=label, markersize=5, **style)
    for _, row in rows.iterrows():
        factor = shift[row["key"]]
        now = row["weight_bits_corrected"] * factor, row[f"{column}_corrected"]
        printed = row["weight_bits"] * factor, row[column]
        _name(ax, row["key"], now)
        if printed != now and not np.isnan(printed[1]):
            ax.plot(*zip(printed, now, strict=True), color=style["color"], linestyle=":", linewidth=1)
            ax.plot(*printed, **style, fillstyle="none", linestyle="", markersize=5)


def _simulated(
    ax: Axes, rows: pd.DataFrame, points: pd.DataFrame, column: str, shift: dict[str, float]
) -> None:
    at = rows["weight_bits"] * rows["key"].map(shift)
    ax.plot(at, rows[column], "kx", markersize=5, label="simulated, imcsim")
    for (_, row), x in zip(rows.iterrows(), at, strict=True):
        published = points[points["key"] == row["key"]][f"{column}_corrected"]
        for value in published:
            ax.plot((x, x), (value, row[column]), color="k", linewidth=0.5, alpha=0.5)
        if published.empty:
            _name(ax, row["key"], (x, row[column]))


def _name(ax: Axes, key: str, at: tuple[float, float]) -> None:
    ax.annotate(
        key, at, xytext=(0, 5), textcoords="offset points", fontsize=5.5, rotation=70, ha="left", va="bottom"
    )
