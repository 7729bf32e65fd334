"""A device card: what a device is, as data. One TOML file each, with its points in CSV files beside it."""

from __future__ import annotations

import itertools
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from imcsim.devices.base import Block, Confidence, Equation, Window, choose, one_line
from imcsim.devices.drift import (
    DriftEquation,
    PolynomialTableDrift,
    PowerLawDrift,
    RelaxationLogDrift,
    TableDrift,
)
from imcsim.devices.faults import Faults
from imcsim.devices.iv import IV, IVEquation, LinearIV
from imcsim.devices.noise import ReadNoise
from imcsim.devices.points import PointSet, read_columns
from imcsim.devices.programming import PROGRAMMING, SPREAD, NoProgramming, ProgrammingEquation, SpreadEquation
from imcsim.devices.retention import RetentionDrift
from imcsim.devices.switching import SWITCHING, SwitchingEquation
from imcsim.errors import DeviceError, FileMissingError

DRIFT: dict[str, type[DriftEquation]] = {
    "power_law": PowerLawDrift,
    "relaxation_log": RelaxationLogDrift,
    "table": TableDrift,
    "polynomial_table": PolynomialTableDrift,
    "retention": RetentionDrift,
}

Programming = Annotated[
    SerializeAsAny[ProgrammingEquation], BeforeValidator(lambda v: choose(v, PROGRAMMING, "programming"))
]
Spread = Annotated[SerializeAsAny[SpreadEquation], BeforeValidator(lambda v: choose(v, SPREAD, "spread"))]
Drift = Annotated[SerializeAsAny[DriftEquation], BeforeValidator(lambda v: choose(v, DRIFT, "drift"))]
Switching = Annotated[
    SerializeAsAny[SwitchingEquation], BeforeValidator(lambda v: choose(v, SWITCHING, "switching"))
]
CurrentVoltage = Annotated[SerializeAsAny[IVEquation], BeforeValidator(lambda v: choose(v, IV, "I-V"))]


