from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from imcsim.circuits import effective_conductance, solve_crossbar

GOLDEN = Path(__file__).parents[1] / "golden" / "wires"
WIRES = {"word_line_ohm": 3.0, "bit_line_ohm": 5.0}


def by_rows(g: Tensor, word_line_ohm: float, bit_line_ohm: float) -> Tensor:
    """The map by eliminating one row after the other, with nothing in common with the package but the
    circuit."""
    cols = g.shape[1]
    index = torch.arange(1.0, cols + 1, dtype=torch.float64)
    shared = word_line_ohm * torch.minimum(index[:, None], index)
    unit = torch.eye(cols, dtype=torch.float64)
    current, admittance = g.new_zeros(cols, 0), g.new_zeros(cols, cols)
    for row in g:
        loaded = torch.linalg.solve(unit + torch.diag(row) @ shared, torch.diag(row))
        current = torch.cat((current, loaded.sum(1, keepdim=True)), 1)
        both = torch.cat((current, admittance + loaded), 1)
        both = torch.linalg.solve(unit + bit_line_ohm * (admittance + loaded), both)
        current, admittance = both[:, :-cols], both[:, -cols:]
    return current.mT


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["small", "rect96x40", "square128_r1"])
def test_another_simulator_agrees(worst, name):
    golden = {k: torch.as_tensor(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}
    g, v = golden["conductance_S"], golden["voltage_V"]
    wires = {k: float(golden[k]) for k in ("word_line_ohm", "bit_line_ohm")}
    assert worst(solve_crossbar(g, v, **wires), golden["current_A"]) < 1e-9
    assert worst(v @ effective_conductance(g, **wires), golden["current_A"]) < 1e-9


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5), (6, 7), (11, 24), (33, 10), (40, 41)])
def test_every_shape_equals_elimination_row_by_row(array, shape):
    g = array(*shape, g_max=1e-3)
    torch.testing.assert_close(effective_conductance(g, **WIRES), by_rows(g, 3.0, 5.0), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("word_line_ohm", [0.0, 1e-12, 1e-6, 1.0, 1e5])
@pytest.mark.parametrize("bit_line_ohm", [0.0, 1e-12, 1e-6, 1.0, 1e5])
def test_no_resistance_is_too_small_or_too_large(array, word_line_ohm, bit_line_ohm):
    g = array(24, 16)
    g[3:5] = 0.0
    g[:, 7] = 0.0
    t = effective_conductance(g, word_line_ohm, bit_line_ohm)
    wanted = by_rows(g, word_line_ohm, bit_line_ohm)
    assert (t - wanted).abs().max() < 1e-12 * wanted.max()


def test_ideal_wires_leave_the_conductances(array):
    g = array(20, 12)
    torch.testing.assert_close(effective_conductance(g), g, rtol=1e-14, atol=0.0)
    for wires in ({"drive": "both"}, {"ground": "both"}, {"drive": "both", "ground": "both"}):
        torch.testing.assert_close(effective_conductance(g, **wires), g, rtol=1e-14, atol=0.0)


def test_series_resistance_alone_acts_on_each_cell(array):
    g = array(9, 9)
    series = 1e5 * array(9, 9, g_max=1.0, seed=3)
    torch.testing.assert_close(
        effective_conductance(g, series_ohm=series), g / (1 + g * series), rtol=1e-13, atol=0.0
    )


def test_terminal_resistances_belong_to_the_right_lines(array):
    g = array(7, 5)
    source, sense = 100 * array(7, 1, g_max=1.0)[:, 0], 50 * array(5, 1, g_max=1.0)[:, 0]
    only_source = g / (1 + source[:, None] * g.sum(1, keepdim=True))
    torch.testing.assert_close(effective_conductance(g, source_ohm=source), only_source, rtol=1e-13, atol=0.0)
    only_sense = g / (1 + sense * g.sum(0))
    torch.testing.assert_close(effective_conductance(g, sense_ohm=sense), only_sense, rtol=1e-13, atol=0.0)
    # A terminal is a longer first, or last, segment.
    word, bit = torch.full_like(g, 3.0), torch.full_like(g, 5.0)
    word[:, 0] += source
    bit[-1] += sense
    torch.testing.assert_close(
        effective_conductance(g, **WIRES, source_ohm=source, sense_ohm=sense),
        effective_conductance(g, word, bit),
    )


def test_both_ends_are_two_halves_of_a_symmetric_array(array):
    half = array(6, 5)
    wide = torch.cat((half, half.flip(1)), 1)
    ends = {"word_line_ohm": 8.0, "source_ohm": 30.0}
    # By symmetry no current crosses the middle of the word lines when both ends are driven.
    both = effective_conductance(wide, drive="both", **ends)
    torch.testing.assert_close(both[:, :5], effective_conductance(half, **ends), rtol=1e-12, atol=0.0)
    tall = torch.cat((half.flip(0), half), 0)
    ends = {"bit_line_ohm": 8.0, "sense_ohm": 30.0}
    even = effective_conductance(tall, ground="both", **ends)
    once = effective_conductance(half, **ends)
    torch.testing.assert_close(even[6:] + even[:6].flip(0), 2 * once, rtol=1e-12, atol=0.0)


def test_both_ends_lose_less(array):
    g = array(32, 32)
    one = effective_conductance(g, 2.0, 2.0).sum()
    assert one < effective_conductance(g, 2.0, 2.0, drive="both").sum() < g.sum()
    assert one < effective_conductance(g, 2.0, 2.0, ground="both").sum() < g.sum()


def test_leading_dimensions_are_independent_arrays(array, voltages, monkeypatch):
    g, v = array(2, 3, 11, 6), voltages(4, 11)
    t = effective_conductance(g, **WIRES)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(t[i, j], effective_conductance(g[i, j], **WIRES), rtol=1e-13, atol=0.0)
    current = solve_crossbar(g, v, **WIRES)
    assert current.shape == (2, 3, 4, 6)
    torch.testing.assert_close(current, v @ t, rtol=1e-13, atol=0.0)
    each = voltages(2, 3, 4, 11)
    torch.testing.assert_close(solve_crossbar(g, each, **WIRES), each @ t, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(solve_crossbar(g, v[0], **WIRES), v[0] @ t, rtol=1e-13, atol=0.0)
    monkeypatch.setattr("imcsim.circuits.wires._CELLS_AT_A_TIME", {"cpu": 1})
    torch.testing.assert_close(effective_conductance(g, **WIRES), t, rtol=1e-13, atol=0.0)


def test_the_result_has_the_dtype_of_g_and_float64_accuracy(array, voltages):
    g, v = array(40, 40).float(), voltages(5, 40).float()
    exact = effective_conductance(g.double(), **WIRES)
    assert torch.equal(effective_conductance(g, **WIRES), exact.float())
    assert torch.equal(effective_conductance(g, **WIRES, dtype=torch.float64), exact)
    assert solve_crossbar(g, v, **WIRES).dtype == torch.float32
    assert solve_crossbar(g, v, **WIRES, dtype=torch.float64).dtype == torch.float64
    counts = torch.ones(3, 3, dtype=torch.int64)
    assert torch.equal(effective_conductance(counts), torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "seconds"), [(64, 0.03), (128, 0.2)])
def test_time_of_a_map_on_one_core(array, n, seconds):
    g, threads, times = array(n, n), torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(10):
            start = time.perf_counter()
            effective_conductance(g, 1.0, 1.0)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < seconds


def test_small_resistance_is_first_order_perturbation(array):
    """T = g - r delta + O(r^2), delta from the ideal cell currents and the wire that each pair shares."""
    g = array(10, 8)
    rows, cols = g.shape
    along = torch.arange(1.0, cols + 1, dtype=torch.float64)
    below = torch.arange(float(rows), 0.0, -1.0, dtype=torch.float64)
    word = g * (g @ torch.minimum(along[:, None], along))
    bit = g * (torch.minimum(below[:, None], below) @ g)
    # A voltage on row r also lifts the bit line at other rows, whose cells then return current.
    delta = word + bit
    errors = []
    for r in (1.0, 0.1, 0.01):
        errors.append(float((effective_conductance(g, r, r) - (g - r * delta)).abs().max()))
    slope = -np.diff(np.log10(errors))
    assert np.allclose(slope, 2.0, atol=0.05), slope
