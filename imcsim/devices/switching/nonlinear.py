"""NeuroSim's non-linear weight update: exponential curves named by a non-linearity label."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import brentq
from torch import Tensor

from imcsim.devices.switching.base import Cells, SwitchingEquation
from imcsim.errors import DeviceError

MAX_LABEL = 10.0
"""Labels from 10.10 on have no curve: its distance 0.07 sqrt(2) NL from the straight line is below 1."""
SMALL = 1e-3
"""Below this label the curve is a parabola, ``max (f - x) = 1 / (8 a)`` to 1e-8; the exact form cancels."""


def normalised_a(label: float) -> float:
    """NeuroSim's rule from a non-linearity label to the normalised parameter A of its update curve.

    With ``f(x) = (1 - exp(-x / a)) / (1 - exp(-1 / a))``, a solves ``max_x (f(x) - x) = 0.07 sqrt(2) |NL|``.
    The maximum is ``1 / D - a + a ln(a D)``, ``D = 1 - exp(-1 / a)``.

    Args:
        label: NL, of either sign, up to 10 in magnitude.

    Returns:
        a with the sign of NL; inf for 0, a straight line.

    Raises:
        DeviceError: a label that no curve has.

    Notes:
        NeuroSim reads a from a table in steps of 0.01; here the equation behind it is solved, to 1e-12.

    References: P.-Y. Chen, X. Peng, S. Yu, "NeuroSim+", IEDM 2017, DOI 10.1109/IEDM.2017.8268337, and the
        manual of MLP+NeuroSim V3.0 with its table Nonlinearity-NormA.
    """
    if not math.isfinite(label) or abs(label) > MAX_LABEL:
        raise DeviceError(
            f"non-linearity label NL = {label!r}: a number from -{MAX_LABEL:g} to {MAX_LABEL:g}"
        )
    if label == 0:
        return math.inf
    goal = 0.07 * math.sqrt(2) * abs(label)
    if abs(label) < SMALL:
        return math.copysign(1 / (8 * goal), label)

    def above(log_a: float) -> float:
        a = math.exp(log_a)
        d = -math.expm1(-1 / a)
        return 1 / d - a + a * math.log(a * d) - goal

    low, high = math.log(1e-3), math.log(0.13 / min(goal, 0.1) + 10.0)
    return math.copysign(math.exp(brentq(above, low, high, xtol=1e-14, rtol=1e-14)), label)


@lru_cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """1 / a of labels from 0 to 10, for cells that each have a label of their own."""
    labels = np.linspace(0.0, MAX_LABEL, 2001)
    return labels, np.array([0.0, *(1 / normalised_a(float(nl)) for nl in labels[1:])])


def inverse_a(labels: Tensor) -> Tensor:
    """1 / a of many labels at once, signed; interpolated within 1e-5 of `normalised_a`.

    Shapes: any; returns that of labels. Labels beyond +-10 are cut.
    """
    grid, values = _grid()
    magnitude = np.interp(labels.abs().clamp(max=MAX_LABEL).numpy(), grid, values)
    return torch.copysign(torch.from_numpy(np.asarray(magnitude)), labels)


def curve(p: Tensor, inv_a: Tensor) -> Tensor:
    """f(p) = (1 - exp(-p / a)) / (1 - exp(-1 / a)), a straight line for 1 / a = 0. Shapes: all alike."""
    flat = inv_a.abs() < 1e-4
    safe = torch.where(flat, torch.ones_like(inv_a), inv_a)
    bent = torch.expm1(-p * safe) / torch.expm1(-safe)
    # to second order near the straight line: p + p (1 - p) / (2 a)
    return torch.where(flat, p + p * (1 - p) * inv_a / 2, bent)


def position(x: Tensor, inv_a: Tensor) -> Tensor:
    """The inverse of `curve`: how far along the train a state lies. Shapes: all alike."""
    flat = inv_a.abs() < 1e-4
    safe = torch.where(flat, torch.ones_like(inv_a), inv_a)
    bent = -torch.log1p(x * torch.expm1(-safe)) / safe
    return torch.where(flat, x - x * (1 - x) * inv_a / 2, bent)


class NeuroSimSwitching(SwitchingEquation):
    """Non-linear LTP and LTD of NeuroSim.

    G(P) = B (1 - exp(-P / A)) + Gmin, B = (Gmax - Gmin) / (1 - exp(-Pmax / A)), A = a(NL) Pmax; up pulses
    advance P along the curve of `nl_up`, down pulses take it back along that of `nl_down`.

    Attributes:
        nl_up: label of the rising curve; positive: the first up pulses move most.
        nl_down: label of the falling curve; negative: the first down pulses move most.
        pulses_up: Pmax of the rising curve.
        pulses_down: Pmax of the falling one.
        nl_sigma: device-to-device variation: standard deviation of both labels.

    Notes:
        The manual prints ``G_LTD = -B (1 - exp((P - Pmax) / A)) + Gmax``. With A of the label's sign that is
        the mirror image of what NeuroSim's program computes (Cell.cpp, RealDevice::Write), which walks the
        first equation backwards; the two differ by the sign of A. The program's reading is taken: published
        labels and accuracies are its own, and a device such as Ag:a-Si (2.4 / -4.88) is asymmetric only in
        it.

    References: as `normalised_a`.
    """

    equation: Literal["neurosim"] = "neurosim"
    nl_up: float = Field(ge=-MAX_LABEL, le=MAX_LABEL)
    nl_down: float = Field(ge=-MAX_LABEL, le=MAX_LABEL)
    pulses_up: int = Field(ge=1)
    pulses_down: int = Field(ge=1)
    nl_sigma: float = Field(default=0.0, ge=0)

    @property
    def full_pulses(self) -> tuple[int, int]:  # noqa: D102
        return self.pulses_up, self.pulses_down

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: D102
        own = super().draw(shape, rng)
        if self.nl_sigma > 0:
            for name, label in (("inv_a_up", self.nl_up), ("inv_a_down", self.nl_down)):
                own[name] = inverse_a(torch.from_numpy(label + self.nl_sigma * rng.standard_normal(shape)))
        return own

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        rise, fall = (
            cells[f"inv_a_{way}"].to(x.device)
            if f"inv_a_{way}" in cells
            else torch.full_like(x, 1 / normalised_a(label))
            for way, label in (("up", self.nl_up), ("down", self.nl_down))
        )
        inv_a = torch.where(up, rise, fall)
        share = torch.where(up, pulses / self.pulses_up, -pulses / self.pulses_down)
        return curve((position(x, inv_a) + share).clamp(0.0, 1.0), inv_a)
