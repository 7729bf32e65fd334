"""Every preset with a network of its kind: accuracy, energy, latency and area beside what was published.

Writes docs/results/chips.json and the tables of docs/chips/index.md. With `--data DIR` (MNIST as mnist.npz
or in its official files) the small networks are trained on all of MNIST.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from chip_networks import THROUGH, Trained, networks
from torch import nn

import imcsim
from imcsim import presets
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
from imcsim.train import recalibrate_batchnorm

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUICK = ("yao2020", "xnor_rram")
VGG = "vgg_small_binary"

ASSUMED = {"device.programming": {"kind": "range", "sigma": 0.01}}
"""Where no statistics of a chip's cells are published: 1 % of the range on every cell, an assumption."""


@dataclass(frozen=True)
class Case:
    """A preset, a network of its kind, and what its cells are like.

    Attributes:
        preset: name.
        network: one of `chip_networks`.
        cells: changes to the preset for cells that are not ideal.
        changes: changes to the preset for this network.
        accuracy: what was published, as text.
    """

    preset: str
    network: str
    cells: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    accuracy: str = ""


def _card(name: str) -> dict[str, Any]:
    return {"device.card": name, "device.g_max_S": None}


BINARY = {"inputs.range": 1.0}
ONE_BIT = {**BINARY, "inputs.bits": 1}
HFOX = _card("hfox_binary")
ZHU = "LeNet {}, VGG-16 {}, ResNet-18 {} % (CIFAR-10, {} b)"
SUN = "about 98.5, with amplifiers' offsets 97.6 % (MNIST, fully connected layers)"
CASES = (
    Case("isaac", "ResNet-20", ASSUMED),
    Case("isaac_pe", "ResNet-20", ASSUMED),
    Case("isaac_se", "ResNet-20", ASSUMED),
    Case("puma", "ResNet-20", ASSUMED),
    Case("pipelayer", "ResNet-20", ASSUMED),
    Case("zhu2019", "ResNet-20", ASSUMED, {}, ZHU.format("75.96", "91.80", "94.78", 6)),
    Case("liu2021", "ResNet-20", ASSUMED, {}, ZHU.format("76.52", "92.20", "94.94", "8")),
    Case("wang2019", "ResNet-20", ASSUMED),
    Case("yao2020", "Yao's CNN", _card("hfox_yao2020"), {}, "97.99 % in software, > 96 % on chip (MNIST)"),
    Case(
        "gi2022",
        "CNN with LayerNorm, binary weights",
        ASSUMED,
        {},
        "96.2 % (MNIST), its two convolutions on chips",
    ),
    Case("chen2022", "binary MLP", ASSUMED, BINARY),
    Case("xnor_rram", "binary MLP", HFOX, BINARY, "MLP 98.43, ideal 98.77 % (MNIST)"),
    Case("xnor_rram", VGG, HFOX, BINARY, "CNN 86.08, ideal 88.47 % (CIFAR-10)"),
    Case("sun2018_parallel", "binary MLP, neurons 1 and 0", HFOX, BINARY),
    Case("sun2018_parallel", THROUGH["sun2018_parallel"], HFOX, BINARY, SUN),
    Case("sun2018_parallel", f"{VGG}01", HFOX, BINARY),
    Case("kim2022", "binary MLP", HFOX, BINARY),
    Case("kim2022", THROUGH["kim2022"], HFOX, BINARY),
    Case("kim2022", VGG, HFOX, BINARY),
    Case("conv_sram", "LeNet-5, binary weights", _card("sram_10t_charge"), {}, "LeNet-5 > 98 % (MNIST)"),
    Case("xnor_sram", "binary MLP", _card("sram_xnor"), ONE_BIT),
    Case("xnor_sram", VGG, _card("sram_xnor"), ONE_BIT, "CNN 88.8 % (CIFAR-10, 0.6 V)"),
)
PEAKS = {"isaac_pe": (644.2, 409.67), "isaac_se": (312.5, 103.35)}
"""Published GOPS/W and GOPS/mm2 where the survey's table has no row: ISAAC's corrected table IV."""


