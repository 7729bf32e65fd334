"""Current against voltage of one cell: linear, sinh, or measured points."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from imcsim.devices.base import Equation, check_columns, interpolate


def sinh_current_A(g_S: Tensor, v_V: Tensor, v0_V: float) -> Tensor:
    """Current of a cell with a sinh I-V.

    I = g V0 sinh(V / V0), g the conductance at zero voltage.

    Shapes: g_S and v_V broadcast; returns their common shape.
    Units: siemens, volts; returns amperes.
    """
    return g_S * v0_V * torch.sinh(v_V / v0_V)


def sinh_ratio(
    v_V: Tensor, read_voltage_V: float, v0_V: float, conductance_at: Literal["read", "zero"]
) -> Tensor:
    """Current of a sinh cell over that of a linear cell read at V_read.

    I(V) / (g V_read) = sinh(V / V0) / sinh(V_read / V0) with g measured at V_read, or V0 sinh(V / V0) /
    V_read with g the conductance at zero voltage.

    Shapes: v_V any; returns its shape.
    Units: volts; returns a pure number.

    Args:
        v_V: voltages applied, of either sign.
        read_voltage_V: the full-scale read voltage.
        v0_V: voltage at which the cell stops being linear.
        conductance_at: where the card's conductances were measured.

    Returns:
        the effective input of the cell: V / V_read for V0 to infinity.
    """
    top = torch.sinh(v_V / v0_V)
    if conductance_at == "read":
        return top / math.sinh(read_voltage_V / v0_V)
    return top * (v0_V / read_voltage_V)


class IVEquation(Equation):
    """How the current of a cell depends on its voltage."""

    read_voltage_V: float = Field(default=1.0, gt=0)

    @property
    def linear(self) -> bool:
        """True when the ratio is V / V_read."""
        return False

    def ratio(self, v_V: Tensor) -> Tensor:
        """I(V) / (g V_read), odd in V. Shapes: that of v_V. Units: volts; returns a pure number."""
        raise NotImplementedError

    def digit_ratio(self, digits_norm: Tensor) -> Tensor:
        """Effective input of the cells for input digits sent as amplitudes.

        Digits d / (2^bits - 1) in -1 .. 1 drive d V_read. Pulses that are on or off only see `ratio(V_read)`,
        one factor for the whole array.

        Shapes: any; returns the same.
        """
        return self.ratio(digits_norm * self.read_voltage_V)


class LinearIV(IVEquation):
    """I = g V."""

    equation: Literal["linear"] = "linear"

    @property
    def linear(self) -> bool:  # noqa: D102
        return True

    def ratio(self, v_V: Tensor) -> Tensor:  # noqa: D102
        return v_V / self.read_voltage_V


class SinhIV(IVEquation):
    """See `sinh_ratio`."""

    equation: Literal["sinh"] = "sinh"
    v0_V: float = Field(gt=0)
    conductance_at: Literal["read", "zero"] = "read"

    def ratio(self, v_V: Tensor) -> Tensor:  # noqa: D102
        return sinh_ratio(v_V, self.read_voltage_V, self.v0_V, self.conductance_at)


class TableIV(IVEquation):
    """Measured points (columns voltage_V, current_norm = I(V) / I(V_read)), linear in between, odd in V.

    The table starts at 0 V and 0 and reaches V_read, where it is 1.
    """

    equation: Literal["table"] = "table"
    file: str = ""
    table: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _columns(self) -> TableIV:
        check_columns(self.table, ("voltage_V", "current_norm"), "voltage_V")
        v, i = self.table["voltage_V"], self.table["current_norm"]
        if v[0] != 0 or i[0] != 0:
            raise ValueError("the table starts at voltage_V = 0, current_norm = 0")
        if v[-1] < self.read_voltage_V:
            raise ValueError(f"the table ends at {v[-1]} V, below read_voltage_V = {self.read_voltage_V}")
        return self

    def ratio(self, v_V: Tensor) -> Tensor:  # noqa: D102
        return torch.sign(v_V) * interpolate(v_V.abs(), self.table["voltage_V"], self.table["current_norm"])


IV: dict[str, type[IVEquation]] = {"linear": LinearIV, "sinh": SinhIV, "table": TableIV}
