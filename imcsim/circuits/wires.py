"""Wire resistance: currents of an array whose lines are resistors, and the one matrix that gives them.

Geometry: an ideal source at the left end of each word line, one segment before the first cell and one between
neighbours, the right end open; bit lines run down, one segment between neighbours and one from the last cell
to a virtual ground, the top end open.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imcsim.circuits import options
from imcsim.circuits.network import Segments
from imcsim.circuits.nonlinear import solve_sinh
from imcsim.circuits.options import CellKind, Drive, Ground, Ohm
from imcsim.circuits.terminals import transfer

# Cells solved at a time. On a CPU more would only leave the cache; about 2 kB a cell are in use.
_CELLS_AT_A_TIME = {"cpu": 1 << 13, "cuda": 1 << 20}


def effective_conductance(
    g: Tensor,
    word_line_ohm: Ohm = 0.0,
    bit_line_ohm: Ohm = 0.0,
    *,
    source_ohm: Ohm = 0.0,
    sense_ohm: Ohm = 0.0,
    series_ohm: Ohm = 0.0,
    drive: Drive = "left",
    ground: Ground = "bottom",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The matrix that an array of linear cells with wire resistance multiplies by, exact.

    ``i = v @ t``; entry (r, c) is the current into ground c for one volt on word line r, all others at 0 V.
    Without resistances t = g.

    Shapes: g (*batch, rows, cols); returns the same.
    Units: siemens and ohm.

    Args:
        g: conductances.
        word_line_ohm: one segment of a word line; a number, or a tensor that broadcasts to (rows, cols).
        bit_line_ohm: one segment of a bit line, alike.
        source_ohm: output resistance of a word line's driver, a number or (rows,).
        sense_ohm: input resistance of a bit line's virtual ground, a number or (cols,).
        series_ohm: in series with each cell (the access transistor of 1T1R), a number or (rows, cols).
        drive: "left", or "both" ends of the word lines at the same voltage, the right one through one more
            segment.
        ground: "bottom", or "both" ends of the bit lines, the top one through one more segment; their
            currents are summed.
        dtype: of the result; default: that of g. All arithmetic is float64.

    Returns:
        The effective conductances, differentiable in g and in every resistance.

    Raises:
        CircuitError: a value or a shape that no array can have.

    Notes:
        O(n^3) for n x n cells. A batch is solved in pieces, about 2 kB of memory a cell of a piece; gradients
        keep 8 kB a cell of the whole batch. Zero resistances and open cells lose no accuracy. See
        `imcsim.circuits.network` for the method.
    """
    given, g = g, options.checked_conductance(g)
    segments = options.checked_segments(
        g,
        word_line_ohm=word_line_ohm,
        bit_line_ohm=bit_line_ohm,
        source_ohm=source_ohm,
        sense_ohm=sense_ohm,
        series_ohm=series_ohm,
        drive=drive,
        ground=ground,
    )
    return _mapped(g, segments).to(options.result_dtype(given, dtype))


def solve_crossbar(
    g: Tensor,
    v: Tensor,
    word_line_ohm: Ohm = 0.0,
    bit_line_ohm: Ohm = 0.0,
    *,
    cell: CellKind = "linear",
    v0_V: float | Tensor | None = None,
    source_ohm: Ohm = 0.0,
    sense_ohm: Ohm = 0.0,
    series_ohm: Ohm = 0.0,
    drive: Drive = "left",
    ground: Ground = "bottom",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Currents into the grounds of the bit lines.

    Linear cells ``I = g V``; sinh cells ``I = g V0 sinh(V / V0)`` with V the voltage across the cell alone.

    Shapes: g (*batch, rows, cols), v (*batch, vectors, rows), (vectors, rows) or (rows,); returns (*batch,
        vectors, cols), or (*batch, cols) for one vector.
    Units: siemens, volts, ohm; returns amperes.

    Args:
        g: conductances, of sinh cells those at low voltage.
        v: voltages of the word lines.
        word_line_ohm: see `effective_conductance`, as for all resistances.
        bit_line_ohm: one segment of a bit line.
        cell: "linear" or "sinh".
        v0_V: V0 of sinh cells, a number or a tensor that broadcasts to (rows, cols).
        source_ohm: output resistance of a word line's driver.
        sense_ohm: input resistance of a bit line's virtual ground.
        series_ohm: in series with each cell. For 1S1R: the selector as the sinh cell and 1 / g of the memory
            element here.
        drive: "left" or "both".
        ground: "bottom" or "both".
        dtype: of the result; default: that of g. All arithmetic is float64.

    Returns:
        The currents, differentiable in g, v, v0_V and the resistances.

    Raises:
        CircuitError: a value or a shape that no array can have; Newton's method does not converge (says how
            far it got).

    Notes:
        Linear cells cost one `effective_conductance`, whatever the number of vectors; keep that matrix to
        read the array again. Sinh cells cost a few times as much for each vector.
    """
    given, g = g, options.checked_conductance(g)
    v = options.checked_voltage(v, g.shape[-2])
    options.checked_batch(g, v)
    v0 = options.checked_v0(cell, v0_V, g)
    segments = options.checked_segments(
        g,
        word_line_ohm=word_line_ohm,
        bit_line_ohm=bit_line_ohm,
        source_ohm=source_ohm,
        sense_ohm=sense_ohm,
        series_ohm=series_ohm,
        drive=drive,
        ground=ground,
    )
    if cell == "linear":
        current = v @ _mapped(g, segments)
    else:
        one = v.dim() == 1
        current = _sinh(g, segments, v.unsqueeze(0) if one else v, v0)
        current = current.squeeze(-2) if one else current
    return current.to(options.result_dtype(given, dtype))


def in_pieces(solve: Callable[..., Tensor], *batched: Tensor) -> Tensor:
    """Apply `solve` to pieces of tensors that share their first dimension; the first is (n, rows, cols)."""
    first = batched[0]
    at_a_time = _CELLS_AT_A_TIME.get(first.device.type, 1 << 16)
    size = max(1, at_a_time // (first.shape[-2] * first.shape[-1]))
    pieces = zip(*(t.split(size) for t in batched), strict=True)
    return torch.cat([solve(*piece) for piece in pieces])


def _mapped(g: Tensor, segments: Segments) -> Tensor:
    flat = g.reshape(-1, *g.shape[-2:])
    return in_pieces(lambda piece: transfer(piece, segments), flat).reshape(g.shape)


def _sinh(g: Tensor, segments: Segments, v: Tensor, v0: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(g.shape[:-2], v.shape[:-2])
    rows, cols = g.shape[-2:]
    each_g = g.unsqueeze(-3).expand(*batch, v.shape[-2], rows, cols).reshape(-1, rows, cols)
    each_v = v.expand(*batch, v.shape[-2], rows).reshape(-1, rows)
    current = in_pieces(lambda *piece: solve_sinh(piece[0], segments, piece[1], v0), each_g, each_v)
    return current.reshape(*batch, v.shape[-2], cols)
