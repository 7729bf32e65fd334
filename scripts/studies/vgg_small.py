"""VGG-small / CIFAR-10 at any of the survey's 24 settings (its Table 2), on CPUs or GPUs.

One process:    python scripts/studies/vgg_small.py --row 4 --data DIR
Several GPUs:   torchrun --nproc-per-node 4 scripts/studies/vgg_small.py --row 4 --data DIR

A checkpoint is written after every epoch; the same command goes on from it. The result is a row of
`vgg_small.json`, with the device's name.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from methods_entries import BASE, OFFSET
from qat import Position, Recipe, images, median_step_ms, on_batch_statistics, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import imcsim
from imcsim import quant, zoo
from imcsim.hardware import Hardware
from imcsim.quant import Method
from imcsim.results import accuracy_interval, code_state, markdown_table, read_record, write_record
from imcsim.train.augment import ImageBatches
from imcsim.train.digital import average_bit_width
from imcsim.train.schedules import exponential_decay

HERE = Path(__file__).resolve().parent
TABLE = HERE / "survey_table2.toml"
NAME = "vgg_small"
FIRST, LAST = "features.conv1", "classifier.fc3"
CALIBRATION = 256
UNIT = zoo.Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Images from -1 to 1, so that a quantized first layer clips nothing."""
LEARNING_RATE, LAST_OVER_FIRST = 5e-3, 1e-3
"""The survey's section 4.5.1: 5e-3 for a small VGG on CIFAR-10, decaying exponentially."""


@dataclass(frozen=True)
class Setting:
    """One row of the survey's Table 2; see survey_table2.toml."""

    row: int
    method: str
    weights: int | str
    activations: int | str
    gradients: int
    epochs: int
    bias: bool
    affine: bool
    augmentation: bool
    ends: str
    float_epochs: int = 0

    @property
    def activation(self) -> str:
        """Of the network: codes of both signs want hardtanh."""
        return "hardtanh" if self.activations in (1, "ternary") else "relu"

    def chip(self) -> Hardware:
        """The hidden layers' chip. Word lines carry 16 bits at most, which stand for full precision."""
        weights = 2 if isinstance(self.weights, str) else self.weights
        inputs = 2 if isinstance(self.activations, str) else min(self.activations, 16)
        return BASE.replace(
            {"weights.bits": weights, "weights.cell_bits": 1, "inputs.bits": inputs, **OFFSET}
        )

    def chips(self) -> dict[str, Hardware | None]:
        """Chips by layer: images have 8 bits where the first layer is quantized."""
        if self.ends == "real":
            return {"*": self.chip(), FIRST: None, LAST: None}
        return {"*": self.chip(), FIRST: self.chip().replace({"inputs.bits": 8})}

    def training_method(self) -> Method:
        """The method's object."""
        return METHODS[self.method](self)


METHODS: dict[str, Callable[[Setting], Method]] = {
    "BNN": lambda _: quant.QNN(),
    "DoReFa": lambda s: quant.DoReFa(gradient_bits=None if s.gradients == 32 else s.gradients),
    "ANA": lambda _: quant.ANA(),
    "ProxQuant": lambda _: quant.ProxQuant(),
    "nBQNN": lambda _: quant.NBitQNN(bits=2),
    "LQ-net": lambda _: quant.LQNet(),
    "Sigmoid-QN": lambda _: quant.SigmoidQN(phase=1.0),
}


def settings() -> list[Setting]:
    """The 24 rows."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [
        Setting(method=method, ends=group["ends"], **row)
        for method, group in table.items()
        for row in group["settings"]
    ]


@dataclass(frozen=True)
class Process:
    """This process among those of `torchrun`; alone without it."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def start(cls) -> Process:
        """Join the others, if there are any."""
        count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        if count > 1:
            dist.init_process_group("nccl" if cuda else "gloo")
        device = torch.device("cuda", local) if cuda else torch.device("cpu")
        return cls(int(os.environ.get("RANK", "0")), count, device)

    def wrapped(self, net: nn.Module) -> nn.Module:
        """The network whose gradients are averaged over processes."""
        return DistributedDataParallel(net) if self.count > 1 else net


class Checkpoint:
    """Weights, quantizers and optimizer after the last finished epoch, by the phase of training."""

    def __init__(self, file: Path, process: Process) -> None:
        self.file, self.process = file, process

    def restore(self, net: nn.Module, phase: str) -> Position:
        """Load what this phase left; the start where it left nothing."""
        if not self.file.is_file():
            return Position()
        held = torch.load(self.file, map_location=self.process.device, weights_only=True)
        if held["phase"] != phase:
            return Position()
        net.load_state_dict(held["net"])
        return Position(held["epochs"], held["optimizer"])

    def phase(self) -> str | None:
        """Which phase the file is of."""
        return torch.load(self.file, weights_only=True)["phase"] if self.file.is_file() else None

    def write(self, net: nn.Module, phase: str, position: Position) -> None:
        """Written beside the old one, then renamed; by the first process."""
        if self.process.rank == 0:
            state = {"phase": phase, "net": net.state_dict(), **asdict(position)}
            fresh = self.file.with_suffix(".new")
            torch.save(state, fresh)
            fresh.replace(self.file)
        if self.process.count > 1:
            dist.barrier()


