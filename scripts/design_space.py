"""Which chips are worth building? A search for accuracy, energy and area over arrays, cells and converters.

Copy and edit: AXES says what varies, GOALS what is wanted. Run it on several machines with one --storage to
share the work; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import imcsim
from imcsim import plot
from imcsim.results import code_state, write_record

CHIP = {
    "name": "design-space",
    "device": {"programming": {"kind": "range", "sigma": 0.01}},
    "adc": {"bits": 8, "range": "calibrated"},
}
AXES = {
    "array.rows, array.cols": [64, 128, 256],
    "weights.cell_bits": [1, 2, 4],
    "weights.encoding": ["differential", "offset"],
    "adc.bits": {"low": 5, "high": 9, "integer": True},
}
GOALS = {"top1": "maximize", "energy_J": "minimize", "area_mm2": "minimize"}

RESULT = ("model", "data", "images", "chips", "trials")
"""Options that the result depends on."""


def main() -> None:
    """Measure, and write rows, a table, a figure and a record with the exact configuration."""
    args, code = arguments(), code_state()
    args.out.mkdir(parents=True, exist_ok=True)
    study = imcsim.sweep.Study(
        AXES,
        name="design_space",
        file=args.out / "design_space.sqlite",
        hardware=CHIP,
        model=args.model,
        data=args.data,
        images=args.images,
        repeats=args.chips,
        costs=True,
        workers=args.workers,
    )
    found = study.search(GOALS, args.trials, storage=args.storage)
    rows = found.rows()
    ax = plot.pareto(
        [{**row, "energy (J)": row["energy_J"], "top-1": row["top1"]} for row in rows], "energy (J)", "top-1"
    )
    ax.set(xlabel="energy of an image (J)", ylabel="top-1", xscale="log")
    ax.get_figure().savefig(args.out / "design_space.png", dpi=150)
    pd.DataFrame(rows).to_csv(args.out / "design_space.csv", index=False)
    given = (f"--{name} {value}" for name, value in vars(args).items() if name in RESULT and value)
    command = " ".join(("python scripts/design_space.py", *given))
    write_record(
        "design_space",
        rows,
        folder=args.out,
        command=command,
        seeds=range(args.chips),
        n=args.images,
        hardware={"base": study.base.hardware},
        facts={"network": args.model, "objectives": GOALS, "failed": found.failed},
        code=code,
    )
    print(pd.DataFrame(row for row in rows if row["front"]).to_string(index=False))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20", help="a network of the zoo, or package.module:name")
    parser.add_argument("--data", help="data of a network that is not the zoo's: cifar10, an .npz file, ...")
    parser.add_argument("--images", type=int, default=256, help="test images")
    parser.add_argument("--chips", type=int, default=1, help="chips a point")
    parser.add_argument("--trials", type=int, default=40, help="chips to try in all")
    parser.add_argument("--storage", help="an Optuna storage URL; a file in the results' folder if not given")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
