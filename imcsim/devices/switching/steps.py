"""Switching by steps: linear, soft bounds, exponential and power-law update rules."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from imcsim.devices.switching.base import Cells, SteppedEquation, SwitchingEquation


class StepParameters(SwitchingEquation):
    """Steps of the state, as fractions of the range, and how they vary from device to device.

    Attributes:
        step_up: the largest step of an up pulse; what a state takes of it is the rule's.
        step_down: likewise.
        step_sigma_norm: standard deviation of ln(step), drawn for each cell and polarity; the mean step
            stays.
    """

    step_up: float = Field(gt=0, le=1)
    step_down: float = Field(gt=0, le=1)
    step_sigma_norm: float = Field(default=0.0, ge=0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: D102
        own = super().draw(shape, rng)
        s = self.step_sigma_norm
        if s > 0:
            for name, step in (("step_up", self.step_up), ("step_down", self.step_down)):
                own[name] = torch.from_numpy(step * np.exp(s * rng.standard_normal(shape) - s * s / 2))
        return own

    def steps(self, x: Tensor, up: Tensor, cells: Cells) -> Tensor:
        """The step of each cell, positive. Shapes: all alike."""
        rise, fall = (
            cells[name].to(x.device) if name in cells else torch.full_like(x, step)
            for name, step in (("step_up", self.step_up), ("step_down", self.step_down))
        )
        return torch.where(up, rise, fall)


class LinearSwitching(StepParameters):
    """Equal steps: x' = x + step_up, x' = x - step_down."""

    equation: Literal["linear"] = "linear"

    @property
    def full_pulses(self) -> tuple[int, int]:  # noqa: D102
        return math.ceil(1 / self.step_up - 1e-9), math.ceil(1 / self.step_down - 1e-9)

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        return x + torch.where(up, pulses, -pulses) * self.steps(x, up, cells)


class SoftBoundsSwitching(StepParameters):
    """Steps that shrink towards the bounds.

    x' = x + step_up (1 - x), x' = x - step_down x; after n pulses 1 - x_n = (1 - x) (1 - step_up)^n.

    References: N. Gong, M. J. Rasch et al., "Deep learning acceleration in 14nm CMOS compatible ReRAM array",
        IEDM 2022, DOI 10.1109/IEDM45625.2022.10019569.
    """

    equation: Literal["soft_bounds"] = "soft_bounds"

    @property
    def full_pulses(self) -> tuple[int, int]:
        """Pulses that cross 99 % of the range."""
        return tuple(  # type: ignore[return-value]
            1 if s >= 1 else math.ceil(math.log(0.01) / math.log1p(-s))
            for s in (self.step_up, self.step_down)
        )

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        left = torch.pow((1 - self.steps(x, up, cells)).clamp(min=0.0), pulses)
        return torch.where(up, 1 - (1 - x) * left, x * left)


class _StateSteps(StepParameters, SteppedEquation):
    """Steps whose size depends on the state, one pulse at a time."""

    def share(self, x: Tensor, up: Tensor) -> Tensor:
        """What of its step a cell takes. Shapes: all alike."""
        raise NotImplementedError

    def one(self, x: Tensor, up: Tensor, cells: Cells) -> Tensor:
        step = self.steps(x, up, cells) * self.share(x, up)
        return x + torch.where(up, step, -step)

    @property
    def full_pulses(self) -> tuple[int, int]:
        """Pulses that cross 99 % of what a thousand cross."""
        counts = []
        for rising in (True, False):
            x, seen = torch.tensor([0.0 if rising else 1.0], dtype=torch.float64), []
            for _ in range(1000):
                x = self.one(x, torch.tensor([rising]), {}).clamp(0.0, 1.0)
                seen.append(float(x))
            start, end = (0.0 if rising else 1.0), seen[-1]
            counts.append(next(k for k, v in enumerate(seen, 1) if abs(v - start) >= 0.99 * abs(end - start)))
        return counts[0], counts[1]


class ExponentialSwitching(_StateSteps):
    """Steps that fall exponentially.

    x' = x +- step max(0, 1 - A exp(+- gamma z)), z = a (2 x - 1) + b, with A and gamma of the polarity.

    References: M. J. Rasch et al., "A flexible and fast PyTorch toolkit for simulating training and inference
        on analog crossbar arrays", AICAS 2021, DOI 10.1109/AICAS51828.2021.9458494 (device ExpStep); T.
        Gokmen, W. Haensch, Frontiers in Neuroscience 2020, DOI 10.3389/fnins.2020.00103.
    """

    equation: Literal["exponential"] = "exponential"
    amplitude_up: float = Field(ge=0)
    amplitude_down: float = Field(ge=0)
    gamma_up: float
    gamma_down: float
    a: float = 1.0
    b: float = 0.0

    def share(self, x: Tensor, up: Tensor) -> Tensor:  # noqa: D102
        z = self.a * (2 * x - 1) + self.b
        rise = 1 - self.amplitude_up * torch.exp(self.gamma_up * z)
        fall = 1 - self.amplitude_down * torch.exp(-self.gamma_down * z)
        return torch.where(up, rise, fall).clamp(min=0.0)


class PowerSwitching(_StateSteps):
    """Steps that go with a power of what is left.

    x' = x + step_up (1 - x)^gamma_up, x' = x - step_down x^gamma_down.

    References: as `ExponentialSwitching` (device PowStep).
    """

    equation: Literal["power"] = "power"
    gamma_up: float = Field(ge=0)
    gamma_down: float = Field(ge=0)

    def share(self, x: Tensor, up: Tensor) -> Tensor:  # noqa: D102
        return torch.where(up, (1 - x).pow(self.gamma_up), x.pow(self.gamma_down))
