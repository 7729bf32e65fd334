"""Every preset with a network of its kind: accuracy, energy, latency and area beside what was published.

Writes docs/results/chips.json and the tables of docs/chips/index.md. With `--data DIR` (MNIST as mnist.npz
or in its official files) the small networks are trained on all of MNIST.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from chip_networks import Trained, networks
from torch import nn

import imcsim
from imcsim import presets, zoo
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

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUICK = ("xnor_rram", "yao2020")

ASSUMED = {"device.programming": {"kind": "range", "sigma": 0.01}}
"""Where no statistics of a chip's cells are published: 1 % of the range on every cell, an assumption."""


@dataclass(frozen=True)
class Case:
    """A preset's kind of network, and what its cells are like.

    Attributes:
        network: "resnet20" or one of `chip_networks`.
        cells: changes to the preset for cells that are not ideal.
        changes: changes to the preset for this network.
        accuracy: what was published, as text.
        peak: published GOPS/W where the survey's table has none.
    """

    network: str
    cells: dict[str, Any]
    changes: dict[str, Any]
    accuracy: str = ""
    peak: float | None = None


def _card(name: str) -> dict[str, Any]:
    return {"device.card": name, "device.g_max_S": None}


BINARY = {"inputs.range": 1.0}
CASES = {
    "isaac": Case("resnet20", ASSUMED, {}),
    "isaac_pe": Case("resnet20", ASSUMED, {}, peak=644.2),
    "isaac_se": Case("resnet20", ASSUMED, {}, peak=312.5),
    "puma": Case("resnet20", ASSUMED, {}),
    "pipelayer": Case("resnet20", ASSUMED, {}),
    "zhu2019": Case("resnet20", ASSUMED, {}, "LeNet 75.96, VGG-16 91.80, ResNet-18 94.78 % (CIFAR-10, 6 b)"),
    "liu2021": Case("resnet20", ASSUMED, {}, "LeNet 76.52, VGG-16 92.20, ResNet-18 94.94 % (Zhu's, 8 b)"),
    "wang2019": Case("resnet20", ASSUMED, {}),
    "yao2020": Case("Yao's CNN", _card("hfox_yao2020"), {}, "97.99 % in software, > 96 % on chip (MNIST)"),
    "gi2022": Case(
        "CNN with LayerNorm, binary weights", ASSUMED, {}, "96.2 %, its two convolutions on chips"
    ),
    "chen2022": Case("binary MLP", ASSUMED, BINARY),
    "xnor_rram": Case("binary MLP", _card("hfox_binary"), BINARY, "MLP 98.43, ideal 98.77 % (MNIST)"),
    "sun2018_parallel": Case("binary MLP, neurons 1 and 0", _card("hfox_binary"), BINARY),
    "kim2022": Case("binary MLP", _card("hfox_binary"), BINARY),
    "conv_sram": Case("LeNet-5, binary weights", _card("sram_10t_charge"), {}, "LeNet-5 > 98 % (MNIST)"),
    "xnor_sram": Case(
        "binary MLP", _card("sram_xnor"), {**BINARY, "inputs.bits": 1}, "CNN 88.8 % (CIFAR-10, 0.6 V)"
    ),
}


def measure(case: Case, name: str, trained: Trained, seeds: range) -> dict[str, Any]:
    """The row of a preset."""
    base = imcsim.load_hardware(name)
    chip = base.replace(case.changes) if case.changes else base
    reference = imcsim.evaluate(trained.reference, trained.test)
    ideal = _run(chip, trained, [0])[0]
    noisy = _run(chip.replace(case.cells), trained, list(seeds))
    interval = accuracy_interval(noisy, reference.n)
    x = trained.test[0][0][:1]
    report = imcsim.estimate(on_circuits(imcsim.convert(trained.model, chip), chip), x, chip)
    peak = base.peak()
    published = _published(name, case)
    return {
        "preset": name,
        "network": trained.name,
        "data": trained.data,
        "n": reference.n,
        "software": reference.top1,
        "ideal": ideal,
        "ideal_ci95": _wilson(ideal, reference.n),
        "cells": {key: str(value) for key, value in case.cells.items() if value is not None},
        "noisy": noisy,
        "noisy_mean": interval.mean,
        "noisy_ci95": [interval.low, interval.high],
        "energy_J": report.energy_J,
        "latency_s": report.latency_s,
        "tops_per_watt": report.tops_per_watt,
        "area_mm2": report.area_mm2,
        "arrays": report.arrays,
        "passes": report.passes,
        "chips": report.chips,
        "dominant": report.dominant(),
        "peak_gops_per_watt": peak.gops_per_watt,
        "peak_gops_per_mm2": peak.gops_per_mm2,
        "weight_bits": base.weights.bits,
        "calibrated": list(peak.calibrated_parts),
        "published_gops_per_watt": published[0],
        "published_gops_per_mm2": published[1],
        "published_accuracy": case.accuracy,
    }


