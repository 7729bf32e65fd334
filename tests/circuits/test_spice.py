from __future__ import annotations

import pytest
import torch

from imcsim.circuits import solve_crossbar, solve_gated, spice_netlist
from imcsim.errors import CircuitError

WIRES = {"word_line_ohm": 20.0, "bit_line_ohm": 35.0}
OPTIONS = {
    "plain": WIRES,
    "ideal": {},
    "word lines only": {"word_line_ohm": 20.0},
    "bit lines only": {"bit_line_ohm": 35.0},
    "terminals": {**WIRES, "source_ohm": 500.0, "sense_ohm": 200.0},
    "terminals, ideal wires": {"source_ohm": 500.0, "sense_ohm": 200.0},
    "1T1R": {**WIRES, "series_ohm": 4e3},
    "driven at both ends": {**WIRES, "source_ohm": 500.0, "drive": "both"},
    "grounded at both ends": {**WIRES, "sense_ohm": 200.0, "ground": "both"},
    "all at once": {
        **WIRES,
        "source_ohm": 90.0,
        "sense_ohm": 70.0,
        "series_ohm": 1e3,
        "drive": "both",
        "ground": "both",
    },
}


@pytest.mark.oracle
@pytest.mark.parametrize("wires", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (13, 6)])
def test_linear_arrays_equal_ngspice(ngspice, array, voltages, worst, shape, wires):
    g, v = array(*shape), voltages(shape[0])
    g[0, 0] = 1e-5
    g[-1, 1:2] = 0.0
    assert worst(solve_crossbar(g, v, **wires), ngspice(spice_netlist(g, v, **wires))) < 1e-9


@pytest.mark.oracle
@pytest.mark.parametrize("wires", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("v0", [0.05, 0.25])
def test_sinh_cells_equal_ngspice(ngspice, array, voltages, worst, v0, wires):
    g, v = array(9, 6), 2 * voltages(9)
    g[2, 3] = 0.0
    cell = {"cell": "sinh", "v0_V": v0}
    assert worst(solve_crossbar(g, v, **cell, **wires), ngspice(spice_netlist(g, v, **cell, **wires))) < 1e-6


@pytest.mark.oracle
def test_a_selector_in_series_with_each_memory_cell_equals_ngspice(ngspice, array, voltages, worst):
    selector, memory, v = torch.full((6, 5), 2e-5, dtype=torch.float64), array(6, 5), 3 * voltages(6)
    options = {"cell": "sinh", "v0_V": 0.1, "series_ohm": 1 / memory, **WIRES}
    current = solve_crossbar(selector, v, **options)
    assert worst(current, ngspice(spice_netlist(selector, v, **options))) < 1e-6


@pytest.mark.oracle
@pytest.mark.parametrize("cell", [{}, {"cell": "sinh", "v0_V": 0.1}], ids=["linear", "sinh"])
def test_gate_mode_equals_ngspice(ngspice, array, worst, cell):
    g, on = array(12, 7), torch.arange(12) % 3 != 0
    options = {**WIRES, "series_ohm": 2e3, "source_ohm": 50.0, **cell}
    current = solve_gated(g, on.unsqueeze(0), 0.2, **options)[0]
    read = torch.full((12,), 0.2, dtype=torch.float64)
    netlist = spice_netlist(g, read, gate_on=on, **options)
    assert worst(current, ngspice(netlist)) < (1e-6 if cell else 1e-9)


@pytest.mark.oracle
def test_a_64_by_64_array_equals_ngspice(ngspice, array, voltages, worst):
    g, v = array(64, 64), voltages(64)
    wires = {"word_line_ohm": 1.0, "bit_line_ohm": 1.0}
    assert worst(solve_crossbar(g, v, **wires), ngspice(spice_netlist(g, v, **wires))) < 1e-9


def test_ideal_wires_and_open_cells_leave_no_elements(array, voltages):
    g = array(2, 2)
    g[0, 1] = 0.0
    netlist = spice_netlist(g, voltages(2))
    assert "Rw" not in netlist
    assert "Rb" not in netlist
    assert [line.split()[:3] for line in netlist.splitlines() if line.startswith("Rc")] == [
        ["Rc0_0", "src0", "sense0"],
        ["Rc1_0", "src1", "sense0"],
        ["Rc1_1", "src1", "sense1"],
    ]


def test_what_one_netlist_cannot_hold(array, voltages):
    with pytest.raises(CircuitError, match=r"g has shape \(2, 3, 3\); a netlist is of one array"):
        spice_netlist(array(2, 3, 3), voltages(3))
    with pytest.raises(CircuitError, match=r"v has shape \(2, 3\); a netlist is of one vector"):
        spice_netlist(array(3, 3), voltages(2, 3))
    with pytest.raises(CircuitError, match=r"gate_on has shape \(2,\); expected \(3,\)"):
        spice_netlist(array(3, 3), voltages(3), gate_on=torch.ones(2))
