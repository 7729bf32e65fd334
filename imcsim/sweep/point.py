"""One point of a study: what it is, and the key its row goes by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import imcsim
from imcsim.errors import StudyError
from imcsim.hardware import Hardware, known_field
from imcsim.presets import load_hardware
from imcsim.sweep.axes import SETTINGS, split_name

Measure = Callable[["Point"], Mapping[str, Any]]


@dataclass(frozen=True)
class Base:
    """What holds for all points of a study, unless an axis says otherwise.

    Attributes:
        hardware: the chip that axes change.
        model: a network, as `imcsim.models.load_model` takes it.
        checkpoint: its weights.
        data: its data, as `imcsim.models.load_data` takes it.
        folder: of the official data files.
        images: test samples, from the start.
        batch: samples a batch.
        seed: of programming and of read noise.
        age: seconds since the arrays were written and verified.
        compensation: of drift: "global", "column" or None.
        engine: as for `imcsim.convert`.
        fold_batchnorm: likewise.
        costs: estimate energy, latency and area too.
        evaluate: a function of a point, or its import path, in place of accuracy on a chip.
    """

    hardware: Hardware = field(default_factory=Hardware)
    model: str = "resnet20"
    checkpoint: str | None = None
    data: str | None = None
    folder: str | None = None
    images: int = 256
    batch: int = 64
    seed: int = 0
    age: float = 0.0
    compensation: str | None = None
    engine: str = "auto"
    fold_batchnorm: bool = False
    costs: bool = False
    evaluate: Measure | str | None = None


@dataclass(frozen=True)
class Point:
    """One chip, network and seed of a study.

    Attributes:
        base: what all points share.
        settings: what the axes chose, by name, and the seed.
    """

    base: Base
    settings: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """A setting of this point: an axis's value, or that of the base."""
        return self.settings[name] if name in self.settings else getattr(self.base, name)

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the hardware that axes set, by dotted name."""
        return {
            name: None if (name, value) == ("adc", "none") else value
            for name, value in self.settings.items()
            if name not in SETTINGS and known_field(name)
        }

    @property
    def hardware(self) -> Hardware:
        """The point's chip.

        Raises:
            HardwareError: what the axes chose is no chip.
        """
        chosen = self.settings.get("hardware", self.base.hardware)
        chip = chosen if isinstance(chosen, Hardware) else _chip(chosen)
        return chip.replace(self.changes) if self.changes else chip

    @property
    def evaluate(self) -> str | None:
        """The name of the study's own function."""
        given = self.base.evaluate
        if given is None or isinstance(given, str):
            return given
        name = getattr(given, "__qualname__", type(given).__qualname__)
        return f"{getattr(given, '__module__', '?')}:{name}"

    def configuration(self) -> dict[str, Any]:
        """All that the result depends on, as JSON has it: files by the digest of what they hold."""
        found = {
            item.name: getattr(self.base, item.name)
            for item in fields(Base)
            if item.name not in ("hardware", "evaluate")
        }
        chosen = {name: _plain(value) for name, value in self.settings.items()}
        merged = {**found, **{name: chosen[name] for name in chosen if name in found}}
        for name in ("model", "checkpoint", "data"):
            path = merged[name]
            if isinstance(path, str) and Path(path).suffix and Path(path).is_file():
                merged[name] = [path, _digest(str(Path(path).resolve()), Path(path).stat().st_mtime_ns)]
        return {
            **merged,
            "hardware": _plain(self.base.hardware),
            "settings": chosen,
            "evaluate": self.evaluate,
            "imcsim": imcsim.__version__,
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the configuration."""
        text = json.dumps(self.configuration(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def chip_key(self) -> str:
        """What points share that can use the same converted and calibrated network."""
        own = {
            name: value
            for name, value in self.configuration().items()
            if name not in ("seed", "age", "compensation", "settings")
        }
        varied = {
            name: _plain(value)
            for name, value in self.settings.items()
            if name not in ("seed", "age", "compensation")
        }
        return json.dumps([own, varied], sort_keys=True)


def expand(name_values: Mapping[str, Any]) -> dict[str, Any]:
    """Joined axes as one setting a name."""
    return {part: value for name, value in name_values.items() for part in split_name(name)}


def _chip(given: Any) -> Hardware:
    if isinstance(given, str):
        return load_hardware(given)
    return Hardware.model_validate(given)


def _plain(value: Any) -> Any:
    """What JSON can hold of a setting."""
    if isinstance(value, Hardware):
        return _plain(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise StudyError(
        f"a study's setting is {value!r:.60} ({type(value).__name__}); settings are numbers, words, lists, "
        "tables and imcsim.Hardware"
    )


@lru_cache(maxsize=64)
def _digest(path: str, changed: int) -> str:
    """SHA-256 of a file; `changed` is the time of its last change, so that a new content is read anew."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
