"""Weight bits of ResNet-20 by sensitivity, against the same bits everywhere, at equal size: no training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imcsim
from imcsim import zoo
from imcsim.hardware import Hardware, write_atomically
from imcsim.results import (
    Record,
    accuracy_interval,
    code_state,
    markdown_table,
    put_between_markers,
    read_record,
    write_record,
)
from imcsim.train.mixed import Measure, by_sensitivity, weight_bits

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = "mixed_precision"
BASE = Hardware.model_validate(
    {"name": NAME, "weights": {"bits": 8, "cell_bits": 1, "scale": "per_channel"}, "inputs": {"bits": 8}}
)
ENDS = {"conv1": BASE, "linear": BASE}
OPTIONS = {"weights.bits": (2, 3, 4, 5, 6, 8)}
CALIBRATION = 128
MEASURES: tuple[Measure, ...] = ("sqnr", "hessian")
Row = dict[str, Any]


def measure(images: int, widths: Sequence[int], probes: int) -> list[Row]:
    """Uniform bits, and each measure's bits within the same number of weight bits."""
    net = zoo.load("resnet20", n=images)
    labels = zoo.cifar10_calibration(CALIBRATION)[1]
    data = [(net.calibration[:CALIBRATION], labels)]
    test = list(net.batches(100))
    rows = []
    for bits in widths:
        chip = BASE.replace({"weights.bits": bits})
        budget = sum(weight_bits(imcsim.convert(net.model, {"*": chip, **dict.fromkeys(ENDS)})).values())
        found = {"uniform": {"*": chip, **ENDS}}
        for by in MEASURES:
            found[by] = by_sensitivity(
                net.model, BASE, OPTIONS, data, budget=budget, cost=weight_bits, fixed=ENDS, measure=by,
                probes=probes,
            )  # fmt: skip
        for by, chips in found.items():
            sim = imcsim.convert(net.model, chips)
            imcsim.calibrate(sim, data)
            got = imcsim.evaluate(sim, test, reference=net.model)
            own = [] if by == "uniform" else [c.weights.bits for name, c in chips.items() if name not in ENDS]
            rows.append(
                {"bits": bits, "by": by, "top1": got.top1, "n": got.n, "sqnr_db": got.sqnr_db, "layers": own}
            )
            print(bits, by, got, own, flush=True)
    return rows


def tables(record: Record) -> dict[str, str]:
    """The page's table."""
    lines = []
    for row in record.rows:
        interval = accuracy_interval([row["top1"]], row["n"])
        lines.append(
            [
                f"{row['bits']} b",
                row["by"],
                f"{100 * row['top1']:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})",
                f"{row['sqnr_db']:.1f}",
                " ".join(map(str, row["layers"])),
            ]
        )
    header = [
        "size of the hidden layers",
        "bits chosen",
        "top-1 % (95 %)",
        "SQNR dB",
        "bits of the 18 layers",
    ]
    return {NAME: markdown_table(header, lines)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the record, fill the page's table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument(
        "--bits", type=int, nargs="+", default=[3, 4, 5], help="uniform widths to compare with"
    )
    parser.add_argument("--probes", type=int, default=16, help="of the Hessian's trace")
    parser.add_argument("--render", action="store_true", help="the table from the record that is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and the page")
    args = parser.parse_args(argv)
    results = args.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not args.render:
        code = code_state()
        rows = measure(args.images, args.bits, args.probes)
        write_record(
            NAME, rows, folder=results, seeds=[0], n=args.images, hardware={"base": BASE}, code=code,
            command=f"python scripts/studies/{NAME}.py --images {args.images}",
            facts={"network": "resnet20", "calibration_images": CALIBRATION, "probes": args.probes},
        )  # fmt: skip
    page = args.out / f"{NAME}.md"
    for marker, table in tables(read_record(results / f"{NAME}.json")).items():
        print(table)
        if page.is_file():
            text = put_between_markers(page.read_text(encoding="utf-8"), marker, table)
            write_atomically(page, text.encode())


if __name__ == "__main__":
    main()
