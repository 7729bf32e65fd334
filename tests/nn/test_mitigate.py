"""Mitigation: nothing where there is nothing to mend, gains where there is, and what it costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.convert import arrays
from imcsim.errors import HardwareError
from imcsim.nn.mitigate import _assign, average
from imcsim.nn.readout import array_rows
from imcsim.nn.tiles import to_tiles
from tests.tolerances import Z

FAULTS = {"stuck_on": 0.01, "stuck_off": 0.01}
EVERY = {
    "copies": {"copies": 3},
    "spares": {"spare_columns": 4},
    "rows": {"remap_rows": True},
    "compensated": {"compensate_faults": True},
    "shuffled": {"shuffle": "both"},
    "all": {"copies": 2, "spare_columns": 4, "remap_rows": True, "compensate_faults": True},
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 24),
        nn.ReLU(),
        nn.Linear(24, 5),
    )


X = torch.rand(6, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def chip(mitigation=None, device=None, **tables) -> imcsim.Hardware:
    return imcsim.Hardware.model_validate(
        {
            "device": device or {},
            "array": {"rows": 32, "cols": 32},
            "inputs": {"range": "dynamic"},
            "mitigation": mitigation or {},
            **tables,
        }
    )


def damage(sim: nn.Module) -> float:
    """Sum over weights of the squared error that stuck cells leave, in units of w_int."""
    total = 0.0
    for _, array in arrays(sim):
        slices = array.slicing
        gain = torch.tensor(slices.gains).double().view(1, -1, 1, 1)
        top = torch.tensor(slices.top_levels).double().view(1, -1, 1, 1)
        g = array.cells["conductance_S"].double()
        g = g.mean(0) if g.dim() == 6 else g
        got = ((g[:, 0] - g[:, 1]) * gain * top).sum(1)
        total += float((got - array.written.w_int.transpose(1, 2)).square().sum())
    return total


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_exact_no_op_on_ideal_cells(how: str, encoding: str) -> None:
    weights = {"bits": 8, "cell_bits": 2, "encoding": encoding}
    plain, mended = (imcsim.convert(net(), chip(m, weights=weights)) for m in (None, EVERY[how]))
    assert torch.equal(mended(X), plain(X))


@pytest.mark.parametrize("how", ["spares", "rows", "compensated"])
def test_without_stuck_cells_the_same_chip_to_the_bit(how: str) -> None:
    device = {"card": "pcm_gst"}
    plain, mended = (imcsim.convert(net(), chip(m, device)) for m in (None, EVERY[how]))
    for sim in (plain, mended):
        imcsim.age(sim, 1e4)
    assert torch.equal(mended(X), plain(X))


@pytest.mark.parametrize("how", ["copies", "shuffled"])
def test_copies_and_orders_change_nothing_behind_wires_without_errors(how: str) -> None:
    """Copies of equal cells are exactly one of them; an order is undone after the wires have been solved."""
    wires = {"rows": 32, "cols": 32, "word_line_ohm": 1e-9, "bit_line_ohm": 1e-9}
    device = {"g_max_S": 1e-5}
    plain, mended = (imcsim.convert(net(), chip(m, device, array=wires)) for m in (None, EVERY[how]))
    if how == "copies":
        assert torch.equal(mended(X), plain(X))
    torch.testing.assert_close(mended(X), plain(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["spares", "rows", "compensated", "all"])
def test_stuck_cells_do_less(how: str) -> None:
    plain, mended = (imcsim.convert(net(), chip(m, FAULTS)) for m in (None, EVERY[how]))
    for seed in range(3):
        for sim in (plain, mended):
            imcsim.program(sim, seed=seed)
        assert damage(mended) < damage(plain)


def test_compensation_mends_nearly_all() -> None:
    """What stays is mostly pairs with both cells stuck: 1 in 50 of those hit, at 2 % stuck cells."""
    plain, mended = (imcsim.convert(net(), chip(m, FAULTS)) for m in (None, EVERY["compensated"]))
    assert damage(mended) < 0.1 * damage(plain)


def test_faults_are_those_of_the_plain_chip() -> None:
    """Gains are those of the same faults: the first copy and compensation see the plain chip's."""
    device = {"stuck_on": 0.05}
    plain, mended, copied = (
        imcsim.convert(net(), chip(m, device))[3].array for m in (None, EVERY["compensated"], EVERY["copies"])
    )
    stuck = (plain.cells["conductance_S"] != plain.target_conductance()) & (plain.cells["conductance_S"] == 1)
    assert bool(stuck.any())
    assert bool((mended.cells["conductance_S"][stuck] == 1).all())
    assert torch.equal(copied.cells["conductance_S"][0], plain.cells["conductance_S"])


def test_remapping_moves_whole_word_lines() -> None:
    """An array holds the plain chip's stuck cells with whole rows in another order."""
    device = {"stuck_on": 0.05}
    plain, mended = (imcsim.convert(nn.Linear(30, 6), chip(m, device)) for m in (None, EVERY["rows"]))
    torch.manual_seed(0)
    mended.weight.data.zero_()
    plain.weight.data.zero_()  # every cell at level 0: what is on is stuck
    for sim in (plain, mended):
        imcsim.program(sim, seed=4)
    rows = array_rows(plain.array.hardware, 30)
    a, b = (
        to_tiles(sim.array.cells["conductance_S"], sim.array.hardware, rows)[0] for sim in (plain, mended)
    )
    for one, other in zip(a.reshape(-1, 30, 32), b.reshape(-1, 30, 32), strict=True):
        assert sorted(map(tuple, one.tolist())) == sorted(map(tuple, other.tolist()))


