"""`imcsim devices`: device cards."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from imcsim import devices
from imcsim.cli.output import AsJson, save_figure, show, show_json
from imcsim.devices import DeviceCard
from imcsim.errors import InputError

app = typer.Typer(help="Device cards: measured and published memory cells.")


@app.callback(invoke_without_command=True)
def _devices(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Device cards: measured and published memory cells. Without a command: list them."""
    ctx.obj = as_json
    if ctx.invoked_subcommand is None:
        _list_devices(as_json)


@app.command("list")
def _devices_list(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Names, titles and what each card models."""
    _list_devices(as_json or ctx.obj)


@app.command("show")
def _devices_show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A card's name, or the path of one (.toml).")],
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw programming, drift and noise: .png, .pdf or .svg."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A device card: equations, numbers, sources and assumptions."""
    card = devices.load(name)
    if plot is not None:
        _plot_card(card, plot)
    if as_json or ctx.obj:
        show_json(card.model_dump(by_alias=True, serialize_as_any=True))
    else:
        show(_card_table(card))
        for key, source in card.sources.items():
            parts = (source.authors, source.title, source.venue, str(source.year), source.figure, source.doi)
            show(escape(f"{key}: {'. '.join(part for part in parts if part)}. {source.note}".strip()))
        for assumption in card.assumptions:
            show(escape(f"assumed: {assumption}"))
    if plot is not None:
        typer.echo(f"{plot} written", err=True)


@app.command("fit")
def _devices_fit(
    ctx: typer.Context,
    csv: Annotated[Path, typer.Argument(help="Measured points: a header and numbers.")],
    equation: Annotated[
        str, typer.Option(help="levels, programming.*, drift.power_law, read_noise.*, iv.sinh or switching.*")
    ],
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a card (.toml), or add to one.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw points and equation: .png, .pdf or .svg.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="t0_s=20, degree=3, pulse_up={voltage_V=1.6,width_s=50e-9}; repeat for more.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit an equation to measured points, with 95 % intervals."""
    found = devices.fit(csv, equation=equation, **_fit_options(option or []))
    if plot is not None:
        save_figure(found.plot(), plot)
    if card is not None:
        found.save(card)
    if as_json or ctx.obj:
        show_json(
            {
                "equation": found.equation,
                "rows": found.rows,
                "parameters": {k: [v.value, v.low, v.high] for k, v in found.parameters.items()},
                "residual_rms": found.residual_rms,
                "notes": list(found.notes),
                "card": found.blocks,
            }
        )
    else:
        show(escape(str(found)))
    for file in (card, plot):
        if file is not None:
            typer.echo(f"{file} written", err=True)


def _fit_options(given: list[str]) -> dict[str, Any]:
    """NAME=VALUE, values as in TOML."""
    options: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        try:
            options[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            mark = ""
        if not mark or not name:
            raise InputError(f"--option {text!r} is not NAME=VALUE with a TOML value, such as t0_s=20.0")
    return options


def _list_devices(as_json: bool) -> None:
    cards = [devices.load(name) for name in devices.available()]
    if as_json:
        show_json(
            [
                {
                    "name": card.name,
                    "title": card.title,
                    "technology": card.technology,
                    "confidence": card.confidence,
                    "models": _models(card),
                }
                for card in cards
            ]
        )
        return
    table = Table("card", "technology", "confidence", "title", "models")
    for card in cards:
        table.add_row(card.name, card.technology, card.confidence, card.title, ", ".join(_models(card)))
    show(table)
    show("confidence: A re-derived, B one secondary source, C recalled or assumed")


def _models(card: DeviceCard) -> list[str]:
    """What a card gives, by block."""
    return [name for name in card.blocks() if name in card.model_fields_set and name != "conductance"]


def _card_table(card: DeviceCard) -> Table:
    table = Table(
        "block",
        "values",
        "valid",
        "source",
        "confidence",
        title=escape(f"{card.name}: {card.title} ({card.technology}, confidence {card.confidence})"),
        title_justify="left",
    )
    for name, block in card.blocks().items():
        if name not in card.model_fields_set:
            continue
        hidden = {"source", "confidence", "valid", "assumptions", "table"}
        values = block.model_dump(
            exclude=hidden, exclude_none=True, exclude_unset=True, serialize_as_any=True
        )
        shown = "\n".join(f"{key} = {_shown(value)}" for key, value in values.items())
        about = "\n".join(filter(None, (block.valid, *(f"assumed: {text}" for text in block.assumptions))))
        table.add_row(name, escape(shown), escape(about), block.source, block.confidence or "")
    return table


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        facts = {k: v for k, v in value.items() if v not in (None, "", ())}
        return ", ".join(f"{key} {_shown(item)}" for key, item in facts.items())
    if isinstance(value, tuple | list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plot_card(card: DeviceCard, file: Path) -> None:
    from imcsim.plot import device_card  # matplotlib, only where it is asked for

    save_figure(device_card(card)[0], file)
