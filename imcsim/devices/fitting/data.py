"""Measured points from CSV, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imcsim.devices.fitting.result import Floats
from imcsim.devices.points import read_columns
from imcsim.errors import DeviceError, FileMissingError, did_you_mean


@dataclass(frozen=True)
class Column:
    """A column of numbers that an equation needs.

    Attributes:
        name: its header, unit included.
        meaning: for messages and the manual.
        positive: values are above 0.
        whole: values are whole numbers of 0 or more.
        optional: it may be missing.
    """

    name: str
    meaning: str
    positive: bool = False
    whole: bool = False
    optional: bool = False


def read_measured(
    csv: str | os.PathLike[str], equation: str, columns: tuple[Column, ...], least: int
) -> dict[str, Floats]:
    """Read the columns of an equation.

    Args:
        csv: the file: a header, numbers, lines that start with # are comments.
        equation: for messages.
        columns: what it needs.
        least: rows it needs.

    Returns:
        Header -> values; columns that are not needed are left out.

    Raises:
        FileMissingError: there is no such file.
        DeviceError: a column is missing, too few rows, a value that is not finite or not allowed; says which
            line.
    """
    file = Path(csv)
    if not file.is_file():
        raise FileMissingError(f"measured points {str(file)!r} do not exist; give the path of a .csv file")
    table = read_columns(file)
    wanted = "; ".join(f"{c.name} ({c.meaning}{', optional' if c.optional else ''})" for c in columns)
    out: dict[str, Floats] = {}
    for column in columns:
        if column.name not in table:
            if column.optional:
                continue
            raise DeviceError(
                f"{str(file)!r} has no column {column.name!r}, which equation = {equation!r} needs."
                f"{did_you_mean(column.name, table)} It has {', '.join(table)}; needed: {wanted}"
            )
        values = np.array(table[column.name], dtype=np.float64)
        rule, good = "finite", np.isfinite(values)
        if column.positive:
            rule, good = "above 0", good & (values > 0)
        elif column.whole:
            rule, good = "a whole number of 0 or more", good & (values >= 0) & (values == np.rint(values))
        if not good.all():
            row = int(np.argmin(good))
            raise DeviceError(
                f"{str(file)!r}: column {column.name!r} ({column.meaning}) holds {values[row]:g} in data row "
                f"{row + 1}, but must be {rule}; correct the row or leave it out"
            )
        out[column.name] = values
    rows = len(next(iter(out.values())))
    if rows < least:
        raise DeviceError(
            f"{str(file)!r} has {rows} rows, but equation = {equation!r} needs {least} or more; measure more "
            "cells"
        )
    return out


def by_cell(cell: Floats) -> list[np.ndarray]:
    """Row numbers of each cell, in order of appearance of the cells."""
    _, first, index = np.unique(cell, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return [np.flatnonzero(index == k) for k in order]
