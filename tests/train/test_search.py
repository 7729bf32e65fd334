"""Bits of each layer by Optuna: resumed, shared between processes, and right about the front."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import InputError, MissingPackageError
from imcsim.hardware import Hardware
from imcsim.train.mixed import weight_bits
from imcsim.train.search import search

BASE = Hardware.model_validate({"weights": {"bits": 8}, "inputs": {"bits": 8}})
OPTIONS = {"weights.bits": (2, 3, 4, 8), "inputs.bits": (2, 4)}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))
    return x, net()(x).argmax(1)


def run(trials: int, storage: str | None = None, **options):
    batch = data()
    request = {"cost": weight_bits, **options}
    return search(
        net(),
        BASE,
        request.pop("options", OPTIONS),
        [batch],
        calibration=[batch],
        trials=trials,
        storage=storage,
        **request,
    )


def test_a_stopped_search_goes_on_as_if_it_had_not_stopped(tmp_path) -> None:
    storage = f"sqlite:///{tmp_path}/search.db"
    whole = run(12)
    assert len(run(5, storage).candidates) == 5
    resumed = run(12, storage)
    assert resumed.candidates == whole.candidates
    assert run(12, storage).candidates == whole.candidates  # nothing is left to do
    assert len(run(3, storage).candidates) == 3
    assert run(4, seed=1).candidates != whole.candidates[:4]


def test_an_error_in_a_trial_leaves_the_study_usable(tmp_path) -> None:
    storage = f"sqlite:///{tmp_path}/search.db"
    calls = []

    def score(sim: nn.Module) -> float:
        calls.append(sim)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        run(4, storage, score=score)
    found = run(4, storage, score=score)
    assert len(found.candidates) == 4
    assert [c.number for c in found.candidates] == [0, 1, 3, 4]


def worker(trials: int, storage: str) -> None:
    run(trials, storage)


@pytest.mark.slow
def test_two_processes_share_one_storage(tmp_path) -> None:
    storage = f"sqlite:///{tmp_path}/search.db"
    run(1, storage)  # the tables are there before two processes want to make them
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=worker, args=(9, storage)) for _ in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(timeout=120)
    assert [process.exitcode for process in workers] == [0, 0]
    found = run(9, storage)
    assert len(found.candidates) == 9
    assert len({c.number for c in found.candidates}) == 9


def test_scores_and_costs_are_those_of_the_chips_it_names() -> None:
    found, batch = run(6), data()
    for candidate in found.candidates:
        sim = imcsim.convert(net(), found.chips(candidate))
        imcsim.calibrate(sim, [batch])
        assert imcsim.evaluate(sim, [batch]).top1 == candidate.score
        assert sum(weight_bits(sim).values()) == candidate.cost


def test_front_and_budget() -> None:
    found = run(12)
    front = found.front
    assert [c.cost for c in front] == sorted({c.cost for c in front})
    for one in front:
        assert not any(
            o.cost <= one.cost and o.score >= one.score and (o.cost, o.score) != (one.cost, one.score)
            for o in found.candidates
        )
    assert found.best().score == max(c.score for c in found.candidates)
    assert found.best(front[0].cost) == front[0]
    with pytest.raises(InputError, match="the cheapest of 12 candidates costs"):
        found.best(front[0].cost - 1)


def test_fixed_layers_are_not_searched() -> None:
    found = run(3, fixed={"2": BASE})
    assert all(set(c.chosen) == {"0"} for c in found.candidates)
    assert found.chips(found.candidates[0])["2"] is BASE


def test_a_choice_seen_before_is_not_measured_again() -> None:
    scored = []

    def score(sim: nn.Module) -> float:
        scored.append(sim)
        return 1.0

    found = run(8, score=score, options={"weights.bits": (2, 4)}, fixed={"2": None})
    assert len(found.candidates) == 8
    assert len(scored) == 2


def test_wrong_requests(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="trials = 0"):
        run(0)
    with pytest.raises(InputError, match="one option with at least one value"):
        run(1, options={})
    storage = f"sqlite:///{tmp_path}/search.db"
    run(1, storage)
    with pytest.raises(InputError, match=r"the study 'mixed' in 'sqlite.* was made for options"):
        run(1, storage, options={"weights.bits": (2, 4)})
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'imcsim\[search\]'"):
        run(1)
