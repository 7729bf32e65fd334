"""Switching as measured: conductance after each pulse, read from a table."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from imcsim.devices.base import check_columns, interpolate
from imcsim.devices.switching.base import Cells, SwitchingEquation


class TableSwitching(SwitchingEquation):
    """Measured pulse curves (columns pulse, up_S, down_S), linear in between, along which a cell moves.

    Row k is the conductance after k pulses: `up_S` rises from the low end, `down_S` falls from the high end.
    Both are scaled to the cell's own range by their first and last values.
    """

    equation: Literal["table"] = "table"
    file: str = ""
    table: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _columns(self) -> TableSwitching:
        check_columns(self.table, ("pulse", "up_S", "down_S"), "pulse")
        if self.table["pulse"][0] != 0:
            raise ValueError(
                f"column pulse starts at {self.table['pulse'][0]:g}, but at 0 before the first pulse"
            )
        for name, sign, word in (("up_S", 1, "increase"), ("down_S", -1, "decrease")):
            if any(sign * (b - a) <= 0 for a, b in itertools.pairwise(self.table[name])):
                raise ValueError(f"column {name} must {word} from row to row; smooth the curve before")
        return self

    @property
    def full_pulses(self) -> tuple[int, int]:  # noqa: D102
        last = int(self.table["pulse"][-1])
        return last, last

    def _curve(self, name: str) -> list[float]:
        """The curve as states that rise from 0 to 1."""
        values = self.table[name]
        low, high = min(values[0], values[-1]), max(values[0], values[-1])
        states = [(value - low) / (high - low) for value in values]
        return states if name == "up_S" else states[::-1]

    def moved(self, x: Tensor, pulses: Tensor, up: Tensor, cells: Cells) -> Tensor:  # noqa: D102
        rise = self.table["pulse"]
        fall = tuple(rise[-1] - k for k in reversed(rise))
        ahead = interpolate(interpolate(x, self._curve("up_S"), rise) + pulses, rise, self._curve("up_S"))
        back = interpolate(interpolate(x, self._curve("down_S"), fall) - pulses, fall, self._curve("down_S"))
        return torch.where(up, ahead, back)
