"""Fits of what happens after writing: drift, read noise and the current-voltage curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from imcsim.devices.fitting.data import Column, by_cell
from imcsim.devices.fitting.result import Z95, Estimate, Fit, Floats, Picture
from imcsim.devices.fitting.writing import conductance_range
from imcsim.errors import DeviceError

DRIFT = (
    Column("cell", "number of the cell", whole=True),
    Column("time_s", "time since the verify read, seconds"),
    Column("g_S", "conductance, siemens", positive=True),
)
READS = (
    Column("cell", "number of the cell", whole=True),
    Column("g_S", "conductance of one read, siemens"),
)
IV = (
    Column("voltage_V", "voltage across the cell"),
    Column("current_A", "current through it"),
)


def fit_power_law(equation: str, csv: str, data: dict[str, Floats], t0_s: float = 1.0) -> Fit:
    """Power-law drift: a line through each cell's ln g over ln(1 + t / t0), then the spread of slopes.

    The slopes' own variance ``s^2 / Sxx`` is taken off theirs; s is pooled over the cells.
    """
    if not t0_s > 0:
        raise DeviceError(
            f"fit: t0_s = {t0_s!r} is the time of the verify read; give a positive number of seconds"
        )
    if (data["time_s"] < 0).any():
        raise DeviceError(f"{csv!r}: time_s holds a negative time; it counts from the verify read")
    groups = by_cell(data["cell"])
    log_t, log_g = np.log1p(data["time_s"] / t0_s), np.log(data["g_S"])
    if len(groups) < 3 or any(len(np.unique(log_t[rows])) < 3 for rows in groups):
        raise DeviceError(
            f"{csv!r} has {len(groups)} cells; drift needs at least 3, each read at 3 or more different times"
        )
    slopes, starts, sxx = np.empty(len(groups)), np.empty(len(groups)), np.empty(len(groups))
    residuals = np.empty(len(log_g))
    for k, rows in enumerate(groups):
        x = log_t[rows] - log_t[rows].mean()
        sxx[k] = np.square(x).sum()
        slope = (x * log_g[rows]).sum() / sxx[k]
        starts[k] = log_g[rows].mean() - slope * log_t[rows].mean()
        residuals[rows] = log_g[rows] - starts[k] - slope * log_t[rows]
        slopes[k] = -slope
    freedom = len(log_g) - 2 * len(groups)
    s2 = float(np.square(residuals).sum() / freedom)
    total = float(slopes.var(ddof=1))
    own = max(total - s2 * float((1 / sxx).mean()), 0.0)
    n, nu, std = len(groups), float(slopes.mean()), float(np.sqrt(own))
    # d(std) = d(total) / (2 std), var(total) = 2 total^2 / (n - 1)
    std_error = total / np.sqrt(2 * (n - 1)) / max(std, np.sqrt(total / 10))
    parameters = {
        "nu_mean": Estimate.normal(nu, np.sqrt(total / n)),
        "nu_std": Estimate.normal(std, std_error),
    }
    notes = []
    if nu < 3 * std:
        notes.append("exponents reach below 0; the card folds their sign (nu = |N|): see fold in the card")
    block = {"equation": "power_law", "t0_s": t0_s, "nu_mean": nu, "nu_std": std, "fold": bool(nu >= 3 * std)}
    relative = np.empty(len(log_g))
    for k, rows in enumerate(groups):
        relative[rows] = data["g_S"][rows] / np.exp(starts[k])
    times = np.geomspace(max(t0_s / 10, 1e-12), max(data["time_s"].max(), t0_s), 100)
    lines = {
        label: np.exp(-v * np.log1p(times / t0_s))
        for label, v in (("mean exponent", nu), ("one deviation more", nu + std), ("one less", nu - std))
    }
    shown = data["time_s"] > 0
    picture = Picture(
        data["time_s"][shown],
        relative[shown],
        times,
        lines,
        "time since the verify read (s)",
        "g / g(0)",
        True,
    )
    g0 = np.exp(starts)
    return Fit(
        equation,
        csv,
        len(log_g),
        parameters,
        residuals / np.sqrt(max(s2, 1e-300)) * np.sqrt(len(log_g) / freedom),
        {"conductance": conductance_range(float(g0.min()), float(g0.max())), "drift": block},
        picture,
        tuple(notes),
    )


def fit_read_noise(equation: str, csv: str, data: dict[str, Floats]) -> Fit:
    """White read noise from repeated reads: pooled variance about each cell's mean; chi-square intervals."""
    kind = equation.split(".")[1]
    groups = [rows for rows in by_cell(data["cell"]) if len(rows) > 1]
    freedom = sum(len(rows) - 1 for rows in groups)
    if freedom < 10:
        raise DeviceError(
            f"{csv!r} has {freedom} repeated reads; read noise needs 10 or more reads beyond the first of "
            "each cell"
        )
    rows = np.concatenate(groups)
    mean = np.concatenate([np.full(len(r), data["g_S"][r].mean()) for r in groups])
    off = data["g_S"][rows] - mean
    low, high = float(mean.min()), float(mean.max())
    if kind == "proportional" and low <= 0:
        raise DeviceError(
            f"{csv!r}: a cell reads {low:g} S on average; proportional noise needs cells above 0"
        )
    if kind == "range" and high <= low:
        raise DeviceError(
            f"{csv!r}: noise as a fraction of the range needs cells at two conductances or more"
        )
    unit = {"proportional": mean, "range": np.full_like(mean, high - low), "constant": np.ones_like(mean)}[
        kind
    ]
    sigma = float(np.sqrt(np.square(off / unit).sum() / freedom))
    if not sigma > 0:
        raise DeviceError(f"{csv!r}: all reads of each cell are equal, so there is no noise to fit")
    name = "sigma_S" if kind == "constant" else "sigma_norm"
    order = np.argsort(mean)
    lines = {
        "one standard deviation": 1e6 * (sigma * unit)[order],
        "to either side": -1e6 * (sigma * unit)[order],
    }
    picture = Picture(
        1e6 * mean, 1e6 * off, 1e6 * mean[order], lines, "mean conductance (µS)", "read less mean (µS)"
    )
    block: dict[str, Any] = {"white": {"amplitude": {"equation": kind, name: sigma}}}
    return Fit(
        equation,
        csv,
        len(rows),
        {name: Estimate.deviation(sigma, freedom)},
        off / (sigma * unit) * np.sqrt(len(rows) / freedom),
        {"conductance": conductance_range(low, high), "read_noise": block},
        picture,
    )


