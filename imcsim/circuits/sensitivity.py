"""What noise of the cells does to the column currents when wires have resistance, to first order."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from imcsim.circuits import options
from imcsim.circuits.network import Segments
from imcsim.circuits.options import WireOptions
from imcsim.circuits.terminals import junction_voltages
from imcsim.circuits.wires import in_pieces


def read_variance(g: Tensor, v: Tensor, sigma_S: float | Tensor, **wires: Unpack[WireOptions]) -> Tensor:
    """Variance of each column current when the cells' conductances are independently noisy, first order.

    ``var_c = sum_rk (u_rk a^c_rk sigma_rk)^2``: u is the voltage across cell (r, k) for the inputs, and a^c
    the one when ground c is at -1 V and everything else at 0 V, since ``dI_c / dg_rk = u_rk a^c_rk``
    (Tellegen). Without wires this is ``sum_r v_r^2 sigma_rc^2``.

    Shapes: g (*batch, rows, cols), v (*batch, vectors, rows) or (vectors, rows), sigma_S broadcasts to g;
        returns (*batch, vectors, cols).
    Units: siemens, volts; returns amperes squared.

    Args:
        g: conductances of linear cells.
        v: voltages of the word lines.
        sigma_S: standard deviation of each cell's conductance.
        **wires: see `WireOptions`.

    Returns:
        The variances, in g's dtype.

    Raises:
        CircuitError: a value or a shape that no array can have.

    Notes:
        Costs about four maps of a 64 x 64 array, twelve of a 256 x 256 one: every adjoint voltage, plus a
        product of (vectors, rows cols) with (rows cols, cols), and holds rows cols (cols + vectors) float64
        numbers. Noise of second order, sigma^2 r, is left out.
    """
    given, g = g, options.checked_conductance(g)
    v = options.checked_voltage(v, g.shape[-2])
    options.checked_batch(g, v)
    sigma = options.checked_sigma(sigma_S, g)
    segments = options.checked_segments(g, **wires)
    lone = v.dim() == 1
    v = v.unsqueeze(0) if lone else v
    batch = torch.broadcast_shapes(g.shape[:-2], v.shape[:-2])
    each_g, each_v, each_sigma = (
        t.expand(*batch, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (g, v, sigma)
    )

    def solve(*piece: Tensor) -> Tensor:
        return _variance(*piece, segments=segments)

    variance = in_pieces(solve, each_g, each_v, each_sigma)
    variance = variance.reshape(*batch, *variance.shape[-2:])
    return (variance.squeeze(-2) if lone else variance).to(options.result_dtype(given, None))


def _variance(g: Tensor, v: Tensor, sigma: Tensor, *, segments: Segments) -> Tensor:
    n, rows, cols = g.shape
    vectors = v.shape[-2]
    source = torch.cat((v.mT, v.new_zeros(n, rows, cols)), -1)
    unit = torch.eye(cols, dtype=g.dtype, device=g.device).expand(n, cols, cols)
    ground = torch.cat((v.new_zeros(n, cols, vectors), -unit), -1)
    inputs, adjoint = junction_voltages(g, segments, source, ground).split((vectors, cols), -1)
    weighted = (adjoint * sigma.unsqueeze(-1)).square().flatten(1, 2)
    return inputs.square().flatten(1, 2).mT @ weighted
