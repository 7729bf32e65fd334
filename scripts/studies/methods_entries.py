"""The rows of the methods table: which method, at how many bits, on which activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from qat import Optimizer, adam
from torch import nn

from imcsim import quant
from imcsim.hardware import Hardware
from imcsim.quant import Method

BASE = Hardware.model_validate(
    {
        "name": "methods",
        "array": {"rows": 128, "cols": 128},
        "weights": {"bits": 8, "cell_bits": 2},
        "inputs": {"bits": 8},
    }
)
"""An ideal chip: what is measured is what bits cost, not what cells and converters do."""

OFFSET = {"weights.encoding": "offset"}
"""For grids with one code more below zero than above."""


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        name: of the row, and of its method where one method has several rows.
        method: None: the hardware's own uniform quantizers, straight-through.
        weights: bits of the hidden layers' weights.
        inputs: bits of the hidden layers' inputs.
        activation: of the network, relu or hardtanh.
        changes: further changes of the hidden layers' chip.
        optimizer: of the training.
        code_bits: of a weight, where its number on the arrays is wider; `weights` is then that number's.
        resnet: run at 4 b / 4 b on ResNet-8 too.
    """

    name: str
    method: Method | None
    weights: int
    inputs: int
    activation: str = "relu"
    changes: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = adam
    code_bits: float | None = None
    resnet: bool = False

    def chip(self) -> Hardware:
        """The hidden layers' chip."""
        return self._of_bits(self.weights, self.inputs)

    def at(self, bits: int) -> Hardware:
        """The same with other bits; weights whose codes are narrower than their numbers keep these."""
        return self._of_bits(self.weights if self.code_bits else bits, bits)

    def _of_bits(self, weights: int, inputs: int) -> Hardware:
        cells = {"weights.bits": weights, "weights.cell_bits": 1 if weights <= 2 else 2}
        return BASE.replace({**cells, "inputs.bits": inputs, **self.changes})


def madam(net: nn.Module, lr: float) -> torch.optim.Optimizer:
    """LNS-Madam's optimizer for weights, Adam for what may cross zero."""
    weights = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() <= 1]
    return Two(quant.Madam(weights), torch.optim.Adam(rest, lr=lr))


class Two(torch.optim.Optimizer):
    """Two optimizers as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self, closure: None = None) -> None:
        """A step of each."""
        for part in self.parts:
            part.step()


ENTRIES = (
    Entry("uniform, 8 b", None, 8, 8),
    Entry("uniform, 4 b", None, 4, 4, resnet=True),
    Entry("uniform, 2 b", None, 2, 2),
    Entry("fixed point (3)", quant.FixedPoint(), 8, 8, changes=OFFSET),
    Entry("affine (1)", quant.Affine(), 2, 2, changes=OFFSET),
    Entry("FP8", quant.Floats(), 8, 8, code_bits=8),
    Entry("Log4 (4)", quant.Log4(), 14, 8, code_bits=4),
    Entry("Log2", quant.Log2(bits=4), 8, 8, code_bits=4, resnet=True),
    Entry("codebook, k-means", quant.Codebook(size=16), 8, 8, code_bits=4, resnet=True),
    Entry("codebook, most frequent", quant.Codebook(size=16, kind="frequent"), 8, 8, code_bits=4),
    Entry("Mix & Match", quant.MixAndMatch(), 8, 8, code_bits=4, resnet=True),
    Entry("intra-layer 4/8 b", quant.IntraLayer(), 8, 8, code_bits=4.2),
    Entry("BinaryConnect (7)", quant.BinaryConnect(), 1, 8),
    Entry("QNN (7), 1 b", quant.QNN(), 1, 1, "hardtanh"),
    Entry("DoReFa (9), 1 b", quant.DoReFa(), 1, 1, "hardtanh"),
    Entry("DoReFa (8), 2 b", quant.DoReFa(), 2, 2, changes=OFFSET, resnet=True),
    Entry("DoReFa (8), gradients 6 b", quant.DoReFa(gradient_bits=6), 2, 2, changes=OFFSET),
    Entry("LQ-Net (10), 1 b", quant.LQNet(), 1, 1, "hardtanh"),
    Entry("LQ-Net (10), 2 b", quant.LQNet(), 2, 2, resnet=True),
    Entry("LNS-Madam (12)", quant.LNSMadam(gamma=2), 4, 8, optimizer=madam, resnet=True),
    Entry("PACT (13)", quant.PACT(), 2, 2, changes=OFFSET, resnet=True),
    Entry("ANA (14), ternary", quant.ANA(), 2, 2, "hardtanh"),
    Entry("ProxQuant (15)", quant.ProxQuant(), 1, 8),
    Entry("nBitQNN (16)", quant.NBitQNN(bits=4), 8, 8, code_bits=4),
    Entry("sigmoid QN (18)", quant.SigmoidQN(), 2, 2, resnet=True),
    Entry("DSQ", quant.DSQ(), 2, 2, changes=OFFSET, resnet=True),
    Entry("optimal clipping", quant.OptimalClipping(), 2, 2, resnet=True),
    Entry("LSQ", quant.LSQ(), 2, 2, resnet=True),
)


def entry_named(name: str) -> Entry:
    """An entry by its name."""
    found = [entry for entry in ENTRIES if entry.name == name]
    if not found:
        raise SystemExit(
            f"there is no method named {name!r}; there are: {'; '.join(e.name for e in ENTRIES)}"
        )
    return found[0]
