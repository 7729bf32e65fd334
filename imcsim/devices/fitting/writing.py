"""Fits of what writing leaves: states, and the programming error around a target."""

from __future__ import annotations

from typing import Any

import numpy as np

from imcsim.devices.fitting.data import Column, by_cell
from imcsim.devices.fitting.result import Estimate, Fit, Floats, Picture
from imcsim.errors import DeviceError

NEAR_ZERO = 4.0
"""Targets closer to 0 than so many standard deviations are left out: the cut at zero bends their errors."""

TARGET = (
    Column("target_S", "conductance aimed at, siemens"),
    Column("g_S", "conductance read after writing, siemens"),
)
LEVEL = (
    Column("level", "number of the state, 0 the least conducting", whole=True),
    Column("g_S", "conductance of the state, siemens"),
)


def conductance_range(low: float, high: float) -> dict[str, Any]:
    """The [conductance] table of a device measured between two conductances."""
    return {"g_max_S": float(high), "g_min_S": float(max(low, 0.0))}


def fit_levels(equation: str, csv: str, data: dict[str, Floats]) -> Fit:
    """States: the mean conductance of each level, with t-like intervals (normal, from the pooled spread).

    Notes: levels must be told apart: their means rise with the level.
    """
    groups = by_cell(data["level"])
    groups.sort(key=lambda rows: data["level"][rows[0]])
    levels = [int(data["level"][rows[0]]) for rows in groups]
    means = np.array([data["g_S"][rows].mean() for rows in groups])
    freedom = len(data["g_S"]) - len(groups)
    if len(groups) < 2 or freedom < 1:
        raise DeviceError(
            f"{csv!r} has {len(groups)} levels in {len(data['g_S'])} rows; levels need at least 2, and one "
            "of them "
            "measured twice"
        )
    if (np.diff(means) <= 0).any():
        k = int(np.argmax(np.diff(means) <= 0))
        raise DeviceError(
            f"{csv!r}: level {levels[k + 1]} conducts {means[k + 1]:.4g} S on average, not more than level "
            f"{levels[k]} with {means[k]:.4g} S; number the levels by conductance"
        )
    errors = np.concatenate([data["g_S"][rows] - mean for rows, mean in zip(groups, means, strict=True)])
    sigma = float(np.sqrt(np.square(errors).sum() / freedom))
    parameters = {
        f"level_{level}_S": Estimate.normal(mean, sigma / np.sqrt(len(rows)))
        for level, mean, rows in zip(levels, means, groups, strict=True)
    }
    parameters["sigma_S"] = Estimate.deviation(sigma, freedom)
    states = [float(max(mean, 0.0)) for mean in means]
    block = {
        **conductance_range(states[0], states[-1]),
        "levels_S": states,
        "snap": True,
    }
    picture = Picture(
        data["level"],
        1e6 * data["g_S"],
        np.array(levels, dtype=np.float64),
        {"mean of the level": 1e6 * means},
        "level",
        "conductance (µS)",
    )
    return Fit(
        equation,
        csv,
        len(data["g_S"]),
        parameters,
        errors / max(sigma, 1e-300),
        {"conductance": block},
        picture,
    )


def fit_programming(equation: str, csv: str, data: dict[str, Floats], degree: int = 2) -> Fit:
    """The programming error: maximum likelihood of a standard deviation that depends on the target.

    sigma(g) = sum_j c_j phi_j(g), found by Fisher scoring; one term has a closed form and a chi-square
    interval, several have normal intervals from the Fisher information ``I_jk = sum_i 2 phi_j phi_k /
    sigma_i^2``.
    """
    kind = equation.split(".")[1]
    target, written = data["target_S"], data["g_S"]
    if target.max() <= 0 or (target < 0).any():
        raise DeviceError(f"{csv!r}: target_S must hold conductances of 0 or more, at least one above 0")
    span = float(target.max() - target.min())
    if kind == "lognormal":
        return _fit_lognormal(equation, csv, target, written)
    if kind == "table":
        return _fit_table(equation, csv, target, written)
    if kind == "range" and span <= 0:
        raise DeviceError(
            f"{csv!r}: all targets are {target[0]:g} S; a range needs at least two different ones"
        )
    g_ref = float(target.max())
    terms = {
        "constant": [np.ones_like(target)],
        "range": [np.full_like(target, span)],
        "proportional": [target],
        "polynomial": [(target / g_ref) ** k for k in range(degree + 1)],
    }[kind]
    used = np.ones(len(target), dtype=bool)
    for _ in range(4):
        c, errors = _scale(np.stack(terms)[:, used], (written - target)[used], csv)
        sigma = c @ np.stack(terms)
        keep = (sigma > 0) & (target >= NEAR_ZERO * sigma)
        if (keep == used).all() or keep.sum() < max(10, 3 * len(terms)):
            break
        used = keep
    sigma = c @ np.stack(terms)
    residuals = (written - target)[used] / sigma[used]
    freedom = int(used.sum())
    if len(terms) == 1:
        name = "sigma_S" if kind == "constant" else "sigma_norm"
        parameters = {name: Estimate.deviation(float(c[0]), freedom)}
        block: dict[str, Any] = {"equation": kind, name: float(c[0])}
    else:
        parameters = {f"coefficient_{k}_S": Estimate.normal(c[k], errors[k]) for k in range(len(c))}
        block = {"equation": kind, "coefficients_S": [float(v) for v in c], "g_ref_S": g_ref}
    return Fit(
        equation,
        csv,
        freedom,
        parameters,
        residuals,
        {"conductance": conductance_range(target.min(), target.max()), "programming": block},
        _error_picture(target, written, sigma),
        _notes(residuals, len(target) - freedom),
    )


