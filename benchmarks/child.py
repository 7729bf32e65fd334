"""What a fresh process must measure: python -m benchmarks.child WHAT OPTIONS, called by `parts`."""

from __future__ import annotations

import ctypes
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import imcsim
from benchmarks import parts, planner
from benchmarks.cases import CASES, on_chip, plan_bytes, runner, work_of
from benchmarks.timing import once
from imcsim.kernels import simd, table

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def memory(case: str | None, work: str, batches: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Memory of a forward pass above what is resident before it; no rows where Linux does not tell."""
    if not STATUS.is_file():
        return []
    job = work_of(CASES[case or "levels"], work, quick=quick)
    model = job.model
    if case is not None:
        model = on_chip(job, CASES[case].hardware, CASES[case].engine, quick=quick)
    runner(model, job.x[:1])()
    rows = []
    for batch in batches:
        x = job.x.repeat(-(-batch // len(job.x)), *[1] * (job.x.dim() - 1))[:batch].contiguous()
        _trim()
        try:
            CLEAR.write_text("5")  # the peak starts anew
        except OSError:
            return rows
        before = _kilobytes("VmRSS")
        runner(model, x)()
        peak = _kilobytes("VmHWM") - before
        plans = 0 if case is None else plan_bytes(model)
        rows.append(
            {"batch": batch, "peak_bytes": 1024 * peak, "resident_bytes": 1024 * before, "plan_bytes": plans}
        )
    return rows


def _trim() -> None:
    """Give freed memory back, so that it does not hide what the next pass takes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def first_call(case: str, work: str) -> dict[str, Any]:
    """The first forward pass of this process, and one after programming anew."""
    job = work_of(CASES[case], work)
    sim = on_chip(job, CASES[case].hardware, CASES[case].engine)
    run = runner(sim, job.x)
    first, _ = once(run)
    imcsim.program(sim, seed=1)
    again, _ = once(run)
    return {"first_s": first, "again_s": again}


def with_avx2(keys: Sequence[str], works: Sequence[str]) -> list[dict[str, Any]]:
    """The bounds' rows with the kernels held to AVX2; torch is held to it by the environment."""
    if simd.AVX2 not in simd.available():
        return []
    simd.available = lambda: [simd.AVX2]
    table.instruction_set.cache_clear()
    return list(parts.ratios("AVX2", keys, works, quick=False))


def planner_times() -> list[dict[str, Any]]:
    """The planner's rows for AVX2; torch is held to it by the environment."""
    return planner.with_only(simd.AVX2)


def test_set(threads: int, file: str | None) -> dict[str, Any]:
    """ResNet-20 over the test set on several threads."""
    torch.set_num_threads(threads)
    return parts.one_test_set(threads, quick=False, file=file)


def conversion() -> dict[str, Any]:
    """Clock time and peak memory of converting and programming the layers of ResNet-50."""
    model = resnet50_layers()
    seconds, _ = once(lambda: imcsim.convert(model, CASES["currents"].hardware))
    weights = sum(p.numel() for p in model.parameters())
    return {"weights": weights, "s": seconds, "peak_bytes": 1024 * _kilobytes("VmHWM")}


def resnet50_layers() -> nn.ModuleList:
    """The convolutions of ResNet-50 (K. He et al., CVPR 2016, table 1) and its classifier, unconnected."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            layers += [nn.Conv2d(inputs, 4 * width, 1, bias=False)] if block == 0 else []
            layers += [nn.Conv2d(inputs, width, 1, bias=False), nn.Conv2d(width, width, 3, bias=False)]
            layers += [nn.Conv2d(width, 4 * width, 1, bias=False)]
            inputs = 4 * width
    return nn.ModuleList([*layers, nn.Linear(inputs, 1000)])


def main() -> None:
    torch.set_num_threads(1)
    known = (memory, first_call, with_avx2, planner_times, conversion, test_set)
    calls: dict[str, Callable[..., Any]] = {f.__name__: f for f in known}
    print(json.dumps(calls[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
