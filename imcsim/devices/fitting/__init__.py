"""Measured points to a device card: one equation at a time, with intervals."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imcsim.devices.fitting import pulses, reading, writing
from imcsim.devices.fitting.data import Column, read_measured
from imcsim.devices.fitting.result import Estimate, Fit
from imcsim.errors import DeviceError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """How an equation is fitted.

    Attributes:
        run: the fit.
        columns: what it needs of the CSV file.
        least: rows it needs.
        options: names of what it may be told besides.
    """

    run: Callable[..., Fit]
    columns: tuple[Column, ...]
    least: int
    options: tuple[str, ...] = ()


def _writing(*options: str) -> Recipe:
    return Recipe(writing.fit_programming, writing.TARGET, 10, options)


def _pulses() -> Recipe:
    return Recipe(pulses.fit_pulses, pulses.PULSES, 4, ("pulse_up", "pulse_down"))


RECIPES: dict[str, Recipe] = {
    "levels": Recipe(writing.fit_levels, writing.LEVEL, 3),
    "programming.constant": _writing(),
    "programming.range": _writing(),
    "programming.proportional": _writing(),
    "programming.polynomial": _writing("degree"),
    "programming.lognormal": _writing(),
    "programming.table": _writing(),
    "drift.power_law": Recipe(reading.fit_power_law, reading.DRIFT, 9, ("t0_s",)),
    "read_noise.constant": Recipe(reading.fit_read_noise, reading.READS, 11),
    "read_noise.range": Recipe(reading.fit_read_noise, reading.READS, 11),
    "read_noise.proportional": Recipe(reading.fit_read_noise, reading.READS, 11),
    "iv.sinh": Recipe(reading.fit_sinh, reading.IV, 4),
    "switching.neurosim": _pulses(),
    "switching.linear": _pulses(),
    "switching.soft_bounds": _pulses(),
    "switching.power": _pulses(),
    "switching.table": _pulses(),
}
"""Block and equation -> how it is fitted; the block may be left out where the equation's name is enough."""


def fit(csv: str | os.PathLike[str], *, equation: str, **options: Any) -> Fit:
    """Fit an equation of a device card to measured points.

    Args:
        csv: a header and numbers; lines that start with # are comments. Columns, by equation: levels: level,
            g_S. programming.*: target_S, g_S. drift.power_law: cell, time_s, g_S. read_noise.*: cell, g_S.
            iv.sinh: voltage_V, current_A. switching.*: pulse, direction (1 or -1), g_S and perhaps cell.
        equation: "levels", or block and equation: "programming.constant", "programming.range",
            "programming.proportional", "programming.polynomial", "programming.lognormal",
            "programming.table", "drift.power_law", "read_noise.constant", "read_noise.range",
            "read_noise.proportional", "iv.sinh", "switching.neurosim", "switching.linear",
            "switching.soft_bounds", "switching.power", "switching.table". The equation alone will do where
            only one block has it.
        **options: degree (programming.polynomial, 2); t0_s (drift.power_law, 1.0: the verify read's own
            time); pulse_up and pulse_down (switching.*: dicts of voltage_V and width_s).

    Returns:
        The fit: parameters with 95 % intervals, residuals, `plot()`, and `save(path)`, which writes a card or
        adds to one.

    Raises:
        FileMissingError: there is no such file.
        DeviceError: an equation or option that is not known, a column that is missing, points that cannot be
            fitted; says which and what is needed.
    """
    name = _named(equation)
    recipe = RECIPES[name]
    for key in options:
        if key not in recipe.options:
            allowed = ", ".join(recipe.options) or "none"
            raise DeviceError(
                f"fit: option {key!r} is not one of equation {name!r}; allowed: {allowed}."
                f"{did_you_mean(key, recipe.options)}"
            )
    degree = options.get("degree", 2)
    if isinstance(degree, bool) or not isinstance(degree, int) or not 0 <= degree <= 6:
        raise DeviceError(f"fit: degree = {degree!r}; give a whole number from 0 to 6")
    data = read_measured(csv, name, recipe.columns, recipe.least)
    return recipe.run(name, str(csv), data, **options)


def _named(equation: str) -> str:
    """The full name of an equation."""
    if equation in RECIPES:
        return equation
    short = [name for name in RECIPES if name.split(".")[-1] == equation]
    if len(short) == 1:
        return short[0]
    if short:
        raise DeviceError(f"equation = {equation!r} is in several blocks; say which: {', '.join(short)}")
    raise DeviceError(
        f"equation = {equation!r} cannot be fitted; allowed: {', '.join(RECIPES)}."
        f"{did_you_mean(str(equation), RECIPES)}"
    )


__all__ = ["RECIPES", "Estimate", "Fit", "fit"]
