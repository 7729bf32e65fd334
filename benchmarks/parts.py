"""The parts of the benchmark; each yields rows of the record."""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import imcsim
from benchmarks.cases import (
    CASES,
    PROGRAMMED,
    SERIAL,
    Case,
    Work,
    cell_bytes,
    chip_of,
    engines_of,
    layer,
    on_chip,
    plan_bytes,
    runner,
    trainer,
    work_of,
)
from benchmarks.timing import compare, once
from imcsim import zoo
from imcsim.evaluate import Evaluation
from imcsim.hardware import Hardware
from imcsim.kernels import table

Row = dict[str, Any]

SECONDS = {"conv": 1.5, "resnet20": 4.0, "linear": 1.5, "lstm": 1.5}
"""For the pairs of a case."""
SCALING_SECONDS = 0.2
PROFILE_LINES = 6
MEMORY_BATCHES = (8, 64, 256)
AVX2_ONLY = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
}


# ---- against plain torch ---------------------------------------------------------------------------------


def ratios(
    part: str, keys: Iterable[str], works: Iterable[str] | None = None, *, quick: bool
) -> Iterator[Row]:
    """Time over that of plain torch; with a profile where a bound is missed."""
    for key in keys:
        case = CASES[key]
        for name, bound in case.bounds.items():
            if works is None or name in works:
                yield _ratio(part, key, case, name, bound, quick=quick)


def _ratio(part: str, key: str, case: Case, name: str, bound: float | None, *, quick: bool) -> Row:
    job = work_of(case, name, quick=quick)
    sim = chip_of(key, name, quick=quick)
    if case.step is None:
        ours, plain = runner(sim, job.x), runner(job.model, job.x)
    else:
        ours, plain = trainer(sim, job.x, case.step), trainer(job.model, job.x)
    if case.against is not None:
        plain = runner(chip_of(case.against, name, quick=quick), job.x)
    row: Row = {
        "part": part,
        "case": key,
        "title": case.title,
        "work": name,
        "work_title": job.title,
        "against": case.against or "torch",
        **compare(plain, ours, seconds=0.0 if quick else SECONDS[name]),
        "bound": bound,
        "others": case.others.get(name),
        "engines": [f"training, {case.step}"] if case.step else engines_of(sim),
        "plan_bytes": plan_bytes(sim),
        "hardware": key,
    }
    if bound is not None:
        row["met"] = row["ratio"] <= bound
        if not row["met"] and not quick:
            row["profile"] = _profile(ours)
    return row


