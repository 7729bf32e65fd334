"""A network on its chip: how well each layer does, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from imcsim.errors import InputError
from imcsim.plot.style import PALETTE, new_axes
from imcsim.summary import Summary


def layer_sqnr(sqnr_db: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """SQNR of each layer's output as a bar, in the order given.

    Units: decibels.

    Args:
        sqnr_db: by layer name; what is infinite (nothing lost) has no bar.
        ax: where to draw; None: a new figure.

    Returns:
        The axes.

    Raises:
        InputError: no layers.
    """
    if not sqnr_db:
        raise InputError("there are no layers to draw; give at least one")
    values = np.array([float(value) for value in sqnr_db.values()])
    values[~np.isfinite(values)] = np.nan
    ax = new_axes(7.0, 3.4) if ax is None else ax
    ax.bar(range(len(values)), values, color=PALETTE[0])
    ax.set_xticks(range(len(values)), list(sqnr_db), rotation=90, fontsize="x-small")
    ax.set_ylabel("SQNR (dB)")
    ax.grid(alpha=0.3, axis="y")
    return ax


def tile_map(summary: Summary, ax: Axes | None = None, *, across: int | None = None) -> Axes:
    """The arrays of a network as a grid of squares, a colour a layer, in the order they are placed.

    Args:
        summary: from `imcsim.summary`.
        ax: where to draw; None: a new figure.
        across: arrays in a row of the grid; None: as square as can be.

    Returns:
        The axes.

    Raises:
        InputError: no layer is on arrays, or `across` is below 1.
    """
    layers = [row for row in summary.rows if row.arrays]
    if not layers:
        raise InputError("no layer of this summary is on arrays; convert a model first")
    total = sum(row.arrays for row in layers)
    width = int(np.ceil(np.sqrt(total))) if across is None else across
    if width < 1:
        raise InputError(f"across = {across} is below 1; give the arrays in a row of the grid")
    ax = new_axes(6.5, 4.2) if ax is None else ax
    ax.imshow(_grid([row.arrays for row in layers], width), interpolation="none")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(f"{total} arrays, {len(layers)} layers")
    handles = [
        Patch(
            facecolor=_colour(i),
            label=f"{row.name or '(model)'}: {row.arrays}, {100 * row.utilisation:.0f} % used",
        )
        for i, row in enumerate(layers)
    ]
    columns = -(-len(handles) // 24)
    ax.legend(
        handles=handles,
        fontsize="xx-small",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        ncols=columns,
    )
    return ax


def _colour(layer: int) -> tuple[float, float, float]:
    """The palette's colours, lighter at every turn."""
    code, turn = PALETTE[layer % len(PALETTE)], min(layer // len(PALETTE), 3)
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
    light = 0.25 * turn
    return (red + (1 - red) * light, green + (1 - green) * light, blue + (1 - blue) * light)


def _grid(counts: list[int], width: int) -> NDArray[np.float64]:
    """Colours of the squares, white where the last row has none. Shapes: returns (height, width, 3)."""
    colours = np.repeat([_colour(i) for i in range(len(counts))], counts, axis=0)
    height = -(-len(colours) // width)
    grid = np.ones((height * width, 3))
    grid[: len(colours)] = colours
    return grid.reshape(height, width, 3)
