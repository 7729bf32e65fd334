"""Drift and relaxation after programming: the conductance as a function of the time since the verify read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from torch import Tensor

from imcsim.devices.base import (
    BOLTZMANN_eV_per_K,
    Equation,
    Window,
    check_columns,
    interpolate,
    polynomial,
    standard_normal,
)

State = Mapping[str, Tensor]


def arrhenius_acceleration(activation_energy_eV: float, temperature_K: float, reference_K: float) -> float:
    """How much faster a thermally activated process runs than at the reference temperature.

    AF = exp(E_a / k (1 / T_ref - 1 / T)).

    Units: electronvolts, kelvin; returns a pure number, 1 at T = T_ref.
    """
    return math.exp(activation_energy_eV / BOLTZMANN_eV_per_K * (1 / reference_K - 1 / temperature_K))


def power_law(g_S: Tensor, nu: Tensor | float, seconds: float, t0_s: float) -> Tensor:
    """Power-law drift.

    g(t) = g (t / t0)^-nu, t = t0 + seconds.

    Shapes: g_S any; nu broadcasts to it; returns the shape of g_S.
    Units: siemens, seconds.

    Args:
        g_S: conductance as programmed.
        nu: drift exponent of each cell.
        seconds: time since the verify read.
        t0_s: the verify read's own time after the last pulse.

    Returns:
        the conductance now.
    """
    log_time = math.log1p(seconds / t0_s)
    if isinstance(nu, Tensor):
        return g_S * torch.exp(-nu * log_time)
    return g_S * math.exp(-nu * log_time)


def clamped_log(r: Tensor, slope: float, offset: float, low: float, high: float) -> Tensor:
    """clamp(slope ln r + offset, low, high), with r not below 1e-7. Shapes: any; returns that of r."""
    return (slope * torch.log(r.clamp(min=1e-7)) + offset).clamp(low, high)


class ClampedLog(BaseModel):
    """A number that depends on the state: clamp(slope ln(g / g_ref) + offset, low, high)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slope: float
    offset: float
    low: float
    high: float

    @model_validator(mode="after")
    def _order(self) -> ClampedLog:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self


