"""ONNX files, through onnx2torch.

onnx2torch 1.5 reads opsets up to 17, and torch's exporter writes newer ones; it imports torchvision for two
operators of object detectors; and it indexes by lists, which torch has deprecated. The three are met here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from imcsim.errors import DataError, MissingPackageError

OPSET = 17
"""The newest operator set that onnx2torch knows."""

_WITH_WEIGHT = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization")
_REDUCTIONS = (
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
)
"""Operators whose axes were an attribute up to opset 17, and are an input since 18."""


def load_onnx(path: Path) -> nn.Module:
    """The network of an ONNX file, its layers named after their weights.

    Args:
        path: the file; weights in a file beside it are read too.

    Returns:
        The network in eval mode. A product with a stored matrix is an `nn.Linear`; exporters fold BatchNorms
        into convolutions, and what they folded stays folded.

    Raises:
        MissingPackageError: onnx or onnx2torch is not installed.
        DataError: the file cannot be read, or has an operator that onnx2torch does not know.
    """
    onnx, onnx2torch = _packages()
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise DataError(f"model file {str(path)!r} is not a valid ONNX file: {_first_line(error)}") from error
    names = _name_by_weight(proto)
    try:
        _lower_opset(onnx, proto)
        onnx.checker.check_model(proto)
        net = onnx2torch.convert(proto)
    except Exception as error:  # the checker and the converter have errors of their own
        raise DataError(
            f"model file {str(path)!r} cannot be converted: {_first_line(error)}; export it with opset "
            f"{OPSET} or below, or load the network from its Python code instead"
        ) from error
    _linear_layers(net)
    return _renamed(net, names).eval()


def _packages() -> tuple[Any, Any]:
    try:
        with _placeholder_for_torchvision():
            onnx = importlib.import_module("onnx")
            onnx2torch = importlib.import_module("onnx2torch")
    except ImportError as error:
        raise MissingPackageError(
            f"ONNX files need the packages onnx and onnx2torch ({error}); install them with "
            "pip install 'imcsim[onnx]', or without torchvision: pip install onnx and "
            "pip install --no-deps onnx2torch"
        ) from None
    slices: Any = importlib.import_module("onnx2torch.node_converters.slice")
    slices._do_slice = _slice
    return onnx, onnx2torch


@contextmanager
def _placeholder_for_torchvision() -> Iterator[None]:
    """Let onnx2torch be imported without torchvision; its two operators that need it then fail when used."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        stand_in, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
        ops.roi_align = None  # type: ignore[attr-defined]
        stand_in.ops = ops  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": stand_in, "torchvision.ops": ops}
        try:
            yield
        finally:
            del sys.modules["torchvision"], sys.modules["torchvision.ops"]
    else:
        yield


def _slice(x: Tensor, flipped: list[int], leading: list[Any], trailing: list[Any]) -> Tensor:
    """`onnx2torch`'s slicing with tuples for lists."""
    x = torch.flip(x, dims=flipped) if flipped else x
    x = x[tuple(leading)] if leading else x
    return x[tuple(trailing)] if trailing else x


def _name_by_weight(proto: Any) -> dict[str, str]:
    """Name layers after their weights, conv1.weight: conv1; returns their names with and without dots."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    dotted: dict[str, str] = {}
    for node in proto.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        name = weight.removesuffix(".weight")
        if node.op_type in _WITH_WEIGHT and weight in stored and name not in ("", weight):
            if name not in dotted.values():
                node.name = name.replace(".", "/")
                dotted[node.name] = name
    return dotted


def _lower_opset(onnx: Any, proto: Any) -> None:
    """Say the same at opset 17: reductions with their axes as an attribute.

    Other operators of a CNN or a transformer gained data types and options since, and kept their meaning; the
    checker refuses what is written with a newer option.
    """
    own = next(entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if own.version <= OPSET:
        return
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t
    for node in proto.graph.node:
        if node.op_type in _REDUCTIONS and len(node.input) > 1 and node.input[1] in stored:
            axes = onnx.numpy_helper.to_array(stored[node.input[1]]).tolist()
            del node.input[1:]
            kept = [entry for entry in node.attribute if entry.name != "noop_with_empty_axes"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
    own.version = OPSET
    proto.ir_version = min(proto.ir_version, 8)


def _linear_layers(net: GraphModule) -> None:
    """Products of activations with a stored matrix become linear layers."""
    for node in list(net.graph.nodes):
        if node.op != "call_module" or type(net.get_submodule(node.target)).__name__ != "OnnxMatMul":
            continue
        stored = _initializer(net, node.args[1])
        if stored is None or stored.dim() != 2:
            continue
        inputs, outputs = stored.shape
        layer = nn.Linear(inputs, outputs, bias=False, device="meta")
        layer.weight = nn.Parameter(stored.T.contiguous())
        net._modules[node.target] = layer
        node.args = node.args[:1]
    net.graph.eliminate_dead_code()
    net.recompile()


def _initializer(net: GraphModule, node: Any) -> Tensor | None:
    if getattr(node, "op", None) != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    found = getattr(net.get_submodule(owner), name)
    return found if isinstance(found, Tensor) else None


def _renamed(net: GraphModule, names: dict[str, str]) -> GraphModule:
    """Layers under dotted names again, which onnx2torch does not keep."""
    root = nn.Module()
    for name, module in net.named_children():
        if name not in names:
            root.add_module(name, module)
    for name, dotted in names.items():
        *parents, last = dotted.split(".")
        owner = root
        for part in parents:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(last, net.get_submodule(name))
    for node in net.graph.nodes:
        if node.op == "call_module":
            node.target = names.get(node.target, node.target)
    return GraphModule(root, net.graph, class_name="Onnx")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
