"""The points of a card: values that its equations must reproduce, and how closely they do."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from imcsim.devices.drift import PolynomialTableDrift, PowerLawDrift, RelaxationLogDrift, TableDrift
from imcsim.errors import DeviceError, FileMissingError

if TYPE_CHECKING:
    from imcsim.devices.card import DeviceCard


class PointSet(BaseModel):
    """Points from a CSV file beside the card.

    `kind` says what they are: measured, or only evaluated from a published fit (then they prove that the
    card's numbers were copied right, and nothing about the device). `residual` is the largest |equation -
    point| over the largest |point|. The last column is the quantity, the others its arguments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str
    quantity: str
    kind: Literal["measured", "evaluated from the published fit", "assumed"]
    residual: float = Field(gt=0)
    note: str = ""
    table: dict[str, tuple[float, ...]]


def read_columns(path: Path) -> dict[str, tuple[float, ...]]:
    """Read a CSV file of numbers with a header; lines that start with # are comments.

    Raises:
        FileMissingError: no such file.
        DeviceError: it is no CSV file, a row of another length, or something that is not a number; says the
            line.
    """
    if not path.is_file():
        raise FileMissingError(f"the points {str(path)!r} that a device card names do not exist")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [
                (n, r) for n, r in enumerate(csv.reader(stream), 1) if r and not r[0].lstrip().startswith("#")
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DeviceError(f"{str(path)!r} is not a CSV file in UTF-8: {error}") from None
    if len(rows) < 2:
        raise DeviceError(f"{str(path)!r}: a header and at least one row are needed")
    header = [c.strip() for c in rows[0][1]]
    columns: list[list[float]] = [[] for _ in header]
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DeviceError(f"{str(path)!r} line {line}: {len(row)} values for {len(header)} columns")
        for column, text in zip(columns, row, strict=True):
            try:
                column.append(float(text))
            except ValueError:
                raise DeviceError(f"{str(path)!r} line {line}: {text!r} is not a number") from None
    return dict(zip(header, map(tuple, columns), strict=True))


def _programming_sigma(card: DeviceCard, x: dict[str, Tensor]) -> Tensor:
    return card.programming.sigma_of(x["g_S"], card.conductance.window())


def _drift_nu(card: DeviceCard, x: dict[str, Tensor], which: str) -> Tensor:
    if not isinstance(card.drift, PowerLawDrift):
        raise DeviceError(f"card {card.name!r} has no power-law drift, so no drift.{which}")
    return card.drift.mean_of(x["g_S"]) if which == "nu_mean" else card.drift.std_of(x["g_S"])


def _drift_sigma(card: DeviceCard, x: dict[str, Tensor]) -> Tensor:
    drift = card.drift
    if isinstance(drift, RelaxationLogDrift):
        return torch.tensor([drift.std_of(t) for t in x["time_s"].tolist()], dtype=torch.float64)
    if isinstance(drift, PolynomialTableDrift | TableDrift):
        pairs = zip(x["time_s"].tolist(), x["g_S"], strict=True)
        return torch.stack([drift.sigma_of(g, t) for t, g in pairs])
    raise DeviceError(
        f"card {card.name!r} has no drift with a tabulated or logarithmic spread, so no drift.sigma_S"
    )


def _drift_mean(card: DeviceCard, x: dict[str, Tensor]) -> Tensor:
    if not isinstance(card.drift, RelaxationLogDrift):
        raise DeviceError(f"card {card.name!r} has no logarithmic relaxation, so no drift.mean_S")
    return torch.tensor([card.drift.mean_of(t) for t in x["time_s"].tolist()], dtype=torch.float64)


def _read_sigma(card: DeviceCard, x: dict[str, Tensor]) -> Tensor:
    if card.read_noise is None or card.read_noise.white is None:
        raise DeviceError(f"card {card.name!r} has no white read noise, so no read_noise.sigma_S")
    white, window = card.read_noise.white, card.conductance.window()
    pairs = zip(x["time_s"].tolist(), x["g_S"], strict=True)
    return torch.stack([white.sigma_of(g, t - white.t0_s, window) for t, g in pairs])


QUANTITIES: dict[str, Callable[[DeviceCard, dict[str, Tensor]], Tensor]] = {
    "programming.sigma_S": _programming_sigma,
    "drift.nu_mean": lambda card, x: _drift_nu(card, x, "nu_mean"),
    "drift.nu_std": lambda card, x: _drift_nu(card, x, "nu_std"),
    "drift.sigma_S": _drift_sigma,
    "drift.mean_S": _drift_mean,
    "read_noise.sigma_S": _read_sigma,
    "iv.ratio": lambda card, x: card.iv.ratio(x["voltage_V"]),
}


def residual(card: DeviceCard, points: PointSet) -> float:
    """How far a card's equation is from its points.

    max |equation - point| / max |point|.

    Args:
        card: the card.
        points: one of its sets.

    Returns:
        the residual, to compare with the one the set states.

    Raises:
        DeviceError: a quantity that is not known or that the card has no equation for; a column that is
            missing.
    """
    if points.quantity not in QUANTITIES:
        raise DeviceError(f"points quantity {points.quantity!r} is not one of {', '.join(QUANTITIES)}")
    columns = {k: torch.tensor(v, dtype=torch.float64) for k, v in points.table.items()}
    *_, last = columns
    want = columns.pop(last)
    try:
        got = QUANTITIES[points.quantity](card, columns)
    except KeyError as error:
        raise DeviceError(
            f"points {points.file!r} of card {card.name!r}: column {error} is missing"
        ) from None
    return float((got - want).abs().max() / want.abs().max())
