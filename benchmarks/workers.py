"""How much faster is a study with two workers? One and two processes, one thread each, turn about.

Writes docs/results/sweep_workers.json. Run it on a machine that is otherwise idle, with two cores or more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from imcsim.hardware import write_atomically
from imcsim.results import code_state, put_between_markers, write_record
from imcsim.sweep import Study

PAGE = Path("docs/sweeps.md")
AXES = {"adc.bits": [5, 6, 7, 8], "weights.encoding": ["differential", "offset"]}
CHIP = {
    "adc": {"bits": 8, "range": "calibrated"},
    "device": {"programming": {"kind": "range", "sigma": 0.02}},
}


def seconds(workers: int, images: int, chips: int) -> float:
    """Wall-clock time of the whole study, the start of its workers included."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(
            AXES,
            hardware=CHIP,
            file=Path(folder) / "rows.sqlite",
            model="resnet8",
            images=images,
            repeats=chips,
            workers=workers,
        )
        started = time.perf_counter()
        study.run().require()
        return time.perf_counter() - started


def sentence(rows: list[dict[str, float]], ratio: float, chips: int) -> str:
    """What the page says."""
    ratios = ", ".join(f"{row['ratio']:.2f}" for row in rows)
    return (
        f"On two cores, two workers with a thread each run {8 * chips} points of ResNet-8 {ratio:.2f} times "
        f"as fast as\none (median of {ratios}; their start included; `python -m benchmarks.workers`)."
    )


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--chips", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    code, rows = code_state(), []
    seconds(1, 4, 1)  # compiled kernels and weights are in memory and on disk afterwards
    for _ in range(args.rounds):
        one, two = (seconds(workers, args.images, args.chips) for workers in (1, 2))
        load = os.getloadavg()[0]
        rows.append({"one_s": one, "two_s": two, "ratio": one / two, "load": load})
        print(f"one worker {one:.1f} s, two {two:.1f} s: {one / two:.2f} times as fast (load {load:.1f})")
    ratio = statistics.median(row["ratio"] for row in rows)
    print(f"median: {ratio:.2f}")
    if PAGE.is_file():
        text = put_between_markers(
            PAGE.read_text(encoding="utf-8"), "speed", sentence(rows, ratio, args.chips)
        )
        write_atomically(PAGE, text.encode())
    options = f"--images {args.images} --chips {args.chips} --rounds {args.rounds}"
    write_record(
        "sweep_workers",
        rows,
        folder=args.out,
        command=f"python -m benchmarks.workers {options}",
        seeds=range(args.chips),
        n=args.images,
        hardware={},
        facts={"network": "resnet8", "points": 8 * args.chips, "threads_each": 1, "median_ratio": ratio},
        code=code,
    )


if __name__ == "__main__":
    main()
