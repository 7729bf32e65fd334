"""Every training method on LeNet-5 / MNIST (three seeds), and at 4 b on ResNet-8 / CIFAR-10: equal budgets.

Rows are written as they finish; the script goes on where it stopped. `--data DIR` holds the whole data sets
(`imcsim.zoo.load_folder`); without it the few images in the package serve for a trial.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from methods_entries import BASE, ENTRIES, Entry, entry_named
from qat import Recipe, images, median_step_ms, on_batch_statistics, train
from safetensors.torch import save_file
from torch import nn

import imcsim
from imcsim import zoo
from imcsim.hardware import write_atomically
from imcsim.results import (
    Record,
    accuracy_interval,
    code_state,
    markdown_table,
    put_between_markers,
    read_record,
    write_record,
)
from imcsim.train.augment import ImageBatches
from imcsim.train.digital import average_bit_width
from imcsim.train.schedules import exponential_decay

ROOT = Path(__file__).resolve().parents[2]
NAME = "methods"
CALIBRATION = 256
FLOAT_STEPS = 20
FLOAT, FLOAT_SEED = "float", 100
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One network and data set of the study.

    Attributes:
        name: in rows.
        data: the data set.
        normalise: of its images.
        first: the layer that sees the images; at 8 b / 8 b without a method, like the last.
        last: the last layer.
        recipe: the budget, equal for all methods.
        seeds: of the order of images and of what is drawn in training.
        pad: padding of random crops; 0: images as they are.
        flip: mirror half of the images.
        bits: of hidden weights and inputs; None: each entry's own.
    """

    name: str
    data: str
    normalise: Any
    first: str
    last: str
    recipe: Recipe
    seeds: tuple[int, ...]
    pad: int = 0
    flip: bool = False
    bits: int | None = None


BATCH = 128
LENET = Part("lenet5", "mnist", "usual", "conv1", "fc3", Recipe(2, 8e-3, exponential_decay(0.003)), (0, 1, 2))
RESNET = Part(
    "resnet8",
    "cifar10",
    zoo.CIFAR10_RAW,
    "conv2d",
    "dense",
    Recipe(2, 1e-3, exponential_decay(0.01)),
    (0,),
    pad=4,
    flip=True,
    bits=4,
)
PRETRAINING = Recipe(6, 2e-3, exponential_decay(0.005))


class Study:
    """The rows so far, the data, and the float networks that every method starts from."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.results = args.out / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.file = self.results / f"{NAME}.json"
        self.rows: list[Row] = list(read_record(self.file).rows) if self.file.is_file() else []
        self.code = code_state()
        self.data: dict[str, tuple[Any, ...]] = {}

    def run(self, part: Part, entries: Sequence[Entry]) -> None:
        """Measure what is not yet among the rows."""
        epochs = self.budget(part.recipe).epochs
        for seed in part.seeds[: self.args.seeds]:
            for entry in entries:
                keys = {"part": part.name, "method": entry.name, "seed": seed, "epochs": epochs}
                if not any(all(row[k] == v for k, v in keys.items()) for row in self.rows):
                    row = {**keys, **self.measure(part, entry, seed)}
                    self.rows.append(row)
                    self.write()
                    print(f"{part.name} {entry.name} seed {seed}: {100 * row['top1']:.2f} %", flush=True)

    def measure(self, part: Part, entry: Entry, seed: int) -> Row:
        """Convert the float network, calibrate, train, evaluate."""
        x, y, test = self.images(part)
        net = self.float_network(part, entry.activation)
        eight = BASE.replace({"name": "first and last layer"})
        chip = entry.chip() if part.bits is None else entry.at(part.bits)
        where = {"*": chip, part.first: eight, part.last: eight}
        method = None if entry.method is None else {"*": entry.method, part.first: None, part.last: None}
        recipe = self.budget(replace(part.recipe, optimizer=entry.optimizer))
        data = ImageBatches(x, y, BATCH, seed=seed, flip=part.flip, pad=part.pad, prepare=self.prepare(part))
        beside = self.float_step_ms(net, data)
        sim = imcsim.convert(net, where, qat=method)
        imcsim.calibrate(sim, [self.prepare(part)(x[:CALIBRATION])], forward=on_batch_statistics)
        seconds = train(sim, data, recipe)
        found = imcsim.evaluate(sim, test)
        return {
            "weight_bits": entry.code_bits or chip.weights.bits,
            "input_bits": chip.inputs.bits,
            "activation": entry.activation if part is LENET else "relu",
            "training_images": len(x),
            "top1": found.top1,
            "n": found.n,
            "average_bit_width": average_bit_width(sim, code_bits=entry.code_bits),
            "step_ms": median_step_ms(seconds),
            "float_step_ms": beside,
            "steps": len(seconds),
            "commit": self.code.commit,
        }

    def images(self, part: Part) -> tuple[Any, ...]:
        """Training images (8-bit), their labels, and test batches."""
        if part.data not in self.data:
            folder, n = self.args.data, self.args.images
            x, y = images(part.data, folder, train=True, n=n, normalise=None)
            tx, ty = images(part.data, folder, train=False, n=self.args.test_images, normalise=part.normalise)
            self.data[part.data] = (x, y, list(zoo.batches(tx, ty, 500)))
        return self.data[part.data]

    def prepare(self, part: Part) -> zoo.Normalisation:
        """What the network wants done with 8-bit images."""
        return zoo.MNIST_NORM if part.normalise == "usual" else part.normalise

    def float_network(self, part: Part, activation: str) -> nn.Module:
        """The float network: from the zoo, or trained once and kept in the cache."""
        if part.name == RESNET.name:
            return zoo.resnet8(pretrained=True)
        x, y, test = self.images(part)
        recipe = self.budget(PRETRAINING)
        file = self.args.cache / f"lenet5_{activation}_{len(x)}_{recipe.epochs}.safetensors"
        if file.is_file():
            return zoo.lenet5(file, norm=True, activation=activation)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = zoo.lenet5(norm=True, activation=activation)
        train(net, ImageBatches(x, y, BATCH, seed=FLOAT_SEED, prepare=self.prepare(part)), recipe)
        found = imcsim.evaluate(net, test)
        print(f"float LeNet-5 with {activation}: {found}", flush=True)
        keys = {"part": FLOAT, "method": activation, "seed": FLOAT_SEED, "epochs": recipe.epochs}
        self.rows = [row for row in self.rows if any(row[k] != v for k, v in keys.items())]
        self.rows.append({**keys, "training_images": len(x), "top1": found.top1, "n": found.n})
        self.args.cache.mkdir(parents=True, exist_ok=True)
        save_file(net.state_dict(), file)
        return net

    def budget(self, recipe: Recipe) -> Recipe:
        """A recipe with the epochs asked for on the command line, if any."""
        return recipe if self.args.epochs is None else replace(recipe, epochs=self.args.epochs)

    def float_step_ms(self, net: nn.Module, data: ImageBatches) -> float:
        """A step of the float network just before a method is measured, on the same machine and load."""
        n = FLOAT_STEPS * BATCH
        few = ImageBatches(data.images[:n], data.labels[:n], BATCH, prepare=data.prepare)
        return median_step_ms(train(copy.deepcopy(net), few, Recipe(1, 1e-5, exponential_decay(1.0))))

    def write(self) -> None:
        """The record, whole."""
        measured = [row for row in self.rows if row["part"] != FLOAT]
        write_record(
            NAME,
            self.rows,
            folder=self.results,
            command=f"python scripts/studies/{NAME}.py --data DIR",
            seeds=sorted({row["seed"] for row in measured}),
            n=max(row["n"] for row in measured),
            hardware={"base": BASE},
            facts={"batch": BATCH, "first and last layer": "8 b / 8 b, no method"},
            code=self.code,
        )


def summarised(record: Record, part: str) -> list[tuple[str, list[Row]]]:
    """Rows of a part by method, in the order of the entries."""
    order = [entry.name for entry in ENTRIES]
    names = sorted({row["method"] for row in record.rows if row["part"] == part}, key=order.index)
    return [(n, [r for r in record.rows if r["part"] == part and r["method"] == n]) for n in names]


def tables(record: Record) -> dict[str, str]:
    """The page's tables by marker."""
    return {part.name: _table(record, part.name) for part in (LENET, RESNET)} | {FLOAT: _floats(record)}


