"""What training against the chip wins back for a binary network on XNOR arrays with sense amplifiers."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import Bench, Point, Row, Study, percent, select
from torch import Tensor, nn

import imcsim
from imcsim import train
from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

HIDDEN, BATCH, LR = 512, 100, 1e-3
EPOCHS = {"plain": 8, "retrained": 8}
SELECTION = 2000
VARIATION = {"device.programming": {"kind": "range", "sigma": 0.2}, "device.on_off_ratio": 50.0}
"""20 % of g_max - g_min on every cell: binary cells bear much."""

IDEAL = imcsim.load_hardware("xnor_rram").replace({"adc.spacing": "uniform", "adc.range": "calibrated"})
AMPLIFIERS: dict[int, dict[str, Any]] = {
    3: {"adc.bits": 3, "adc.range": [16.0, 48.0]},
    1: {"adc.bits": 1, "adc.range": [0.0, 64.0]},
}
"""References around the middle of 64 products: seven between 18.3 and 45.7, or one at 32."""
EIGHT_BITS = Hardware.model_validate({"name": "8 bits", "weights": {"bits": 8}, "inputs": {"bits": 8}})
"""First and last layer: 8-bit weights and inputs, converters that lose nothing."""


class BinaryMLP(nn.Module):
    """784 - 512 - 512 - 10; the hidden products see the signs of normalised activations."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (784, HIDDEN, HIDDEN, HIDDEN, 10)
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x (batch, 1, 28, 28); returns (batch, 10)."""
        x = x.flatten(1)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(layer(x))
            if i < len(self.layers) - 1:
                x = F.hardtanh(x)
        return x


class XnorBench(Bench):
    """A binary network on MNIST."""

    network, data_set = "BinaryMLP", "MNIST test images"

    def load(self) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[Tensor]]:
        """The network, trained with binary hidden layers and no chip; test and calibration batches."""
        if self.data is None:
            self.train_x, self.train_y = imcsim.zoo.mnist_subset(train=True)
        else:
            with np.load(self.data, allow_pickle=False) as held:
                images, labels = (torch.from_numpy(held[f"train_{k}"]) for k in ("images", "labels"))
            self.train_x, self.train_y = imcsim.zoo.MNIST_NORM(images[:, None]), labels.long()
        self.kept = 40 if self.quick else SELECTION if self.data is not None else 200
        if self.quick:
            self.train_x, self.train_y = self.train_x[:240], self.train_y[:240]
        test = list(imcsim.zoo.batches(*imcsim.zoo.mnist_subset(self.images), 100))
        calibration = list(self.train_x[:512].split(128))
        torch.manual_seed(0)
        model = BinaryMLP().eval()
        self.calibration = calibration
        self.plain, self.plain_facts = self.trained(model, None, "plain")
        return self.plain, test, calibration

    def where(self, chip: Hardware | None) -> dict[str, Hardware | None]:
        """Hidden layers on XNOR arrays (binary without converters where there is no chip)."""
        binary = IDEAL.replace({"adc": None}) if chip is None else chip
        return {"*": binary, "layers.0": EIGHT_BITS, "layers.3": EIGHT_BITS}

    def trained(self, model: nn.Module, chip: Hardware | None, budget: str) -> tuple[nn.Module, Row]:
        """A network trained on from where it is: without a chip, or with a new one each step."""
        sim = imcsim.convert(model, self.where(chip))
        imcsim.calibrate(sim, self.calibration)
        x, y = self.train_x[: -self.kept], self.train_y[: -self.kept]

        def batches() -> Any:
            for part in torch.randperm(len(x)).split(BATCH):
                if len(part) > 1:
                    yield x[part], y[part]

        epochs = 1 if self.quick else EPOCHS[budget]
        start = time.perf_counter()
        done = train.fit(
            sim,
            batches,
            epochs,
            lr=LR,
            optimizer=lambda groups: torch.optim.Adam(groups),
            recalibrate=True,
            validation=[(self.train_x[-self.kept :], self.train_y[-self.kept :])],
            selection_seeds=train.SELECTION_SEEDS[: None if chip is not None and not self.quick else 1],
        )
        facts = {
            "minutes": (time.perf_counter() - start) / 60,
            "images": len(x),
            "epochs": epochs,
            "selection": [epoch.score for epoch in done.epochs],
        }
        out = BinaryMLP().eval()
        out.load_state_dict({k: v for k, v in sim.state_dict().items() if k in out.state_dict()})
        return out, facts


# ---- the study ---------------------------------------------------------------------------------------


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """Both amplifiers: the loss, BatchNorm recalibration, training against chips."""
    if not isinstance(bench, XnorBench):
        raise TypeError("this study measures a binary network")
    rows: list[Row] = []

    def norms(sim: nn.Module) -> None:
        train.recalibrate_batchnorm(sim, bench.calibration)

    def row(model: nn.Module, bits: int, what: str, *, exact: bool = False, **how: Any) -> Row:
        changes = AMPLIFIERS[bits] if exact else {**AMPLIFIERS[bits], **VARIATION}
        sim = imcsim.convert(model, bench.where(IDEAL.replace(changes)))
        imcsim.calibrate(sim, bench.calibration)
        keys = {"bits": bits, "what": what}
        return bench.on_chips(sim, Point(keys, changes, drawn=not exact, **how))

    for bits in AMPLIFIERS:
        rows.append(row(bench.plain, bits, "trained without a chip, written exactly", exact=True))
        rows.append({**row(bench.plain, bits, "trained without a chip"), **bench.plain_facts})
        rows.append(row(bench.plain, bits, "BatchNorm recalibrated on each chip", prepare=norms))
        chip = IDEAL.replace({**AMPLIFIERS[bits], **VARIATION})
        model, facts = bench.trained(bench.plain, chip, "retrained")
        rows.append({**row(model, bits, "trained against chips"), **facts})
        again = "trained against chips, BatchNorm recalibrated on each"
        rows.append(row(model, bits, again, prepare=norms))
        print(bits, [percent(found) for found in rows[-5:]], flush=True)
    return IDEAL, rows


def tables(record: Record) -> dict[str, str]:
    """A row a way, for each amplifier, with the part of the loss to the binary network that is won back."""
    rows = []
    for bits in AMPLIFIERS:
        (base,) = select(record.rows, bits=bits, what="trained without a chip")
        lost = record.facts["float_top1"] - base["mean"]
        for row in select(record.rows, bits=bits):
            part = "" if row is base or not lost else f"{100 * (row['mean'] - base['mean']) / lost:.0f} %"
            minutes = f"{row['minutes']:.1f}" if "minutes" in row else ""
            rows.append([f"{bits} b, {row['what']}", percent(row), part, minutes])
    header = ["sense amplifier, network", "top-1 (%)", "recovered", "training (minutes)"]
    return {"xnor": markdown_table(header, rows)}


STUDY = Study(
    "recovery_xnor", "recovery_xnor", __doc__, 1000, 5, measure, tables, bench=XnorBench, trains=True
)

if __name__ == "__main__":
    STUDY.run()
