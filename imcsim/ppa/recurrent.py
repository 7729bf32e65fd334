"""Recurrent and attention layers as matrices: each weight matrix is a layer of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from imcsim.ppa.shapes import LayerShape

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _gates(module: nn.Module) -> tuple[str, int]:
    for kind in ("LSTM", "GRU"):
        if isinstance(module, getattr(nn, kind) | getattr(nn, f"{kind}Cell")):
            return kind, _GATES[kind]
    return "RNN", 1


def recurrent_shapes(name: str, module: Any, x: Any) -> tuple[LayerShape, ...]:
    """The input and the recurrent matrix of every layer and direction.

    Recurrent matrices are sequential: a step needs the one before. Gates are element-wise work of the
    recurrent matrix: an activation a gate and cell output, three products and sums a hidden value (LSTM and
    GRU).

    Shapes: x (..., features); its vectors are all but the last dimension, or the rows of a packed sequence.

    Args:
        name: module name.
        module: `nn.RNNBase` or `nn.RNNCellBase`.
        x: the module's input.

    Returns:
        The shapes, vectors and work over the whole batch.
    """
    kind, gates = _gates(module)
    data: Tensor = x if isinstance(x, Tensor) else x.data
    steps = max(1, data.numel() // max(1, data.shape[-1]))
    hidden = module.hidden_size
    cell = isinstance(module, nn.RNNCellBase)
    directions = 1 if cell or not module.bidirectional else 2
    project = 0 if cell else module.proj_size
    out = project or hidden
    shapes = []
    for layer in range(1 if cell else module.num_layers):
        inputs = module.input_size if layer == 0 else out * directions
        for direction in range(directions):
            tail = "" if cell else f"_l{layer}" + ("_reverse" if direction else "")
            dot = f"{name}." if name else ""
            shapes.append(
                LayerShape(
                    f"{dot}weight_ih{tail}",
                    1,
                    gates * hidden,
                    inputs,
                    steps,
                    kind=kind,
                    window=0.0,
                    input_elements=steps * inputs if layer == 0 else 0,
                )
            )
            values = steps * hidden
            shapes.append(
                LayerShape(
                    f"{dot}weight_hh{tail}",
                    1,
                    gates * hidden,
                    out,
                    steps,
                    kind=kind,
                    sequential=True,
                    window=0.0,
                    activations=values * (gates + (kind == "LSTM")),
                    vector_ops=values * (gates + (3 if gates > 1 else 0)),
                )
            )
            if project:
                shapes.append(
                    LayerShape(
                        f"{dot}weight_hr{tail}",
                        1,
                        project,
                        hidden,
                        steps,
                        kind=kind,
                        sequential=True,
                        window=0.0,
                    )
                )
    return tuple(shapes)


def attention_shapes(name: str, module: nn.MultiheadAttention, args: Any) -> tuple[LayerShape, ...]:
    """The four projections; the products of queries, keys and values are digital.

    Args:
        name: module name.
        module: the layer.
        args: query, key and value.

    Returns:
        The shapes, vectors and work over the whole batch.
    """
    query, key = args[0], args[1] if len(args) > 1 else args[0]
    width = module.embed_dim
    queries, keys = query.numel() // query.shape[-1], key.numel() // key.shape[-1]
    batch = 1 if query.dim() == 2 else query.shape[0 if module.batch_first else 1]
    length = keys // batch
    dot = f"{name}." if name else ""
    rows = {"query": (width, queries), "key": (module.kdim, keys), "value": (module.vdim, keys)}
    shapes = [
        LayerShape(
            f"{dot}{part}_proj",
            1,
            width,
            inputs,
            vectors,
            kind="MultiheadAttention",
            window=1 / max(1, vectors),
            input_elements=inputs * vectors if part == "query" else 0,
        )
        for part, (inputs, vectors) in rows.items()
    ]
    shapes.append(
        LayerShape(
            f"{dot}out_proj",
            1,
            width,
            width,
            queries,
            kind="MultiheadAttention",
            activations=queries * module.num_heads * length,
            digital_macs=2 * queries * length * width,
        )
    )
    return tuple(shapes)
