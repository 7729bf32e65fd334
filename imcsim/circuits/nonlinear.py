"""Cells whose current grows faster than their voltage: Newton's method on the whole array.

Each step replaces every cell by its tangent, a conductance and an electromotive force, and solves that linear
array exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.circuits.network import Segments
from imcsim.circuits.terminals import junction_voltages
from imcsim.errors import CircuitError

_TOLERANCE = 1e-12
_MAX_STEPS = 100
_MAX_HALVINGS = 30
_STEEPEST_START = (
    20.0  # in units of V0; where the linear solution starts Newton beyond it, sinh would overflow
)


def solve_sinh(g: Tensor, segments: Segments, v: Tensor, v0: Tensor) -> Tensor:
    """Column currents of an array of cells ``I = g V0 sinh(V / V0)``.

    Solves ``V = v - Z I(V)`` for the cell voltages V, Z the resistance that two cells' currents share, to a
    residual of 1e-12 of the largest voltage of each vector, by damped Newton steps from the solution of the
    linear array. The last step is taken with gradients
    on: at the solution its derivatives are those of the implicit function.

    Shapes: g (n, rows, cols), v (n, rows), v0 broadcasts to (rows, cols); returns (n, cols).
    Units: siemens, volts; returns amperes.

    Raises:
        CircuitError: no convergence; says the residual that was reached.
    """
    with torch.no_grad():
        junction = _newton(g, segments, v, v0)
    polished = _tangent_step(g, segments, v, v0, junction)
    return (g * v0 * torch.sinh(polished / v0)).sum(-2)


def _newton(g: Tensor, segments: Segments, v: Tensor, v0: Tensor) -> Tensor:
    scale = v.abs().amax(-1)
    scale = torch.where(scale == 0, 1.0, scale)
    junction = junction_voltages(g, segments, v.unsqueeze(-1)).squeeze(-1)
    junction = junction.clamp(-_STEEPEST_START * v0, _STEEPEST_START * v0)
    residual = _residual(g, segments, v, v0, junction) / scale
    for _ in range(_MAX_STEPS):
        open_ = (~(residual <= _TOLERANCE)).nonzero().squeeze(-1)
        if open_.numel() == 0:
            return junction
        g_o, v_o, start, before = g[open_], v[open_], junction[open_], residual[open_]
        direction = _tangent_step(g_o, segments, v_o, v0, start) - start
        length = torch.ones_like(before)
        for _ in range(_MAX_HALVINGS):
            trial = start + length[:, None, None] * direction
            after = _residual(g_o, segments, v_o, v0, trial) / scale[open_]
            worse = ~(after < before)
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
        junction, residual = junction.index_copy(0, open_, trial), residual.index_copy(0, open_, after)
    worst = int(torch.nan_to_num(residual, nan=torch.inf).argmax())
    raise CircuitError(
        f"Newton's method stopped after {_MAX_STEPS} steps at a relative residual of {residual[worst]:.1e} "
        f"(needed: {_TOLERANCE:.0e}) for a vector of up to "
        f"{v[worst].abs().max():.3g} V and V0 down to {v0.min():.3g} V. "
        "The cells are too steep at this voltage: lower v or raise v0_V."
    )


def _tangent_step(g: Tensor, segments: Segments, v: Tensor, v0: Tensor, junction: Tensor) -> Tensor:
    tangent = g * torch.cosh(junction / v0)
    emf = v0 * torch.tanh(junction / v0) - junction
    return junction_voltages(tangent, segments, v.unsqueeze(-1), emf_V=emf.unsqueeze(-1)).squeeze(-1)


def _residual(g: Tensor, segments: Segments, v: Tensor, v0: Tensor, junction: Tensor) -> Tensor:
    lost = _wire_drop(g * v0 * torch.sinh(junction / v0), segments)
    return (junction - v.unsqueeze(-1) + lost).abs().amax((-2, -1))


def _wire_drop(current: Tensor, segments: Segments) -> Tensor:
    """Voltage that the cell currents (*batch, rows, cols) cost each cell, wires and series resistance."""
    along = segments.word * current.flip(-1).cumsum(-1).flip(-1)
    down = segments.bit * current.cumsum(-2)
    if segments.right is not None:
        along = along - segments.word * _balance(along, segments.word, segments.right, -1)
    if segments.top is not None:
        down = down - segments.bit * _balance(down, segments.bit, segments.top, -2)
    return along.cumsum(-1) + down.flip(-2).cumsum(-2).flip(-2) + segments.series * current


def _balance(drop: Tensor, wire: Tensor, end: Tensor, dim: int) -> Tensor:
    """The current through a second terminal that makes both ends of each line equal in voltage."""
    loop = wire.sum(dim, keepdim=True) + end.unsqueeze(dim)
    return drop.sum(dim, keepdim=True) / torch.where(loop == 0, 1.0, loop)
