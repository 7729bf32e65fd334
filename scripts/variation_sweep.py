"""How much device variation does a network stand? Accuracy over the programming error, for two encodings.

Copy and edit: AXES says what varies. Stop it when you like; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imcsim
from imcsim import plot
from imcsim.results import code_state

CHIP = {"name": "rram-128", "adc": {"bits": 8, "range": "calibrated"}}
SIGMAS = (0.005, 0.01, 0.02, 0.05)
AXES = {
    "weights.encoding": ["differential", "offset"],
    "device.programming": [{"kind": "range", "sigma": sigma} for sigma in SIGMAS],
}

RESULT = ("model", "data", "images", "chips")
"""Options that the result depends on."""


def main() -> None:
    """Measure, and write rows, a table, a figure and a record with the exact configuration."""
    args, code = arguments(), code_state()
    args.out.mkdir(parents=True, exist_ok=True)
    study = imcsim.sweep.Study(
        AXES,
        name="variation_sweep",
        file=args.out / "variation_sweep.sqlite",
        hardware=CHIP,
        model=args.model,
        data=args.data,
        images=args.images,
        repeats=args.chips,
        workers=args.workers,
    )
    found = study.run().require()
    means = [{**row, "sigma": row["device.programming"]["sigma"]} for row in found.means("top1")]
    float_top1 = found.rows()[0]["float_top1"]
    ax = plot.accuracy_over(means, "sigma", by="weights.encoding", baseline=float_top1)
    ax.set(xlabel="programming error (standard deviation / range)", xscale="log")
    ax.get_figure().savefig(args.out / "variation_sweep.png", dpi=150)
    found.to_csv(args.out / "variation_sweep.csv")
    given = (f"--{name} {value}" for name, value in vars(args).items() if name in RESULT and value)
    command = " ".join(("python scripts/variation_sweep.py", *given))
    found.to_record(args.out, command=command, code=code)
    print(found.frame().drop(columns="error").to_string(index=False))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20", help="a network of the zoo, or package.module:name")
    parser.add_argument("--data", help="data of a network that is not the zoo's: cifar10, an .npz file, ...")
    parser.add_argument("--images", type=int, default=256, help="test images")
    parser.add_argument("--chips", type=int, default=3, help="chips a point")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
