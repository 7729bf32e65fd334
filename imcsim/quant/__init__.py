"""Quantizers and training methods of quantized networks."""

from __future__ import annotations

from imcsim.quant.base import (
    GradientQuantizer,
    InputQuantizer,
    Quantizer,
    Span,
    WeightQuantizer,
    straight_through,
    straight_through_inside,
    straight_through_where,
)
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.loop import after_step, parameters, penalty, quantizers, set_progress
from imcsim.quant.methods.base import Method
from imcsim.quant.uniform import HardwareInput, HardwareWeight

__all__ = [
    "GradientQuantizer",
    "HardwareInput",
    "HardwareWeight",
    "InputCodes",
    "InputQuantizer",
    "Method",
    "Quantizer",
    "Span",
    "WeightCodes",
    "WeightQuantizer",
    "after_step",
    "parameters",
    "penalty",
    "quantizers",
    "set_progress",
    "straight_through",
    "straight_through_inside",
    "straight_through_where",
]
