"""What noise-injected training wins back of the accuracy that programming error costs ResNet-20."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import BASE, Bench, Point, Row, Study, percent, select
from torch import Tensor, nn

import imcsim
from imcsim import train
from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

ERROR = {"device.programming": {"kind": "range", "sigma": 0.03}, "device.on_off_ratio": 10.0}
"""3 % of g_max - g_min on every cell; g_min is not zero, so that no error is cut off there."""
ADC = {"adc": {"bits": 8, "kind": "symmetric", "range": "calibrated"}}
CHIP = BASE.replace({**ADC, **ERROR})

BATCH, LR, CLIP = 64, 0.01, 2.5
BUDGET = {"statistical": (20_000, 3), "exact": (20_000, 3)}
"""Training images and epochs."""
SELECTION = 500
"""Training images that are not trained on: the best epoch is chosen on them."""

Batch = tuple[Tensor, Tensor]


# ---- training images ---------------------------------------------------------------------------------


def training_images(bench: Bench) -> tuple[Tensor, Tensor]:
    """Normalised images and labels: of the file, or the package's 256 training images."""
    if bench.data is None:
        return imcsim.zoo.cifar10_calibration()
    with np.load(bench.data, allow_pickle=False) as held:
        count = BUDGET["statistical"][0] + SELECTION
        images, labels = (torch.from_numpy(held[key][:count]) for key in ("images", "labels"))
    return imcsim.zoo.CIFAR10_NORM(images), labels.long()


def shuffled(images: Tensor, labels: Tensor, *, quick: bool) -> Callable[[], Any]:
    """Batches of an epoch: shuffled, shifted by up to 4 pixels, mirrored; by torch's global generator."""

    def epoch() -> Any:
        order = torch.randperm(len(images))[: 2 * BATCH if quick else None]
        for part in order[: len(order) // BATCH * BATCH].split(BATCH):
            yield augmented(images[part]), labels[part]

    return epoch


def augmented(x: Tensor) -> Tensor:
    """Random crops of the padded images, half of them mirrored. Shapes: (batch, 3, 32, 32)."""
    padded = F.pad(x, (4, 4, 4, 4))
    moves = torch.randint(0, 9, (len(x), 2)).tolist()
    out = torch.stack([p[:, i : i + 32, j : j + 32] for p, (i, j) in zip(padded, moves, strict=True)])
    mirrored = torch.rand(len(x)) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), out.flip(3), out)


# ---- the ways to win accuracy back -------------------------------------------------------------------


def fine_tuned(bench: Bench, fidelity: str, *, noise: bool, clip: bool) -> tuple[nn.Module, Row]:
    """The network after training, and what it took."""
    images, epochs = (2 * BATCH, 1) if bench.quick else BUDGET[fidelity]
    x, y = training_images(bench)
    held_out = [(x[-SELECTION:], y[-SELECTION:])] if not bench.quick else [(x[:8], y[:8])]
    trained_on = len(x) if bench.quick else min(images, len(x) - SELECTION)
    batches = shuffled(x[:trained_on], y[:trained_on], quick=bench.quick)
    chip = CHIP if noise else BASE.replace({"adc": None})
    sim = imcsim.convert(bench.model, bench.where(chip))
    imcsim.calibrate(sim, bench.calibration)
    start, cpu = time.perf_counter(), time.process_time()
    done = train.fit(
        sim,
        batches,
        epochs,
        fidelity,  # type: ignore[arg-type]
        lr=LR,
        strength=1.0 if noise else 0.0,
        clip_sigmas=CLIP if clip else None,
        recalibrate=True,
        validation=held_out,
        selection_seeds=train.SELECTION_SEEDS[: 1 if bench.quick or not noise else None],
    )
    facts = {
        "minutes": (time.perf_counter() - start) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
        "threads": torch.get_num_threads(),
        "images": trained_on,
        "epochs": epochs,
        "loss": [epoch.loss for epoch in done.epochs],
        "selection": [epoch.score for epoch in done.epochs],
    }
    model = copy.deepcopy(bench.model)
    model.load_state_dict({k: v for k, v in sim.state_dict().items() if k in model.state_dict()})
    return model, facts


