"""Programming error, device-to-device spread and discrete levels: what is written differs from the target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from imcsim.devices.base import Equation, Window, check_columns, interpolate, polynomial, standard_normal
from imcsim.errors import DeviceError


def gaussian_error(target_S: Tensor, sigma_S: Tensor, rng: np.random.Generator) -> Tensor:
    """Add an independent normal error to every cell, those at g_min too.

    g = max(0, target + sigma z), z ~ N(0, 1).

    Shapes: target_S any; sigma_S broadcasts to it; returns the shape of target_S.
    Units: siemens.

    Args:
        target_S: conductance aimed at.
        sigma_S: standard deviation of each cell.
        rng: generator; draws are float32 on the CPU.

    Returns:
        the conductance written.

    Notes:
        The cut at zero shifts the mean of a cell whose target is within a few sigma of zero (by 0.4 sigma at
        a target of 0); the published models that this follows have the same cut.
    """
    return (target_S + sigma_S * standard_normal(target_S, rng)).clamp(min=0.0)


def lognormal_error(target_S: Tensor, sigma_norm: float, rng: np.random.Generator) -> Tensor:
    """Multiply every cell by a log-normal factor of median 1.

    g = target exp(sigma z), z ~ N(0, 1).

    Shapes: any; returns the shape of target_S.
    Units: siemens; sigma_norm is the standard deviation of ln g.

    Args:
        target_S: conductance aimed at.
        sigma_norm: standard deviation of ln g.
        rng: generator.

    Returns:
        the conductance written.

    Notes:
        The target is the median; the mean is exp(sigma^2 / 2) times the target.
    """
    return target_S * torch.exp(sigma_norm * standard_normal(target_S, rng))


def snap_to_levels(target_S: Tensor, levels_S: Sequence[float]) -> Tensor:
    """Move every target to the nearest state the device has.

    Shapes: target_S any; levels_S increasing; returns the shape of target_S.
    Units: siemens.

    Args:
        target_S: conductance aimed at.
        levels_S: the states.

    Returns:
        the nearest states; half-way targets go to the lower one.

    Raises:
        DeviceError: fewer than two states, or states that do not increase.
    """
    if len(levels_S) < 2 or any(b <= a for a, b in itertools.pairwise(levels_S)):
        raise DeviceError(
            f"levels_S: at least two increasing conductances are needed, given {list(levels_S)!r}"
        )
    states = torch.tensor(levels_S, dtype=torch.float64, device=target_S.device)
    middles = (states[1:] + states[:-1]) / 2
    return states[torch.searchsorted(middles, target_S.to(torch.float64).contiguous())].to(target_S.dtype)


def device_spread(
    target_S: Tensor,
    window: Window,
    g_max_sigma_norm: float,
    g_min_sigma_norm: float,
    shape: Literal["normal", "lognormal"],
    rng: np.random.Generator,
) -> Tensor:
    """Device-to-device spread: every cell has a window of its own.

    g = g_min' + (target - g_min) / (g_max - g_min) (g_max' - g_min'), with g_x' = g_x (1 + s_x z), not below
    zero, or g_x exp(s_x z) for the log-normal shape.

    Shapes: any; returns the shape of target_S.
    Units: siemens; sigmas are fractions (of ln g for log-normal).

    Args:
        target_S: conductance aimed at.
        window: nominal g_min and g_max.
        g_max_sigma_norm: spread of g_max.
        g_min_sigma_norm: spread of g_min.
        shape: of the distribution.
        rng: generator; g_max is drawn first, then g_min.

    Returns:
        the conductance of an open-loop write.
    """

    def factor(sigma: float) -> Tensor:
        z = standard_normal(target_S, rng) * sigma
        return torch.exp(z) if shape == "lognormal" else (1.0 + z).clamp(min=0.0)

    level = (target_S - window.g_min_S) / window.span_S
    g_max = window.g_max_S * factor(g_max_sigma_norm)
    g_min = window.g_min_S * factor(g_min_sigma_norm) if window.g_min_S > 0 else torch.zeros_like(g_max)
    return (g_min + level * (g_max - g_min)).clamp(min=0.0)


def pelgrom_current_sigma(
    a_vt_V_m: float, width_m: float, length_m: float, overdrive_V: float, alpha: float
) -> float:
    """Relative spread of a transistor's current from threshold mismatch.

    sigma(I) / I = alpha A_VT / (sqrt(W L) V_ov): Pelgrom's law with the alpha-power law for the current.

    Units: volts, metres; returns a fraction.

    References: Pelgrom, Duinmaijer, Welbers, IEEE JSSC 1989, DOI 10.1109/JSSC.1989.572629; Sakurai, Newton,
    IEEE JSSC 1990 (alpha-power law).
    """
    return alpha * a_vt_V_m / (math.sqrt(width_m * length_m) * overdrive_V)


# ---- equations a card can name -----------------------------------------------------------------------------


class ProgrammingEquation(Equation):
    """How far a written cell lands from its target."""

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:
        """Standard deviation of the error. Shapes: that of target_S. Units: siemens."""
        raise NotImplementedError

    def write(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> Tensor:
        """The conductance written. Shapes: that of target_S. Units: siemens."""
        return gaussian_error(target_S, self.sigma_of(target_S, window), rng)

    @property
    def silent(self) -> bool:
        """True when it changes nothing."""
        return False


class NoProgramming(ProgrammingEquation):
    """No programming error."""

    equation: Literal["none"] = "none"

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return torch.zeros_like(target_S)

    @property
    def silent(self) -> bool:  # noqa: D102
        return True


class ConstantProgramming(ProgrammingEquation):
    """The same sigma at every conductance."""

    needs_siemens: ClassVar[bool] = True
    equation: Literal["constant"] = "constant"
    sigma_S: float = Field(ge=0)

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return torch.full_like(target_S, self.sigma_S)

    @property
    def silent(self) -> bool:  # noqa: D102
        return self.sigma_S == 0


class RangeProgramming(ProgrammingEquation):
    """Sigma is a fraction of the range: sigma (g_max - g_min), g_max and g_min those of the array."""

    equation: Literal["range"] = "range"
    sigma_norm: float = Field(ge=0)

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return torch.full_like(target_S, self.sigma_norm * window.span_S)

    @property
    def silent(self) -> bool:  # noqa: D102
        return self.sigma_norm == 0


class ProportionalProgramming(ProgrammingEquation):
    """Sigma is a fraction of the cell's own target: sigma g."""

    equation: Literal["proportional"] = "proportional"
    sigma_norm: float = Field(ge=0)

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return self.sigma_norm * target_S

    @property
    def silent(self) -> bool:  # noqa: D102
        return self.sigma_norm == 0


