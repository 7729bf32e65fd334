"""What the free cells of a weight make up for: against trying every level, and never worse."""

from __future__ import annotations

import itertools

import pytest
import torch

from imcsim.functional.compensate import compensate
from imcsim.functional.encode import cell_levels, slicing

WEIGHTS = torch.arange(-15, 16).view(1, 31, 1)
KINDS = [("differential", False), ("differential", True), ("offset", False), ("twos_complement", False)]


def value(levels: torch.Tensor, gains: tuple[int, ...]) -> torch.Tensor:
    """(groups, planes, slices, rows, outputs) -> (groups, rows, outputs)."""
    side = levels[:, 0] - levels[:, 1] if levels.shape[1] == 2 else levels[:, 0]
    return torch.einsum("gsko,s->gko", side.double(), torch.tensor(gains).double())


def case(encoding: str, two_sided: bool, seed: int):
    slices = slicing(encoding, 5, 2)
    levels = cell_levels(WEIGHTS, slices, encoding, two_sided=two_sided)
    rng = torch.Generator().manual_seed(seed)
    u = torch.rand(levels.shape, generator=rng)
    top = torch.tensor(slices.top_levels).view(-1, 1, 1).expand_as(levels).float()
    stuck = torch.full_like(levels, torch.nan)
    stuck = torch.where(u < 0.15, top, torch.where(u < 0.3, torch.zeros_like(stuck), stuck))
    return slices, levels, stuck


@pytest.mark.parametrize(("encoding", "two_sided"), KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_never_worse_within_levels_and_untouched_without_faults(encoding, two_sided, seed) -> None:
    slices, levels, stuck = case(encoding, two_sided, seed)
    new = compensate(levels, stuck, slices.top_levels, slices.gains)
    top = torch.tensor(slices.top_levels).view(-1, 1, 1)
    assert bool(((new >= 0) & (new <= top)).all())
    want, fixed = value(levels, slices.gains), ~stuck.isnan()
    before, after = ((value(torch.where(fixed, stuck, t), slices.gains) - want).abs() for t in (levels, new))
    assert bool((after <= before).all())
    assert bool((after < before).any())
    clean = ~fixed.flatten(1, 2).any(1)
    assert torch.equal(
        new.movedim(-2, 1)[:, :, :, :, clean[0, 0]], levels.movedim(-2, 1)[:, :, :, :, clean[0, 0]]
    )


@pytest.mark.oracle
@pytest.mark.parametrize(("encoding", "two_sided"), [("differential", False), ("offset", False)])
def test_as_good_as_trying_every_level(encoding, two_sided) -> None:
    """At least 95 % of the weights with a stuck cell are as near as any levels bring them."""
    best_found = total = 0
    for seed in range(3):
        slices, levels, stuck = case(encoding, two_sided, seed)
        new = compensate(levels, stuck, slices.top_levels, slices.gains)
        fixed = ~stuck.isnan()
        after = (value(torch.where(fixed, stuck, new), slices.gains) - value(levels, slices.gains)).abs()
        planes, count = levels.shape[1:3]
        for w in range(31):
            f = stuck[0, :, :, 0, w]
            if bool(f.isnan().all()):
                continue
            choices = [
                range(slices.top_levels[s] + 1) if bool(f[p, s].isnan()) else [float(f[p, s])]
                for p in range(planes)
                for s in range(count)
            ]
            grid = torch.tensor(list(itertools.product(*choices))).double().view(-1, planes, count)
            side = grid[:, 0] - grid[:, 1] if planes == 2 else grid[:, 0]
            reach = side @ torch.tensor(slices.gains).double()
            want = value(levels, slices.gains)[0, 0, w]
            best_found += float(after[0, 0, w]) == float((reach - want).abs().min())
            total += 1
    assert total > 50
    assert best_found >= 0.95 * total


def test_a_stuck_plus_cell_is_cancelled_by_its_minus_cell() -> None:
    slices = slicing("differential", 8, 2)
    levels = cell_levels(torch.tensor([[[5]]]), slices, "differential")
    stuck = torch.full_like(levels, torch.nan)
    stuck[0, 0, 3] = 3.0  # plus cell of the top slice, on
    new = compensate(levels, stuck, slices.top_levels, slices.gains)
    assert new[0, 1, 3].item() == 3.0
    assert value(torch.where(stuck.isnan(), new, stuck), slices.gains).item() == 5.0


def test_without_faults_nothing_is_touched() -> None:
    slices, levels, stuck = case("differential", False, 0)
    assert compensate(levels, torch.full_like(stuck, torch.nan), slices.top_levels, slices.gains) is levels
