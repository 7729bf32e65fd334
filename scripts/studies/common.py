"""What the studies share: a command line, points measured over seeds, the record, figure and tables."""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import imcsim
from imcsim.hardware import Hardware, write_atomically
from imcsim.plot import MARKERS, PALETTE
from imcsim.progress import progress
from imcsim.results import (
    Record,
    accuracy_interval,
    code_state,
    put_between_markers,
    read_record,
    write_record,
)
from imcsim.sweep.task import Remembered

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUICK_IMAGES = 4

BASE = Hardware.model_validate(
    {
        "name": "study",
        "array": {"rows": 128, "cols": 128},
        "weights": {"bits": 8, "cell_bits": 2},
        "inputs": {"bits": 8},
    }
)
"""8-bit weights and inputs, 2-bit cells, differential pairs, ideal converters, an ideal cell."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One row of a study.

    Attributes:
        keys: what the row is called by.
        changes: to the study's hardware, dotted names.
        drawn: whether anything is drawn; False: one chip is all chips.
        fold: fold each BatchNorm into the layer before it.
        prepare: done to each programmed chip: ageing, say.
        inspect: what else to note of the first chip.
    """

    keys: Row
    changes: Mapping[str, Any] = field(default_factory=dict)
    drawn: bool = True
    fold: bool = False
    prepare: Callable[[nn.Module], None] | None = None
    inspect: Callable[[nn.Module], Row] | None = None


class Bench:
    """ResNet-20 on CIFAR-10, measured on chips.

    Args:
        images: test images.
        seeds: chips.
        quick: two layers, few images.
        data: file of training images, for studies that train.
    """

    network, data_set = "resnet20", "CIFAR-10 test images"

    def __init__(self, images: int, seeds: int, *, quick: bool = False, data: Path | None = None) -> None:
        self.images, self.seeds, self.quick, self.data = images, tuple(range(seeds)), quick, data
        self.model, self.batches, self.calibration = self.load()
        if quick:
            self.calibration = self.calibration[:1]
        self.reference = Remembered(self.model)
        self.float_top1 = imcsim.evaluate(self.reference, self.batches).top1

    def load(self) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[Tensor]]:
        """The float network, test batches and calibration batches."""
        benchmark = imcsim.zoo.load("resnet20", n=self.images)
        return benchmark.model, list(benchmark.batches(size=100)), list(benchmark.calibration_batches())

    def where(self, chip: Hardware) -> Hardware | dict[str, Hardware | None]:
        """A quick run keeps all but the first and the last layer digital."""
        return {"*": None, "conv1": chip, "linear": chip} if self.quick else chip

    def measure(self, base: Hardware, points: Sequence[Point], label: str) -> list[Row]:
        """A row a point, with top-1 of every seed, their mean, its 95 % interval and the mean SQNR."""
        return [self._measure(base, point) for point in progress(points, label)]

    def _measure(self, base: Hardware, point: Point) -> Row:
        chip = base.replace(point.changes) if point.changes else base
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", imcsim.devices.DeviceValidityWarning)
            sim = imcsim.convert(self.model, self.where(chip), fold_batchnorm=point.fold)
            imcsim.calibrate(sim, self.calibration)
            row = self.on_chips(sim, point)
        if caught:
            row["warnings"] = sorted({str(item.message) for item in caught})
        return row

    def on_chips(self, sim: nn.Module, point: Point) -> Row:
        """A row for a converted and calibrated network, programmed with every seed."""
        top1, sqnr, noted = [], [], {}
        for seed in self.seeds if point.drawn else self.seeds[:1]:
            imcsim.program(sim, seed=seed)
            if point.prepare is not None:
                point.prepare(sim)
            imcsim.seed_reads(sim, seed)
            found = imcsim.evaluate(sim, self.batches, reference=self.reference)
            top1.append(found.top1)
            sqnr.append(found.sqnr_db)
            if point.inspect is not None and len(top1) == 1:
                noted = point.inspect(sim)
        interval = accuracy_interval(top1, self.images)
        return {
            **point.keys,
            "changes": dict(point.changes),
            "n": self.images,
            "top1": top1,
            "mean": interval.mean,
            "ci95": [interval.low, interval.high],
            "sqnr_db": sum(sqnr) / len(sqnr),
            **noted,
        }


