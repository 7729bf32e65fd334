"""imcsim: what a neural network does on an RRAM or SRAM in-memory-computing chip."""

from __future__ import annotations

from imcsim import circuits, devices, ppa, quant, sweep, train, zoo
from imcsim.calibrate import calibrate
from imcsim.convert import convert
from imcsim.diagnose import diagnose
from imcsim.errors import CalibrationError, ImcsimError
from imcsim.evaluate import evaluate
from imcsim.handover import export_arrays, import_arrays
from imcsim.hardware import Hardware
from imcsim.kernels.cache import set_plan_memory
from imcsim.mitigation import mitigation_cost
from imcsim.normalise import normalise_in_analog
from imcsim.ppa import estimate
from imcsim.presets import load_hardware
from imcsim.program import age, program, seed_reads, write_report
from imcsim.storage import load, save
from imcsim.summary import summary
from imcsim.survey import survey
from imcsim.thresholds import fold_thresholds

__version__ = "0.1.0"

Hardware.peak = ppa.peak  # type: ignore[attr-defined]  # bound here: a description must not import what costs it

__all__ = [
    "CalibrationError",
    "Hardware",
    "ImcsimError",
    "age",
    "calibrate",
    "circuits",
    "convert",
    "devices",
    "diagnose",
    "estimate",
    "evaluate",
    "export_arrays",
    "fold_thresholds",
    "import_arrays",
    "load",
    "load_hardware",
    "mitigation_cost",
    "normalise_in_analog",
    "program",
    "quant",
    "save",
    "seed_reads",
    "set_plan_memory",
    "summary",
    "survey",
    "sweep",
    "train",
    "write_report",
    "zoo",
]
