"""Training in stages: each starts from the weights that the stage before left, on a harder chip."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from imcsim.batches import iterate
from imcsim.calibrate import calibrate
from imcsim.convert import convert, named_layers
from imcsim.errors import InputError
from imcsim.hardware import Hardware

Chips = Mapping[str, Hardware | None]

_REAL = {"weights.bits": 16, "weights.cell_bits": 4}
"""Weights as good as real: 16 bits, the widest code."""


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: for messages and records.
        chips: by pattern, as for `imcsim.convert`; None: the float network trains.
        qat: the training method, as for `imcsim.convert`.
        soft: the float network's hardtanh activations are tanh in this stage.
    """

    name: str
    chips: Chips | None
    qat: Any = None
    soft: bool = False


Train = Callable[[nn.Module, Stage, nn.Module | None], None]
"""Trains a network in place, given its stage and the network of the stage before (its teacher, if wanted)."""


def run_stages(
    model: nn.Module, stages: Sequence[Stage], train: Train, *, calibration: Iterable[Any]
) -> nn.Module:
    """Train a network in stages; the float weights are carried from stage to stage.

    Args:
        model: the float network to start from; left as it is.
        stages: in order.
        train: a loop of one's own: called with the network of the stage, the stage, and the trained network
            of the stage before (None in the first).
        calibration: batches for the ranges of each stage's chip.

    Returns:
        The network of the last stage, trained.

    Raises:
        InputError: no stages.
    """
    if not stages:
        raise InputError("run_stages got no stages; give at least one")
    held, weights, before = iterate(calibration, "run_stages"), copy.deepcopy(model), None
    for stage in stages:
        student = with_tanh(weights) if stage.soft else copy.deepcopy(weights)
        if stage.chips is not None:
            student = convert(student, dict(stage.chips), qat=stage.qat)
            calibrate(student, held)
        train(student, stage, before)
        state = student.state_dict()
        weights.load_state_dict({key: state[key] for key in weights.state_dict()})
        before = student
    assert before is not None
    return before


def with_tanh(model: nn.Module) -> nn.Module:
    """A copy of a model whose hardtanh activations are tanh: softly binarized."""
    soft = copy.deepcopy(model)
    for name, module in list(soft.named_modules()):
        if isinstance(module, nn.Hardtanh):
            soft.set_submodule(name, nn.Tanh())
    return soft


def two_stage(hardware: Hardware, *, fixed: Chips | None = None, qat: Any = None) -> list[Stage]:
    """Weights first, activations second: with both at once training is caught in poor local minima.

    Args:
        hardware: the final chip.
        fixed: patterns of layers with chips of their own in both stages, the first and the last, say.
        qat: the training method of both stages.

    Returns:
        A stage whose inputs have 16 bits, then one as described.

    References: B. Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018,
        section 3.2, doi:10.1109/CVPR.2018.00826.
    """
    rest = dict(fixed or {})
    first = hardware.replace({"inputs.bits": 16})
    return [
        Stage("weights", {"*": first, **rest}, qat),
        Stage("weights and activations", {"*": hardware, **rest}, qat),
    ]


def progressive(
    hardware: Hardware, bits: Sequence[int], *, fixed: Chips | None = None, qat: Any = None
) -> list[Stage]:
    """From many bits to few, each precision starting from the one before.

    Args:
        hardware: the chip; its weight and input bits are replaced.
        bits: of weights and inputs, one a stage, falling: (16, 8, 4, 2).
        fixed: patterns of layers with chips of their own in all stages.
        qat: the training method of all stages.

    Returns:
        The stages.

    Raises:
        InputError: bits that do not fall.

    References: B. Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018,
        section 3.3.
    """
    if not bits or any(a <= b for a, b in itertools.pairwise(bits)):
        raise InputError(
            f"progressive: bits = {tuple(bits)} must fall from stage to stage, (16, 8, 4, 2) say"
        )
    rest = dict(fixed or {})
    return [Stage(f"{b} bits", {"*": _of_bits(hardware, b, b), **rest}, qat) for b in bits]


def real_to_binary(hardware: Hardware, *, fixed: Chips | None = None, qat: Any = None) -> list[Stage]:
    """From a real network to a binary one in four steps, each the teacher of the next.

    Real; real with tanh for hardtanh (softly binarized activations); binary activations with real weights;
    both binary.

    Args:
        hardware: the final chip, of one-bit weights and inputs.
        fixed: patterns of layers with chips of their own from the third stage on (None: digital); the first
            and the last layer stay real in the paper.
        qat: the training method of the stages on chips.

    Returns:
        The stages, for `run_stages` with a `train` that uses the stage before as its teacher (`Guidance` with
        attention maps).

    Raises:
        InputError: a chip whose weights or inputs have more than one bit.

    References: B. Martinez et al., "Training binary neural networks with real-to-binary convolutions", ICLR
        2020, section 4.2, arXiv:2003.11535.
    """
    if (hardware.weights.bits, hardware.inputs.bits) != (1, 1):
        raise InputError(
            f"real_to_binary: the chip has weights.bits = {hardware.weights.bits} and inputs.bits = "
            f"{hardware.inputs.bits}; both must be 1"
        )
    rest = dict(fixed or {})
    real = hardware.replace({**_REAL, "weights.encoding": "differential"})
    return [
        Stage("real", None),
        Stage("soft activations", None, soft=True),
        Stage("binary activations", {"*": real, **rest}, qat),
        Stage("binary", {"*": hardware, **rest}, qat),
    ]


def decreasing(
    model: nn.Module, hardware: Hardware, bits: Sequence[int] = (8, 4, 2, 1, 1, 1)
) -> dict[str, Hardware]:
    """Weight bits that fall from the input to the output, as for VGG-7 at {8-4-2-1-1-1}.

    Args:
        model: a float model.
        hardware: the chip; its weight bits are replaced.
        bits: of the layers, in module order; later layers have the last.

    Returns:
        Chips by layer name, for `imcsim.convert`.

    Raises:
        InputError: no bits, or more than there are layers.

    References: T. Chu et al., "Mixed-precision quantized neural networks with progressively decreasing
        bitwidth", Pattern Recognition 111 (2021), doi:10.1016/j.patcog.2020.107647.
    """
    names = list(named_layers(convert(model, hardware)))
    if not 1 <= len(bits) <= len(names):
        raise InputError(
            f"decreasing: bits = {tuple(bits)} for {len(names)} layers; at least one number and at most one "
            f"a layer are needed"
        )
    widths = [*bits, *[bits[-1]] * (len(names) - len(bits))]
    return {name: _of_bits(hardware, b, None) for name, b in zip(names, widths, strict=True)}


def _of_bits(hardware: Hardware, weights: int, inputs: int | None) -> Hardware:
    """The chip with other widths; cells no wider than the weight's magnitude."""
    old = hardware.weights.cell_bits
    cells = min(old, max(1, weights - 1)) if isinstance(old, int) else old
    changes: dict[str, Any] = {"weights.bits": weights, "weights.cell_bits": cells}
    return hardware.replace(changes if inputs is None else {**changes, "inputs.bits": inputs})
