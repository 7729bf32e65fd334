"""Published chips as hardware descriptions, one TOML file each; and `load_hardware`, which finds them."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from imcsim import devices
from imcsim.errors import FileMissingError, HardwareError, did_you_mean
from imcsim.hardware import Hardware


def available() -> list[str]:
    """Names of the presets that are shipped."""
    return sorted(
        f.name.removesuffix(".toml") for f in resources.files(__name__).iterdir() if f.name.endswith(".toml")
    )


def load_hardware(name: str | os.PathLike[str]) -> Hardware:
    """A hardware description by a preset's name or from a file.

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
        hardware = Hardware.from_toml(Path(str(resources.files(__name__) / f"{text}.toml")))
    elif text.endswith(".toml") or os.sep in text:
        hardware = Hardware.from_toml(text)
    else:
        raise FileMissingError(
            f"there is no preset {text!r}.{did_you_mean(text, available())} Presets: "
            f"{', '.join(available())}; or give the path of a .toml file"
        )
    devices.load(hardware.device.card)
    return hardware