class Training:
    """One setting, trained in one or two phases."""

    def __init__(self, setting: Setting, args: argparse.Namespace, process: Process) -> None:
        self.setting, self.args, self.process = setting, args, process
        flags = {"flip": setting.augmentation, "pad": 4 if setting.augmentation else 0}
        x, y = images("cifar10", args.data, train=True, n=args.images, normalise=None)
        part = (process.rank, process.count)
        self.data = ImageBatches(x, y, args.batch, seed=args.seed, prepare=UNIT, part=part, **flags)
        test = images("cifar10", args.data, train=False, n=args.test_images, normalise=UNIT)
        self.test = list(zoo.batches(*test, 500))
        self.checkpoint = Checkpoint(args.checkpoint, process)

    def run(self) -> dict[str, Any]:
        """Train what is not trained yet, and evaluate."""
        setting, args = self.setting, self.args
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)
            net = zoo.vgg_small(
                width=args.width, bias=setting.bias, affine=setting.affine, activation=setting.activation
            )
        float_epochs = setting.float_epochs if args.float_epochs is None else args.float_epochs
        if float_epochs and self.checkpoint.phase() != "quantized":
            self.phase(net, "float", float_epochs)
        sim = imcsim.convert(net, setting.chips(), qat=self.methods())
        sim.to(self.process.device)
        calibration = UNIT(self.data.images[:CALIBRATION]).to(self.process.device)
        imcsim.calibrate(sim, [calibration], forward=on_batch_statistics)
        epochs = setting.epochs if args.epochs is None else args.epochs
        seconds = self.phase(sim, "quantized", epochs)
        found = imcsim.evaluate(sim, self.test)
        return {
            **{key: value for key, value in asdict(setting).items() if key != "ends"},
            "epochs": epochs,
            "float_epochs": float_epochs,
            "width": args.width,
            "training_images": len(self.data.images),
            "processes": self.process.count,
            "seed": args.seed,
            "top1": found.top1,
            "n": found.n,
            "average_bit_width": average_bit_width(sim),
            "step_ms": median_step_ms(seconds) if seconds else None,
        }

    def methods(self) -> dict[str, Method | None]:
        """The training method of each layer on a chip."""
        method = self.setting.training_method()
        return {"*": method, FIRST: None, LAST: None} if self.setting.ends == "real" else {"*": method}

    def phase(self, net: nn.Module, name: str, epochs: int) -> list[float]:
        """Go on with a phase to its end."""
        net.to(self.process.device)
        position = self.checkpoint.restore(net, name)
        recipe = Recipe(epochs, self.args.lr, exponential_decay(LAST_OVER_FIRST))

        def finished(at: Position) -> None:
            self.checkpoint.write(net, name, at)
            if self.process.rank == 0:
                print(f"row {self.setting.row}, {name}: epoch {at.epochs} of {epochs}", flush=True)

        return train(
            net,
            self.data,
            recipe,
            device=self.process.device,
            forward=self.process.wrapped(net),
            position=position,
            after_epoch=finished,
        )


def record(row: dict[str, Any], folder: Path) -> None:
    """Add a row to the record, in the place of an earlier one of the same setting."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{NAME}.json"
    rows = list(read_record(file).rows) if file.is_file() else []
    same = ("row", "width", "training_images", "epochs", "seed")
    rows = [other for other in rows if any(other[key] != row[key] for key in same)]
    rows = sorted([*rows, row], key=lambda r: (r["row"], r["seed"]))
    write_record(
        NAME,
        rows,
        folder=folder,
        command=f"torchrun scripts/studies/{NAME}.py --row {row['row']} --data DIR",
        seeds=sorted({r["seed"] for r in rows}),
        n=row["n"],
        hardware={"base": BASE},
        code=code_state(),
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    header = [
        "row",
        "method",
        "W/A/G",
        "bias, affine, augmentation",
        "epochs",
        "top-1 % (95 %)",
        "bits a weight",
    ]
    lines = []
    for row in rows:
        interval = accuracy_interval([row["top1"]], row["n"])
        switches = ", ".join(str(int(row[key])) for key in ("bias", "affine", "augmentation"))
        lines.append(
            [
                str(row["row"]),
                row["method"],
                f"{row['weights']}/{row['activations']}/{row['gradients']}",
                f"[{switches}]",
                str(row["epochs"]),
                f"{100 * row['top1']:.2f} ({100 * interval.low:.2f} to {100 * interval.high:.2f})",
                f"{row['average_bit_width']:.2f}",
            ]
        )
    return markdown_table(header, lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", type=int, required=True, help="of the survey's Table 2, 1 to 24")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10; without it the package's few images")
    parser.add_argument("--images", type=int, help="training images, all if not given")
    parser.add_argument("--test-images", type=int, help="test images, all if not given")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument("--epochs", type=int, help="the table's if not given")
    parser.add_argument("--float-epochs", type=int, help="the table's if not given")
    parser.add_argument("--batch", type=int, default=128, help="images a step, of all processes together")
    parser.add_argument("--lr", type=float, default=LEARNING_RATE, help="learning rate at the start")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument("--checkpoint", type=Path, help="build/vgg_small/row<N>.pt if not given")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "docs" / "results")
    args = parser.parse_args(argv)
    if args.checkpoint is None:
        args.checkpoint = HERE.parents[1] / "build" / NAME / f"row{args.row}.pt"
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Train one setting, and record it."""
    args = arguments(argv)
    found = [setting for setting in settings() if setting.row == args.row]
    if not found:
        raise SystemExit(f"--row {args.row}: the table has rows 1 to 24")
    process = Process.start()
    row = Training(found[0], args, process).run()
    if process.rank == 0:
        record(row, args.out)
        print(table([row]))
    if process.count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
