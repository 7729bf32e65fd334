"""How pulses change a conductance: switching models that a device card can name."""

from __future__ import annotations

from imcsim.devices.switching.base import Pulse, SwitchingEquation
from imcsim.devices.switching.dynamics import IonDriftSwitching, VTEAMSwitching
from imcsim.devices.switching.nonlinear import NeuroSimSwitching, normalised_a
from imcsim.devices.switching.stanford import StanfordPKUSwitching
from imcsim.devices.switching.steps import (
    ExponentialSwitching,
    LinearSwitching,
    PowerSwitching,
    SoftBoundsSwitching,
)
from imcsim.devices.switching.table import TableSwitching

SWITCHING: dict[str, type[SwitchingEquation]] = {
    "neurosim": NeuroSimSwitching,
    "linear": LinearSwitching,
    "soft_bounds": SoftBoundsSwitching,
    "exponential": ExponentialSwitching,
    "power": PowerSwitching,
    "vteam": VTEAMSwitching,
    "ion_drift": IonDriftSwitching,
    "stanford_pku": StanfordPKUSwitching,
    "table": TableSwitching,
}

__all__ = ["SWITCHING", "Pulse", "SwitchingEquation", "normalised_a"]
