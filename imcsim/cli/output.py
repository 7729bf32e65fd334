"""What the commands print: tables and text, or JSON."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from imcsim.errors import InputError
from imcsim.hardware import write_atomically

if TYPE_CHECKING:  # matplotlib, only where a figure is asked for
    from matplotlib.axes import Axes

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

WIDTH = 120
"""Of tables, where stdout is no terminal."""


def show(what: RenderableType) -> None:
    """Print on stdout, as wide as the terminal."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(what, soft_wrap=isinstance(what, str))


def show_json(value: Any) -> None:
    """Print one JSON document on stdout; numbers that JSON does not have become strings."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def save_figure(ax: Axes, file: Path) -> None:
    """Write the figure that axes belong to, in the format of the file's ending."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise RuntimeError("axes without a figure")
    kinds = sorted(figure.canvas.get_supported_filetypes())
    kind = file.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(f"--plot {str(file)!r} has no known ending; give one of .{', .'.join(kinds)}")
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=150)
    write_atomically(file, picture.getvalue())


def _plain(value: Any) -> Any:
    """The same in what JSON has: infinities as strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
