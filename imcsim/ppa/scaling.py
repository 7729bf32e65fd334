"""From one technology node to another.

Full scaling with the nominal supply: area as the square of the node, delay as the node, energy as the node
(the capacitance) times the supply squared. Supplies are the nominal ones of the ITRS roadmaps for
high-performance logic, as in A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of
CMOS device performance from 180 nm to 7 nm", Integration 58, 2017; recalled: confidence C. Analog circuits
and wires scale worse: the converter models have laws of their own, and pads (links) are not scaled at all.
"""

from __future__ import annotations

import math

from imcsim.errors import HardwareError

SUPPLY_V: dict[float, float] = {
    180: 1.8,
    130: 1.2,
    90: 1.1,
    65: 1.1,
    45: 1.0,
    32: 0.95,
    22: 0.85,
    14: 0.8,
    10: 0.75,
    7: 0.7,
}
"""Nominal supply by node in nm (C)."""


def supply(node_nm: float) -> float:
    """Nominal supply of a node, interpolated in the logarithm of the node.

    Units: node_nm nanometres; returns volts.

    Args:
        node_nm: 7 to 180.

    Returns:
        The supply.

    Raises:
        HardwareError: a node outside the table.
    """
    if not 7 <= node_nm <= 180:
        raise HardwareError(f"node_nm = {node_nm:g} is outside the table of supplies; use 7 to 180")
    nodes = sorted(SUPPLY_V)
    upper = next(n for n in nodes if n >= node_nm)
    lower = max((n for n in nodes if n <= node_nm), default=upper)
    if upper == lower:
        return SUPPLY_V[upper]
    part = math.log(node_nm / lower) / math.log(upper / lower)
    return SUPPLY_V[lower] + part * (SUPPLY_V[upper] - SUPPLY_V[lower])


def energy_factor(from_nm: float, to_nm: float) -> float:
    """Energy of a logic event at `to_nm` over that at `from_nm`."""
    return to_nm / from_nm * (supply(to_nm) / supply(from_nm)) ** 2


def area_factor(from_nm: float, to_nm: float) -> float:
    """Area at `to_nm` over that at `from_nm`."""
    return (to_nm / from_nm) ** 2


def delay_factor(from_nm: float, to_nm: float) -> float:
    """Delay at `to_nm` over that at `from_nm`."""
    return to_nm / from_nm
