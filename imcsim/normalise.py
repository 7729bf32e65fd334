"""Layer normalisation on the chip's analog column sums: no conversion of the layer before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from imcsim.errors import ConversionError, HardwareError
from imcsim.fold import traced
from imcsim.hardware import MAX_BITS, Hardware
from imcsim.hardware_tables import Normalisation
from imcsim.nn import CrossbarLayer, CrossbarLinear
from imcsim.nn.array import CrossbarArray
from imcsim.nn.norm import AnalogNorm

_PASSED = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
_POOLS = tuple(getattr(nn, f"{kind}Pool{n}d") for kind in ("Max", "Avg", "AdaptiveAvg") for n in (1, 2, 3))
_MOVES: dict[str, Callable[..., Tensor]] = {
    "permute": torch.permute,
    "transpose": torch.transpose,
    "movedim": torch.movedim,
}
_METHODS = {*_MOVES, "contiguous", "flatten", "view", "reshape", "relu"}
_SIZES = {"size", "dim", "numel"}
_FUNCTIONS = {
    torch.relu,
    F.relu,
    F.relu6,
    F.hardtanh,
    F.leaky_relu,
    F.dropout,
    torch.flatten,
    *_MOVES.values(),
} | {getattr(F, f"{kind}_pool{n}d") for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)}

ANALOG_INPUT = {
    "inputs.analog": True,
    "inputs.bits": MAX_BITS,
    "inputs.bits_per_cycle": MAX_BITS,
    "inputs.dac_inl_lsb": None,
    "inputs.dac_offset_lsb": 0.0,
    "inputs.dac_noise_lsb": 0.0,
}
"""Inputs that no converter made: codes so fine that they stand for any value, and no DAC to be wrong."""


@dataclass(frozen=True)
class _Found:
    """A norm that goes on circuits.

    Attributes:
        norm: its name.
        layer: name of the layer whose sums it takes.
        channel_axis: of its input.
        receivers: names of the layers whose word lines its result drives; none where it is converted.
    """

    norm: str
    layer: str
    channel_axis: int
    receivers: frozenset[str]


def normalise_in_analog(sim: nn.Module) -> nn.Module:
    """A copy of a converted network whose layer normalisations run on circuits, before any conversion.

    A norm goes on the circuits of its chip's `[normalisation]` table where it takes the sums of a linear or
    convolutional layer: `nn.GroupNorm(1, C)`, or `nn.LayerNorm` over the channels of each position or over
    channels and positions. The layer's converters are taken away (``array.output = "analog"``): its columns,
    and those of all its row blocks, are one current, and a bias is another. With ``normalisation.bits`` the
    normalised values are converted. Without, they stay analog and have to end on the word lines of
    other layers (``inputs.analog = true``, 16 bits), through nothing but ReLU and its kin, pooling,
    flattening and dropout.

    Args:
        sim: converted, traceable by torch.fx.

    Returns:
        The copy, its circuits drawn with the seed that the arrays were programmed with; norms that cannot go
        on circuits are as they were.

    Raises:
        ConversionError: the model cannot be traced, or no norm can go on circuits.
        HardwareError: a chip cannot have analog sums: it says which field.

    Notes: a norm over positions needs all of them at once, held or computed in parallel; the circuits are
        taken to have them. Sums, means and divisions are exact but for the errors in the table.

    References: S.-G. Gi, H. Lee, J. Jang, B.-G. Lee, "A ReRAM-based convolutional neural network accelerator
        using the analog layer normalization technique", IEEE Trans. Ind. Electron. 70(6), 2023, pp.
        6442-6451, doi:10.1109/TIE.2022.3190876 (its abstract).
    """
    graph = traced(sim, "normalise_in_analog", "make forward traceable")
    found = _norms(sim, graph)
    if not found:
        raise ConversionError(
            "no layer normalisation of the model can run in analog; it takes nn.GroupNorm(1, C), or "
            "nn.LayerNorm over channels, directly after a layer whose chip has a [normalisation] table, and "
            "without normalisation.bits nothing but ReLU, pooling, flattening and dropout up to "
            "other layers"
        )
    normalised = copy.deepcopy(sim)
    changes: dict[str, dict[str, Any]] = {}
    for item in found:
        array: CrossbarArray = normalised.get_submodule(item.layer).array  # type: ignore[assignment]
        table: Normalisation = array.hardware.normalisation  # type: ignore[assignment]
        norm = AnalogNorm(normalised.get_submodule(item.norm), table, item.norm, item.channel_axis)  # type: ignore[arg-type]
        norm.program(array.seed)
        norm.read_seed, norm.samples_read = array.read_seed, array.samples_read
        normalised.set_submodule(item.norm, norm)
        changes.setdefault(item.layer, {}).update({"adc": None, "array.output": "analog"})
        for name in item.receivers:
            changes.setdefault(name, {}).update(ANALOG_INPUT)
    for name, fields in changes.items():
        _change(normalised.get_submodule(name), name, fields)
    return normalised


def _norms(sim: nn.Module, graph: fx.Graph) -> list[_Found]:
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or called.count(str(node.target)) > 1:
            continue
        norm = sim.get_submodule(str(node.target))
        if (
            not isinstance(norm, nn.LayerNorm | nn.GroupNorm)
            or type(norm).__module__.split(".")[0] != "torch"
        ):
            continue
        before = _layer_before(sim, node)
        if before is None or called.count(str(before[0].target)) > 1:
            continue
        source, moves = before
        layer = sim.get_submodule(str(source.target))
        axis = _channel_axis(layer, norm, moves)
        if axis is None or not isinstance(layer, CrossbarLayer) or layer.array.hardware.normalisation is None:
            continue
        receivers: set[str] | None = set()
        if layer.array.hardware.normalisation.bits is None:
            receivers = _receivers(sim, node, called)
        if receivers is not None:
            found.append(_Found(str(node.target), str(source.target), axis, frozenset(receivers)))
    return found


def _layer_before(sim: nn.Module, node: fx.Node) -> tuple[fx.Node, list[fx.Node]] | None:
    """The layer whose result alone a norm takes, and what moves its dimensions on the way, first to last."""
    moves: list[fx.Node] = []
    source = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and len(source.users) == 1:
        if source.op == "call_module":
            is_layer = isinstance(sim.get_submodule(str(source.target)), CrossbarLayer)
            return (source, moves[::-1]) if is_layer else None
        if _move(source) is None and source.target != "contiguous":
            return None
        moves.append(source)
        source = source.args[0]
    return None


def _move(node: fx.Node) -> Callable[..., Tensor] | None:
    """What a node does where it reorders dimensions."""
    if node.op == "call_method":
        return _MOVES.get(str(node.target))
    return next((move for move in _MOVES.values() if node.target is move), None)


def _channel_axis(layer: nn.Module, norm: nn.LayerNorm | nn.GroupNorm, moves: list[fx.Node]) -> int | None:
    """Where a norm's input has channels; None where the norm is not over all of them.

    Counted from the end for a LayerNorm.
    """
    if isinstance(norm, nn.GroupNorm):
        whole = norm.num_groups == 1 and norm.num_channels == _outputs(layer) and not moves
        return 1 if whole else None
    if isinstance(layer, CrossbarLinear):
        return -1 if norm.normalized_shape[-1] == _outputs(layer) and not moves else None
    conv: Any = layer
    sizes = torch.empty(*range(2, 4 + len(conv.kernel_size)), device="meta")  # all dimensions differ
    for node in moves:
        move = _move(node)
        sizes = sizes if move is None else move(sizes, *node.args[1:], **node.kwargs)
    axis, over = sizes.shape.index(3) - sizes.dim(), len(norm.normalized_shape)
    whole = over in (1, sizes.dim() - 1) and -axis <= over and sizes.shape[0] == 2
    return axis if whole and norm.normalized_shape[axis] == _outputs(layer) else None


def _outputs(layer: Any) -> int:
    """Columns of a layer, of all its groups."""
    count: int = layer.out_features if isinstance(layer, CrossbarLinear) else layer.out_channels
    return count


def _receivers(sim: nn.Module, node: fx.Node, called: list[str]) -> set[str] | None:
    """Layers that a value alone reaches, as it is or through what circuits do; None: something else."""
    found: set[str] = set()
    for user in node.users:
        if user.op == "call_method" and user.target in _SIZES:
            continue
        module = sim.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, CrossbarLayer) and module.array.hardware.inputs.bits > 1:
            if called.count(str(user.target)) > 1:
                return None
            found.add(str(user.target))
            continue
        passes = isinstance(module, (*_PASSED, *_POOLS)) or _passed(user)
        beyond = _receivers(sim, user, called) if passes else None
        if beyond is None:
            return None
        found |= beyond
    return found or None


def _passed(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _FUNCTIONS
    return node.op == "call_method" and node.target in _METHODS


def _change(layer: Any, name: str, fields: dict[str, Any]) -> None:
    """Give a layer's arrays another chip; what was programmed and calibrated stays."""
    old: CrossbarArray = layer.array
    old.sync(layer.weight)
    if old.method is not None:
        raise ConversionError(
            f"layer {name!r} was converted with a training method, whose codes are added digitally; convert "
            "without qat"
        )
    chip: Hardware = old.described
    try:
        chip = chip.replace(fields)
    except HardwareError as error:
        raise HardwareError(f"layer {name!r} cannot have analog sums or inputs: {error}") from None
    new = CrossbarArray(chip, old.name, old.engine, layer.weight_matrix)
    new.load_state_dict(old.state_dict(), strict=False)
    for what in ("seed", "seconds", "compensation", "read_seed", "samples_read", "programmed_by_user"):
        setattr(new, what, getattr(old, what))
    if chip.adc is None:
        new.adc_high = new.adc_values = new.conversion_errors = None
    new.to(layer.weight.device).train(old.training)
    layer.array = new
    new.sync(layer.weight)
