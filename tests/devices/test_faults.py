"""Fractions of faults stay within z = 5 of a binomial; seeds are fixed."""

from __future__ import annotations

import math

import pytest
import torch

from imcsim.devices.faults import apply_stuck, dead_mask, stuck_masks
from imcsim.errors import DeviceError

CPU = torch.device("cpu")
Z = 5.0


def binomial(hits: int, n: int, p: float) -> None:
    assert abs(hits - n * p) <= Z * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("on", "off"), [(1e-4, 0.05), (0.05, 1e-4), (0.3, 0.7), (0.0, 0.01)])
def test_stuck_fractions_and_no_cell_twice(on, off, rng) -> None:
    n = 400_000
    is_on, is_off = stuck_masks((400, 1000), on, off, rng, CPU)
    assert not bool((is_on & is_off).any())
    binomial(int(is_on.sum()), n, on)
    binomial(int(is_off.sum()), n, off)


def test_stuck_cells_take_the_ends_of_the_window(rng) -> None:
    masks = stuck_masks((100, 100), 0.1, 0.2, rng, CPU)
    g = apply_stuck(torch.full((100, 100), 5e-6), masks, 9e-6, 1e-6)
    assert torch.equal(g[masks[0]], torch.full((int(masks[0].sum()),), 9e-6))
    assert torch.equal(g[masks[1]], torch.full((int(masks[1].sum()),), 1e-6))
    assert torch.equal(g[~(masks[0] | masks[1])].unique(), torch.tensor([5e-6]))


def test_dead_lines_are_whole_lines(rng) -> None:
    dead = dead_mask((20, 50, 60), 0.1, 0.0, rng, CPU)
    rows = dead.all(dim=-1)
    assert torch.equal(dead.any(dim=-1), rows)
    binomial(int(rows.sum()), 1000, 0.1)
    dead = dead_mask((20, 50, 60), 0.0, 0.1, rng, CPU)
    cols = dead.all(dim=-2)
    assert torch.equal(dead.any(dim=-2), cols)
    binomial(int(cols.sum()), 1200, 0.1)


def test_dead_lines_end_with_their_array(rng) -> None:
    dead = dead_mask((300, 200), 0.0, 0.2, rng, CPU, array_rows=128)
    for start in (0, 128, 256):
        block = dead[start : start + 128]
        assert torch.equal(block.any(dim=0), block.all(dim=0))
    assert not torch.equal(dead[0], dead[128])
    dead = dead_mask((300, 200), 0.2, 0.0, rng, CPU, array_cols=64)
    assert dead.shape == (300, 200)
    assert not torch.equal(dead[:, 0], dead[:, 64])


@pytest.mark.parametrize(
    ("on", "off", "words"),
    [
        (-0.1, 0.0, "stuck_on = -0.1"),
        (0.0, 1.5, "stuck_off = 1.5"),
        (0.6, 0.6, "= 1.2"),
        (math.nan, 0, "stuck_on = nan"),
    ],
)
def test_bad_fractions(on, off, words, rng) -> None:
    with pytest.raises(DeviceError, match=words):
        stuck_masks((2, 2), on, off, rng, CPU)


def test_bad_lines(rng) -> None:
    with pytest.raises(DeviceError, match="dead_rows = 2"):
        dead_mask((2, 2), 2, 0.0, rng, CPU)
    with pytest.raises(DeviceError, match="rows, cols"):
        dead_mask((2,), 0.1, 0.0, rng, CPU)
