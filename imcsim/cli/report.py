"""`imcsim report`: one HTML file about a network on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import imcsim
from imcsim import report as reports
from imcsim import zoo
from imcsim.cli.chip import Changes, HardwareName, load_chip
from imcsim.cli.output import AsJson, show, show_json


def report(
    hardware: HardwareName = "isaac",
    model: Annotated[str, typer.Option(help=f"A network: {', '.join(zoo.available())}.")] = "resnet20",
    changes: Changes = None,
    images: Annotated[int, typer.Option(help="Test images, from the start of the test set.")] = 256,
    batch: Annotated[int, typer.Option(help="Images a batch.")] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Chips, programmed with seeds 0, 1, ...")] = 1,
    age: Annotated[
        float, typer.Option(min=0, help="Seconds since the arrays were written and verified.")
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """One self-contained HTML file: configuration, accuracy, what costs it, energy, latency and area."""
    chip = load_chip(hardware, changes)
    benchmark = zoo.load(model, n=images)
    sim = imcsim.convert(benchmark.model, chip)
    imcsim.calibrate(sim, benchmark.calibration_batches())
    found = reports.collect(
        sim,
        benchmark.batches(size=batch),
        reference=benchmark.model,
        seeds=range(seeds),
        seconds=age,
        title=f"{model} on {chip.name}",
    )
    reports.save(found, out)
    if as_json:
        top1 = [one.found.top1 for one in found.chips]
        show_json({"file": str(out), "top1": top1, "diagnosis": found.diagnosis.to_dict()})
    else:
        show(f"{out}: {found.chips[0].found}\n{found.diagnosis.culprit}")
