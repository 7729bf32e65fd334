"""`imcsim estimate`: what a network costs on a chip, or what the chip can do at most."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import imcsim
from imcsim import ppa, zoo
from imcsim.cli.chip import Changes, HardwareName, load_chip
from imcsim.cli.output import AsJson, save_figure, show, show_json
from imcsim.errors import InputError


def estimate(
    hardware: HardwareName = "isaac",
    model: Annotated[str, typer.Option(help=f"A network: {', '.join(zoo.available())}.")] = "resnet20",
    changes: Changes = None,
    peak: Annotated[
        bool, typer.Option("--peak", help="The chip with every array busy, as its paper counts; no network.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw energy by layer and component as stacked bars into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Energy, latency and area of a network on a chip, by layer and component; or the chip's peak figures."""
    chip = load_chip(hardware, changes)
    if peak and plot is not None:
        raise InputError("--plot draws a network's energy and --peak runs none; leave one of them out")
    if peak:
        top = ppa.peak(chip)
        if as_json:
            show_json(asdict(top))
        else:
            show(str(top))
        return
    benchmark = zoo.load(model, n=1)
    found = imcsim.estimate(benchmark.model, benchmark.images[:1], chip)
    if plot is not None:
        from imcsim.plot_chips import estimate_bars  # matplotlib, only where it is asked for

        save_figure(estimate_bars(found), plot)
        typer.echo(f"{plot} written", err=True)
    if not as_json:
        show(str(found))
        return
    facts: dict[str, Any] = {
        "model": model,
        "hardware": chip.model_dump(by_alias=True),
        "energy_J": found.energy_J,
        "latency_s": found.latency_s,
        "throughput_per_s": found.throughput_per_s,
        "area_mm2": found.area_mm2,
        "edp_Js": found.edp_Js,
        "tops_per_watt": found.tops_per_watt,
        "chips": found.chips,
        "layers": found.frame().to_dict("records"),
        "notes": list(found.notes),
        "uncosted": dict(found.uncosted),
        "imcsim": imcsim.__version__,
    }
    show_json(facts)