class DriftEquation(Equation):
    """What happens to a cell after programming.

    `draw` gives the buffers to hold (an empty dict where none is needed), `at` the conductance at a time.
    With an activation energy, time runs faster by the Arrhenius factor.
    """

    t0_s: float = Field(default=1.0, gt=0)
    activation_energy_eV: float | None = Field(default=None, ge=0)
    reference_temperature_K: float = Field(default=300.0, gt=0)

    def acceleration(self, temperature_K: float) -> float:
        """Arrhenius factor at this temperature; 1 without an activation energy."""
        if self.activation_energy_eV is None:
            return 1.0
        return arrhenius_acceleration(self.activation_energy_eV, temperature_K, self.reference_temperature_K)

    @property
    def valid_until_s(self) -> float | None:
        """The time after which the equation holds its last value, where it does."""
        return None

    def draw(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> dict[str, Tensor]:
        """Buffers of each cell. Shapes: those of target_S. Units: as named."""
        raise NotImplementedError

    def at(self, g_S: Tensor, state: State, seconds: float, window: Window) -> Tensor:
        """The conductance `seconds` after the verify read, at the reference temperature.

        Shapes: those of g_S, which is the conductance as programmed. Units: siemens.
        """
        raise NotImplementedError


class PowerLawDrift(DriftEquation):
    """Power-law drift; the exponent is drawn at programming, from the state that was aimed at.

    nu = |N(nu_mean, nu_std)|, each a number or a clamped logarithm of g / g_ref.

    References: Nandakumar et al., IEEE ICECS 2019 (PCM).
    """

    equation: Literal["power_law"] = "power_law"
    nu_mean: float | ClampedLog
    nu_std: float | ClampedLog = 0.0
    g_ref_S: float | None = Field(default=None, gt=0)
    fold: bool = True

    @model_validator(mode="after")
    def _needs_reference(self) -> PowerLawDrift:
        if self.absolute() and self.g_ref_S is None:
            raise ValueError("g_ref_S is needed where nu_mean or nu_std depends on the state")
        low = self.nu_std.low if isinstance(self.nu_std, ClampedLog) else self.nu_std
        if low < 0:
            raise ValueError(f"nu_std = {low}: a standard deviation is not negative")
        return self

    def absolute(self) -> bool:  # noqa: D102
        return isinstance(self.nu_mean, ClampedLog) or isinstance(self.nu_std, ClampedLog)

    @property
    def reach_S(self) -> float | None:  # noqa: D102
        return self.g_ref_S

    def _value(self, number: float | ClampedLog, g_S: Tensor) -> Tensor | float:
        if isinstance(number, ClampedLog):
            assert self.g_ref_S is not None  # a validator saw to it
            return clamped_log(g_S / self.g_ref_S, number.slope, number.offset, number.low, number.high)
        return number

    def mean_of(self, g_S: Tensor) -> Tensor:
        """Mean exponent before folding. Shapes: those of g_S."""
        return torch.zeros_like(g_S) + self._value(self.nu_mean, g_S)

    def std_of(self, g_S: Tensor) -> Tensor:
        """Standard deviation of the exponent before folding. Shapes: those of g_S."""
        return torch.zeros_like(g_S) + self._value(self.nu_std, g_S)

    def draw(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: D102
        if self.nu_std == 0.0 and not isinstance(self.nu_mean, ClampedLog):
            return {}
        nu = self.mean_of(target_S) + self.std_of(target_S) * standard_normal(target_S, rng)
        return {"drift_nu": (nu.abs() if self.fold else nu).to(torch.float32)}

    def at(self, g_S: Tensor, state: State, seconds: float, window: Window) -> Tensor:  # noqa: D102
        nu: Any = state.get("drift_nu", self.nu_mean)
        return power_law(g_S, nu, seconds, self.t0_s)


class RelaxationLogDrift(DriftEquation):
    """Relaxation whose mean and spread go with the logarithm of time, whatever the state.

    g(t) = g + m ln(max(t, t_ref) / t_ref) + z max(0, s0 + s1 ln(t / t_ref)), t = t0 + seconds, z ~ N(0, 1) a
    cell.

    Notes:
        The published fit starts at t_ref = 1 s, where it already has the spread s0. Its own line, followed
        back in time, reaches zero at t_ref exp(-s0 / s1); before that there is no spread here, so that the
        conductance starts from what was programmed and has no jump. t0 must lie before that time. The mean
        does not move before t_ref. The draw z of a cell is kept: one chip's relaxation at two times is fully
        correlated.

    References: Falcone et al., arXiv 2502.04524 (CMO/HfOx), as carried by IBM's analog hardware kit.
    """

    needs_siemens: ClassVar[bool] = True
    equation: Literal["relaxation_log"] = "relaxation_log"
    mean_slope_S: float
    std_slope_S: float = Field(ge=0)
    std_offset_S: float = Field(ge=0)
    t_ref_s: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _starts_from_nothing(self) -> RelaxationLogDrift:
        if self.std_of(self.t0_s) > 1e-6 * max(self.std_offset_S, self.std_slope_S):
            raise ValueError(
                f"t0_s = {self.t0_s}: the spread has not started from zero there; at most t_ref_s "
                "exp(-std_offset_S / std_slope_S) is allowed, so that age 0 is as programmed"
            )
        return self

    def std_of(self, time_s: float) -> float:
        """Spread at a time after the last pulse. Units: siemens."""
        return max(0.0, self.std_offset_S + self.std_slope_S * math.log(time_s / self.t_ref_s))

    def mean_of(self, time_s: float) -> float:
        """Mean shift at a time after the last pulse. Units: siemens."""
        return self.mean_slope_S * max(0.0, math.log(time_s / self.t_ref_s))

    def draw(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: D102
        return {"drift_z": standard_normal(target_S, rng)}

    def at(self, g_S: Tensor, state: State, seconds: float, window: Window) -> Tensor:  # noqa: D102
        t = self.t0_s + seconds
        return (g_S + self.mean_of(t) + state["drift_z"] * self.std_of(t)).clamp(min=0.0)


class _SigmaTable(DriftEquation):
    """Spread around the target, known at some times, linear in ln t between them, held after the last.

    g(t) = g + z sqrt(max(0, s(target, t)^2 - s(target, t_first)^2)), t = t0 + seconds, z ~ N(0, 1) a cell.

    With a programming error of standard deviation s(target, t_first) the deviation from the target has
    exactly the tabulated one at every tabulated time.

    Notes:
        The published tables give distributions, not trajectories; that increments add in quadrature and keep
        their z is an assumption. Where a later table is narrower than the first, the cell stays as
        programmed.
    """

    needs_siemens: ClassVar[bool] = True

    def _times(self) -> tuple[float, ...]:
        raise NotImplementedError

    def _sigma_at(self, k: int, g_S: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def valid_until_s(self) -> float | None:
        return self._times()[-1] - self.t0_s

    def sigma_of(self, g_S: Tensor, time_s: float) -> Tensor:
        """Total spread at a time after the last pulse. Shapes: those of g_S. Units: siemens."""
        times = self._times()
        if time_s <= times[0]:
            return self._sigma_at(0, g_S)
        if time_s >= times[-1]:
            return self._sigma_at(len(times) - 1, g_S)
        k = int(np.searchsorted(times, time_s, side="right"))
        w = math.log(time_s / times[k - 1]) / math.log(times[k] / times[k - 1])
        return torch.lerp(self._sigma_at(k - 1, g_S), self._sigma_at(k, g_S), w)

    def draw(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"drift_z": standard_normal(target_S, rng), "target_S": target_S.to(torch.float32)}

    def at(self, g_S: Tensor, state: State, seconds: float, window: Window) -> Tensor:
        target = state["target_S"]
        first = self._sigma_at(0, target)
        grown = self.sigma_of(target, self.t0_s + seconds).square() - first.square()
        return (g_S + state["drift_z"] * grown.clamp(min=0.0).sqrt()).clamp(min=0.0)


class PolynomialTableDrift(_SigmaTable):
    """Spread at some times, each a polynomial of g / g_ref; see the base class for the time between.

    References: Wan et al., Nature 2022, DOI 10.1038/s41586-022-04992-8, Extended Data Fig. 3d.
    """

    equation: Literal["polynomial_table"] = "polynomial_table"
    times_s: tuple[float, ...] = Field(min_length=1)
    coefficients_S: tuple[tuple[float, ...], ...]
    g_ref_S: float = Field(gt=0)

    @model_validator(mode="after")
    def _shape(self) -> PolynomialTableDrift:
        if len(self.coefficients_S) != len(self.times_s):
            raise ValueError(
                f"{len(self.times_s)} times but {len(self.coefficients_S)} lists of coefficients_S"
            )
        if any(b <= a for a, b in itertools.pairwise(self.times_s)) or self.times_s[0] <= 0:
            raise ValueError("times_s must be positive and increase")
        if self.t0_s > self.times_s[0]:
            raise ValueError(f"t0_s = {self.t0_s} is after the first table at {self.times_s[0]} s")
        return self

    @property
    def reach_S(self) -> float | None:  # noqa: D102
        return self.g_ref_S

    def _times(self) -> tuple[float, ...]:
        return self.times_s

    def _sigma_at(self, k: int, g_S: Tensor) -> Tensor:
        return polynomial(g_S / self.g_ref_S, self.coefficients_S[k]).clamp(min=0.0)


class TableDrift(_SigmaTable):
    """Spread from measured points: columns time_s, g_S, sigma_S, the g_S of each time increasing."""

    equation: Literal["table"] = "table"
    file: str = ""
    table: dict[str, tuple[float, ...]]
    _by_time: dict[float, tuple[tuple[float, ...], tuple[float, ...]]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _split(self) -> TableDrift:
        missing = [c for c in ("time_s", "g_S", "sigma_S") if c not in self.table]
        if missing:
            raise ValueError(f"column(s) {', '.join(missing)} missing; the table has {', '.join(self.table)}")
        rows = list(zip(self.table["time_s"], self.table["g_S"], self.table["sigma_S"], strict=True))
        for t in sorted({r[0] for r in rows}):
            part = {
                "g_S": tuple(r[1] for r in rows if r[0] == t),
                "sigma_S": tuple(r[2] for r in rows if r[0] == t),
            }
            check_columns(part, ("g_S", "sigma_S"), "g_S")
            self._by_time[t] = (part["g_S"], part["sigma_S"])
        if not rows or min(self._by_time) < self.t0_s or min(self.table["sigma_S"]) < 0:
            raise ValueError("a table that starts at or after t0_s, with no negative sigma_S, is needed")
        return self

    def _times(self) -> tuple[float, ...]:
        return tuple(self._by_time)

    def _sigma_at(self, k: int, g_S: Tensor) -> Tensor:
        return interpolate(g_S, *self._by_time[self._times()[k]])
