"""Circuits around and between the cells: wires, series elements, gate inputs, converters; and their tests."""

from imcsim.circuits.converters import CodeDensity, SineTest, code_density, sine_test
from imcsim.circuits.gate import gated_conductance_approx, solve_gated
from imcsim.circuits.options import WireOptions
from imcsim.circuits.sensitivity import read_variance
from imcsim.circuits.spice import spice_netlist
from imcsim.circuits.wires import effective_conductance, solve_crossbar

__all__ = [
    "CodeDensity",
    "SineTest",
    "WireOptions",
    "code_density",
    "effective_conductance",
    "gated_conductance_approx",
    "read_variance",
    "sine_test",
    "solve_crossbar",
    "solve_gated",
    "spice_netlist",
]
