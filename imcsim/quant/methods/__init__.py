"""Training methods: objects that make the quantizers of each layer."""

from __future__ import annotations

from imcsim.quant.methods.base import Method, method_from_record
from imcsim.quant.methods.dorefa import DoReFa
from imcsim.quant.methods.dsq import DSQ
from imcsim.quant.methods.lqnet import LQNet
from imcsim.quant.methods.lsq import LSQ
from imcsim.quant.methods.pact import PACT
from imcsim.quant.methods.straight import QNN, BinaryConnect

__all__ = [
    "DSQ",
    "LSQ",
    "PACT",
    "QNN",
    "BinaryConnect",
    "DoReFa",
    "LQNet",
    "Method",
    "method_from_record",
]
