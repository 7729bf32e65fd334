"""Fits of pulse curves: how one pulse moves a cell, and how that varies by pulse and by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares

from imcsim.devices.base import Window
from imcsim.devices.fitting.data import Column, by_cell
from imcsim.devices.fitting.result import Z95, Estimate, Fit, Floats, Picture
from imcsim.devices.fitting.writing import conductance_range
from imcsim.devices.switching import SWITCHING, SwitchingEquation
from imcsim.errors import DeviceError

PULSES = (
    Column("pulse", "pulses since the start of the train, 0 before the first", whole=True),
    Column("direction", "1 where pulses raise the conductance, -1 where they lower it"),
    Column("g_S", "conductance after the pulse, siemens"),
    Column("cell", "number of the cell", whole=True, optional=True),
)
CLEAR = 4.0
"""Steps that end within so many standard deviations of an end of the range, which cuts them, are left out."""

LEAST_CELLS = 3
"""So many cells are fitted one by one for their device-to-device variation."""

PARAMETERS: dict[str, dict[str, tuple[float, float, float]]] = {
    "neurosim": {"nl": (0.5, -9.9, 9.9)},
    "linear": {"step": (0.02, 1e-6, 1.0)},
    "soft_bounds": {"step": (0.02, 1e-6, 1.0)},
    "power": {"step": (0.02, 1e-6, 1.0), "gamma": (1.0, 0.0, 10.0)},
}
"""Equation -> parameter -> start and bounds; one of each a polarity (nl_up, nl_down)."""


@dataclass(frozen=True)
class Steps:
    """Neighbouring points of trains: states before and after one pulse.

    Attributes:
        before: states.
        after: likewise.
        up: polarity.
        cell: index of the cell.
    """

    before: Floats
    after: Floats
    up: np.ndarray
    cell: np.ndarray

    def where(self, keep: np.ndarray) -> Steps:
        """Some of them."""
        return Steps(self.before[keep], self.after[keep], self.up[keep], self.cell[keep])


@dataclass(frozen=True)
class _CellFit:
    """What was found of one cell (or of all together), and by how much its steps miss."""

    found: dict[str, Estimate]
    off: Floats


def fit_pulses(
    equation: str,
    csv: str,
    data: dict[str, Floats],
    pulse_up: Mapping[str, float] | None = None,
    pulse_down: Mapping[str, float] | None = None,
) -> Fit:
    """A switching equation from pulse trains.

    The range is from the mean start of the rising trains to the mean start of the falling ones, the number of
    pulses that crosses it (NeuroSim's Pmax) the length of the trains. Then least squares of single steps, x
    after a pulse
    given x before it: their errors are independent, those of whole curves add up. Steps cut at an end of the
    range are left out. With several cells each is fitted alone, and the spread of what was found, less its
    own error, is the device-to-device variation.

    Notes: the read error must be small against a step; it counts as cycle-to-cycle variation otherwise.
    """
    kind = equation.split(".")[1]
    pulses = _pulses(pulse_up, pulse_down)
    trains = _trains(csv, data)
    low = float(np.mean([data["g_S"][rows[0]] for _, up, rows in trains if up]))
    high = float(np.mean([data["g_S"][rows[0]] for _, up, rows in trains if not up]))
    if not high > low:
        raise DeviceError(
            f"{csv!r}: rising trains start at {low:.4g} S, falling ones at {high:.4g} S; they must start at "
            "the ends "
            "of the range, the rising ones below: check the column direction"
        )
    count = {
        up: int(max(data["pulse"][rows[-1]] for _, way, rows in trains if way == up)) for up in (True, False)
    }
    if kind == "table":
        return _fit_table(equation, csv, data, trains, (low, high), pulses)
    steps = _steps(data, trains, low, high)
    fixed = {
        **pulses,
        **({"pulses_up": count[True], "pulses_down": count[False]} if kind == "neurosim" else {}),
    }
    cells = np.unique(steps.cell)
    alone = kind != "power" and len(cells) >= LEAST_CELLS
    parts = [steps.where(steps.cell == c) for c in cells] if alone else [steps]
    fits = [_fit_cell(kind, part, fixed, csv) for part in parts]
    parameters, extra = _over_cells(kind, [one.found for one in fits]) if alone else (fits[0].found, {})
    off = np.concatenate([one.off for one in fits])
    freedom = len(off) - sum(len(one.found) for one in fits)
    sigma = float(np.sqrt(np.square(off).sum() / freedom))
    block = {
        "equation": kind,
        **fixed,
        **{name: float(parameters[name].value) for name in fits[0].found},
        **extra,
        "c2c_sigma_norm": sigma,
    }
    picture = _picture(data, trains, _model(kind, block), Window(high, max(low, 0.0)), count)
    left = len(steps.before) - len(off)
    return Fit(
        equation,
        csv,
        len(off),
        {**parameters, "c2c_sigma_norm": Estimate.deviation(sigma, freedom)},
        off / max(sigma, 1e-300) * np.sqrt(len(off) / freedom),
        {"conductance": conductance_range(low, high), "switching": block},
        picture,
        (f"{left} steps left out, cut at an end of the range",) if left else (),
    )


def _pulses(up: Mapping[str, float] | None, down: Mapping[str, float] | None) -> dict[str, Any]:
    """The pulses' amplitudes and widths, which no curve tells."""
    if up is None or down is None:
        raise DeviceError(
            "fit: pulse curves need the pulses that made them; give pulse_up = {'voltage_V': 1.6, 'width_s': "
            "50e-9} "
            "and pulse_down likewise"
        )
    return {"up": dict(up), "down": dict(down)}


def _trains(csv: str, data: dict[str, Floats]) -> list[tuple[int, bool, np.ndarray]]:
    """(cell, rising, rows) of every train: rows of one cell and direction, from one pulse = 0 to the next."""
    if not np.isin(data["direction"], (-1, 1)).all():
        bad = data["direction"][~np.isin(data["direction"], (-1, 1))][0]
        raise DeviceError(
            f"{csv!r}: direction = {bad:g}; 1 where pulses raise the conductance, -1 where they lower it"
        )
    cell = data.get("cell", np.zeros(len(data["pulse"])))
    trains = []
    for index, rows in enumerate(by_cell(cell)):
        for way in (1, -1):
            own = rows[data["direction"][rows] == way]
            starts = np.flatnonzero(data["pulse"][own] == 0)
            if len(own) and (not len(starts) or starts[0] != 0):
                raise DeviceError(f"{csv!r}: a train of cell {cell[rows[0]]:g} does not start with pulse = 0")
            trains += [(index, way == 1, part) for part in np.split(own, starts[1:]) if len(part) > 1]
    for _, _, rows in trains:
        if (np.diff(data["pulse"][rows]) != 1).any():
            k = int(np.argmax(np.diff(data["pulse"][rows]) != 1))
            raise DeviceError(
                f"{csv!r}: pulse {data['pulse'][rows[k + 1]]:g} follows pulse {data['pulse'][rows[k]]:g}; a "
                "train is "
                "read after every pulse: 0, 1, 2 ..."
            )
    if {up for _, up, _ in trains} != {True, False}:
        raise DeviceError(f"{csv!r}: rising and falling trains are needed, direction 1 and -1")
    return trains


def _steps(
    data: dict[str, Floats], trains: list[tuple[int, bool, np.ndarray]], low: float, high: float
) -> Steps:
    x = (data["g_S"] - low) / (high - low)
    return Steps(
        np.concatenate([x[rows[:-1]] for _, _, rows in trains]),
        np.concatenate([x[rows[1:]] for _, _, rows in trains]),
        np.concatenate([np.full(len(rows) - 1, up) for _, up, rows in trains]),
        np.concatenate([np.full(len(rows) - 1, index) for index, _, rows in trains]),
    )


def _model(kind: str, values: dict[str, Any]) -> SwitchingEquation:
    return SWITCHING[kind].model_validate(values)


def _moved(model: SwitchingEquation, steps: Steps) -> Floats:
    x = torch.from_numpy(steps.before.clip(0.0, 1.0))
    moved = model.moved(x, torch.ones_like(x), torch.from_numpy(steps.up), {})
    return np.asarray(moved.numpy(), dtype=np.float64)


def _fit_cell(kind: str, steps: Steps, fixed: dict[str, Any], csv: str) -> _CellFit:
    """Parameters of some steps, first from all of them, then without those that are cut."""
    inside = (steps.before >= 0) & (steps.before <= 1)
    used = steps.where(inside)
    found: dict[str, Estimate] = {}
    for _ in range(3):
        for way, up in (("up", True), ("down", False)):
            found.update(_fit_way(kind, used.where(used.up == up), way, {**fixed, **_values(found)}, csv))
        model = _model(kind, {**fixed, **_values(found)})
        off = used.after - _moved(model, used)
        near = CLEAR * float(np.sqrt(np.square(off).sum() / max(len(off) - len(found), 1)))
        expected = _moved(model, steps)
        keep = inside & (expected > near) & (expected < 1 - near)
        ways = min(int((keep & steps.up).sum()), int((keep & ~steps.up).sum()))
        if keep.sum() == len(off) or ways < 3 * len(found):
            break
        used = steps.where(keep)
    return _CellFit(found, off)


def _values(found: dict[str, Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.items()}


def _fit_way(kind: str, steps: Steps, way: str, fixed: dict[str, Any], csv: str) -> dict[str, Estimate]:
    """Least squares of one polarity's parameters."""
    spec = PARAMETERS[kind]
    names = [f"{name}_{way}" for name in spec]
    if len(steps.before) <= len(names):
        raise DeviceError(f"{csv!r}: {len(steps.before)} {way} pulses are too few for {', '.join(names)}")
    other = {f"{name}_{w}": start for name, (start, _, _) in spec.items() for w in ("up", "down")}

    def off(theta: Floats) -> Floats:
        given = dict(zip(names, map(float, theta), strict=True))
        return _moved(_model(kind, {**other, **fixed, **given}), steps) - steps.after

    start, low, high = (np.array(v) for v in zip(*spec.values(), strict=True))
    if kind == "neurosim" and way == "down":
        start = -start
    got = least_squares(off, start, bounds=(low, high), x_scale=np.maximum(np.abs(start), 1e-3), xtol=1e-12)
    freedom = max(len(steps.before) - len(names), 1)
    variance = float(np.square(got.fun).sum() / freedom)
    covariance = variance * np.linalg.pinv(got.jac.T @ got.jac)
    return {
        name: Estimate.normal(value, error)
        for name, value, error in zip(names, got.x, np.sqrt(np.diag(covariance)), strict=True)
    }


def _over_cells(kind: str, alone: list[dict[str, Estimate]]) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Means over cells that were fitted alone, and the device-to-device variation of the equation."""
    out: dict[str, Estimate] = {}
    totals, owns = [], []
    logs = kind != "neurosim"  # steps vary log-normally, labels normally
    for name in alone[0]:
        values = np.array([found[name].value for found in alone])
        errors = np.array([(found[name].high - found[name].low) / (2 * Z95) for found in alone])
        if logs:
            errors, values = errors / values, np.log(values)
        total = float(values.var(ddof=1))
        totals.append(total)
        owns.append(float(np.mean(errors**2)))
        mean = Estimate.normal(float(values.mean()), np.sqrt(total / len(alone)))
        if logs:
            mean = Estimate(*(float(np.exp(v + total / 2)) for v in (mean.value, mean.low, mean.high)))
        out[name] = mean
    total = float(np.mean(totals))
    sigma = float(np.sqrt(max(total - float(np.mean(owns)), 0.0)))
    error = total / np.sqrt(2 * len(totals) * (len(alone) - 1)) / max(sigma, np.sqrt(total / 10))
    name = "step_sigma_norm" if logs else "nl_sigma"
    return {**out, name: Estimate.normal(sigma, error)}, {name: sigma}


def _fit_table(
    equation: str,
    csv: str,
    data: dict[str, Floats],
    trains: list[tuple[int, bool, np.ndarray]],
    ends: tuple[float, float],
    pulses: dict[str, Any],
) -> Fit:
    """The mean curve over trains of equal length, as a table."""
    lengths = {len(rows) for _, _, rows in trains}
    if len(lengths) != 1:
        raise DeviceError(f"{csv!r}: trains of {sorted(lengths)} points; a table needs trains of one length")
    curves = {
        up: np.stack([data["g_S"][rows] for _, way, rows in trains if way == up]) for up in (True, False)
    }
    means = {up: c.mean(0) for up, c in curves.items()}
    for up, word in ((True, "rise"), (False, "fall")):
        if ((np.diff(means[up]) <= 0) if up else (np.diff(means[up]) >= 0)).any():
            raise DeviceError(
                f"{csv!r}: the mean {'rising' if up else 'falling'} curve does not {word} at every pulse; "
                "average more "
                "trains, or fit an equation such as switching.neurosim"
            )
    columns = {
        "pulse": [float(k) for k in range(lengths.pop())],
        "up_S": means[True].tolist(),
        "down_S": means[False].tolist(),
    }
    block = {"equation": "table", **pulses, "table": columns}
    model = _model("table", block)
    low, high = ends
    steps = _steps(data, trains, low, high)
    off = steps.after - _moved(model, steps)
    sigma = float(np.sqrt(np.mean(np.square(off))))
    block["c2c_sigma_norm"] = sigma
    count = {True: len(columns["pulse"]) - 1, False: len(columns["pulse"]) - 1}
    return Fit(
        equation,
        csv,
        len(off),
        {"c2c_sigma_norm": Estimate.deviation(sigma, len(off))},
        off / max(sigma, 1e-300),
        {"conductance": conductance_range(low, high), "switching": block},
        _picture(data, trains, model, Window(high, max(low, 0.0)), count),
    )


def _picture(
    data: dict[str, Floats],
    trains: list[tuple[int, bool, np.ndarray]],
    model: SwitchingEquation,
    window: Window,
    count: dict[bool, int],
) -> Picture:
    """Rising trains, then falling ones."""
    shift = np.where(data["direction"] > 0, 0, count[True])
    up = model.trace(window, "up", pulses=count[True])[:, 0].numpy()
    down = model.trace(window, "down", pulses=count[False])[:, 0].numpy()
    line_x = np.arange(count[True] + count[False] + 2, dtype=np.float64)
    line_x[count[True] + 1 :] -= 1
    lines = {"equation": 1e6 * np.concatenate([up, down])}
    return Picture(data["pulse"] + shift, 1e6 * data["g_S"], line_x, lines, "pulse", "conductance (µS)")
