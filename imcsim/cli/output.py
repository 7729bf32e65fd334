"""What the commands print: tables and text, or JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

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


def _plain(value: Any) -> Any:
    """The same in what JSON has: infinities as strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
