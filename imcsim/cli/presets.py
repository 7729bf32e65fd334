"""`imcsim presets`: published chips."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer
from rich.table import Table

import imcsim
from imcsim import presets
from imcsim.cli.output import AsJson, show, show_json
from imcsim.errors import FileMissingError, did_you_mean
from imcsim.hardware import Hardware

app = typer.Typer(help="Published chips as hardware descriptions.")


@app.callback(invoke_without_command=True)
def _presets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Published chips as hardware descriptions. Without a command: list them."""
    ctx.obj = as_json
    if ctx.invoked_subcommand is None:
        _list_presets(as_json)


@app.command("list")
def _presets_list(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Names and one-line facts."""
    _list_presets(as_json or ctx.obj)


@app.command("show")
def _presets_show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A preset's name.")],
    as_json: AsJson = False,
) -> None:
    """A preset's TOML, with the sources of its numbers; with --json its validated values."""
    if name not in presets.available():
        raise FileMissingError(
            f"there is no preset {name!r}.{did_you_mean(name, presets.available())} Presets: "
            f"{', '.join(presets.available())}"
        )
    if as_json or ctx.obj:
        show_json(imcsim.load_hardware(name).model_dump(by_alias=True))
    else:
        typer.echo((resources.files(presets) / f"{name}.toml").read_text(encoding="utf-8"), nl=False)


def _list_presets(as_json: bool) -> None:
    chips = {name: imcsim.load_hardware(name) for name in presets.available()}
    if as_json:
        show_json([{"name": name, "facts": _one_line(chip)} for name, chip in chips.items()])
        return
    table = Table("preset", "facts")
    for name, chip in chips.items():
        table.add_row(name, _one_line(chip))
    show(table)


def _one_line(chip: Hardware) -> str:
    array, weights, inputs, adc = chip.array, chip.weights, chip.inputs, chip.adc
    widths = (
        weights.cell_bits if isinstance(weights.cell_bits, int) else "/".join(map(str, weights.cell_bits))
    )
    converter = "ideal converters" if adc is None else f"{adc.bits}-bit ADC ({adc.kind}, range {adc.range})"
    return (
        f"{array.rows} x {array.cols} array, {weights.encoding} {weights.bits}-bit weights in "
        f"{widths}-bit cells, {inputs.bits}-bit inputs, {inputs.bits_per_cycle} a cycle, "
        f"{converter}, device {chip.device.card}"
    )
