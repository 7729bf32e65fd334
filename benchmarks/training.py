"""What a training step against chips costs over one of plain torch: `python -m benchmarks.training`.

Forward, backward and a change of every weight, interleaved with plain torch's on one thread; writes
docs/results/training_steps.json and the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import imcsim
from benchmarks.cases import PROGRAMMED, SERIAL, on_chip, work
from benchmarks.timing import compare
from imcsim import train
from imcsim.hardware import Hardware, write_atomically
from imcsim.results import Record, code_state, markdown_table, put_between_markers, read_record, write_record
from imcsim.train import Fidelity

ROOT = Path(__file__).resolve().parents[1]
NAME = "training_steps"
SECONDS = 3.0
BOUND = 3.0


@dataclass(frozen=True)
class Case:
    """A kind of step.

    Attributes:
        title: what the page calls it.
        hardware: the chip.
        fidelity: of the injection.
        bound: the most that its time over plain torch's may be, if there is a bound.
        chips: parts of a batch with a chip each.
    """

    title: str
    hardware: Hardware
    fidelity: Fidelity = "statistical"
    bound: float | None = BOUND
    chips: int = 1


CASES: dict[str, Case] = {
    "converters": Case("statistical: 6-bit converters", SERIAL.replace({"adc.bits": 6})),
    "programmed": Case(
        "statistical: programming error, 8-bit converters",
        SERIAL.replace({**PROGRAMMED, "device.on_off_ratio": 10.0}),
    ),
    "chips": Case(
        "the same, four chips a batch",
        SERIAL.replace({**PROGRAMMED, "device.on_off_ratio": 10.0}),
        chips=4,
    ),
    "card": Case(
        "statistical: a card's programming error and read noise, 8-bit converters",
        SERIAL.replace({"device.card": "pcm_gst"}),
    ),
    "exact": Case(
        "exact: programming error, 8-bit converters",
        SERIAL.replace({**PROGRAMMED, "device.on_off_ratio": 10.0}),
        fidelity="exact",
        bound=None,
    ),
}
WORKS = ("conv", "resnet20")


def stepper(model: nn.Module, x: Tensor, case: Case | None) -> Callable[[], None]:
    """A step on a copy of the model; without a case that of plain torch."""
    model = copy.deepcopy(model).train()
    if case is not None:
        train.measure_conversions(model, [x])
        train.inject(model, case.fidelity, chips=case.chips)
    x = x.detach().clone().requires_grad_(isinstance(model, nn.Conv2d))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        model(x).square().mean().backward()
        optimizer.step()

    return step


def measure(*, quick: bool) -> list[dict[str, Any]]:
    """A row a case and work, printed as they come."""
    rows = []
    for key, case in CASES.items():
        for name in WORKS[: 1 if quick else None]:
            job = work(name, quick=quick)
            sim = on_chip(job, case.hardware, quick=quick)
            found = compare(
                stepper(job.model, job.x, None),
                stepper(sim, job.x, case),
                seconds=0.0 if quick else SECONDS,
            )
            rows.append(
                {
                    "case": key,
                    "title": case.title,
                    "work": name,
                    "work_title": job.title,
                    "n": len(job.x),
                    **found,
                    "bound": case.bound,
                }
            )
            print(f"{time.strftime('%H:%M:%S')} {key}, {name}: {found['ratio']:.2f}", flush=True)
    return rows


def table(record: Record) -> str:
    """Ratios with their quartiles, and whether the bound is met."""
    rows = []
    for row in record.rows:
        low, high = row["ratio_quartiles"]
        verdict = "" if row["bound"] is None else "met" if row["ratio"] <= row["bound"] else "**missed**"
        rows.append(
            [
                row["title"],
                row["work_title"],
                f"{row['plain_ms']:.1f}",
                f"{row['ms']:.1f}",
                f"{row['ratio']:.2f}x",
                f"{low:.2f} to {high:.2f}",
                f"{row['cpu_ratio']:.2f}x",
                "" if row["bound"] is None else f"{row['bound']:g}x",
                verdict,
            ]
        )
    header = ["step", "work", "torch ms", "ms", "ratio", "quartiles", "processor time", "bound", ""]
    return markdown_table(header, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small layer, one call each: a test")
    parser.add_argument("--render", action="store_true", help="only fill the page from the record")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of results/ and training.md")
    args = parser.parse_args(argv)
    results = args.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not args.render:
        torch.set_num_threads(1)
        code = code_state()
        rows = measure(quick=args.quick)
        write_record(
            NAME,
            rows,
            folder=results,
            command=f"python -m benchmarks.training{' --quick' if args.quick else ''}",
            seeds=(0,),
            n=max(row["n"] for row in rows),
            hardware={key: case.hardware for key, case in CASES.items()},
            facts={"imcsim": imcsim.__version__},
            code=code,
        )
    record = read_record(results / f"{NAME}.json")
    print(table(record))
    page = args.out / "training.md"
    if page.is_file():
        text = put_between_markers(page.read_text(encoding="utf-8"), "steps", table(record))
        write_atomically(page, text.encode())


if __name__ == "__main__":
    main()