class PolynomialProgramming(ProgrammingEquation):
    """Sigma is a polynomial of r = g / g_ref, in siemens.

    sigma(g) = sum_i c_i (g / g_ref)^i.

    Notes:
        g_ref belongs to the published fit and does not move with the array's own g_max: a 40 uS device used
        up to 25 uS has at 25 uS the error measured at 25 uS, not that of 40 uS.
    """

    needs_siemens: ClassVar[bool] = True
    equation: Literal["polynomial"] = "polynomial"
    coefficients_S: tuple[float, ...] = Field(min_length=1)
    g_ref_S: float = Field(gt=0)

    @model_validator(mode="after")
    def _not_negative(self) -> PolynomialProgramming:
        values = polynomial(torch.linspace(0, 1, 201, dtype=torch.float64), self.coefficients_S)
        if float(values.min()) < 0:
            raise ValueError(
                f"coefficients_S give a negative sigma ({float(values.min()):.3g} S) within 0 .. g_ref_S"
            )
        return self

    @property
    def reach_S(self) -> float | None:  # noqa: D102
        return self.g_ref_S

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return polynomial(target_S / self.g_ref_S, self.coefficients_S).clamp(min=0.0)


class LognormalProgramming(ProgrammingEquation):
    """Log-normal around the target as the median; `sigma_norm` is that of ln g."""

    equation: Literal["lognormal"] = "lognormal"
    sigma_norm: float = Field(ge=0)

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        v = self.sigma_norm**2
        return target_S * math.sqrt(math.expm1(v) * math.exp(v))

    def write(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> Tensor:  # noqa: D102
        return lognormal_error(target_S, self.sigma_norm, rng)

    @property
    def silent(self) -> bool:  # noqa: D102
        return self.sigma_norm == 0


class TableProgramming(ProgrammingEquation):
    """Sigma from measured points (columns g_S, sigma_S), linear in between, held outside."""

    needs_siemens: ClassVar[bool] = True
    equation: Literal["table"] = "table"
    file: str = ""
    table: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _columns(self) -> TableProgramming:
        check_columns(self.table, ("g_S", "sigma_S"), "g_S")
        if min(self.table["sigma_S"]) < 0:
            raise ValueError("column sigma_S holds a negative value")
        return self

    @property
    def reach_S(self) -> float | None:  # noqa: D102
        return self.table["g_S"][-1]

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return interpolate(target_S, self.table["g_S"], self.table["sigma_S"])


class SpreadEquation(Equation):
    """Device-to-device spread of g_max and g_min."""

    def sigmas(self) -> tuple[float, float, Literal["normal", "lognormal"]]:
        """(sigma of g_max, sigma of g_min, shape), as fractions."""
        raise NotImplementedError

    def write(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> Tensor:
        """The conductance of an open-loop write. Shapes: that of target_S. Units: siemens."""
        g_max_sigma, g_min_sigma, shape = self.sigmas()
        return device_spread(target_S, window, g_max_sigma, g_min_sigma, shape, rng)

    @property
    def silent(self) -> bool:
        """True when it changes nothing."""
        return self.sigmas()[:2] == (0.0, 0.0)


class WindowSpread(SpreadEquation):
    """Given spreads of g_max and g_min; of ln g for the log-normal shape."""

    equation: Literal["window"] = "window"
    g_max_sigma_norm: float = Field(default=0.0, ge=0)
    g_min_sigma_norm: float = Field(default=0.0, ge=0)
    shape: Literal["normal", "lognormal"] = "normal"

    def sigmas(self) -> tuple[float, float, Literal["normal", "lognormal"]]:  # noqa: D102
        return self.g_max_sigma_norm, self.g_min_sigma_norm, self.shape


class PelgromCurrentSpread(SpreadEquation):
    """Mismatch of a bit cell's read current, from its read transistor: see `pelgrom_current_sigma`."""

    equation: Literal["pelgrom_current"] = "pelgrom_current"
    a_vt_V_m: float = Field(ge=0)
    width_m: float = Field(gt=0)
    length_m: float = Field(gt=0)
    overdrive_V: float = Field(gt=0)
    alpha: float = Field(gt=0)

    def sigmas(self) -> tuple[float, float, Literal["normal", "lognormal"]]:  # noqa: D102
        sigma = pelgrom_current_sigma(
            self.a_vt_V_m, self.width_m, self.length_m, self.overdrive_V, self.alpha
        )
        return sigma, sigma, "normal"


class PelgromCapacitorSpread(SpreadEquation):
    """Mismatch of a cell's capacitor: sigma(C) / C = k / sqrt(C), k in sqrt(farad)."""

    equation: Literal["pelgrom_capacitor"] = "pelgrom_capacitor"
    k_sqrt_F: float = Field(ge=0)
    unit_capacitance_F: float = Field(gt=0)

    def sigmas(self) -> tuple[float, float, Literal["normal", "lognormal"]]:  # noqa: D102
        sigma = self.k_sqrt_F / math.sqrt(self.unit_capacitance_F)
        return sigma, sigma, "normal"


PROGRAMMING: dict[str, type[ProgrammingEquation]] = {
    "none": NoProgramming,
    "constant": ConstantProgramming,
    "range": RangeProgramming,
    "proportional": ProportionalProgramming,
    "polynomial": PolynomialProgramming,
    "lognormal": LognormalProgramming,
    "table": TableProgramming,
}

SPREAD: dict[str, type[SpreadEquation]] = {
    "window": WindowSpread,
    "pelgrom_current": PelgromCurrentSpread,
    "pelgrom_capacitor": PelgromCapacitorSpread,
}
