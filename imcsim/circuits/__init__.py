"""Circuits around and between the cells: wires, series elements, gate inputs; netlists to check them with."""

from imcsim.circuits.gate import gated_conductance_approx, solve_gated
from imcsim.circuits.options import WireOptions
from imcsim.circuits.sensitivity import read_variance
from imcsim.circuits.spice import spice_netlist
from imcsim.circuits.wires import effective_conductance, solve_crossbar

__all__ = [
    "WireOptions",
    "effective_conductance",
    "gated_conductance_approx",
    "read_variance",
    "solve_crossbar",
    "solve_gated",
    "spice_netlist",
]
