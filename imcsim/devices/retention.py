"""Retention by power law in one of four directions, as NeuroSim has it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from imcsim.devices.base import Window, standard_normal
from imcsim.devices.drift import DriftEquation, State


def retention(
    g_S: Tensor, nu: Tensor | float, seconds: float, t0_s: float, goal_S: Tensor | float, window: Window
) -> Tensor:
    """Power-law drift towards a goal, stopping there.

    g(t) = g (t / t0)^(s nu), s = sign(goal - g), t = t0 + seconds; not beyond the goal.

    Shapes: g_S any; nu and goal_S broadcast to it; returns the shape of g_S.
    Units: siemens, seconds.

    Args:
        g_S: conductance as programmed.
        nu: exponent, not negative.
        seconds: time since the verify read.
        t0_s: the verify read's own time.
        goal_S: where the cell drifts to: g_max, g_min, or between.
        window: g_min and g_max.

    Returns:
        the conductance now, between g and the goal.

    Notes:
        A cell programmed beyond g_max or g_min by its error drifts back towards it. A cell at exactly zero
        has no power law and stays there.
    """
    goal = torch.as_tensor(goal_S, dtype=g_S.dtype, device=g_S.device).expand_as(g_S)
    factor = torch.as_tensor(nu, dtype=g_S.dtype, device=g_S.device) * math.log1p(seconds / t0_s)
    moved = g_S * torch.exp(torch.sign(goal - g_S) * factor)
    return torch.where(goal >= g_S, torch.minimum(moved, goal), torch.maximum(moved, goal))


class RetentionDrift(DriftEquation):
    """NeuroSim's four cases: towards g_max, g_min or an intermediate target, or a random sign a cell.

    nu = |N(nu_mean, nu_std)| a cell.

    Notes:
        NeuroSim works on weights in -1 .. 1 mapped to 0 .. 1; here it is the conductance that drifts. Its
        random case draws -1, 0 or 1; here a cell goes up or down with equal chance, to g_max or to g_min. It
        has no spread of nu.

    References: Peng et al., IEEE TCAD 2021, DOI 10.1109/TCAD.2020.3043731 (DNN+NeuroSim V2.0), section on
    retention.
    """

    equation: Literal["retention"] = "retention"
    direction: Literal["g_max", "g_min", "target", "random"]
    nu_mean: float = Field(ge=0)
    nu_std: float = Field(default=0.0, ge=0)
    target_norm: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _target(self) -> RetentionDrift:
        if (self.direction == "target") != (self.target_norm is not None):
            raise ValueError(
                'target_norm (0 at g_min, 1 at g_max) goes with direction = "target", and only with it'
            )
        return self

    def draw(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: D102
        state: dict[str, Tensor] = {}
        if self.nu_std > 0:
            state["drift_nu"] = (self.nu_mean + self.nu_std * standard_normal(target_S, rng)).abs()
        if self.direction == "random":
            up = np.asarray(rng.integers(0, 2, size=tuple(target_S.shape), dtype=np.int8))
            state["drift_up"] = torch.from_numpy(up).to(target_S.device).bool()
        return state

    def at(self, g_S: Tensor, state: State, seconds: float, window: Window) -> Tensor:  # noqa: D102
        nu = state.get("drift_nu", self.nu_mean)
        goal: Tensor | float
        if self.direction == "random":
            low, high = (
                torch.tensor(v, dtype=g_S.dtype, device=g_S.device) for v in (window.g_min_S, window.g_max_S)
            )
            goal = torch.where(state["drift_up"], high, low)
        elif self.direction == "target":
            goal = window.g_min_S + (self.target_norm or 0.0) * window.span_S
        else:
            goal = window.g_max_S if self.direction == "g_max" else window.g_min_S
        return retention(g_S, nu, seconds, self.t0_s, goal, window)