@dataclass(frozen=True)
class Study:
    """A script's parts.

    Attributes:
        name: of the script and of its record.
        page: of the page and the figure.
        about: what the command line says.
        images: test images by default.
        seeds: chips by default.
        measure: runs it: the hardware that rows change, and the rows.
        tables: the page's tables by marker.
        figure: drawn from the record, or None.
        bench: what is measured.
        trains: the study trains, on images from a file given as --data.
    """

    name: str
    page: str
    about: str
    images: int
    seeds: int
    measure: Callable[[Bench], tuple[Hardware, list[Row]]]
    tables: Callable[[Record], dict[str, str]]
    figure: Callable[[Record], Figure] | None = None
    bench: type[Bench] = Bench
    trains: bool = False

    def run(self, argv: Sequence[str] | None = None) -> None:
        """Measure, write the record, draw, fill the page's tables and print them."""
        args = self.arguments(argv)
        results, pages = args.out / "results", args.out / "studies"
        results.mkdir(parents=True, exist_ok=True)
        pages.mkdir(parents=True, exist_ok=True)
        if not args.render:
            self._record(args, results)
        record = read_record(results / f"{self.name}.json")
        if self.figure is not None:
            picture = io.BytesIO()
            self.figure(record).savefig(picture, format="png", dpi=85)
            write_atomically(pages / f"{self.name}.png", picture.getvalue())
        page = pages / f"{self.page}.md"
        for marker, table in self.tables(record).items():
            print(f"{marker}\n\n{table}\n")
            if page.is_file():
                text = put_between_markers(page.read_text(encoding="utf-8"), marker, table)
                write_atomically(page, text.encode())

    def _record(self, args: argparse.Namespace, folder: Path) -> None:
        code = code_state()
        bench = self.bench(args.images, args.seeds, quick=args.quick, data=args.data)
        hardware, rows = self.measure(bench)
        options = f"--images {args.images} --seeds {args.seeds}{' --quick' if args.quick else ''}"
        if args.data is not None:
            options += f" --data {args.data.name}"
        write_record(
            self.name,
            rows,
            folder=folder,
            command=f"python scripts/studies/{self.name}.py {options}",
            seeds=bench.seeds,
            n=bench.images,
            hardware={"base": hardware},
            facts={"network": bench.network, "data": bench.data_set, "float_top1": bench.float_top1},
            code=code,
        )

    def arguments(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The command line."""
        parser = argparse.ArgumentParser(description=self.about)
        parser.add_argument(
            "--images", type=int, default=None, help=f"test images; {self.images} if not given"
        )
        parser.add_argument("--seeds", type=int, default=None, help=f"chips; {self.seeds} if not given")
        parser.add_argument(
            "--quick", action="store_true", help="two layers, a few images, one chip: a test of the script"
        )
        parser.add_argument(
            "--render", action="store_true", help="figure and tables from the record that is there"
        )
        parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and studies/")
        parser.add_argument(
            "--data",
            type=Path,
            default=None,
            help="an .npz of training images" if self.trains else argparse.SUPPRESS,
        )
        args = parser.parse_args(argv)
        args.images = args.images or (QUICK_IMAGES if args.quick else self.images)
        args.seeds = args.seeds or (1 if args.quick else self.seeds)
        return args


def select(rows: Sequence[Row], **keys: Any) -> list[Row]:
    """The rows that have these keys."""
    return [row for row in rows if all(row.get(key) == value for key, value in keys.items())]


def percent(row: Row | None) -> str:
    """A row's accuracy with its interval, in percent."""
    if row is None:
        return ""
    return f"{100 * row['mean']:.1f} ({100 * row['ci95'][0]:.1f} to {100 * row['ci95'][1]:.1f})"


def line(ax: Axes, x: Sequence[float], rows: Sequence[Row], index: int, label: str, style: str = "-") -> None:
    """Accuracy over x with its 95 % intervals."""
    mean = [100 * row["mean"] for row in rows]
    errors = [
        [max(0.0, m - 100 * row["ci95"][0]) for m, row in zip(mean, rows, strict=True)],
        [max(0.0, 100 * row["ci95"][1] - m) for m, row in zip(mean, rows, strict=True)],
    ]
    ax.errorbar(
        x,
        mean,
        yerr=errors,
        label=label,
        linestyle=style,
        color=PALETTE[index % len(PALETTE)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=4,
        capsize=2,
        linewidth=1.2,
    )


def finish(ax: Axes, x_label: str, float_top1: float, title: str = "") -> None:
    """Labels, the float network's line and the legend."""
    ax.axhline(100 * float_top1, color="0.4", linestyle=":", linewidth=1, label="float")
    ax.set_xlabel(x_label)
    ax.set_ylabel("top-1 accuracy (%)")
    ax.set_ylim(0, 100)
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=7)


def axes(count: int, width: float = 4.4, height: float = 3.5) -> tuple[Figure, list[Axes]]:
    """A figure of its own with some axes side by side."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
