"""Stanford-PKU RRAM: a tunnelling gap that ions close and open."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from imcsim.devices.base import BOLTZMANN_eV_per_K, Window
from imcsim.devices.switching.base import Cells
from imcsim.devices.switching.dynamics import DynamicSwitching


class StanfordPKUSwitching(DynamicSwitching):
    """The gap model of oxide RRAM, with Joule heating.

    I = I0 exp(-gap / g0) sinh(V / V0);  T = T0 + |V I| R_th;
    dgap/dt = -v0 exp(-E_a / k T) sinh(gamma a0 / t_ox V / (k T / q)), gamma = gamma0 - beta (gap / 1 nm)^3,
    and nothing below the field gamma |V| / t_ox = F_min. x = (gap_max - gap) / (gap_max - gap_min); the
    conductance is I / V at the read voltage.

    Notes:
        The model's own random walk of the gap (delta_g) is left out; cycle-to-cycle variation is that of
        every model here. Constants from public code, whose velocity has no window: the gap is cut at its
        ends.

    References: Z. Jiang, S. Yu, Y. Wu, J. H. Engel, X. Guan, H.-S. P. Wong, "Verilog-A compact model for
        oxide-based resistive random access memory (RRAM)", SISPAD 2014, DOI 10.1109/SISPAD.2014.6931558.
    """

    equation: Literal["stanford_pku"] = "stanford_pku"
    i0_A: float = Field(gt=0)
    g0_m: float = Field(gt=0)
    v0_V: float = Field(gt=0)
    gap_min_m: float = Field(gt=0)
    gap_max_m: float = Field(gt=0)
    velocity_m_per_s: float = Field(gt=0)
    activation_energy_eV: float = Field(gt=0)
    gamma0: float = Field(gt=0)
    beta: float = Field(ge=0)
    atom_spacing_m: float = Field(gt=0)
    oxide_m: float = Field(gt=0)
    field_min_V_per_m: float = Field(default=0.0, ge=0)
    thermal_resistance_K_per_W: float = Field(ge=0)
    ambient_K: float = Field(default=298.0, gt=0)
    read_voltage_V: float = Field(gt=0)

    @model_validator(mode="after")
    def _order(self) -> StanfordPKUSwitching:
        if self.gap_max_m <= self.gap_min_m:
            raise ValueError(f"gap_max_m = {self.gap_max_m:g} is not above gap_min_m = {self.gap_min_m:g}")
        return self

    def _gap_m(self, x: Tensor) -> Tensor:
        return self.gap_max_m - (self.gap_max_m - self.gap_min_m) * x

    def _read_S(self, gap_m: float) -> float:
        top = self.i0_A * math.sinh(self.read_voltage_V / self.v0_V) / self.read_voltage_V
        return top * math.exp(-gap_m / self.g0_m)

    def own_ends_S(self) -> tuple[float, float]:  # noqa: D102
        return self._read_S(self.gap_max_m), self._read_S(self.gap_min_m)

    def conductance_S(self, x: Tensor, window: Window, cells: Cells) -> Tensor:  # noqa: D102
        return self._read_S(0.0) * torch.exp(-self._gap_m(x) / self.g0_m)

    def state_of(self, g_S: Tensor, window: Window, cells: Cells) -> Tensor:  # noqa: D102
        low, high = self.own_ends_S()
        gap = -self.g0_m * torch.log(g_S.clamp(low, high) / self._read_S(0.0))
        return ((self.gap_max_m - gap) / (self.gap_max_m - self.gap_min_m)).clamp(0.0, 1.0)

    def rate(self, x: Tensor, voltage_V: float) -> Tensor:  # noqa: D102
        gap = self._gap_m(x)
        current = self.i0_A * torch.exp(-gap / self.g0_m) * math.sinh(voltage_V / self.v0_V)
        thermal_eV = BOLTZMANN_eV_per_K * (
            self.ambient_K + (voltage_V * current).abs() * self.thermal_resistance_K_per_W
        )
        gamma = self.gamma0 - self.beta * (gap / 1e-9).pow(3)
        gamma = torch.where(gamma * abs(voltage_V) / self.oxide_m < self.field_min_V_per_m, 0.0, gamma)
        drive = torch.sinh(gamma * (self.atom_spacing_m / self.oxide_m * voltage_V) / thermal_eV)
        closing = self.velocity_m_per_s * torch.exp(-self.activation_energy_eV / thermal_eV) * drive
        return closing / (self.gap_max_m - self.gap_min_m)