def measure(case: Case, trained: Trained, seeds: range) -> dict[str, Any]:
    """The row of a preset and a network."""
    base = imcsim.load_hardware(case.preset)
    chip = base.replace(case.changes) if case.changes else base
    reference = imcsim.evaluate(trained.reference, trained.test)
    ideal = _run(chip, trained, [0])
    noisy = _run(chip.replace(case.cells), trained, list(seeds))
    interval = accuracy_interval(noisy, reference.n)
    x = trained.test[0][0][:1]
    report = imcsim.estimate(_on_circuits(_converted(trained, chip), chip), x)
    peak = base.peak()
    published = _published(case.preset)
    return {
        "preset": case.preset,
        "network": trained.name,
        "data": trained.data,
        "n": reference.n,
        "software": reference.top1,
        "ideal": ideal[0],
        "ideal_ci95": _interval(ideal, reference.n),
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


def _converted(trained: Trained, chip: imcsim.Hardware) -> nn.Module:
    return imcsim.convert(trained.model, {"*": chip, **dict.fromkeys(trained.digital)})


_KNOWN: dict[tuple[imcsim.Hardware, str, tuple[int, ...]], list[float]] = {}
"""Accuracies found so far: presets that differ only in their costs compute the same."""


def _run(chip: imcsim.Hardware, trained: Trained, seeds: list[int]) -> list[float]:
    """Top-1 of the network on chips of these seeds; BatchNorm of binary networks as measured on the chip."""
    computes = chip.replace({"name": "", "tile": None, "components": {}})
    key = (computes, trained.name, tuple(seeds))
    if key not in _KNOWN:
        _KNOWN[key] = _measured(chip, trained, seeds)
    return _KNOWN[key]


def _measured(chip: imcsim.Hardware, trained: Trained, seeds: list[int]) -> list[float]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imcsim.devices.DeviceValidityWarning)
        sim = _converted(trained, chip)
        imcsim.calibrate(sim, trained.calibration.split(64))
        sim = _on_circuits(sim, chip)
        for seed in seeds:
            imcsim.program(sim, seed=seed)
            ready = sim
            if chip.weights.bits == 1 and _has_batchnorm(sim):
                recalibrate_batchnorm(sim, trained.calibration.split(64))
                ready = imcsim.fold_thresholds(sim) if chip.inputs.bits == 1 else sim
            found.append(imcsim.evaluate(ready, trained.test).top1)
    return found


def _has_batchnorm(sim: nn.Module) -> bool:
    return any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in sim.modules())


def _on_circuits(sim: nn.Module, chip: imcsim.Hardware) -> nn.Module:
    """The network with its layer normalisations on the chip's circuits, where it has some."""
    return imcsim.normalise_in_analog(sim) if chip.normalisation is not None else sim


def _published(name: str) -> tuple[float | None, float | None]:
    if name in PEAKS:
        return PEAKS[name]
    rows = imcsim.survey()
    if name not in rows.index:
        return None, None
    found = (float(rows.loc[name, f"{column}_corrected"]) for column in ("gops_per_watt", "gops_per_mm2"))
    watt, mm2 = (value if value == value else None for value in found)
    return watt, mm2


def _interval(top1: list[float], n: int) -> list[float]:
    interval = accuracy_interval(top1, n)
    return [interval.low, interval.high]


def tables(record: Record) -> dict[str, str]:
    """The page's tables by marker."""
    return {"networks": _networks_table(record), "peaks": _peaks_table(record)}


def _networks_table(record: Record) -> str:
    head = ["preset", "network", "n", "software %", "ideal cells %", "cells with errors %", "energy"]
    head += ["latency", "TOPS/W", "mm²", "published accuracy"]
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
    for row in {row["preset"]: row for row in record.rows}.values():
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
    cases = [case for case in CASES if case.preset in (args.only or presets.available())]
    if args.quick:
        cases = [case for case in cases if case.preset in QUICK and not case.network.startswith(VGG)]
    known = networks(args.data, args.images, args.mnist_images, args.epochs)
    made: dict[str, Trained] = {}
    rows = []
    for case in progress(cases, "chips"):
        if case.network not in made:
            made[case.network] = known[case.network]()
        rows.append({**measure(case, made[case.network], range(args.seeds)), "commit": code.commit})
    if args.only:
        rows = _among_others(rows, read_record(folder / "chips.json"), args.only)
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
        hardware={row["preset"]: imcsim.load_hardware(row["preset"]) for row in rows},
        facts={"cells": "ideal as shipped; with errors: the card or error of each row's `cells`, by seed"},
        code=code,
    )


def _among_others(
    rows: list[dict[str, Any]], record: Record, presets_measured: list[str]
) -> list[dict[str, Any]]:
    """Rows measured now in the order of `CASES` with the record's rows of other presets."""
    kept = [{"commit": record.commit, **row} for row in record.rows if row["preset"] not in presets_measured]
    order = list(dict.fromkeys(case.preset for case in CASES))
    return sorted([*kept, *rows], key=lambda row: order.index(row["preset"]))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="folder of the whole MNIST")
    parser.add_argument("--images", type=int, default=1000, help="CIFAR-10 test images")
    parser.add_argument("--mnist-images", type=int, default=1000, help="MNIST test images")
    parser.add_argument("--epochs", type=int, default=4, help="of training on MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="chips with errors")
    parser.add_argument("--quick", action="store_true", help="two presets: a test of the script")
    parser.add_argument(
        "--only", nargs="+", choices=presets.available(), help="presets; the record keeps the others' rows"
    )
    parser.add_argument("--render", action="store_true", help="tables from the record that is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and chips/")
    args = parser.parse_args()
    if missing := set(presets.available()) - {case.preset for case in CASES}:
        parser.error(f"presets without a network here: {', '.join(sorted(missing))}")
    if args.quick:
        args.images, args.mnist_images, args.epochs, args.seeds = 4, 50, 1, 2
    return args


if __name__ == "__main__":
    main()
