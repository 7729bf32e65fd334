"""torch.export files: a flat graph of calls becomes a tree of layers again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.graph import CodeGen

from imcsim.errors import DataError, InputError

aten = torch.ops.aten


def load_exported(path: Path) -> nn.Module:
    """The network of a .pt2 file, with its convolutions, linear layers and BatchNorms as modules.

    An exported program calls functions on parameters: ``aten.conv2d(x, conv1.weight)``. Each such call
    becomes a module again, under the name its weight has, so that patterns, checkpoints and random draws are
    those of the network that was exported.

    Args:
        path: the file; loading runs code of torch's unpickler, so it must be trusted.

    Returns:
        The network in eval mode.

    Raises:
        DataError: the file is not a torch.export file.
        InputError: the program was exported in training mode, or for one batch size only.
    """
    try:
        program = torch.export.load(path)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise DataError(
            f"model file {str(path)!r} cannot be read ({_first_line(error)}); write it with "
            "torch.export.save(torch.export.export(model.eval(), (x,), dynamic_shapes=...), file)"
        ) from error
    _check_batch(program, path)
    return with_layers(program.module(check_guards=False), path)


def with_layers(flat: nn.Module, path: Path) -> GraphModule:
    """A graph of function calls with its layers as modules.

    Args:
        flat: what ``ExportedProgram.module()`` gives.
        path: its file, for errors.

    Returns:
        The network in eval mode.

    Raises:
        InputError: a BatchNorm in training mode.
    """
    if not isinstance(flat, GraphModule):
        raise RuntimeError(f"an exported program is a GraphModule, this is {type(flat).__name__}")
    graph = flat.graph
    root = nn.Module()
    for name, tensor in [*flat.named_parameters(remove_duplicate=False), *flat.named_buffers()]:
        _put(root, name, tensor)
    made: dict[str, str] = {}
    for node in list(graph.nodes):
        if node.op == "call_module":  # checks of the exporter, which stand for no layer
            graph.erase_node(node)
        elif node.op == "call_function" and node.target in _BUILDERS:
            given = _arguments(node)
            if given.get("training"):
                raise InputError(
                    f"model file {str(path)!r} was exported in training mode; export model.eval() instead"
                )
            stored = {key: _stored(flat, given[key]) for key in _TENSORS if key in given}
            if stored["weight"] is not None:  # a computed weight is no stored matrix
                _replace(node, given, stored, root, made)
    _plain_signature(graph)
    net = GraphModule(root, graph, class_name="Exported")
    net.graph.eliminate_dead_code()
    net.recompile()
    return net.eval()


def _plain_signature(graph: Graph) -> None:
    """Positional inputs, and one output as itself: the exporter's descriptions of both cannot be copied."""
    graph.set_codegen(CodeGen())
    output = graph.output_node()
    (found,) = output.args
    if isinstance(found, list | tuple) and len(found) == 1:
        output.args = (found[0],)


_TENSORS = ("weight", "bias", "running_mean", "running_var")


def _arguments(node: Node) -> dict[str, Any]:
    """A call's arguments by the names of the function's schema, defaults included."""
    return {
        arg.name: node.args[i] if i < len(node.args) else node.kwargs.get(arg.name, arg.default_value)
        for i, arg in enumerate(node.target._schema.arguments)  # type: ignore[union-attr]
    }


def _stored(flat: GraphModule, arg: Any) -> Tensor | None:
    """The parameter or buffer that an argument reads, or None."""
    if not (isinstance(arg, Node) and arg.op == "get_attr"):
        return None
    module, _, name = str(arg.target).rpartition(".")
    found = getattr(flat.get_submodule(module), name)
    return found if isinstance(found, Tensor) else None


def _replace(
    node: Node, given: dict[str, Any], stored: dict[str, Tensor | None], root: nn.Module, made: dict[str, str]
) -> None:
    """Put a module in a call's place; the same call of the same parameters uses the same module."""
    facts = {key: value for key, value in given.items() if key != "input"}
    key = f"{node.target} {sorted((name, str(value)) for name, value in facts.items())}"
    if key not in made:
        made[key] = _free_name(str(given["weight"].target), set(made.values()))
        _put(root, made[key], _holding(_BUILDERS[node.target](given, stored), stored))
    graph = node.graph
    with graph.inserting_before(node):
        call = graph.create_node("call_module", made[key], (given["input"],))
    call.meta = dict(node.meta)
    if node.target is aten._native_batch_norm_legit_no_training.default:  # gives (output, mean, deviation)
        for user in list(node.users):
            user.replace_all_uses_with(call)
            graph.erase_node(user)
    else:
        node.replace_all_uses_with(call)
    graph.erase_node(node)


