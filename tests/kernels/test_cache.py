"""Plans are a bounded cache: dropping them changes memory, not results."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import EngineError
from imcsim.kernels.cache import PLANS, PlanMemory, set_plan_memory


class Owner:
    def __init__(self) -> None:
        self.forgot = 0

    def forget_plans(self) -> None:
        self.forgot += 1


def test_the_longest_unused_goes_first():
    memory, owners = PlanMemory(100), [Owner() for _ in range(3)]
    memory.hold(owners[0], 40)
    memory.hold(owners[1], 40)
    memory.touch(owners[0])
    memory.hold(owners[2], 40)
    assert [o.forgot for o in owners] == [0, 1, 0]
    assert memory.used == 80


def test_one_plan_may_be_over_the_limit():
    memory, owner = PlanMemory(10), Owner()
    memory.hold(owner, 1000)
    assert owner.forgot == 0
    assert memory.used == 1000


def test_dead_layers_do_not_count():
    memory, owner = PlanMemory(100), Owner()
    memory.hold(owner, 80)
    del owner
    gc.collect()
    assert memory.used == 0


def test_results_do_not_depend_on_the_limit():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5))
    chip = imcsim.Hardware(
        device={"programming": {"kind": "range", "sigma": 0.02}}, adc={"bits": 6}, inputs={"range": "dynamic"}
    )
    x = torch.randn(16, 40)
    sim = imcsim.convert(net, chip)
    with torch.no_grad():
        want = sim(x)
        held = PLANS.used
        limit = PLANS.limit
        try:
            set_plan_memory(0)
            tight = imcsim.convert(net, chip)
            assert torch.equal(tight(x), want)
            assert torch.equal(tight(x), want)
            assert PLANS.used < held
        finally:
            set_plan_memory(limit)


@pytest.mark.parametrize("bad", [-1, 1.5, True, "1 GB"])
def test_bad_limits(bad):
    with pytest.raises(EngineError, match="not a number of bytes"):
        set_plan_memory(bad)
