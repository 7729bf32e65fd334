"""`imcsim evaluate`: a pretrained network on a chip."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

import imcsim
from imcsim.cli.chip import Changes, HardwareName, load_chip
from imcsim.cli.network import Checkpoint, DataName, Folder, ModelName
from imcsim.cli.output import AsJson, show, show_json
from imcsim.devices import DeviceValidityWarning
from imcsim.evaluate import Evaluation
from imcsim.models import load_benchmark


def evaluate(
    hardware: HardwareName = "isaac",
    model: ModelName = "resnet20",
    changes: Changes = None,
    images: Annotated[int, typer.Option(help="Test images, from the start of the test set.")] = 512,
    batch: Annotated[int, typer.Option(help="Images a batch.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of programming and of read noise: one chip.")] = 0,
    engine: Annotated[
        str, typer.Option(help="auto, reference, collapsed, matmul, table or statistical.")
    ] = "auto",
    fold_batchnorm: Annotated[
        bool, typer.Option("--fold-batchnorm", help="Fold each BatchNorm into the layer before it.")
    ] = False,
    age: Annotated[
        float, typer.Option(min=0, help="Seconds since the arrays were written and verified.")
    ] = 0.0,
    weights: Checkpoint = None,
    data: Folder = None,
    dataset: DataName = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy of a network as float and on a chip.

    Ranges are calibrated on training images and target conductances; then the chip is programmed with the
    seed and aged.
    """
    started = time.perf_counter()
    chip = load_chip(hardware, changes)
    benchmark = load_benchmark(model, weights=weights, data=dataset, folder=data, n=images)
    batches = list(benchmark.batches(size=batch))
    with _short_warnings():
        sim = imcsim.convert(benchmark.model, chip, fold_batchnorm=fold_batchnorm, engine=engine)
        baseline = imcsim.evaluate(benchmark.model, batches)
        imcsim.calibrate(sim, benchmark.calibration_batches())
        imcsim.program(sim, seed=seed)
        imcsim.age(sim, seconds=age)
        imcsim.seed_reads(sim, seed)
        result = imcsim.evaluate(sim, batches, reference=benchmark.model)
    if as_json:
        show_json(
            {
                "model": model,
                "hardware": chip.model_dump(by_alias=True),
                "seed": seed,
                "age_s": age,
                "engine": engine,
                "fold_batchnorm": fold_batchnorm,
                "float": _facts(baseline),
                "chip": _facts(result),
                "seconds": round(time.perf_counter() - started, 3),
                "imcsim": imcsim.__version__,
            }
        )
        return
    table = Table(title=escape(f"{model} on {chip.name}, seed {seed}, age {age:g} s"), title_justify="left")
    for column in ("", "top-1 %", "95 % interval", "n", "SQNR dB"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in (("float", baseline), ("chip", result)):
        low, high = (100 * end for end in found.ci95)
        sqnr = "" if found.sqnr_db is None else f"{found.sqnr_db:.1f}"
        table.add_row(name, f"{100 * found.top1:.2f}", f"{low:.2f} to {high:.2f}", str(found.n), sqnr)
    show(table)


def _facts(found: Evaluation) -> dict[str, Any]:
    return {"top1": found.top1, "n": found.n, "ci95": list(found.ci95), "sqnr_db": found.sqnr_db}


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Device warnings as one line each on stderr, after the progress bars."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeviceValidityWarning)
        yield
    for message in dict.fromkeys(str(item.message) for item in caught):
        typer.echo(f"imcsim: warning: {message}", err=True)
