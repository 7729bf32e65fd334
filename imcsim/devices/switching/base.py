"""What every switching model is: a state of each cell, and pulses of two polarities that move it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from imcsim.devices.base import Equation, Window
from imcsim.errors import DeviceError

Cells = Mapping[str, Tensor]
"""Device-to-device parameters of some cells: name -> one float64 number a cell."""


class Pulse(BaseModel):
    """One programming pulse."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    voltage_V: float
    width_s: float = Field(gt=0)


class SwitchingEquation(Equation):
    """How pulses move the conductance of a cell.

    The state x of a cell is a number from 0 (least conducting) to 1. `up` pulses raise it, `down` pulses
    lower it. All tensors are float64, of any shape, one element a cell.

    A subclass gives `moved`; one whose conductance is not linear in x gives `conductance_S` and `state_of`
    too.

    Attributes:
        up: the pulse that raises the conductance (LTP, set).
        down: the pulse that lowers it (LTD, reset).
        c2c_sigma_norm: cycle-to-cycle variation: standard deviation a pulse, as a fraction of g_max - g_min.
        bound_sigma_norm: device-to-device variation of both ends of a cell's range, likewise.
    """

    up: Pulse
    down: Pulse
    c2c_sigma_norm: float = Field(default=0.0, ge=0)
    bound_sigma_norm: float = Field(default=0.0, ge=0)

    # ---- what a model says ---------------------------------------------------------------------------------

    @property
    def full_pulses(self) -> tuple[int, int]:
        """About how many up and down pulses cross the whole range."""
        raise NotImplementedError

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:
        """The state after pulses, without cycle-to-cycle variation and before it is cut to 0 .. 1.

        Shapes: all alike; pulses whole numbers, up bool.
        """
        raise NotImplementedError

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Tensor]:
        """Device-to-device parameters of cells.

        Shapes: each of `shape`.

        Args:
            shape: of the cells.
            rng: generator.

        Returns:
            Only what varies; an empty dict where all cells are alike.
        """
        if self.bound_sigma_norm == 0:
            return {}
        return {
            name: torch.from_numpy(self.bound_sigma_norm * rng.standard_normal(shape))
            for name in ("high_offset", "low_offset")
        }

    # ---- conductance ---------------------------------------------------------------------------------------

    def check(self, window: Window) -> None:
        """Raise DeviceError where the model cannot reach the ends of a window."""

    def _ends(self, window: Window, cells: Cells) -> tuple[Tensor | float, Tensor | float]:
        """Conductance of x = 0 and of x = 1; a range that variation would close is kept a thousandth open."""
        if "low_offset" not in cells:
            return window.g_min_S, window.g_max_S
        low = (window.g_min_S + window.span_S * cells["low_offset"]).clamp(min=0.0)
        high = window.g_max_S + window.span_S * cells["high_offset"]
        return low, torch.maximum(high, low + 1e-3 * window.span_S)

    def conductance_S(self, x: Tensor, window: Window, cells: Cells) -> Tensor:
        """Conductance of a state. Shapes: that of x. Units: siemens."""
        low, high = self._ends(window, cells)
        return low + (high - low) * x

    def state_of(self, g_S: Tensor, window: Window, cells: Cells) -> Tensor:
        """State of a conductance, cut to 0 .. 1. Shapes: that of g_S. Units: siemens."""
        low, high = self._ends(window, cells)
        return ((g_S - low) / (high - low)).clamp(0.0, 1.0)

    # ---- pulses --------------------------------------------------------------------------------------------

    def apply(
        self,
        x: Tensor,
        pulses: Tensor | int,
        up: Tensor | bool,
        cells: Cells,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """The state after some pulses of one polarity each.

        x' = clamp(moved(x, n) + s sqrt(n) z, 0, 1), z ~ N(0, 1), s the cycle-to-cycle variation.

        Shapes: x any; pulses and up broadcast to it; returns the shape of x.

        Args:
            x: states, float64.
            pulses: how many, 0 or more.
            up: which polarity.
            cells: device-to-device parameters, from `draw`.
            rng: generator of the cycle-to-cycle variation; None: none.

        Returns:
            The new states.
        """
        n = torch.as_tensor(pulses, device=x.device).to(torch.float64).expand_as(x)
        rising = torch.as_tensor(up, device=x.device).expand_as(x)
        y = self.moved(x, n, rising, cells)
        if rng is not None and self.c2c_sigma_norm > 0:
            z = torch.from_numpy(rng.standard_normal(tuple(x.shape))).to(x.device)
            y = y + self.c2c_sigma_norm * n.sqrt() * z
        return y.clamp(0.0, 1.0)

    def trace(
        self,
        window: Window,
        direction: Literal["up", "down"],
        *,
        cells: int = 1,
        pulses: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """Conductance after each of a train of equal pulses, from the far end of the range.

        Shapes: returns (pulses + 1, cells) float64; row 0 before the first pulse.
        Units: siemens.

        Args:
            window: g_min and g_max.
            direction: up from x = 0, or down from x = 1.
            cells: how many cells.
            pulses: length of the train; None: what crosses the range.
            rng: generator of both variations; None: an average cell.

        Returns:
            The conductances.

        Raises:
            DeviceError: a direction that is neither.
        """
        if direction not in ("up", "down"):
            raise DeviceError(f"trace: direction = {direction!r} is neither 'up' nor 'down'")
        rising = direction == "up"
        count = self.full_pulses[0 if rising else 1] if pulses is None else pulses
        own: Cells = {} if rng is None else self.draw((cells,), rng)
        x = torch.full((cells,), 0.0 if rising else 1.0, dtype=torch.float64)
        seen = [self.conductance_S(x, window, own)]
        for _ in range(count):
            x = self.apply(x, 1, rising, own, rng)
            seen.append(self.conductance_S(x, window, own))
        return torch.stack(seen)


class SteppedEquation(SwitchingEquation):
    """A model that knows one pulse at a time."""

    def one(self, x: Tensor, up: Tensor, cells: Cells) -> Tensor:
        """The state after one pulse, not cut. Shapes: all alike."""
        raise NotImplementedError

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        for k in range(int(pulses.max()) if pulses.numel() else 0):
            x = torch.where(k < pulses, self.one(x, up, cells).clamp(0.0, 1.0), x)
        return x
