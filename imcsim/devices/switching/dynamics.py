"""Switching as a differential equation of a boundary's place: VTEAM and linear ion drift."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from imcsim.devices.base import Window
from imcsim.devices.switching.base import Cells, Pulse, SteppedEquation
from imcsim.errors import DeviceError


class DynamicSwitching(SteppedEquation):
    """A model that gives dx/dt under a voltage; a pulse is integrated by classical Runge-Kutta steps.

    Its conductances are its own: the window of an array must lie within them.

    Attributes:
        substeps: Runge-Kutta steps a pulse.
    """

    substeps: int = Field(default=16, ge=1)

    def absolute(self) -> bool:  # noqa: D102
        return True

    def rate(self, x: Tensor, voltage_V: float) -> Tensor:
        """dx/dt. Shapes: that of x. Units: volts; returns 1/s."""
        raise NotImplementedError

    def own_ends_S(self) -> tuple[float, float]:
        """The model's least and largest conductance."""
        raise NotImplementedError

    def check(self, window: Window) -> None:  # noqa: D102
        low, high = self.own_ends_S()
        if window.g_min_S < low * (1 - 1e-6) or window.g_max_S > high * (1 + 1e-6):
            raise DeviceError(
                f"switching equation {self.equation!r} conducts from {low:g} to {high:g} S, but the array's "
                "cells "
                f"from {window.g_min_S:g} to {window.g_max_S:g}; set device.g_max_S and device.on_off_ratio "
                "within"
            )

    def one(self, x: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        return torch.where(up, self.after(x, self.up), self.after(x, self.down))

    def after(self, x: Tensor, pulse: Pulse) -> Tensor:
        """The state after one pulse. Shapes: that of x."""
        h = pulse.width_s / self.substeps

        def rate(y: Tensor) -> Tensor:
            return self.rate(y.clamp(0.0, 1.0), pulse.voltage_V)

        for _ in range(self.substeps):
            k1 = rate(x)
            k2 = rate(x + h / 2 * k1)
            k3 = rate(x + h / 2 * k2)
            k4 = rate(x + h * k3)
            x = (x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).clamp(0.0, 1.0)
        return x

    @property
    def full_pulses(self) -> tuple[int, int]:
        """Pulses that cross 99 % of the range, at most 1000."""
        counts = []
        for pulse, start in ((self.up, 0.0), (self.down, 1.0)):
            x, count = torch.tensor([start], dtype=torch.float64), 0
            while abs(float(x) - start) < 0.99 and count < 1000:
                x, count = self.after(x, pulse), count + 1
            counts.append(count)
        return counts[0], counts[1]


class _SeriesResistance(DynamicSwitching):
    """A conducting and an insulating part in series: R = R_on x + R_off (1 - x)."""

    r_on_ohm: float = Field(gt=0)
    r_off_ohm: float = Field(gt=0)

    @model_validator(mode="after")
    def _order(self) -> _SeriesResistance:
        if self.r_off_ohm <= self.r_on_ohm:
            raise ValueError(f"r_off_ohm = {self.r_off_ohm:g} is not above r_on_ohm = {self.r_on_ohm:g}")
        return self

    def own_ends_S(self) -> tuple[float, float]:
        return 1 / self.r_off_ohm, 1 / self.r_on_ohm

    def conductance_S(self, x: Tensor, window: Window, cells: Cells) -> Tensor:
        return 1 / (self.r_off_ohm + (self.r_on_ohm - self.r_off_ohm) * x)

    def state_of(self, g_S: Tensor, window: Window, cells: Cells) -> Tensor:
        low, high = self.own_ends_S()
        return (1 / g_S.clamp(low, high) - self.r_off_ohm) / (self.r_on_ohm - self.r_off_ohm)


class VTEAMSwitching(_SeriesResistance):
    """VTEAM: a threshold in voltage, and a power of what exceeds it.

    dw/dt = k_off (v / v_off - 1)^a_off for v > v_off, k_on (v / v_on - 1)^a_on for v < v_on, else 0;
    w from 0 (R_on) to d (R_off), x = 1 - w / d. v_on < 0 < v_off, k_on < 0 < k_off.

    Notes:
        No window function: a boundary moves at one speed until it stops at its end, as in the public code
        that the constants are from.

    References: S. Kvatinsky, M. Ramadan, E. G. Friedman, A. Kolodny, "VTEAM: A general model for
        voltage-controlled memristors", IEEE TCAS-II 2015, DOI 10.1109/TCSII.2015.2433536.
    """

    equation: Literal["vteam"] = "vteam"
    thickness_m: float = Field(gt=0)
    k_on_m_per_s: float = Field(lt=0)
    k_off_m_per_s: float = Field(gt=0)
    alpha_on: float = Field(gt=0)
    alpha_off: float = Field(gt=0)
    v_on_V: float = Field(lt=0)
    v_off_V: float = Field(gt=0)

    def rate(self, x: Tensor, voltage_V: float) -> Tensor:  # noqa: D102
        speed = 0.0
        if voltage_V > self.v_off_V:
            speed = self.k_off_m_per_s * (voltage_V / self.v_off_V - 1) ** self.alpha_off
        elif voltage_V < self.v_on_V:
            speed = self.k_on_m_per_s * (voltage_V / self.v_on_V - 1) ** self.alpha_on
        return torch.full_like(x, -speed / self.thickness_m)


class IonDriftSwitching(_SeriesResistance):
    """Linear drift of dopants: the boundary's speed goes with the current.

    dx/dt = mu R_on / d^2 i F(x), i = v / (R_on x + R_off (1 - x)), F the window; nothing below the threshold.

    Attributes:
        window: `joglekar` F = 1 - (2 x - 1)^(2p), 0 at both ends; `biolek` F = 1 - (x - s)^(2p), s = 1 for
            falling current else 0: 0 only at the end that is approached; `none` F = 1.

    Notes:
        With Joglekar's window a cell that has reached an end never leaves it.

    References: D. B. Strukov, G. S. Snider, D. R. Stewart, R. S. Williams, "The missing memristor found",
        Nature 2008, DOI 10.1038/nature06932; Y. N. Joglekar, S. J. Wolf, Eur. J. Phys. 2009, DOI
        10.1088/0143-0807/30/4/001; Z. Biolek, D. Biolek, V. Biolkova, Radioengineering 18, 2009.
    """

    equation: Literal["ion_drift"] = "ion_drift"
    mobility_m2_per_Vs: float = Field(gt=0)
    thickness_m: float = Field(gt=0)
    threshold_V: float = Field(default=0.0, ge=0)
    window: Literal["none", "joglekar", "biolek"] = "biolek"
    p: int = Field(default=1, ge=1)

    def rate(self, x: Tensor, voltage_V: float) -> Tensor:  # noqa: D102
        if abs(voltage_V) < self.threshold_V:
            return torch.zeros_like(x)
        current_A = voltage_V / (self.r_on_ohm * x + self.r_off_ohm * (1 - x))
        drift = self.mobility_m2_per_Vs * self.r_on_ohm / self.thickness_m**2 * current_A
        if self.window == "none":
            return drift
        if self.window == "joglekar":
            return drift * (1 - (2 * x - 1).pow(2 * self.p))
        return drift * (1 - (x - (0.0 if voltage_V > 0 else 1.0)).pow(2 * self.p))
