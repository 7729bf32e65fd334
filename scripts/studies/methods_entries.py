"""The rows of the methods table: which method, at how many bits, on which activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qat import Optimizer, adam

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
        lr: learning rate at the start, where the method needs another than the others.
        resnet: run at 4 b / 4 b on ResNet-8 too.
    """

    name: str
    method: Method | None
    weights: int
    inputs: int
    activation: str = "relu"
    changes: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = adam
    lr: float | None = None
    resnet: bool = False

    def chip(self, weights: int | None = None, inputs: int | None = None) -> Hardware:
        """The hidden layers' chip, at the row's bits or at others."""
        w, a = weights or self.weights, inputs or self.inputs
        cells = {"weights.bits": w, "weights.cell_bits": 1 if w <= 2 else 2, "inputs.bits": a}
        return BASE.replace({**cells, **self.changes})


ENTRIES = (
    Entry("uniform, 8 b", None, 8, 8),
    Entry("uniform, 4 b", None, 4, 4, resnet=True),
    Entry("uniform, 2 b", None, 2, 2),
    Entry("BinaryConnect", quant.BinaryConnect(), 1, 8),
    Entry("QNN, 1 b", quant.QNN(), 1, 1, "hardtanh"),
    Entry("QNN, 4 b", quant.QNN(), 4, 4, "hardtanh", resnet=True),
    Entry("DoReFa, 1 b", quant.DoReFa(), 1, 1, "hardtanh"),
    Entry("DoReFa, 2 b", quant.DoReFa(), 2, 2, changes=OFFSET, resnet=True),
    Entry("DoReFa, 2 b, gradients 6 b", quant.DoReFa(gradient_bits=6), 2, 2, changes=OFFSET),
    Entry("PACT", quant.PACT(), 2, 2, changes=OFFSET, resnet=True),
    Entry("LSQ", quant.LSQ(), 2, 2, resnet=True),
    Entry("LQ-Net, 1 b", quant.LQNet(), 1, 1, "hardtanh"),
    Entry("LQ-Net, 2 b", quant.LQNet(), 2, 2, resnet=True),
    Entry("DSQ", quant.DSQ(), 2, 2, changes=OFFSET, resnet=True),
)


def entry_named(name: str) -> Entry:
    """An entry by its name."""
    found = [entry for entry in ENTRIES if entry.name == name]
    if not found:
        raise SystemExit(
            f"there is no method named {name!r}; there are: {'; '.join(e.name for e in ENTRIES)}"
        )
    return found[0]
