"""`imcsim estimate`: what a network costs on a chip, or what the chip can do at most."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

import imcsim
from imcsim import ppa, zoo
from imcsim.cli.chip import Changes, HardwareName, load_chip
from imcsim.cli.network import Checkpoint, ModelName
from imcsim.cli.output import AsJson, save_figure, show, show_json
from imcsim.errors import InputError, did_you_mean
from imcsim.models import load_model


def estimate(
    hardware: HardwareName = "isaac",
    model: ModelName = "resnet20",
    changes: Changes = None,
    peak: Annotated[
        bool, typer.Option("--peak", help="The chip with every array busy, as its paper counts; no network.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw energy by layer and component as stacked bars into this file.")
    ] = None,
    weights: Checkpoint = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of one sample, 3,32,32, for a network that is not the zoo's."),
    ] = None,
    activity: Annotated[
        bool,
        typer.Option(
            "--activity",
            help="Measure on a test image of the zoo how busy word lines are; else as the chip says.",
        ),
    ] = False,
    batch: Annotated[int, typer.Option(help="Samples between two reloads, where weights do not fit.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Energy, latency and area of a network on a chip, by layer and component; or the chip's peak figures."""
    chip = load_chip(hardware, changes)
    if peak:
        for option, given in (("--plot", plot), ("--activity", activity), ("--shape", shape)):
            if given:
                raise InputError(f"{option} is about a network and --peak runs none; leave one of them out")
        top = ppa.peak(chip)
        if as_json:
            show_json(asdict(top))
        else:
            show(str(top))
        return
    if activity and shape is not None:
        raise InputError("--activity needs data, which --shape has not; leave one of them out")
    network, x = _network(model, weights, shape)
    if activity:  # pulses are those of the chip's layers
        network = imcsim.convert(network, chip)
    found = imcsim.estimate(network, x, chip, activity=activity, batch=batch)
    if plot is not None:
        from imcsim.plot import breakdown  # matplotlib, only where it is asked for

        save_figure(breakdown(found), plot)
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
        "power_W": found.power_W,
        "area_mm2": found.area_mm2,
        "edp_Js": found.edp_Js,
        "programming_J": found.programming_J,
        "programming_s": found.programming_s,
        "tops_per_watt": found.tops_per_watt,
        "conventions": found.conventions,
        "level": found.level,
        "mode": found.mode,
        "chips": found.chips,
        "passes": found.passes,
        "batch": found.batch,
        "arrays": found.arrays,
        "arrays_available": found.arrays_available,
        "utilisation": found.utilisation,
        "calibrated": found.calibrated,
        "dominant": found.dominant(),
        "layers": found.frame().to_dict("records"),
        "components": found.parts().to_dict("records"),
        "notes": list(found.notes),
        "uncosted": dict(found.uncosted),
        "imcsim": imcsim.__version__,
    }
    show_json(facts)


def _network(model: str, weights: Path | None, shape: str | None) -> tuple[nn.Module, Tensor]:
    """The network and one input of it."""
    if shape is None and model in zoo.available():
        benchmark = zoo.load(model, weights=weights, n=1)
        return benchmark.model, benchmark.images[:1]
    if shape is None:
        if ":" not in model and "." not in model:
            names = zoo.available()
            raise InputError(
                f"--model {model!r} is no network of the zoo.{did_you_mean(model, names)} Networks: "
                f"{', '.join(names)}; or package.module:name, a .pt2 or an .onnx file with --shape"
            )
        raise InputError(f"--model {model!r} says nothing of its input; add --shape, such as --shape 3,32,32")
    sizes = [part.strip() for part in shape.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in sizes):
        raise InputError(f"--shape {shape!r} is not a list of sizes such as 3,32,32")
    return load_model(model, weights), torch.zeros(1, *(int(part) for part in sizes))