def test_assignment_is_the_cheapest_and_stays_where_it_may() -> None:
    rng = np.random.default_rng(0)
    cost = rng.random((5, 5))
    best = min(
        (sum(cost[i, p] for i, p in enumerate(order)), order) for order in itertools.permutations(range(5))
    )[1]
    assert tuple(_assign(cost)) == best
    assert _assign(np.zeros((4, 4))).tolist() == [0, 1, 2, 3]


def test_error_falls_with_the_square_root_of_copies() -> None:
    """Programming error of 5 %: the mean of R copies has sigma / sqrt(R), within Z standard errors."""
    layer = nn.Linear(200, 60)
    device = {"programming": {"kind": "range", "sigma": 0.02}}
    for copies in (1, 4):
        sim = imcsim.convert(layer, chip({"copies": copies}, device, array={"rows": 200, "cols": 128}))
        array = sim.array
        seen = array._conductances(array.effects)[0]
        target = array.target_conductance()
        off = (seen.double() - target.double())[(target > 0.2) & (target < 0.8)]
        want = 0.02 / np.sqrt(copies)
        assert abs(float(off.std()) - want) <= Z * want / np.sqrt(2 * off.numel())


def test_average_of_equal_copies_is_exact() -> None:
    g = torch.rand(50)
    assert torch.equal(average((g, g, g)), g)
    assert average((None, None)) is None


def test_shuffled_rows_lose_less_current() -> None:
    wires = {"rows": 64, "cols": 64, "word_line_ohm": 2.0, "bit_line_ohm": 2.0}
    device = {"g_max_S": 1e-4, "on_off_ratio": 50.0}
    torch.manual_seed(3)
    layer = nn.Linear(64, 8)
    losses = []
    for how in ("none", "rows", "columns", "both"):
        array = imcsim.convert(layer, chip({"shuffle": how}, device, array=wires)).array
        seen, target = array._conductances(array.effects)[0], array.target_conductance() / 1e-4
        losses.append(float((seen - target).square().sum()))
    assert losses[1] < losses[0]
    assert losses[2] < losses[0]
    assert losses[3] < min(losses[1:3])


@pytest.mark.parametrize("how", EVERY)
def test_saved_and_loaded_with_the_model(how: str, tmp_path) -> None:
    device = {"card": "pcm_gst", **FAULTS}
    sim = imcsim.convert(net(), chip(EVERY[how], device))
    imcsim.program(sim, seed=2)
    imcsim.seed_reads(sim, 0)
    y = sim(X)
    imcsim.save(sim, tmp_path / "a.safetensors")
    again = imcsim.load(tmp_path / "a.safetensors", net())
    imcsim.seed_reads(again, 0)
    assert torch.equal(again(X), y)
    sim[3].weight.data.mul_(1.0)  # unchanged: nothing is written anew
    imcsim.seed_reads(sim, 0)
    assert torch.equal(sim(X), y)


def test_cost_in_cells_and_arrays() -> None:
    plain = imcsim.mitigation_cost(imcsim.convert(net(), chip()))
    assert plain.cell_factor == 1
    assert plain.arrays == plain.arrays_without
    tripled = imcsim.mitigation_cost(imcsim.convert(net(), chip(EVERY["copies"])))
    assert tripled.cell_factor == 3
    assert tripled.arrays == 3 * plain.arrays
    # one 20-input layer of 2 outputs: 16 columns; 4 spare ones on its only array
    spared = imcsim.mitigation_cost(imcsim.convert(nn.Linear(20, 2), chip(EVERY["spares"])))
    assert (spared.cells, spared.cells_without) == (20 * (16 + 4), 20 * 16)
    for how in ("rows", "compensated", "shuffled"):
        assert imcsim.mitigation_cost(imcsim.convert(net(), chip(EVERY[how]))).cell_factor == 1


def test_summary_names_what_is_on() -> None:
    effects = imcsim.summary(imcsim.convert(net(), chip(EVERY["all"], FAULTS))).rows[0].effects
    for words in ("2 copies averaged", "4 spare columns", "rows remapped", "stuck cells compensated"):
        assert words in effects


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"mitigation": {"copies": 0}}, "mitigation.copies"),
        ({"mitigation": {"shuffle": "cells"}}, "mitigation.shuffle"),
        ({"mitigation": {"spares": 2}}, "spares.*unknown key"),
        ({"mitigation": {"spare_columns": 32}}, "leaves none of array.cols = 32"),
        (
            {
                "mitigation": {"remap_rows": True},
                "weights": {"bits": 1, "encoding": "xnor"},
                "inputs": {"bits": 1},
            },
            "'xnor'; use mitigation.copies",
        ),
        ({"mitigation": {"compensate_faults": True}, "weights": {"encoding": "isaac"}}, "'isaac'"),
        (
            {"mitigation": {"spare_columns": 1}, "array": {"rows": 32, "cols": 32, "bit_line_ohm": 1.0}},
            "where a cell lies matters behind wires",
        ),
        (
            {"mitigation": {"copies": 2}, "array": {"rows": 32, "cols": 32, "readout": "digital"}},
            "readout = 'digital' is exact",
        ),
    ],
)
def test_bad_descriptions(tables: dict, words: str) -> None:
    with pytest.raises(HardwareError, match=words):
        chip(**tables)
