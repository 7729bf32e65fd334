"""Accuracy of a network in the number format of every digital design of the survey.

Writes docs/results/survey_accuracy.json and two tables of docs/survey.md. Without training for the format:
ResNet-20 on CIFAR-10, and for the binary designs the zoo's binary VGG-small. Trained for the format, where a
design of few bits needs it: LeNet-5 and an MLP on the MNIST images in the package.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from chip_networks import lenet, mlp, networks, resnet20, train
from torch import nn

import imcsim
from imcsim import quant, zoo
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
from imcsim.survey import SurveyChip, survey_chip, survey_chips

DOCS = Path(__file__).resolve().parents[1] / "docs"
MORE = {
    "quest": (3, 2),
    "unpu": (8, 4, 1),
    "bitblade": (4, 8),
    "envision": (8,),
    "vwa": (8,),
    "wei2019": (5, 4),
}
"""Weight bits beside a design's default."""

TRAINED: tuple[tuple[str, int | None, Callable[[], nn.Module]], ...] = (
    ("bitblade", 2, lenet),
    ("quest", 2, lenet),
    ("unpu", 1, lenet),
    ("fracbnn", None, lenet),
    ("fbna", None, lambda: mlp(nn.Hardtanh)),
)
"""Designs, bits and networks that are trained for the format."""

EPOCHS = 20
"""Of the float network, and again of the quantized one."""


def measure(images: int) -> list[dict[str, Any]]:
    """A row a design and width."""
    wide, binary = resnet20(images), networks(None, images, images, 4)["vgg_small_binary"]()
    designs = [(key, bits) for key in survey_chips() for bits in (None, *MORE.get(key, ()))]
    rows: list[dict[str, Any]] = []
    seen: dict[str, dict[str, Any]] = {}
    for key, bits in progress(designs, "designs"):
        chip = survey_chip(key, weight_bits=bits)
        trained = binary if chip.hardware.inputs.bits == 1 and chip.qat is None else wide
        same = f"{chip.hardware.replace({'name': ''})!r} {chip.qat} {trained.name}"
        if same in seen:  # another design's format
            rows.append({**seen[same], "key": key})
            continue
        chips = {"*": chip.hardware, **dict.fromkeys(trained.digital)}
        sim = imcsim.convert(trained.model, chips, qat=chip.qat, fold_batchnorm=chip.fold_batchnorm)
        imcsim.calibrate(sim, trained.calibration.split(64))
        if trained is binary:
            sim = imcsim.fold_thresholds(sim)
        found = imcsim.evaluate(sim, trained.test, reference=trained.reference)
        interval = accuracy_interval([found.top1], found.n)
        seen[same] = {
            "key": key,
            "trained": False,
            "format": _format(chip),
            "network": f"{trained.name}, {trained.data}",
            "n": found.n,
            "software": imcsim.evaluate(trained.reference, trained.test).top1,
            "top1": found.top1,
            "ci95": [interval.low, interval.high],
            "sqnr_db": found.sqnr_db,
        }
        rows.append(seen[same])
    return rows


def measure_trained(images: int) -> list[dict[str, Any]]:
    """A row for each of `TRAINED`: a float network, then on the chip with the format's quantizers."""
    x, labels = zoo.mnist_subset(normalise=None, train=True)
    test = zoo.mnist_subset(min(images, 1000), normalise=None)
    x, batches = x.float() / 255, list(zoo.batches(test[0].float() / 255, test[1], 250))
    rows = []
    for key, bits, build in TRAINED:
        chip = survey_chip(key, weight_bits=bits)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = train(build(), x, labels, EPOCHS, f"float, {key}")
            software = imcsim.evaluate(network, batches).top1
            sim = _for_training(network, chip)
            imcsim.calibrate(sim, x[:512].split(64))
            train(sim, x, labels, EPOCHS, key)
        imcsim.calibrate(sim, x[:512].split(64))
        with quant.count_gates(sim) as gates:
            found = imcsim.evaluate(sim, batches)
        interval = accuracy_interval([found.top1], found.n)
        opened, outputs = sum(c.opened for c in gates.values()), sum(c.seen for c in gates.values())
        rows.append(
            {
                "key": key,
                "trained": True,
                "format": _format(chip),
                "network": f"{'LeNet-5' if build is lenet else 'MLP'}, MNIST, trained on {len(x):,} images",
                "n": found.n,
                "software": software,
                "top1": found.top1,
                "ci95": [interval.low, interval.high],
                "second_bits": opened / outputs if outputs else None,
            }
        )
    return rows


def _for_training(network: nn.Module, chip: SurveyChip) -> nn.Module:
    """On the chip; the layer that takes images in planes where inputs have one bit, in 8 bits on BitBlade."""
    first = next(name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))
    if chip.key == "bitblade":
        chips = {"*": chip.hardware, first: survey_chip(chip.key, weight_bits=8).hardware}
        return imcsim.convert(network, chips, qat=quant.LSQ())
    if chip.hardware.inputs.bits == 1:
        return imcsim.convert(network, chip.hardware, qat={"*": chip.qat, first: quant.BitPlanes()})
    return imcsim.convert(network, chip.hardware, qat=chip.qat)


def _format(chip: SurveyChip) -> str:
    widths = f"{chip.hardware.weights.bits} x {chip.hardware.inputs.bits} b"
    if chip.qat is None:
        return f"{widths}, uniform"
    return f"{widths}, fixed point" if chip.fold_batchnorm else str(chip.qat)


def tables(record: Record) -> dict[str, str]:
    """The page's tables."""
    plain, trained = [], []
    for row in record.rows:
        low, high = (100 * x for x in row["ci95"])
        cells = [
            row["key"],
            f"`{row['format']}`" if "(" in row["format"] else row["format"],
            row["network"],
            str(row["n"]),
            f"{100 * row['software']:.1f}",
            f"{100 * row['top1']:.1f} ({low:.1f} to {high:.1f})",
        ]
        if row["trained"]:
            second = row["second_bits"]
            trained.append([*cells, "" if second is None else f"{100 * second:.0f}"])
        else:
            plain.append([*cells, f"{row['sqnr_db']:.1f}"])
    head = ["key", "weights x inputs", "network", "n", "software %", "top-1 %"]
    return {
        "accuracy": markdown_table([*head, "SQNR dB"], plain),
        "trained": markdown_table([*head, "second bits %"], trained),
    }


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
        [*measure(args.images), *measure_trained(args.images)],
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
