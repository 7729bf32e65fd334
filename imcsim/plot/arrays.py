"""What is in an array: conductances, and what wires leave of them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from imcsim.circuits import effective_conductance
from imcsim.errors import InputError
from imcsim.plot.style import PALETTE, flat, new_axes


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
    values = flat(conductance)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError("conductance_histogram needs finite conductances of at least one cell")
    ax = new_axes() if ax is None else ax
    ax.hist(factor * values, bins=bins, color=PALETTE[0])
    states = np.unique(flat(target)) if target is not None else np.empty(0)
    if 0 < states.size <= 64:
        for i, state in enumerate(states):
            ax.axvline(factor * state, color=PALETTE[1], linewidth=0.8, label="target" if i == 0 else None)
        ax.legend(frameon=False)
    ax.set_xlabel(f"conductance ({unit})")
    ax.set_ylabel("cells")
    return ax


def ir_drop_map(
    conductance: Tensor, ax: Axes | None = None, *, word_line_ohm: float, bit_line_ohm: float
) -> Axes:
    """What share of each cell's current the wires of an array leave, as a heat map.

    ``effective conductance / conductance``: 1 is a cell that its wires do not hurt.

    Shapes: conductance (rows, cols).
    Units: siemens, ohms.

    Args:
        conductance: of every cell, above 0.
        ax: where to draw; None: a new figure.
        word_line_ohm: resistance of one wire segment.
        bit_line_ohm: likewise.

    Returns:
        The axes; word lines from the top, the virtual ground at the bottom.

    Raises:
        InputError: not a matrix of positive conductances, or no resistance at all.
    """
    if conductance.dim() != 2 or not bool((conductance > 0).all()):
        raise InputError(
            f"ir_drop_map needs a (rows, cols) matrix of conductances above 0, but got shape "
            f"{tuple(conductance.shape)} with a least value of {float(conductance.min()):g} S"
        )
    if word_line_ohm == bit_line_ohm == 0:
        raise InputError("word_line_ohm and bit_line_ohm are both 0: without resistance nothing is lost")
    seen = effective_conductance(conductance, word_line_ohm=word_line_ohm, bit_line_ohm=bit_line_ohm)
    ax = new_axes(4.6, 3.8) if ax is None else ax
    image = ax.imshow((seen / conductance.double()).numpy(), cmap="cividis", aspect="auto")
    ax.set(xlabel="bit line", ylabel="word line", title=f"{word_line_ohm:g} / {bit_line_ohm:g} ohm a segment")
    ax.figure.colorbar(image, ax=ax, label="current left")
    return ax
