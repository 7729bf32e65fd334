"""Accuracy of a network in the number format of every digital design of the survey, without training for it.

Writes docs/results/survey_accuracy.json and a table of docs/survey.md: ResNet-20 on CIFAR-10, and for the
binary designs a binary MLP on MNIST, trained by this script on the images in the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from chip_networks import networks, resnet20

import imcsim
from imcsim.hardware import write_atomically
from imcsim.progress import progress
from imcsim.results import (
    Record,
    accuracy_interval,
    code_state,
    markdown_table,
    put_between_markers,
    read_record,
    write_record,
)
from imcsim.survey import survey_chip, survey_chips

DOCS = Path(__file__).resolve().parents[1] / "docs"
MORE = {"quest": (3, 2), "unpu": (8, 4, 1), "bitblade": (4, 8), "envision": (8,), "wei2019": (5, 4)}
"""Weight bits beside a design's default."""


def measure(images: int) -> list[dict[str, Any]]:
    """A row a design and width."""
    wide, binary = resnet20(images), networks(None, images, images, 4)["binary MLP"]()
    designs = [(key, bits) for key in survey_chips() for bits in (None, *MORE.get(key, ()))]
    rows = []
    for key, bits in progress(designs, "designs"):
        chip = survey_chip(key, weight_bits=bits)
        weights = chip.hardware.weights.bits if bits is None and chip.qat is None else bits
        trained = binary if chip.hardware.inputs.bits == 1 else wide
        sim = imcsim.convert(trained.model, chip.hardware, qat=chip.qat)
        imcsim.calibrate(sim, trained.calibration.split(64))
        if trained is binary:
            sim = imcsim.fold_thresholds(sim)
        found = imcsim.evaluate(sim, trained.test, reference=trained.reference)
        interval = accuracy_interval([found.top1], found.n)
        rows.append(
            {
                "key": key,
                "format": str(chip.qat)
                if chip.qat
                else f"{weights} x {chip.hardware.inputs.bits} b, uniform",
                "network": f"{trained.name}, {trained.data}",
                "n": found.n,
                "software": imcsim.evaluate(trained.reference, trained.test).top1,
                "top1": found.top1,
                "ci95": [interval.low, interval.high],
                "sqnr_db": found.sqnr_db,
            }
        )
    return rows


def tables(record: Record) -> dict[str, str]:
    """The page's table."""
    rows = []
    for row in record.rows:
        low, high = (100 * x for x in row["ci95"])
        rows.append(
            [
                row["key"],
                f"`{row['format']}`" if "(" in row["format"] else row["format"],
                row["network"],
                str(row["n"]),
                f"{100 * row['software']:.1f}",
                f"{100 * row['top1']:.1f} ({low:.1f} to {high:.1f})",
                f"{row['sqnr_db']:.1f}",
            ]
        )
    head = ["key", "weights x inputs", "network", "n", "software %", "top-1 %", "SQNR dB"]
    return {"accuracy": markdown_table(head, rows)}


def main() -> None:
    """Measure, write the record, fill the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="test images")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and survey.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    code = code_state()
    folder = args.out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_record(
        "survey_accuracy",
        measure(args.images),
        folder=folder,
        command=f"python scripts/survey_accuracy.py --images {args.images}",
        seeds=[0],
        n=args.images,
        hardware={key: survey_chip(key).hardware for key in survey_chips()},
        code=code,
    )
    page = args.out / "survey.md"
    for marker, table in tables(read_record(folder / "survey_accuracy.json")).items():
        print(f"{marker}\n\n{table}\n")
        if page.is_file():
            text = put_between_markers(page.read_text(encoding="utf-8"), marker, table)
            write_atomically(page, text.encode())


if __name__ == "__main__":
    main()
