"""How large may an array be? Accuracy over its size, for several ADC resolutions, with the wires' resistance.

Copy and edit: AXES says what varies. Stop it when you like; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imcsim
from imcsim import plot
from imcsim.results import code_state

CHIP = {
    "name": "rram",
    "device": {"g_max_S": 1e-5, "on_off_ratio": 50.0},
    "array": {"word_line_ohm": 1.0, "bit_line_ohm": 1.0},
    "adc": {"bits": 8, "range": "calibrated"},
}
AXES = {
    "adc.bits": [6, 8],
    "array.rows, array.cols": [32, 64, 128, 256],  # square arrays
}

RESULT = ("model", "data", "images", "chips")
"""Options that the result depends on."""


def main() -> None:
    """Measure, and write rows, a table, a figure and a record with the exact configuration."""
    args, code = arguments(), code_state()
    args.out.mkdir(parents=True, exist_ok=True)
    study = imcsim.sweep.Study(
        AXES,
        name="array_size_sweep",
        file=args.out / "array_size_sweep.sqlite",
        hardware=CHIP,
        model=args.model,
        data=args.data,
        images=args.images,
        repeats=args.chips,
        workers=args.workers,
    )
    found = study.run().require()
    means = found.means("top1")
    float_top1 = found.rows()[0]["float_top1"]
    ax = plot.accuracy_over(means, "array.rows", by="adc.bits", baseline=float_top1)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="word lines and bit lines of an array")
    ax.get_figure().savefig(args.out / "array_size_sweep.png", dpi=150)
    found.to_csv(args.out / "array_size_sweep.csv")
    given = (f"--{name} {value}" for name, value in vars(args).items() if name in RESULT and value)
    command = " ".join(("python scripts/array_size_sweep.py", *given))
    found.to_record(args.out, command=command, code=code)
    print(found.frame().drop(columns="error").to_string(index=False))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20", help="a network of the zoo, or package.module:name")
    parser.add_argument("--data", help="data of a network that is not the zoo's: cifar10, an .npz file, ...")
    parser.add_argument("--images", type=int, default=256, help="test images")
    parser.add_argument("--chips", type=int, default=1, help="chips a point (nothing is drawn here)")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
