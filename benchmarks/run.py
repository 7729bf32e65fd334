"""How fast imcsim is, against plain torch in the same process. `make bench` runs it.

Writes docs/results/performance.json, the figures and the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import page, parts
from benchmarks.cases import CASES
from imcsim.hardware import write_atomically
from imcsim.results import Record, code_state, put_between_markers, read_record, write_record

ROOT = Path(__file__).resolve().parents[1]
NAME = "performance"


def measure(*, quick: bool, data: Path | None = None) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    keys = (
        ["collapsed", "levels", "levels_auto", "currents", "training", "noise_over_noiseless"]
        if quick
        else list(CASES)
    )
    work = ["conv"] if quick else None
    rows: list[dict[str, Any]] = []
    for rows_of_part in (
        parts.ratios("bounds", keys, work, quick=quick),
        parts.ratios("bounds", ["levels"], ["resnet20"], quick=True) if quick else (),
        parts.builds(quick=quick),
        parts.memory(quick=quick),
        parts.scaling(quick=quick),
        parts.with_avx2(quick=quick),
        parts.first_use(quick=quick),
        parts.conversion(quick=quick),
        parts.test_set(quick=quick, data=data),
    ):
        rows += _said(rows_of_part)
    return rows


def _said(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        words = [str(row[key]) for key in ("part", "case", "work", "axis", "value", "line") if key in row]
        numbers = [f"{key} {row[key]:.2f}" for key in ("ratio", "cpu_ratio", "bound") if row.get(key)]
        print(f"{time.strftime('%H:%M:%S')} {', '.join(words)}: {', '.join(numbers)}", flush=True)
        yield row


def render(record: Record, folder: Path) -> None:
    """Draw the figures and fill the page's tables, where there is a page."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, draw in page.FIGURES.items():
        picture = io.BytesIO()
        draw(record).savefig(picture, format="png", dpi=85)
        write_atomically(images / f"{name}.png", picture.getvalue())
    file = folder / f"{NAME}.md"
    for marker, table in page.tables(record).items():
        print(f"\n{marker}\n\n{table}")
        if file.is_file():
            write_atomically(
                file, put_between_markers(file.read_text(encoding="utf-8"), marker, table).encode()
            )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small layers, one call each: a test of the script"
    )
    parser.add_argument("--render", action="store_true", help="only draw figures and tables from the record")
    parser.add_argument(
        "--data", type=Path, help="folder of cifar10_test.npz: the test set with these images too"
    )
    parser.add_argument("--out", type=Path, help="where the page is; docs, or build/quick with --quick")
    args = parser.parse_args(argv)
    args.out = args.out or (ROOT / "build" / "quick" if args.quick else ROOT / "docs")
    results = args.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not args.render:
        torch.set_num_threads(1)
        code, facts = code_state(), _facts()
        rows = measure(quick=args.quick, data=args.data)
        write_record(
            NAME,
            rows,
            folder=results,
            command="python -m benchmarks.run --quick" if args.quick else "make bench",
            seeds=(0,),
            n=max(row["n"] for row in rows if row["part"] == "test set"),
            hardware={
                key: CASES[key].hardware
                for key in dict.fromkeys(r["hardware"] for r in rows if "hardware" in r)
            },
            facts=facts,
            code=code,
        )
    render(read_record(results / f"{NAME}.json"), args.out)


def _facts() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "instruction_sets": parts.instruction_sets(),
        "numba": metadata.version("numba"),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": list(os.getloadavg()),
    }


def _processor() -> str:
    """The name LLVM gives the processor, which says more than the one a virtual machine shows."""
    import llvmlite.binding

    return llvmlite.binding.get_host_cpu_name() or platform.machine()


if __name__ == "__main__":
    main()