def fit_sinh(equation: str, csv: str, data: dict[str, Floats]) -> Fit:
    """I = G V0 sinh(V / V0) by least squares; intervals from the covariance, errors taken as equal."""
    v, i = data["voltage_V"], data["current_A"]
    if len(np.unique(np.abs(v[v != 0]))) < 3:
        raise DeviceError(f"{csv!r}: an I-V curve needs 3 or more different voltages besides 0")
    top = float(np.abs(v).max())
    slope = float((v * i).sum() / np.square(v).sum())
    if not slope > 0:
        raise DeviceError(f"{csv!r}: the current does not rise with the voltage; check the columns' signs")

    def model(x: Floats, g: float, bend: float) -> Floats:
        # in bend = (V_top / V0)^2, which is 0 for a straight line and has no pole there
        u = np.sqrt(max(bend, 1e-12)) * x / top
        return np.asarray(g * np.sinh(u) / np.sqrt(max(bend, 1e-12)))

    scale = slope * top  # least squares stop on absolute tolerances: let the currents be near 1
    try:
        found, covariance = curve_fit(model, v, i / scale, p0=(0.7, 1.0), bounds=([0, 0], [10, 2500]))
    except RuntimeError as failure:
        raise DeviceError(f"{csv!r}: no sinh curve goes through these points ({failure})") from None
    error = np.sqrt(np.diag(covariance))
    g, bend = float(found[0] * slope), float(found[1])
    if bend < max(1e-6, Z95 * error[1]):
        raise DeviceError(
            f"{csv!r}: the curve is a straight line to within its noise; leave [iv] out of the card"
        )
    v0 = top / np.sqrt(bend)
    residuals = i - scale * model(v, *found)
    freedom = len(v) - 2
    s = float(np.sqrt(np.square(residuals).sum() / max(freedom, 1)))
    x = np.linspace(v.min(), v.max(), 200)
    picture = Picture(v, 1e6 * i, x, {"sinh": 1e6 * scale * model(x, *found)}, "voltage (V)", "current (µA)")
    block = {"equation": "sinh", "v0_V": float(v0), "read_voltage_V": top, "conductance_at": "read"}
    return Fit(
        equation,
        csv,
        len(v),
        {
            "g_S": Estimate.normal(g, error[0] * slope),
            "v0_V": Estimate.normal(v0, v0 * error[1] / (2 * bend)),
        },
        residuals / max(s, 1e-300) * np.sqrt(len(v) / max(freedom, 1)),
        {"iv": block},
        picture,
    )