def on_its_chips(bench: Bench, model: nn.Module, keys: Row, chip: Hardware = CHIP, **how: Any) -> Row:
    """A network calibrated on target conductances and measured on all chips."""
    sim = imcsim.convert(model, bench.where(chip))
    imcsim.calibrate(sim, bench.calibration)
    changes = {**ADC, **(ERROR if chip is CHIP else {})}
    return bench.on_chips(sim, Point(keys, changes, **how))


def remapped(bench: Bench) -> nn.Module:
    """The float network with every output channel scaled to the largest weight."""
    sim = imcsim.convert(bench.model, CHIP)
    train.remap(sim)
    model = copy.deepcopy(bench.model)
    model.load_state_dict({k: v for k, v in sim.state_dict().items() if k in model.state_dict()})
    return model


# ---- the study ---------------------------------------------------------------------------------------


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """The loss, the controls, and both fidelities of training."""

    def norms(sim: nn.Module) -> None:
        train.recalibrate_batchnorm(sim, bench.calibration)

    def ranges(sim: nn.Module) -> None:
        imcsim.calibrate(sim, bench.calibration)

    no_error = BASE.replace(ADC)
    rows = [
        on_its_chips(bench, bench.model, {"what": "written exactly"}, no_error, drawn=False),
        on_its_chips(bench, bench.model, {"what": "as it is"}),
        on_its_chips(bench, bench.model, {"what": "BatchNorm recalibrated on each chip"}, prepare=norms),
        on_its_chips(bench, bench.model, {"what": "ranges recalibrated on each chip"}, prepare=ranges),
        on_its_chips(bench, remapped(bench), {"what": "channels remapped, no training"}),
    ]
    ways: list[tuple[str, str, bool, bool]] = [
        ("fine-tuned without noise", "statistical", False, False),
        ("fine-tuned without noise, weights clipped", "statistical", False, True),
        ("statistical noise, weights not clipped", "statistical", True, False),
        ("statistical noise, weights clipped", "statistical", True, True),
        ("exact chips, weights clipped", "exact", True, True),
    ]
    for what, fidelity, noise, clip in ways:
        model, facts = fine_tuned(bench, fidelity, noise=noise, clip=clip)
        own = imcsim.evaluate(model, bench.batches).top1
        rows.append({**on_its_chips(bench, model, {"what": what}), **facts, "float_top1": own})
        print(what, percent(rows[-1]), f"{facts['minutes']:.1f} minutes", flush=True)
        if noise and clip:
            again = {"what": f"{what}, BatchNorm recalibrated on each chip"}
            rows.append(on_its_chips(bench, model, again, prepare=norms))
    return BASE, rows


def recovered(record: Record, row: Row) -> str:
    """Part of the loss to float that was won back; nothing for the baseline, and where nothing was lost."""
    (base,) = select(record.rows, what="as it is")
    lost = record.facts["float_top1"] - base["mean"]
    return "" if row is base or not lost else f"{100 * (row['mean'] - base['mean']) / lost:.0f} %"


def tables(record: Record) -> dict[str, str]:
    """One row a way, with what is recovered; and what the trainings took."""
    rows, cost = [], []
    for row in record.rows:
        rows.append([row["what"], percent(row), f"{100 * min(row['top1']):.1f}", recovered(record, row)])
        if "minutes" in row:
            cost.append(
                [
                    row["what"],
                    f"{row['images']:,}",
                    f"{row['epochs']}",
                    f"{row['minutes']:.1f}",
                    f"{row['cpu_minutes']:.1f}",
                    f"{100 * row['float_top1']:.1f}",
                ]
            )
    header = ["network on chips", "top-1 (%)", "worst chip", "recovered"]
    effort = ["training", "images", "epochs", "minutes", "processor minutes", "the same in float (%)"]
    return {"recovery": markdown_table(header, rows), "cost": markdown_table(effort, cost)}


STUDY = Study("recovery", "recovery", __doc__, 1000, 5, measure, tables, trains=True)

if __name__ == "__main__":
    STUDY.run()
