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
from imcsim.quant.loop import after_step, parameters, penalty, quantizers, set_progress
from imcsim.quant.methods import (
    ANA,
    DSQ,
    LSQ,
    PACT,
    QNN,
    Affine,
    BinaryConnect,
    Codebook,
    DoReFa,
    FixedPoint,
    Floats,
    IntraLayer,
    LNSMadam,
    Log2,
    Log4,
    LQNet,
    Madam,
    Method,
    MixAndMatch,
    NBitQNN,
    OptimalClipping,
    ProxQuant,
    SigmoidQN,
)
from imcsim.quant.uniform import AffineWeight, ClippedInput, HardwareInput, HardwareWeight, IntegerWeight

__all__ = [
    "ANA",
    "DSQ",
    "LSQ",
    "PACT",
    "QNN",
    "Affine",
    "AffineWeight",
    "BinaryConnect",
    "BinaryWeight",
    "ClippedInput",
    "Codebook",
    "DoReFa",
    "FixedPoint",
    "Floats",
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
    "Log4",
    "Madam",
    "Method",
    "MixAndMatch",
    "NBitQNN",
    "OptimalClipping",
    "ProxQuant",
    "Quantizer",
    "SigmoidQN",
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