def _table(record: Record, part: str) -> str:
    header = ["method", "weights", "inputs", "activation", "seeds", "top-1 % (95 %)", "bits a weight",
              "ms a step", "over float"]  # fmt: skip
    lines = []
    for name, rows in summarised(record, part):
        top1 = [row["top1"] for row in rows]
        interval = accuracy_interval(top1, rows[0]["n"])
        ratio = sum(row["step_ms"] / row["float_step_ms"] for row in rows) / len(rows)
        lines.append(
            [
                name,
                f"{rows[0]['weight_bits']} b",
                f"{rows[0]['input_bits']} b",
                rows[0]["activation"],
                str(len(rows)),
                f"{100 * interval.mean:.2f} ({100 * interval.low:.2f} to {100 * interval.high:.2f})",
                f"{rows[0]['average_bit_width']:.2f}",
                f"{sum(row['step_ms'] for row in rows) / len(rows):.0f}",
                f"{ratio:.1f}",
            ]
        )
    return markdown_table(header, lines)


def _floats(record: Record) -> str:
    lines = []
    for row in record.rows:
        if row["part"] == FLOAT:
            interval = accuracy_interval([row["top1"]], row["n"])
            text = f"{100 * row['top1']:.2f} ({100 * interval.low:.2f} to {100 * interval.high:.2f})"
            lines.append([row["method"], str(row["epochs"]), str(row["training_images"]), text])
    return markdown_table(["activation", "epochs", "training images", "top-1 % (95 %)"], lines)


def render(out: Path) -> None:
    """Print the tables, and fill the page's if there is one."""
    record = read_record(out / "results" / f"{NAME}.json")
    page = out / "studies" / f"{NAME}.md"
    for marker, table in tables(record).items():
        print(f"{marker}\n\n{table}\n")
        if page.is_file():
            text = put_between_markers(page.read_text(encoding="utf-8"), marker, table)
            write_atomically(page, text.encode())


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of MNIST and CIFAR-10; without it the package's images"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=[LENET.name, RESNET.name], default=[LENET.name, RESNET.name]
    )
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="names of rows, all if not given")
    parser.add_argument("--images", type=int, help="training images, all if not given")
    parser.add_argument("--test-images", type=int, help="test images, all if not given")
    parser.add_argument("--epochs", type=int, help="of each training, for a trial of the script")
    parser.add_argument("--seeds", type=int, help="how many, for a trial of the script")
    parser.add_argument("--render", action="store_true", help="tables from the record that is there")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of results/ and studies/")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / NAME, help="folder of float networks")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and render."""
    args = arguments(argv)
    if not args.render:
        entries = ENTRIES if args.only is None else [entry_named(name) for name in args.only]
        study = Study(args)
        if LENET.name in args.parts:
            study.run(LENET, entries)
        if RESNET.name in args.parts:
            study.run(RESNET, [entry for entry in entries if entry.resnet])
    render(args.out)


if __name__ == "__main__":
    main()
