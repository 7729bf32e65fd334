"""What all device equations share: the block of a card, the conductance window, draws and interpolation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from imcsim.errors import DeviceError, did_you_mean

BOLTZMANN_eV_per_K = 8.617333262e-5

Confidence = Literal["A", "B", "C"]


class Block(BaseModel):
    """A table of a device card: numbers, and where they are from.

    `source` names an entry of the card's `sources`; `confidence` is A (re-derives), B (one secondary source)
    or C (recalled or assumed); `valid` and `assumptions` are for readers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = ""
    confidence: Confidence | None = None
    valid: str = ""
    assumptions: tuple[str, ...] = ()


class Equation(Block):
    """A block that names the equation its numbers feed.

    Attributes:
        needs_siemens: the equation holds absolute conductances, so the window must be in siemens.
        reach_S: the largest conductance it holds for, where it says so.
    """

    needs_siemens: ClassVar[bool] = False
    equation: str

    @property
    def reach_S(self) -> float | None:
        """The largest conductance the equation was fitted for, or None if it holds for any."""
        return None

    def absolute(self) -> bool:
        """True when the numbers of this block need a window in siemens."""
        return self.needs_siemens


@dataclass(frozen=True)
class Window:
    """The conductances between which levels are placed.

    `normalised` says that g_max_S is 1 because no value in siemens is known.
    """

    g_max_S: float
    g_min_S: float
    normalised: bool = False

    def __post_init__(self) -> None:
        g_max, g_min = self.g_max_S, self.g_min_S
        if not (np.isfinite(g_max) and g_max > 0):
            raise DeviceError(f"g_max_S = {g_max!r}: a positive, finite conductance in siemens is needed")
        if not 0 <= g_min < g_max:
            raise DeviceError(
                f"g_min_S = {g_min!r} with g_max_S = {g_max!r}: 0 <= g_min_S < g_max_S is needed; "
                "check on_off_ratio = g_max / g_min (> 1)"
            )

    @property
    def span_S(self) -> float:
        """g_max - g_min."""
        return self.g_max_S - self.g_min_S


def standard_normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw N(0, 1) in float32 on the CPU, one number a cell, and move it to the device of `like`."""
    draw = np.asarray(rng.standard_normal(tuple(like.shape), dtype=np.float32))
    return torch.from_numpy(draw).to(like.device)


def uniform(shape: Sequence[int], rng: np.random.Generator, device: torch.device) -> Tensor:
    """Draw U[0, 1) in float32 on the CPU and move it to `device`."""
    return torch.from_numpy(np.asarray(rng.random(tuple(shape), dtype=np.float32))).to(device)


def polynomial(r: Tensor, coefficients: Sequence[float]) -> Tensor:
    """sum_i c_i r^i by Horner's rule, lowest order first. Shapes: any; returns that of r."""
    total = torch.zeros_like(r)
    for c in reversed(coefficients):
        total = total * r + c
    return total


def interpolate(x: Tensor, nodes: Sequence[float], values: Sequence[float]) -> Tensor:
    """Piecewise linear interpolation, exact at the nodes; the end values are held outside them.

    Shapes: x any; nodes and values of one length, nodes increasing; returns the shape of x.
    """
    xs = torch.tensor(nodes, dtype=torch.float64, device=x.device)
    ys = torch.tensor(values, dtype=torch.float64, device=x.device)
    if len(nodes) == 1:
        return ys[0].to(x.dtype).expand_as(x).clone()
    at = x.to(torch.float64).clamp(float(nodes[0]), float(nodes[-1]))
    k = torch.searchsorted(xs, at.contiguous(), right=True).clamp(1, len(nodes) - 1)
    w = (at - xs[k - 1]) / (xs[k] - xs[k - 1])
    return torch.lerp(ys[k - 1], ys[k], w).to(x.dtype)


def check_columns(table: Mapping[str, Sequence[float]], needed: Sequence[str], increasing: str) -> None:
    """Raise ValueError unless the table has the columns needed, of one length, the first one increasing."""
    missing = [c for c in needed if c not in table]
    if missing:
        raise ValueError(
            f"column(s) {', '.join(missing)} missing; the table has {', '.join(table) or 'none'}"
        )
    lengths = {len(table[c]) for c in needed}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"columns {', '.join(needed)} must be of one length, not empty")
    x = table[increasing]
    if any(b <= a for a, b in itertools.pairwise(x)):
        raise ValueError(f"column {increasing} must increase")


def choose(value: Any, registry: Mapping[str, type[Equation]], what: str) -> Any:
    """Build the equation that a table names, or raise ValueError with one clear line.

    Args:
        value: a table with the key `equation`, or an equation built before.
        registry: name -> class.
        what: the kind of equation, for the message.

    Returns:
        the validated equation.

    Raises:
        ValueError: no or an unknown equation, a missing, unknown or bad parameter.
    """
    if isinstance(value, Equation):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"a table with the key 'equation' is needed, given {value!r}")
    name = value.get("equation")
    if not isinstance(name, str) or name not in registry:
        hint = did_you_mean(str(name), registry) if name is not None else ""
        raise ValueError(f"equation {name!r} is not a {what} equation; allowed: {', '.join(registry)}.{hint}")
    try:
        return registry[name].model_validate(dict(value))
    except ValidationError as error:
        raise ValueError(one_line(error, registry[name])) from None


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first things wrong in a validation error, in words a user can act on."""
    lines = []
    for item in error.errors()[:3]:
        where = ".".join(str(p) for p in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(str(item["loc"][-1]), model.model_fields)
            message = f"unknown key.{hint or ' Allowed: ' + ', '.join(model.model_fields) + '.'}"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, given {item['input']!r}"
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)
