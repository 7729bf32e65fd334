"""Device physics: cards (data), the equations they feed, and a device bound to an array."""

from __future__ import annotations

from imcsim.devices.base import Window
from imcsim.devices.card import DRIFT, DeviceCard
from imcsim.devices.compensation import column_factors, global_factor
from imcsim.devices.fitting import Fit, fit
from imcsim.devices.iv import IV
from imcsim.devices.library import available, load
from imcsim.devices.model import DeviceModel, DeviceValidityWarning, ProgrammingSpec, programming_spec
from imcsim.devices.noise import NOISE
from imcsim.devices.points import residual
from imcsim.devices.programming import PROGRAMMING, SPREAD
from imcsim.devices.switching import SWITCHING
from imcsim.devices.verifying import WriteReport, WriteResult, bind_write_verify, write_verify

EQUATIONS = {
    "switching": SWITCHING,
    "programming": PROGRAMMING,
    "spread": SPREAD,
    "drift": DRIFT,
    "read_noise": NOISE,
    "iv": IV,
}
"""Block -> name -> equation: what a card can name."""

__all__ = [
    "EQUATIONS",
    "DeviceCard",
    "DeviceModel",
    "DeviceValidityWarning",
    "Fit",
    "ProgrammingSpec",
    "Window",
    "WriteReport",
    "WriteResult",
    "available",
    "bind_write_verify",
    "column_factors",
    "fit",
    "global_factor",
    "load",
    "programming_spec",
    "residual",
    "write_verify",
]
