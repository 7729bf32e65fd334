"""How many ADC bits does a network need? Accuracy and SQNR of a pretrained network over converters and
encodings.

Copy and edit: `STUDY` says what is swept. With its defaults it is `make demo`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from rich.console import Console
from rich.table import Table

import imcsim
from imcsim import plot, zoo
from imcsim.kernels.table import instruction_set
from imcsim.results import code_state, write_record

BASE = imcsim.Hardware.model_validate(
    {
        "name": "rram-128",
        "array": {"rows": 128, "cols": 128},
        "weights": {"bits": 8, "cell_bits": 2},
        "inputs": {"bits": 8},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)
ISAAC = imcsim.load_hardware("isaac").replace({"weights.bits": 8, "inputs.bits": 8})

# Where the table engine does not run (no AVX2, no numba) a sweep takes ten times as long.
IMAGES = 1000 if instruction_set() is not None else 256

# encoding -> (hardware, ADC bits)
STUDY: dict[str, tuple[imcsim.Hardware, tuple[int, ...]]] = {
    "differential": (BASE, (4, 5, 6, 7, 8, 9, 10)),
    "offset": (BASE.replace({"weights.encoding": "offset"}), (5, 6, 7, 8)),
    "isaac": (ISAAC, (7, 8)),
}


def main() -> None:
    """Run the sweep; write a table, a figure and a record with the exact configuration and commit."""
    args, code = arguments(), code_state()
    mpl.use("Agg")
    console = Console()
    benchmark = zoo.load(args.model)
    batches = list(benchmark.batches(size=args.batch, n=args.images))
    baseline = imcsim.evaluate(benchmark.model, batches)
    console.print(f"{args.model}, {baseline.n} images, float: {baseline}", soft_wrap=True)
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    for encoding, (hardware, bits) in STUDY.items():
        for adc_bits in bits:
            chip = hardware.replace({"adc.bits": adc_bits})
            sim = imcsim.convert(benchmark.model, chip)
            imcsim.calibrate(sim, benchmark.calibration_batches())
            result = imcsim.evaluate(sim, batches, reference=benchmark.model)
            rows.append(result.row(encoding=encoding, adc_bits=adc_bits))
            console.print(f"  {encoding}, {adc_bits}-bit ADC: {result}", soft_wrap=True)
    frame = pd.DataFrame(rows)
    args.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(args.out / "adc_sweep.csv", index=False)
    figure = plot.adc_sweep(rows, baseline=baseline.top1)
    figure.savefig(args.out / "adc_sweep.png", dpi=150)
    write_record(
        "adc_sweep",
        rows,
        folder=args.out,
        command=f"python scripts/adc_sweep.py --model {args.model} --images {baseline.n}",
        seeds=[0],
        n=baseline.n,
        hardware={name: chip for name, (chip, _) in STUDY.items()},
        facts={"network": args.model, "data": "CIFAR-10 test images", "float_top1": baseline.top1},
        code=code,
    )
    console.print(as_table(frame, baseline.top1))
    seconds = time.perf_counter() - started
    console.print(f"{args.out / 'adc_sweep.png'}, .csv and .json written in {seconds:.0f} s", soft_wrap=True)


def as_table(frame: pd.DataFrame, float_top1: float) -> Table:
    """The results, one row a chip."""
    table = Table(title=f"top-1 over ADC bits (float: {100 * float_top1:.2f} %)")
    for column in ("encoding", "ADC bits", "top-1 %", "95 % interval", "SQNR dB", "n"):
        table.add_column(column, justify="left" if column == "encoding" else "right")
    for row in frame.to_dict("records"):
        interval = f"{100 * row['ci95_low']:.1f} to {100 * row['ci95_high']:.1f}"
        table.add_row(
            row["encoding"],
            str(row["adc_bits"]),
            f"{100 * row['top1']:.2f}",
            interval,
            f"{row['sqnr_db']:.1f}",
            str(row["n"]),
        )
    return table


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="resnet20", choices=zoo.available(), help="a network with weights in the package"
    )
    parser.add_argument("--images", type=int, default=IMAGES, help="test images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the table and the figure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