def _free_name(weight: str, taken: set[str]) -> str:
    """The module that a weight belonged to; a name beside it for further uses and for odd weights."""
    name = weight.removesuffix(".weight")
    if name == weight:  # such as attention.in_proj_weight, or a bare parameter of the network
        name = f"{weight}_layer"
    free, count = name, 2
    while free in taken:
        free, count = f"{name}_{count}", count + 1
    return free


def _put(root: nn.Module, name: str, value: Any) -> None:
    """Set a parameter, buffer or module at a dotted name, in plain modules made on the way."""
    *parents, last = name.split(".")
    for part in parents:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(value, nn.Parameter):
        root.register_parameter(last, value)
    elif isinstance(value, Tensor):
        root.register_buffer(last, value)
    else:
        root.add_module(last, value)


def _conv(given: dict[str, Any], stored: dict[str, Any]) -> nn.Module:
    weight, groups = stored["weight"], int(given["groups"])
    spatial = weight.dim() - 2
    names = ["stride", "padding", "dilation"]
    first, second = weight.shape[0], weight.shape[1] * groups
    transposed = "output_padding" in given and given.get("transposed", True)
    if transposed:
        kinds: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        names.append("output_padding")
        channels = first, second
    else:
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        channels = second, first
    options = {name: _spread(given[name], spatial) for name in names}
    bias = stored["bias"] is not None
    return kinds[spatial - 1](
        *channels, tuple(weight.shape[2:]), groups=groups, bias=bias, device="meta", **options
    )


def _spread(value: Any, spatial: int) -> Any:
    """An option as torch's layers keep it: one number a dimension."""
    if isinstance(value, int | str):
        return value
    numbers = tuple(int(number) for number in value)
    return numbers * spatial if len(numbers) == 1 else numbers


def _linear(given: dict[str, Any], stored: dict[str, Any]) -> nn.Module:
    outputs, inputs = stored["weight"].shape
    return nn.Linear(inputs, outputs, bias=stored["bias"] is not None, device="meta")


def _batch_norm(given: dict[str, Any], stored: dict[str, Any]) -> nn.Module:
    kinds: dict[int, Any] = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    kind = kinds.get(given["input"].meta["val"].dim(), nn.BatchNorm1d)
    features = len(stored["running_mean"])
    return kind(features, eps=given["eps"], momentum=given["momentum"], device="meta")


def _holding(made: nn.Module, stored: dict[str, Tensor | None]) -> nn.Module:
    """A layer made on the meta device with the tensors it is to hold."""
    for name, tensor in stored.items():
        if name in made._buffers and tensor is not None:
            made.register_buffer(name, tensor.detach())
        elif tensor is not None:
            held = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
            made.register_parameter(name, held)
    if isinstance(made, nn.modules.batchnorm._BatchNorm):
        made.num_batches_tracked = torch.tensor(0)
    return made


_BUILDERS: dict[Any, Callable[[dict[str, Any], dict[str, Any]], nn.Module]] = {
    **{getattr(aten, f"conv{n}d").default: _conv for n in (1, 2, 3)},
    **{getattr(aten, f"conv{n}d").padding: _conv for n in (1, 2, 3)},
    aten.conv_transpose1d.default: _conv,
    aten.conv_transpose2d.input: _conv,
    aten.conv_transpose3d.input: _conv,
    aten.convolution.default: _conv,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
}


def _check_batch(program: torch.export.ExportedProgram, path: Path) -> None:
    """Refuse a program for one batch size: results may not depend on how a batch is cut."""
    wanted = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in wanted and isinstance(value, Tensor):
            if value.dim() and isinstance(value.shape[0], int):
                raise InputError(
                    f"model file {str(path)!r} was exported for batches of {value.shape[0]} alone; export it "
                    "with dynamic_shapes=({0: torch.export.Dim.AUTO},)"
                )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
