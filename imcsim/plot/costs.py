"""Energy and area by layer and component, and what trades against what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from imcsim.errors import InputError
from imcsim.plot.style import PALETTE, Rows, decorate, line_style, new_axes
from imcsim.ppa.report import Estimate

NAMED = len(PALETTE) - 1
"""Components with a colour of their own; the rest are drawn together."""


def breakdown(found: Estimate, ax: Axes | None = None, *, of: Literal["energy", "area"] = "energy") -> Axes:
    """Energy of each layer as a bar stacked by component, or area by component.

    Units: joules a sample; square millimetres.

    Args:
        found: from `imcsim.estimate`.
        ax: where to draw; None: a new figure.
        of: energy or area.

    Returns:
        The axes.

    Raises:
        InputError: another word for `of`.
    """
    if of == "energy":
        return _energy(found, new_axes(7.0, 3.8) if ax is None else ax)
    if of == "area":
        return _area(found, new_axes(5.0, 3.8) if ax is None else ax)
    raise InputError(f"of = {of!r} is not one of energy, area")


def _energy(found: Estimate, ax: Axes) -> Axes:
    parts = sorted(found.components, key=lambda part: part.energy_aJ, reverse=True)
    groups = [(part.name, [part.name]) for part in parts[:NAMED]]
    if parts[NAMED:]:
        groups.append((f"{len(parts) - NAMED} others", [part.name for part in parts[NAMED:]]))
    bottom = np.zeros(len(found.rows))
    for i, (label, names) in enumerate(groups):
        energy = np.array([sum(row.energy_aJ.get(name, 0) for name in names) * 1e-18 for row in found.rows])
        if energy.any():
            ax.bar(range(len(energy)), energy, bottom=bottom, color=PALETTE[i % len(PALETTE)], label=label)
        bottom += energy
    names = [row.name or "(model)" for row in found.rows]
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
    ax.set(ylabel="energy a sample (J)", title=f"{found.hardware}: {found.energy_J:.3g} J a sample")
    ax.grid(alpha=0.3, axis="y")
    if bottom.any():
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _area(found: Estimate, ax: Axes) -> Axes:
    parts = sorted((part for part in found.components if part.area_mm2), key=lambda part: part.area_mm2)
    ax.barh([part.name for part in parts], [part.area_mm2 for part in parts], color=PALETTE[0])
    ax.set(xlabel="area (mm²)", title=f"{found.hardware}: {found.area_mm2:.3g} mm²")
    ax.grid(alpha=0.3, axis="x")
    return ax


def pareto(
    rows: Rows, cost: str, value: str = "top1", ax: Axes | None = None, *, label: str | None = None
) -> Axes:
    """Points of a study, with the front of those that none beats in both: less cost, more value.

    Args:
        rows: dicts with both keys.
        cost: key of what should be small.
        value: key of what should be large.
        ax: where to draw; None: a new figure.
        label: key of the points' names, written beside the front's.

    Returns:
        The axes.

    Raises:
        InputError: no rows, or a row without one of the keys.
    """
    held = list(rows)
    needed = [cost, value, *([label] if label else [])]
    if not held:
        raise InputError("there are no rows to draw; give at least one")
    for i, row in enumerate(held):
        for key in needed:
            if key not in row:
                raise InputError(f"row {i} has no {key!r}; a row needs {', '.join(needed)}")
    points = [(float(row[cost]), float(row[value])) for row in held]
    front = front_of(points)
    ax = new_axes() if ax is None else ax
    ax.plot(*zip(*points, strict=True), linestyle="none", alpha=0.4, **line_style(0))
    ax.plot(*zip(*(points[i] for i in front), strict=True), label="front", **line_style(1))
    if label:
        for i in front:
            ax.annotate(
                str(held[i][label]), points[i], fontsize="x-small", xytext=(3, 3), textcoords="offset points"
            )
    ax.set(xlabel=cost, ylabel=value)
    decorate(ax)
    return ax


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, value) that no other beats, by rising cost.

    Args:
        points: cost and value of each.

    Returns:
        The indices; of equal points the first.
    """
    front: list[int] = []
    best = -np.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front
