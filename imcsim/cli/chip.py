"""Options that name a chip, for every command that takes one."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any

import typer

import imcsim
from imcsim.errors import HardwareError

HardwareName = Annotated[
    str, typer.Option(help="A preset's name (see `imcsim presets`), or the path of a .toml file.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change the hardware: adc.bits=6, a dotted name and a TOML value. Repeatable."
    ),
]


def load_chip(name: str, changes: list[str] | None) -> imcsim.Hardware:
    """The chip that the options name, changed as they say."""
    chip = imcsim.load_hardware(name)
    return chip.replace(dict(_change(text) for text in changes)) if changes else chip


def _change(text: str) -> tuple[str, Any]:
    """One `--set NAME=VALUE`: a TOML value, or a bare word as a string; `adc=none` removes the table."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise HardwareError(f"--set {text!r} is not NAME=VALUE with a dotted name, such as adc.bits=6")
    if value == "none" and "." not in name:
        return name, None
    try:
        parsed = tomllib.loads(f"value = {value}")
        if list(parsed) == ["value"]:
            return name, parsed["value"]
    except tomllib.TOMLDecodeError:
        if value.replace("_", "").isalnum() and not value[0].isdigit():
            return name, value
    raise HardwareError(
        f"--set {text!r}: {value!r} is not a TOML value; write a number, true, false, a word, [lo, hi] or "
        '{ kind = "range", sigma = 0.02 }'
    )
