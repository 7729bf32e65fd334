"""Published chips as hardware descriptions, one TOML file each; and `load_hardware`, which finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from imcsim import devices
from imcsim.errors import FileMissingError, HardwareError, did_you_mean
from imcsim.hardware import Hardware, read_toml


def available() -> list[str]:
    """Names of the presets that are shipped."""
    return sorted(
        f.name.removesuffix(".toml") for f in resources.files(__name__).iterdir() if f.name.endswith(".toml")
    )


def load_hardware(name: str | os.PathLike[str]) -> Hardware:
    """A hardware description by a preset's name or from a file.

    A file may begin with ``extends = "isaac"``: it then holds only what differs from that preset.

    Args:
        name: a preset's name, see `available`; or the path of a .toml file.

    Returns:
        The validated description.

    Raises:
        FileMissingError: there is no such preset, file or device card.
        HardwareError: the file is not a valid description.
    """
    if not isinstance(name, str | os.PathLike) or not str(name):
        raise HardwareError(
            f"load_hardware takes a preset's name or the path of a .toml file, but got {name!r}"
        )
    text = os.fspath(name)
    if text in available():
        hardware = _read(_shipped(text))
    elif text.endswith(".toml") or os.sep in text:
        hardware = _read(Path(text))
    else:
        raise FileMissingError(
            f"there is no preset {text!r}.{did_you_mean(text, available())} Presets: "
            f"{', '.join(available())}; or give the path of a .toml file"
        )
    devices.load(hardware.device.card)
    return hardware


def _shipped(name: str) -> Path:
    return Path(str(resources.files(__name__) / f"{name}.toml"))


def _read(file: Path) -> Hardware:
    data = read_toml(file)
    if "extends" not in data:
        return Hardware.from_toml(file)
    base = data.pop("extends")
    if base not in available() or _shipped(base) == file:
        raise HardwareError(
            f"hardware file {str(file)!r}: extends = {base!r} is not another preset."
            f"{did_you_mean(str(base), available())} Presets: {', '.join(available())}"
        )
    try:
        return load_hardware(base).replace(dict(_dotted(data)))
    except HardwareError as error:
        raise HardwareError(f"hardware file {str(file)!r}: {error}") from None


def _dotted(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested tables."""
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
