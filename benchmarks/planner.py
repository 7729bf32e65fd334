"""What look-ups, products, conversions and table entries cost: the coefficients of `imcsim.kernels.planner`.

``python -m benchmarks.planner`` times the kernels on layers of many shapes, one thread, for every instruction
set that this processor has (AVX2 in a process in which torch is held to it too), fits the model's
coefficients, prints measured over estimated times, and writes imcsim/kernels/costs.toml and
docs/results/planner.json. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from scipy.optimize import nnls
from torch import Tensor

from benchmarks.parts import AVX2_ONLY, in_a_child
from benchmarks.timing import once
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.hardware import write_atomically
from imcsim.kernels import matmul, planner, simd, table
from imcsim.results import code_state, write_record

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]

BASE = {"inputs": 512, "outputs": 128, "streams": 4, "vectors": 256, "rows": 128, "bits": 8, "digit": 1}
VARIED: dict[str, tuple[int, ...]] = {
    "inputs": (27, 128, 1152),
    "outputs": (8, 32, 512),
    "streams": (1, 2),
    "vectors": (1, 16, 64, 1024),
    "rows": (32, 256),
    "bits": (1, 4),
    "digit": (2, 4),
}
HEAD = """# What engines cost, in nanoseconds on one thread, for each instruction set (see planner.py).
# Measured and written by python -m benchmarks.planner.

"""
CONVERTER = Converter(127, 384, 127, 254)


def shapes(*, quick: bool) -> Iterator[dict[str, int]]:
    """A layer, and others that differ from it in one thing."""
    yield BASE | ({"inputs": 64, "outputs": 16, "vectors": 4} if quick else {})
    for name, values in VARIED.items():
        for value in values[:1] if quick else values:
            yield BASE | {name: value}


def layer(shape: dict[str, int], *, real: bool) -> tuple[Columns, PulseTrain, Tensor]:
    """Cells of 2 bits, pulses and input codes."""
    draw = torch.Generator().manual_seed(0)
    size = (1, shape["streams"], shape["inputs"], shape["outputs"])
    cells = torch.randint(-3, 4, size, generator=draw, dtype=torch.int8)
    if real:
        cells = cells + 0.06 * torch.randn(size, generator=draw)
    step = shape["rows"]
    reads = tuple((first, min(first + step, size[2])) for first in range(0, size[2], step))
    gains = tuple(4.0**q for q in range(size[1]))
    codes = torch.randint(0, 1 << shape["bits"], (1, shape["vectors"], size[2]), generator=draw)
    train = PulseTrain(shape["bits"], min(shape["digit"], shape["bits"]))
    return Columns(cells, reads, gains, (0.0,) * size[1]), train, codes.float()


def timed(run: Callable[[], object]) -> float:
    """The least thread time of some calls, in seconds."""
    first = once(run)[1]
    return min([first, *(once(run)[1] for _ in range(3 if first > 0.03 else 9))])


def times(*, quick: bool = False) -> list[Row]:
    """Every shape by matrix products and by tables: what it took and what the model counts."""
    rows: list[Row] = []
    for shape in shapes(quick=quick):
        for real in (False, True):
            columns, train, codes = layer(shape, real=real)
            converters = (CONVERTER,) * len(columns.gains)
            arguments = (codes, columns, train, converters)
            products = partial(matmul.stream_sums, *arguments, integer_cells=not real)
            kind = planner.kind_of_table(columns, train)
            build = partial(table.build, columns, train, converters)
            tables = build()
            look_up = partial(table.stream_sums, codes, tables)
            vectors = shape["vectors"]
            for what, run, counts in (
                ("matmul", products, planner.matmul_counts(columns, train, vectors)),
                (kind, look_up, planner.table_counts(columns, train, kind, vectors)),
                (f"{kind}_build", build, planner.build_counts(columns, train, kind)),
            ):
                rows.append({"what": what, "shape": shape, "seconds": timed(run), "counts": counts})
    return rows


def fit(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Coefficients in ns, none negative, of least relative error; adds `estimated` to the rows."""
    out: dict[str, dict[str, float]] = {}
    for what in dict.fromkeys(row["what"] for row in rows):
        own = [row for row in rows if row["what"] == what]
        names = list(own[0]["counts"])
        counts = np.array([[row["counts"][name] / row["seconds"] for name in names] for row in own])
        found = nnls(counts, np.full(len(own), 1e9))[0]
        out[what] = {name: float(f"{value:.3g}") for name, value in zip(names, found, strict=True)}
        for row in own:
            row["estimated"] = planner.seconds(row["counts"], out[what])
    return out


def with_only(isa: simd.InstructionSet, *, quick: bool = False) -> list[Row]:
    """`times` with the kernels held to one instruction set."""
    available = simd.available
    simd.available = lambda: [isa]
    table.instruction_set.cache_clear()
    try:
        return [{"isa": isa.name, **row} for row in times(quick=quick)]
    finally:
        simd.available = available
        table.instruction_set.cache_clear()


def measure(*, quick: bool) -> list[Row]:
    """All rows of all instruction sets; torch is held to AVX2 in a process of its own."""
    rows: list[Row] = []
    for isa in simd.available()[-1:] if quick else simd.available():
        alone = isa == simd.AVX2 and not quick
        rows += in_a_child("planner_times", {}, AVX2_ONLY) if alone else with_only(isa, quick=quick)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small layers: a test of the script")
    parser.add_argument("--out", type=Path, help="where to write; the places named above, or build/quick")
    args = parser.parse_args(argv)
    out = args.out or (ROOT / "build" / "quick" if args.quick else None)
    costs, results = (out / "costs.toml", out) if out else (planner.COSTS, ROOT / "docs" / "results")
    results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    code, rows = code_state(), measure(quick=args.quick)
    names = dict.fromkeys(row["isa"] for row in rows)
    fitted = {isa: fit([row for row in rows if row["isa"] == isa]) for isa in names}
    for isa, coefficients in fitted.items():
        for what, values in coefficients.items():
            off = [r["estimated"] / r["seconds"] for r in rows if r["isa"] == isa and r["what"] == what]
            words = ", ".join(f"{name} {value:g}" for name, value in values.items())
            print(
                f"{isa}, {what}: {words} ns; estimated over measured {min(off):.2f} to {max(off):.2f}, "
                f"median {statistics.median(off):.2f}"
            )
    write_atomically(costs, (HEAD + tomli_w.dumps(fitted)).encode())
    write_record(
        "planner",
        rows,
        folder=results,
        command="python -m benchmarks.planner" + (" --quick" if args.quick else ""),
        seeds=(0,),
        n=len(rows),
        hardware={},
        code=code,
    )


if __name__ == "__main__":
    main()
