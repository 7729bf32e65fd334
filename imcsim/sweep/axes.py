"""What varies in a study: values to choose from, and ranges of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imcsim.errors import StudyError, did_you_mean
from imcsim.hardware import known_field

SETTINGS = (
    "hardware",
    "model",
    "checkpoint",
    "data",
    "seed",
    "age",
    "compensation",
    "engine",
    "fold_batchnorm",
)
"""Axes that are not fields of the hardware."""


@dataclass(frozen=True)
class Choices:
    """An axis of given values.

    Attributes:
        values: what to choose from.
    """

    values: tuple[Any, ...]

    def at(self, u: float) -> Any:
        """The value at a fraction u in [0, 1) of the axis: each has an equal share."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Range:
    """An axis of numbers, for random and Latin-hypercube designs and for searches.

    Attributes:
        low: the least.
        high: the greatest.
        log: spread evenly in the logarithm.
        integer: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        whole = not self.integer or (self.low == int(self.low) and self.high == int(self.high))
        if not (finite and whole and self.low < self.high and (self.low > 0 or not self.log)):
            raise StudyError(
                f"range {self.low!r} to {self.high!r} (log = {self.log}, integer = {self.integer}): low must "
                "be below high, both finite, above 0 where log = true and whole where integer = true"
            )

    def at(self, u: float) -> float | int:
        """The value at a fraction u in [0, 1) of the axis."""
        low, high = (self.low, self.high + 1) if self.integer else (self.low, self.high)
        value = low * (high / low) ** u if self.log else low + (high - low) * u
        return min(int(value), int(self.high)) if self.integer else value


Axis = Choices | Range


def read_axes(given: Mapping[str, Any], *, free: bool) -> dict[str, Axis]:
    """Axes by name, checked.

    Args:
        given: by name a list of values, a `Range`, or a table with low, high and perhaps log and integer.
            A name is a dotted field of the hardware, one of `SETTINGS`, or several joined by commas, which
            then take the same value.
        free: names of other things are allowed too (a study with a function of its own).

    Returns:
        The axes.

    Raises:
        StudyError: an unknown name, no values, or a wrong range.
    """
    if not isinstance(given, Mapping) or not given:
        raise StudyError(
            f"axes = {given!r:.80}: give a table of names with values, such as adc.bits = [5, 6]"
        )
    axes = {}
    for name, values in given.items():
        for part in split_name(name):
            if not (free or part in SETTINGS or known_field(part)):
                raise StudyError(
                    f"axis {part!r} is no field of a hardware description and no setting of a study."
                    f"{did_you_mean(part, [*SETTINGS, *_COMMON])} Settings: {', '.join(SETTINGS)}; fields "
                    "are dotted names such as adc.bits"
                )
        axes[name] = _axis(name, values)
    return axes


def split_name(name: str) -> list[str]:
    """The names that an axis sets together."""
    return [part.strip() for part in name.split(",")]


_COMMON = (
    *("adc.bits", "adc.range", "array.rows", "array.cols", "device.card", "device.programming"),
    *("inputs.bits", "weights.bits", "weights.cell_bits", "weights.encoding"),
)
"""Fields that a mistyped axis most likely means."""


def _axis(name: str, values: Any) -> Axis:
    if isinstance(values, Choices | Range):
        return values
    if isinstance(values, Mapping):
        unknown = set(values) - {"low", "high", "log", "integer"}
        if unknown or not {"low", "high"} <= set(values):
            raise StudyError(
                f"axis {name!r} = {dict(values)!r}: a range has low and high, and may have log and integer; "
                "give these, or a list of values"
            )
        return Range(**values)
    if isinstance(values, Sequence | range) and not isinstance(values, str) and len(values):
        return Choices(tuple(values))
    raise StudyError(
        f"axis {name!r} = {values!r:.80}: give a list with at least one value, or a range with low and high"
    )
