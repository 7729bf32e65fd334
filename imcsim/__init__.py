"""imcsim: what a neural network does on an RRAM or SRAM in-memory-computing chip."""

from __future__ import annotations

from imcsim import circuits, devices, ppa, quant, sweep, train, zoo
from imcsim.calibrate import calibrate
from imcsim.convert import convert
from imcsim.diagnose import diagnose
from imcsim.errors import ImcsimError
from imcsim.evaluate import evaluate
from imcsim.hardware import Hardware
from imcsim.kernels.cache import set_plan_memory
from imcsim.ppa import estimate
from imcsim.presets import load_hardware
from imcsim.program import age, program, seed_reads
from imcsim.storage import load, save
from imcsim.summary import summary

__version__ = "0.1.0"

Hardware.peak = ppa.peak  # type: ignore[attr-defined]  # bound here: a description must not import what costs it

__all__ = [
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
    "load",
    "load_hardware",
    "program",
    "quant",
    "save",
    "seed_reads",
    "set_plan_memory",
    "summary",
    "sweep",
    "train",
    "zoo",
]
