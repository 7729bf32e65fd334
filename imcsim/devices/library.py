"""Find device cards by name or path."""

from __future__ import annotations

from pathlib import Path

from imcsim.devices.card import DeviceCard, read_card
from imcsim.errors import DeviceError, FileMissingError, did_you_mean


def library_folder() -> Path:
    """The folder of the cards: inside the installed package, else beside it in a checkout.

    Raises:
        FileMissingError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "device_models", package.parent / "device_models"):
        if folder.is_dir():
            return folder
    raise FileMissingError(f"the device cards are missing: no device_models folder in {package} or beside it")


def available() -> list[str]:
    """Names of the cards, in order."""
    return sorted(path.stem for path in library_folder().glob("*.toml"))


def load(name_or_path: str | Path) -> DeviceCard:
    """Load a card.

    Args:
        name_or_path: a name that `available` lists, or the path of a .toml file.

    Returns:
        the card, validated.

    Raises:
        FileMissingError: no such card; names the nearest.
        DeviceError: the card is wrong; says where.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return read_card(Path(text))
    names = available()
    if text not in names:
        raise FileMissingError(
            f"no device card {text!r}; cards: {', '.join(names)}; or the path of a .toml file."
            f"{did_you_mean(text, names)}"
        )
    card = read_card(library_folder() / f"{text}.toml")
    if card.name != text:
        raise DeviceError(
            f"device card file {text}.toml holds name = {card.name!r}; the two must be the same"
        )
    return card