def _scale(phi: Floats, error: Floats, csv: str) -> tuple[Floats, Floats]:
    """Coefficients of sigma and their standard errors. Shapes: phi (terms, rows), error (rows,)."""
    if len(phi) == 1:
        ok = phi[0] > 0
        c = np.array([np.sqrt(np.mean(np.square(error[ok] / phi[0][ok])))])
        if not c[0] > 0:
            raise DeviceError(f"{csv!r}: g_S equals target_S in every row, so there is no error to fit")
        return c, c / np.sqrt(2 * ok.sum())
    # starting point: E|e| = sigma sqrt(2 / pi)
    c = np.linalg.lstsq(phi.T, np.abs(error) * np.sqrt(np.pi / 2), rcond=None)[0]
    floor = 1e-3 * float(np.sqrt(np.mean(np.square(error))))
    information = np.eye(len(phi))
    for _ in range(200):
        sigma = np.maximum(c @ phi, floor)
        information = 2 * (phi / sigma**2) @ phi.T
        score = phi @ ((np.square(error) / sigma**2 - 1) / sigma)
        step = np.linalg.solve(information, score)
        c = c + step
        if np.abs(step @ phi).max() < 1e-10 * np.abs(c @ phi).max():
            break
    return c, np.sqrt(np.diag(np.linalg.inv(information)))


def _fit_lognormal(equation: str, csv: str, target: Floats, written: Floats) -> Fit:
    used = (target > 0) & (written > 0)
    if used.sum() < 10:
        raise DeviceError(
            f"{csv!r}: {int(used.sum())} rows have positive conductances; at least 10 are needed"
        )
    logs = np.log(written[used] / target[used])
    sigma = float(np.sqrt(np.mean(np.square(logs))))
    if not sigma > 0:
        raise DeviceError(f"{csv!r}: g_S equals target_S in every row, so there is no error to fit")
    block = {"equation": "lognormal", "sigma_norm": sigma}
    return Fit(
        equation,
        csv,
        int(used.sum()),
        {"sigma_norm": Estimate.deviation(sigma, int(used.sum()))},
        logs / sigma,
        {"conductance": conductance_range(target.min(), target.max()), "programming": block},
        _error_picture(target, written, sigma * target),
        _notes(logs / sigma, len(target) - int(used.sum())),
    )


def _fit_table(equation: str, csv: str, target: Floats, written: Floats) -> Fit:
    groups = sorted(by_cell(target), key=lambda rows: target[rows[0]])
    if min(len(rows) for rows in groups) < 2:
        k = next(float(target[rows[0]]) for rows in groups if len(rows) < 2)
        raise DeviceError(
            f"{csv!r}: target_S = {k:g} was written once; a table needs every target twice or more"
        )
    g = np.array([target[rows[0]] for rows in groups])
    sigma = np.array([np.sqrt(np.mean(np.square(written[rows] - target[rows]))) for rows in groups])
    parameters = {
        f"sigma_at_{at:.3g}_S": Estimate.deviation(float(s), len(rows))
        for at, s, rows in zip(g, sigma, groups, strict=True)
    }
    spread = np.interp(target, g, sigma)
    residuals = (written - target) / np.maximum(spread, 1e-300)
    table = {"g_S": [float(v) for v in g], "sigma_S": [float(v) for v in sigma]}
    return Fit(
        equation,
        csv,
        len(target),
        parameters,
        residuals,
        {
            "conductance": conductance_range(target.min(), target.max()),
            "programming": {"equation": "table", "table": table},
        },
        _error_picture(target, written, spread),
        _notes(residuals, 0),
    )


def _error_picture(target: Floats, written: Floats, sigma: Floats) -> Picture:
    order = np.argsort(target)
    x = 1e6 * target[order]
    lines = {"one standard deviation": 1e6 * sigma[order], "to either side": -1e6 * sigma[order]}
    return Picture(1e6 * target, 1e6 * (written - target), x, lines, "target conductance (µS)", "error (µS)")


def _notes(residuals: Floats, left_out: int) -> tuple[str, ...]:
    notes = []
    if left_out:
        notes.append(f"{left_out} rows left out: targets within {NEAR_ZERO:g} standard deviations of 0")
    shift = float(residuals.mean() * np.sqrt(len(residuals)))
    if abs(shift) > 4:
        notes.append(
            f"the mean error is {shift:.1f} standard errors from 0, but the equation has no bias: cells land "
            "beside "
            "their targets on average"
        )
    return tuple(notes)
