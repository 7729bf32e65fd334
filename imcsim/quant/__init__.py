"""Quantizers and training methods of quantized networks (the survey's sections 3 and 4).

A method goes to `imcsim.convert(model, hardware, qat=method)`; an ordinary torch loop trains the result.
"""

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
from imcsim.quant.binary import BinaryWeight
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.fixed import FixedPointInput, IntegerWeight
from imcsim.quant.gated import GateCount, count_gates
from imcsim.quant.logarithmic import Log2Input
from imcsim.quant.loop import after_step, parameters, penalty, quantizers, set_progress
from imcsim.quant.methods import (
    ANA,
    DSQ,
    LSQ,
    PACT,
    QNN,
    QUEST,
    Affine,
    BinaryConnect,
    BitPlanes,
    Codebook,
    DoReFa,
    FixedPoint,
    Floats,
    FracBNN,
    IntraLayer,
    LNSMadam,
    Log2,
    Log4,
    LQNet,
    Madam,
    Method,
    MixAndMatch,
    MultipleActivations,
    NBitQNN,
    OptimalClipping,
    ProxQuant,
    SigmoidQN,
)
from imcsim.quant.strategies import AlternatingPad2d, Bypass, average_bits, binary_regulariser
from imcsim.quant.uniform import AffineWeight, ClippedInput, HardwareInput, HardwareWeight

__all__ = [
    "ANA",
    "DSQ",
    "LSQ",
    "PACT",
    "QNN",
    "QUEST",
    "Affine",
    "AffineWeight",
    "AlternatingPad2d",
    "BinaryConnect",
    "BinaryWeight",
    "BitPlanes",
    "Bypass",
    "ClippedInput",
    "Codebook",
    "DoReFa",
    "FixedPoint",
    "FixedPointInput",
    "Floats",
    "FracBNN",
    "GateCount",
    "GradientQuantizer",
    "HardwareInput",
    "HardwareWeight",
    "InputCodes",
    "InputQuantizer",
    "IntegerWeight",
    "IntraLayer",
    "LNSMadam",
    "LQNet",
    "Log2",
    "Log2Input",
    "Log4",
    "Madam",
    "Method",
    "MixAndMatch",
    "MultipleActivations",
    "NBitQNN",
    "OptimalClipping",
    "ProxQuant",
    "Quantizer",
    "SigmoidQN",
    "Span",
    "WeightCodes",
    "WeightQuantizer",
    "after_step",
    "average_bits",
    "binary_regulariser",
    "count_gates",
    "parameters",
    "penalty",
    "quantizers",
    "set_progress",
    "straight_through",
    "straight_through_inside",
    "straight_through_where",
]