_KNOWN: dict[tuple[imcsim.Hardware, str, tuple[int, ...]], list[float]] = {}
"""Accuracies found so far: presets that differ only in their costs compute the same."""


def _run(chip: imcsim.Hardware, trained: Trained, seeds: list[int]) -> list[float]:
    """Top-1 of the network on chips of these seeds; binary networks with thresholds estimated on the chip."""
    computes = chip.replace({"name": "", "tile": None, "components": {}})
    key = (computes, trained.name, tuple(seeds))
    if key not in _KNOWN:
        _KNOWN[key] = _measured(chip, trained, seeds)
    return _KNOWN[key]


def _measured(chip: imcsim.Hardware, trained: Trained, seeds: list[int]) -> list[float]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imcsim.devices.DeviceValidityWarning)
        sim = imcsim.convert(trained.model, chip)
        imcsim.calibrate(sim, trained.calibration.split(64))
        sim = on_circuits(sim, chip)
        for seed in seeds:
            imcsim.program(sim, seed=seed)
            ready = sim
            if chip.weights.bits == 1:
                estimate_norms(sim, trained.calibration)
                ready = imcsim.fold_thresholds(sim) if chip.inputs.bits == 1 else sim
            found.append(imcsim.evaluate(ready, trained.test).top1)
    return found


def on_circuits(sim: nn.Module, chip: imcsim.Hardware) -> nn.Module:
    """The network with its layer normalisations on the chip's circuits, where it has some."""
    return imcsim.normalise_in_analog(sim) if chip.normalisation is not None else sim


@torch.no_grad()
def estimate_norms(sim: nn.Module, images: torch.Tensor) -> None:
    """BatchNorm's statistics from what the chip gives, one after the other, as each changes what follows."""
    for norm in sim.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
            sim(images)
            norm.eval()


def _published(name: str, case: Case) -> tuple[float | None, float | None]:
    rows = imcsim.survey()
    if name not in rows.index:
        return case.peak, {"isaac_pe": 409.67, "isaac_se": 103.35}.get(name)
    found = (float(rows.loc[name, f"{column}_corrected"]) for column in ("gops_per_watt", "gops_per_mm2"))
    watt, mm2 = (value if value == value else None for value in found)
    return watt, mm2


def _wilson(top1: float, n: int) -> list[float]:
    interval = accuracy_interval([top1], n)
    return [interval.low, interval.high]


def resnet20(n: int) -> Trained:
    """ResNet-20 with the weights and CIFAR-10 images in the package."""
    found = zoo.load("resnet20", n=n)
    batches = list(found.batches(100))
    return Trained("ResNet-20", "CIFAR-10", found.model, found.model, batches, found.calibration)


def tables(record: Record) -> dict[str, str]:
    """The page's tables by marker."""
    return {"networks": _networks_table(record), "peaks": _peaks_table(record)}