class Source(BaseModel):
    """Where numbers are from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    authors: str
    title: str = ""
    venue: str
    year: int
    figure: str = ""
    doi: str = ""
    note: str = ""


class Conductance(Block):
    """The conductance range and the states of a device.

    `levels` counts the states the device can tell apart, spread evenly; `levels_S` lists them. With `snap`
    targets go to the nearest state; without it states only limit how many levels a cell may be asked to hold.
    """

    g_max_S: float | None = Field(default=None, gt=0)
    g_min_S: float | None = Field(default=None, ge=0)
    on_off_ratio: float | None = Field(default=None, gt=1)
    levels: int | None = Field(default=None, ge=2)
    levels_S: tuple[float, ...] | None = Field(default=None, min_length=2)
    snap: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Conductance:
        if self.g_min_S is not None and self.on_off_ratio is not None:
            raise ValueError("g_min_S and on_off_ratio say the same: give one of them")
        if self.g_min_S is not None and self.g_max_S is None:
            raise ValueError("g_min_S is given without g_max_S")
        if self.g_max_S is not None and self.g_min_S is not None and self.g_min_S >= self.g_max_S:
            raise ValueError(f"g_min_S = {self.g_min_S} is not below g_max_S = {self.g_max_S}")
        if self.levels is not None and self.levels_S is not None:
            raise ValueError("levels and levels_S say the same: give one of them")
        states = self.levels_S or ()
        if any(b <= a for a, b in itertools.pairwise(states)) or any(s < 0 for s in states):
            raise ValueError("levels_S must increase from 0 or above")
        if self.snap and self.levels is None and self.levels_S is None:
            raise ValueError("snap needs levels or levels_S")
        return self

    @property
    def n_levels(self) -> int | None:
        """How many states a cell has; None: any."""
        return len(self.levels_S) if self.levels_S is not None else self.levels

    def states_S(self, window: Window) -> tuple[float, ...] | None:
        """The states that targets snap to, or None if they do not."""
        if not self.snap:
            return None
        if self.levels_S is not None:
            return self.levels_S
        n = self.levels or 2
        return tuple(window.g_min_S + window.span_S * k / (n - 1) for k in range(n))

    def window(self, g_max_S: float | None = None, on_off_ratio: float | None = None) -> Window:
        """The window of an array that uses this device.

        Args:
            g_max_S: overrides the card's.
            on_off_ratio: g_max / g_min, overrides the card's; may be infinite.

        Returns:
            the window; normalised (g_max = 1) where neither gives siemens.

        Raises:
            DeviceError: a ratio that is not above 1, a g_max that is not positive.
        """
        g_max = g_max_S if g_max_S is not None else self.g_max_S
        normalised = g_max is None
        g_max = 1.0 if g_max is None else g_max
        if on_off_ratio is not None:
            if not on_off_ratio > 1:
                raise DeviceError(
                    f"on_off_ratio = {on_off_ratio!r}: g_max / g_min is above 1 (inf: g_min = 0)"
                )
            g_min = 0.0 if math.isinf(on_off_ratio) else g_max / on_off_ratio
        elif self.on_off_ratio is not None:
            g_min = g_max / self.on_off_ratio
        else:
            g_min = self.g_min_S or 0.0
        return Window(g_max, g_min, normalised)


class Readout(Block):
    """How a column of this device is read, for SRAM cells."""

    kind: Literal["current", "charge", "divider", "digital"]
    unit_capacitance_F: float | None = Field(default=None, gt=0)
    pull_up_norm: float = Field(default=1.0, gt=0)
    pull_down_norm: float = Field(default=1.0, gt=0)
    saturation_norm: float | None = Field(default=None, gt=0)
    supply_V: float | None = Field(default=None, gt=0)


class DeviceCard(BaseModel):
    """A device: blocks of numbers, each naming the equation it feeds and its source.

    Read one with `imcsim.devices.load`; validation errors are DeviceError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(min_length=1)
    title: str
    technology: Literal["ideal", "rram", "pcm", "fefet", "sram"]
    confidence: Confidence
    assumptions: tuple[str, ...] = ()
    sources: dict[str, Source] = Field(default_factory=dict)
    conductance: Conductance = Conductance()
    switching: Switching | None = None
    programming: Programming = NoProgramming()
    spread: Spread | None = None
    drift: Drift | None = None
    read_noise: ReadNoise | None = None
    iv: CurrentVoltage = LinearIV()
    faults: Faults = Faults()
    readout: Readout | None = None
    points: tuple[PointSet, ...] = ()

    @model_validator(mode="after")
    def _cites(self) -> DeviceCard:
        for name, block in self.blocks().items():
            if block.source and block.source not in self.sources:
                raise ValueError(
                    f"[{name}] source = {block.source!r} is not in [sources]: {', '.join(self.sources)}"
                )
            if name in self.model_fields_set and (not block.source or block.confidence is None):
                raise ValueError(f"[{name}] needs a source (a key of [sources]) and a confidence (A, B or C)")
        return self

    def blocks(self) -> dict[str, Block]:
        """Name -> block, for those the card has."""
        names = (
            "conductance",
            "switching",
            "programming",
            "spread",
            "drift",
            "read_noise",
            "iv",
            "faults",
            "readout",
        )
        return {n: b for n in names if (b := getattr(self, n)) is not None}

    def equations(self) -> dict[str, Equation]:
        """Dotted name -> equation, read-noise kinds included."""
        found = {n: b for n, b in self.blocks().items() if isinstance(b, Equation)}
        noise = self.read_noise
        if noise is not None:
            for kind in ("white", "flicker", "telegraph"):
                part = getattr(noise, kind)
                if part is not None:
                    found[f"read_noise.{kind}"] = part.amplitude
        return found

    @classmethod
    def parse(cls, data: dict[str, Any], where: str) -> Self:
        """Validate a dict.

        Args:
            data: as read from TOML, tables of points included.
            where: for the message: the file or a name.

        Returns:
            the card.

        Raises:
            DeviceError: says which key, what was given and what is allowed.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DeviceError(f"device card {where}: {one_line(error, cls)}") from None


def read_card(path: Path) -> DeviceCard:
    """Read a card and the points that it names.

    Raises:
        FileMissingError: the card or one of its CSV files does not exist.
        DeviceError: it is not TOML or not a valid card.
    """
    if not path.is_file():
        raise FileMissingError(f"device card {str(path)!r} does not exist")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"device card {str(path)!r} is not TOML: {error}") from None
    for key in ("switching", "programming", "drift", "iv"):
        block = data.get(key)
        if isinstance(block, dict) and isinstance(block.get("file"), str):
            block["table"] = read_columns(path.parent / block["file"])
    points = data.get("points", [])
    for item in points if isinstance(points, list) else []:
        if isinstance(item, dict) and isinstance(item.get("file"), str):
            item["table"] = read_columns(path.parent / item["file"])
    return DeviceCard.parse(data, repr(str(path)))
