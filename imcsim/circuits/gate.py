"""1T1R arrays with the input on the gates: the cells of an idle row are disconnected, not held at 0 V.

Every source line carries the read voltage; a row's access transistors connect its cells while its input is
on. An idle row then loads no bit line, so with wire resistance the matrix of the array depends on which rows
are on. (With the input on the source lines, idle rows sit at 0 V and draw current from the bit lines:
`solve_crossbar`.)
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from imcsim.circuits import options
from imcsim.circuits.options import CellKind, WireOptions
from imcsim.circuits.wires import effective_conductance, solve_crossbar
from imcsim.errors import CircuitError


def solve_gated(
    g: Tensor,
    on: Tensor,
    read_voltage_V: float | Tensor,
    *,
    cell: CellKind = "linear",
    v0_V: float | Tensor | None = None,
    **wires: Unpack[WireOptions],
) -> Tensor:
    """Column currents of a gated array, exact: each vector solves its own array, g = 0 in idle rows.

    Shapes: g (*batch, rows, cols), on (*batch, vectors, rows) or (vectors, rows); returns (*batch, vectors,
        cols).
    Units: siemens, volts; returns amperes.

    Args:
        g: conductances of the cells while connected; put the transistor's resistance into ``series_ohm``.
        on: which rows are connected, booleans or 0 and 1.
        read_voltage_V: the voltage of every source line.
        cell: "linear" or "sinh".
        v0_V: V0 of sinh cells.
        **wires: see `WireOptions`; the source line is the word line of `solve_crossbar`.

    Returns:
        The currents, in g's dtype.

    Raises:
        CircuitError: a value or a shape that no array can have.

    Notes:
        Costs one map per vector; `gated_conductance_approx` costs one in all.
    """
    given, g = g, options.checked_conductance(g)
    pattern = _checked_pattern(on, g)
    connected = g.unsqueeze(-3) * pattern.unsqueeze(-1)
    read = options.checked_read_voltage(read_voltage_V, g).expand(g.shape[-2])
    current = solve_crossbar(connected, read, cell=cell, v0_V=v0_V, **wires)
    return current.to(options.result_dtype(given, None))


def gated_conductance_approx(g: Tensor, activity: float = 0.5, **wires: Unpack[WireOptions]) -> Tensor:
    """APPROXIMATE matrix of a gated array at a given activity: ``i ~ read_voltage_V on @ t``.

    A row that is on sees its own word line as it is, but bit lines that carry only a fraction ``p = activity
    + (1 - activity) / rows`` of the current they would carry with all rows on (its own current, and each
    other row's with probability `activity`). That is the map of an ordinary array with the bit lines'
    resistances times p.

    Shapes: g (*batch, rows, cols); returns the same.
    Units: siemens.

    Args:
        g: conductances of the cells while connected.
        activity: the fraction of rows that are on, 0 to 1.
        **wires: see `WireOptions`.

    Returns:
        The approximate conductances, in g's dtype.

    Raises:
        CircuitError: a value or a shape that no array can have.

    Notes:
        Exact without bit-line resistance, and when all rows are on. Otherwise what is missed is which rows
        are on: where, and how many more or fewer than `activity`. Error against `solve_gated` for random
        patterns of that activity, a quarter to three quarters, 1-ohm segments, cells spread evenly over 2
        to 100 per cent of g_max, as rms over mean current (in brackets, at a half: the map of a
        voltage-input array; ideal wires): n = 64, g_max 100 uS: 0.5 % (3 %; 11 %); n = 128, 100 uS: 1.1 %
        (9 %; 42 %); n = 128, 10 uS: 0.15 % (1.3 %; 4.4 %). One current is off by up to three times that; a
        wrong `activity`, a half for a quarter, makes it four to five times as much.
        tests/circuits/test_gate.py measures it.
    """
    if not 0.0 <= activity <= 1.0:
        raise CircuitError(
            f"activity = {activity}; allowed: 0 to 1, the fraction of rows that are on in an input vector."
        )
    options.checked_segments(options.checked_conductance(g), **wires)
    rows = torch.as_tensor(g).shape[-2]
    carried = activity + (1.0 - activity) / rows
    scaled = wires.copy()
    scaled["bit_line_ohm"] = wires.get("bit_line_ohm", 0.0) * carried
    scaled["sense_ohm"] = wires.get("sense_ohm", 0.0) * carried
    return effective_conductance(g, **scaled)


def _checked_pattern(on: Tensor, g: Tensor) -> Tensor:
    pattern = options.as_numbers("on", on)
    rows = g.shape[-2]
    if pattern.dim() < 2 or pattern.shape[-1] != rows:
        raise CircuitError(
            f"on has shape {tuple(pattern.shape)}; expected (*batch, vectors, {rows}), the rows of g last."
        )
    if not bool(((pattern == 0) | (pattern == 1)).all()):
        raise CircuitError(
            "on holds values other than 0 and 1: a gate is on or off. "
            "Send a multi-bit input as one pulse a bit."
        )
    options.checked_batch(g, pattern)
    return pattern.to(g.dtype)