def _networks_table(record: Record) -> str:
    head = [
        "preset",
        "network",
        "n",
        "software %",
        "ideal cells %",
        "cells with errors %",
        "energy",
        "latency",
    ]
    head += ["TOPS/W", "mm²", "published accuracy"]
    rows = []
    for row in record.rows:
        low, high = (100 * x for x in row["ideal_ci95"])
        seeds = " to ".join(f"{100 * x:.1f}" for x in row["noisy_ci95"])
        rows.append(
            [
                f"[{row['preset']}]({row['preset']}.md)",
                f"{row['network']}, {row['data']}",
                str(row["n"]),
                f"{100 * row['software']:.1f}",
                f"{100 * row['ideal']:.1f} ({low:.1f} to {high:.1f})",
                f"{100 * row['noisy_mean']:.1f} ({seeds})",
                f"{1e6 * row['energy_J']:.3g} µJ",
                f"{1e6 * row['latency_s']:.3g} µs",
                f"{row['tops_per_watt']:.3g}",
                f"{row['area_mm2']:.3g}",
                row["published_accuracy"] or "none in our sources",
            ]
        )
    return markdown_table(head, rows)


def _peaks_table(record: Record) -> str:
    rows = []
    for row in record.rows:
        label = "calibrated, no test" if row["calibrated"] else _basis(row["preset"])
        cells = [row["preset"], label]
        for unit in ("gops_per_watt", "gops_per_mm2"):
            ours, theirs = row[f"peak_{unit}"], row[f"published_{unit}"]
            cells += [f"{ours:,.4g}" if ours else "none", f"{theirs:,g}" if theirs else "none"]
            cells.append(f"{ours / theirs:.3g}" if ours and theirs else "")
        rows.append(cells)
    head = ["preset", "basis", "GOPS/W", "published", "ratio", "GOPS/mm²", "published", "ratio"]
    return markdown_table(head, rows)


def _basis(name: str) -> str:
    if name == "isaac":
        return "published breakdown"
    return "ISAAC's breakdown" if name.startswith("isaac") else "component models, uncalibrated"


def main() -> None:
    """Measure, write the record, fill the page."""
    args = arguments()
    results = args.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not args.render:
        _measure_all(args, results)
    record = read_record(results / "chips.json")
    page = args.out / "chips" / "index.md"
    for marker, table in tables(record).items():
        print(f"{marker}\n\n{table}\n")
        if page.is_file():
            write_atomically(
                page, put_between_markers(page.read_text(encoding="utf-8"), marker, table).encode()
            )


def _measure_all(args: argparse.Namespace, folder: Path) -> None:
    torch.set_num_threads(1)
    code = code_state()
    names = QUICK if args.quick else tuple(CASES)
    known: dict[str, Callable[[], Trained]] = networks(args.data, args.mnist_images, args.epochs)
    known["resnet20"] = lambda: resnet20(args.images)
    made: dict[str, Trained] = {}
    rows = []
    for name in progress(names, "chips"):
        case = CASES[name]
        if case.network not in made:
            made[case.network] = known[case.network]()
        rows.append(measure(case, name, made[case.network], range(args.seeds)))
    write_record(
        "chips",
        rows,
        folder=folder,
        command=f"python scripts/chips.py --images {args.images} --mnist-images {args.mnist_images} "
        f"--epochs {args.epochs} --seeds {args.seeds}"
        + (" --data DIR" if args.data else "")
        + (" --quick" if args.quick else ""),
        seeds=range(args.seeds),
        n=max(row["n"] for row in rows),
        hardware={name: imcsim.load_hardware(name) for name in names},
        facts={"cells": "ideal as shipped; with errors: the card or error of each row's `cells`, by seed"},
        code=code,
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder of the whole MNIST")
    parser.add_argument("--images", type=int, default=200, help="CIFAR-10 test images")
    parser.add_argument("--mnist-images", type=int, default=1000, help="MNIST test images")
    parser.add_argument("--epochs", type=int, default=4, help="of training on MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="chips with errors")
    parser.add_argument("--quick", action="store_true", help="two presets: a test of the script")
    parser.add_argument("--render", action="store_true", help="tables from the record that is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and chips/")
    args = parser.parse_args()
    if missing := set(presets.available()) - set(CASES):
        parser.error(f"presets without a network here: {', '.join(sorted(missing))}")
    if args.quick:
        args.images, args.mnist_images, args.epochs, args.seeds = 4, 50, 1, 2
    return args


if __name__ == "__main__":
    main()
