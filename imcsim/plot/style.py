"""What all figures share: colours, markers, new axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people with any colour vision tell apart.

References: M. Okabe, K. Ito, "Color universal design", 2008.
"""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Rows = Iterable[Mapping[str, Any]]


def new_axes(width: float = 5.0, height: float = 3.6) -> Axes:
    """Axes of a figure that belongs to no window."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def line_style(index: int) -> dict[str, Any]:
    """Colour and marker of the index-th line."""
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}


def decorate(ax: Axes) -> None:
    """A faint grid, and a legend where lines have labels."""
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")


def flat(values: Tensor | ArrayLike) -> NDArray[np.float64]:
    """Values as one float64 vector."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64).ravel()