def _profile(run: Any) -> list[Row]:
    """Where the time of three calls goes: the functions with the most of their own, in parts of all."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(3):
        run()
    profile.disable()
    stats: Mapping[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = sorted(((entry[2], place) for place, entry in stats.items()), reverse=True)
    total = sum(seconds for seconds, _ in own)
    return [
        {"function": _short(place), "part_of_time": round(seconds / total, 3)}
        for seconds, place in own[:PROFILE_LINES]
    ]


def _short(place: tuple[str, int, str]) -> str:
    file, _, name = place
    return name if file == "~" else f"{Path(file).stem}.{name}"


# ---- building --------------------------------------------------------------------------------------------


def builds(*, quick: bool) -> Iterator[Row]:
    """Programming, the first call after it, and what is held then."""
    for name in ("conv", "resnet20", "linear"):
        for key in ("levels", "currents", "wires"):
            if name in CASES[key].bounds and not (quick and name != "conv"):
                yield _build(key, CASES[key], name, quick=quick)


def _build(key: str, case: Case, name: str, *, quick: bool) -> Row:
    job = work_of(case, name, quick=quick)
    sim = chip_of(key, name, quick=quick)
    run = runner(sim, job.x)
    run()
    program, first, later = [], [], []
    for _ in range(1 if quick or key == "wires" else 3):
        program.append(once(partial(imcsim.program, sim, seed=1))[1])
        first.append(once(run)[1])
        later.append(min(once(run)[1] for _ in range(3)))
    return {
        "part": "build",
        "case": key,
        "title": case.title,
        "work": name,
        "work_title": job.title,
        "weights": sum(p.numel() for p in job.model.parameters()),
        "program_cpu_s": statistics.median(program),
        "first_cpu_s": statistics.median(first),
        "later_cpu_s": statistics.median(later),
        "plan_bytes": plan_bytes(sim),
        "cell_bytes": cell_bytes(sim),
        "hardware": key,
    }


# ---- scaling ---------------------------------------------------------------------------------------------

INPUTS, OUTPUTS, BATCH = 512, 256, 256

AXES: dict[str, tuple[int, ...]] = {
    "inputs": (64, 128, 256, 512, 1024, 2048),
    "outputs": (16, 64, 256, 1024),
    "batch": (1, 4, 16, 64, 256, 1024),
    "array rows": (32, 64, 128, 256, 512),
    "cell bits": (1, 2, 3, 4, 7),
    "DAC bits": (1, 2, 4, 8),
}
LINES: dict[str, tuple[Mapping[str, Any], str]] = {
    "table, ideal levels": ({}, "table"),
    "table, programmed": (PROGRAMMED, "table"),
    "matmul, ideal levels": ({}, "matmul"),
    "matmul, programmed": (PROGRAMMED, "matmul"),
}


def scaling(*, quick: bool) -> Iterator[Row]:
    """A linear layer with one thing varied; plain torch beside it."""
    for axis, values in AXES.items():
        for value in values[1:2] if quick else values:
            for line, (changes, engine) in list(LINES.items())[:: 3 if quick else 1]:
                row = _scaled(axis, value, line, SERIAL.replace(changes), engine, quick=quick)
                if row is not None:
                    yield row


def _scaled(axis: str, value: int, line: str, chip: Hardware, engine: str, *, quick: bool) -> Row | None:
    job = layer(
        value if axis == "inputs" else 64 if quick else INPUTS,
        value if axis == "outputs" else 16 if quick else OUTPUTS,
        value if axis == "batch" else 4 if quick else BATCH,
    )
    changes = {
        "array rows": {"array.rows": value},
        "cell bits": {"weights.cell_bits": value},
        "DAC bits": {"inputs.bits_per_cycle": value},
    }.get(axis, {})
    row: Row = {"part": "scaling", "axis": axis, "value": value, "line": line}
    try:
        sim = on_chip(job, chip.replace(changes), engine)
    except imcsim.ImcsimError as error:
        return {**row, "cannot": str(error)}
    try:
        times = compare(
            runner(job.model, job.x), runner(sim, job.x), seconds=0.0 if quick else SCALING_SECONDS
        )
    except imcsim.ImcsimError as error:
        return {**row, "cannot": str(error)}
    return {**row, **times}


# ---- the whole test set ----------------------------------------------------------------------------------


def test_set(*, quick: bool) -> Iterator[Row]:
    """ResNet-20 over all test images in the package, on one thread and on all cores."""
    yield one_test_set(1, quick=quick)
    cores = os.cpu_count() or 1
    if cores > 1 and not quick:
        passive = {"OMP_NUM_THREADS": str(cores), "OMP_WAIT_POLICY": "PASSIVE"}
        yield in_a_child("test_set", {"threads": cores}, passive)


def one_test_set(threads: int, *, quick: bool) -> Row:
    """The network by itself and on its chip, on so many threads of torch."""
    benchmark = zoo.load("resnet20", n=4 if quick else None)
    batches = list(benchmark.batches(size=100))
    job = Work("ResNet-20", benchmark.model, benchmark.calibration[: 4 if quick else 256])
    sim = on_chip(job, CASES["levels_auto"].hardware, quick=quick)
    runner(sim, benchmark.images[:1])()
    plain, _ = once(lambda: imcsim.evaluate(benchmark.model, batches))
    found: list[Evaluation] = []
    wall, _ = once(lambda: found.append(imcsim.evaluate(sim, batches)))
    return {
        "part": "test set",
        "case": "levels_auto",
        "threads": threads,
        "engines": engines_of(sim),
        "n": len(benchmark.images),
        "torch_s": plain,
        "s": wall,
        "top1": found[0].top1,
        "ci95": list(found[0].ci95),
        "hardware": "levels_auto",
    }


# ---- in processes of their own ---------------------------------------------------------------------------


def in_a_child(what: str, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """The result of `benchmarks.child` in a fresh process, on one thread."""
    root = Path(__file__).resolve().parents[1]
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", what, json.dumps(options)],
        cwd=root,
        env={**os.environ, **one, "PYTHONPATH": str(root), **(environment or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks.child {what} {options} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def memory(*, quick: bool) -> Iterator[Row]:
    """Peak memory of a forward pass above the model and its tables, over batch sizes."""
    wanted = [
        (None, "resnet20"),
        ("collapsed", "resnet20"),
        ("levels", "resnet20"),
        ("currents", "resnet20"),
        (None, "conv"),
        ("levels", "conv"),
        ("matmul", "conv"),
    ]
    for key, name in [("levels", "conv")] if quick else wanted:
        options = {"case": key, "work": name, "batches": [2] if quick else MEMORY_BATCHES, "quick": quick}
        for row in in_a_child("memory", options):
            yield {"part": "memory", "case": key or "torch", "work": name, **row}


def first_use(*, quick: bool) -> Iterator[Row]:
    """The very first call on a machine, when the kernels are compiled; and the next process's, when not."""
    if quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        for key in ("levels", "currents"):
            for compiled in (False, True):
                options = {"case": key, "work": "conv"}
                row = in_a_child("first_call", options, {"NUMBA_CACHE_DIR": str(Path(folder) / key)})
                yield {"part": "first use", "case": key, "compiled": compiled, **row}


def with_avx2(*, quick: bool) -> Iterator[Row]:
    """Torch and kernels held to AVX2, which is what the published ratios of others were measured with."""
    if quick:
        return
    keys = ["levels", "currents", "isaac", "xnor"]
    yield from in_a_child("with_avx2", {"keys": keys, "works": ["conv", "resnet20"]}, AVX2_ONLY)


def instruction_sets() -> list[str]:
    """Those that the kernels could use here, best first."""
    if table.instruction_set() is None:
        return []
    from imcsim.kernels import simd

    return [isa.name for isa in simd.available()]
