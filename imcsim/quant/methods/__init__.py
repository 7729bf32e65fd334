"""Training methods: objects that make the quantizers of each layer."""

from __future__ import annotations

from imcsim.quant.methods.ana import ANA
from imcsim.quant.methods.base import Method, method_from_record
from imcsim.quant.methods.dorefa import DoReFa
from imcsim.quant.methods.dsq import DSQ
from imcsim.quant.methods.formats import Affine, FixedPoint, Floats, Log2, Log4
from imcsim.quant.methods.fracbnn import FracBNN
from imcsim.quant.methods.lns import LNSMadam, Madam
from imcsim.quant.methods.lqnet import LQNet
from imcsim.quant.methods.lsq import LSQ
from imcsim.quant.methods.mixed import Codebook, IntraLayer, MixAndMatch
from imcsim.quant.methods.nbit import NBitQNN
from imcsim.quant.methods.pact import PACT
from imcsim.quant.methods.planes import BitPlanes
from imcsim.quant.methods.proxquant import ProxQuant
from imcsim.quant.methods.quest import QUEST
from imcsim.quant.methods.sakr import OptimalClipping
from imcsim.quant.methods.sigmoid import SigmoidQN
from imcsim.quant.methods.straight import QNN, BinaryConnect
from imcsim.quant.methods.tang import MultipleActivations

__all__ = [
    "ANA",
    "DSQ",
    "LSQ",
    "PACT",
    "QNN",
    "QUEST",
    "Affine",
    "BinaryConnect",
    "BitPlanes",
    "Codebook",
    "DoReFa",
    "FixedPoint",
    "Floats",
    "FracBNN",
    "IntraLayer",
    "LNSMadam",
    "LQNet",
    "Log2",
    "Log4",
    "Madam",
    "Method",
    "MixAndMatch",
    "MultipleActivations",
    "NBitQNN",
    "OptimalClipping",
    "ProxQuant",
    "SigmoidQN",
    "method_from_record",
]
