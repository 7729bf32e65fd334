"""What a worker does with a point: accuracy on a chip, and what it costs; or the study's own function."""

from __future__ import annotations

import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.batches import evaluation_mode
from imcsim.calibrate import calibrate
from imcsim.convert import convert
from imcsim.errors import StudyError
from imcsim.evaluate import evaluate
from imcsim.models import load_benchmark
from imcsim.models.importing import import_object
from imcsim.ppa import estimate
from imcsim.program import age, program, seed_reads
from imcsim.results import code_state, machine_facts
from imcsim.sweep.point import Point
from imcsim.sweep.store import Row
from imcsim.zoo import Benchmark

LAST_LINES = 12
"""Of a traceback, kept with a failure."""

_CHIPS: OrderedDict[str, nn.Module] = OrderedDict()
"""Converted and calibrated networks of this process: seeds and ages of one chip share it."""


class Remembered(nn.Module):
    """A float network that computes each batch once.

    Args:
        network: the float network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The network's output, from memory where the same tensor came before."""
        if id(x) not in self.seen:
            self.seen[id(x)] = (x, self.network(x))  # holding x keeps its id
        return self.seen[id(x)][1]


@dataclass(frozen=True)
class _Bench:
    benchmark: Benchmark
    batches: list[tuple[Tensor, Tensor]]
    reference: Remembered
    float_top1: float


def attempt(point: Point) -> Row:
    """Measure a point; what goes wrong becomes its row's error.

    Args:
        point: the point.

    Returns:
        Its row.
    """
    started = time.perf_counter()
    result, error = None, None
    try:
        result = dict(_checked(measure(point)))
    except Exception as problem:  # a failure is a row: the other points go on
        lines = traceback.format_exc().strip().splitlines()[-LAST_LINES:]
        error = "\n".join([f"{type(problem).__name__}: {problem}", *lines])
    return Row(
        point.key,
        point.configuration(),
        result,
        error,
        round(time.perf_counter() - started, 4),
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        _provenance(),
    )


def measure(point: Point) -> Mapping[str, Any]:
    """What a point gives: by the study's own function, else accuracy on its chip.

    Args:
        point: the point.

    Returns:
        Numbers by name.
    """
    own = point.base.evaluate
    if own is not None:
        return (import_object(own, "evaluate") if isinstance(own, str) else own)(point)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = _on_chip(point)
    said = sorted({str(item.message) for item in caught if issubclass(item.category, UserWarning)})
    return {**found, "warnings": said} if said else found


def _on_chip(point: Point) -> dict[str, Any]:
    bench = _bench(
        point.get("model"),
        point.get("checkpoint"),
        point.get("data"),
        point.base.folder,
        point.base.images,
        point.base.batch,
    )
    sim = _chip(point, bench)
    program(sim, seed=point.get("seed"))
    age(sim, seconds=point.get("age"), compensation=point.get("compensation"))
    seed_reads(sim, point.get("seed"))
    found = evaluate(sim, bench.batches, reference=bench.reference)
    out = {
        "top1": found.top1,
        "n": found.n,
        "sqnr_db": found.sqnr_db,
        "float_top1": bench.float_top1,
    }
    return {**out, **_costs(point, bench)} if point.base.costs else out


def _costs(point: Point, bench: _Bench) -> dict[str, Any]:
    found = estimate(bench.benchmark.model, bench.benchmark.images[:1], point.hardware)
    return {"energy_J": found.energy_J, "latency_s": found.latency_s, "area_mm2": found.area_mm2}


def _chip(point: Point, bench: _Bench) -> nn.Module:
    """The point's converted, calibrated network; the last one is kept."""
    key = point.chip_key
    if key not in _CHIPS:
        sim = convert(
            bench.benchmark.model,
            point.hardware,
            fold_batchnorm=point.get("fold_batchnorm"),
            engine=point.get("engine"),
        )
        calibrate(sim, bench.benchmark.calibration_batches())
        _CHIPS.clear()
        _CHIPS[key] = sim
    return _CHIPS[key]


@lru_cache(maxsize=2)
def _bench(
    model: str, checkpoint: str | None, data: str | None, folder: str | None, images: int, batch: int
) -> _Bench:
    benchmark = load_benchmark(model, weights=checkpoint, data=data, folder=folder, n=images)
    batches = list(benchmark.batches(size=batch))
    reference = Remembered(benchmark.model)
    with evaluation_mode(reference), torch.no_grad():
        top1 = evaluate(reference, batches).top1
    return _Bench(benchmark, batches, reference, top1)


def _checked(found: Any) -> Mapping[str, Any]:
    """A study's own function gives a dict of plain values."""
    plain = (str, int, float, bool, type(None), list)
    if not isinstance(found, Mapping) or not found:
        raise StudyError(f"evaluate gave {type(found).__name__}; it must give a dict of numbers by name")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, plain):
            raise StudyError(
                f"evaluate gave {name!r}: {type(value).__name__}; values are numbers, words or lists (use "
                ".item() or float(...) on tensors)"
            )
    return found


@lru_cache(maxsize=1)
def _provenance() -> dict[str, Any]:
    code = code_state()
    return {
        "commit": code.commit,
        "dirty": code.dirty,
        "machine": machine_facts(),
    }
