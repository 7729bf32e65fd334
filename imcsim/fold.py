"""BatchNorm folded into the layer before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from imcsim.errors import ConversionError, InputError
from imcsim.nn import AnalogNorm, CrossbarLayer, CrossbarMatrices

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class FoldedBatchNorm(nn.Identity):
    """Where a BatchNorm was before it was folded into the layer before it.

    Refuses checkpoints of the unfolded model, and tensors whose second dimension is not the layer's outputs:
    a linear layer's outputs are the last dimension, of (batch, positions, features) BatchNorm1d takes the
    positions.

    Args:
        dims: dimensions of a batch of the layer's outputs.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, input: Tensor) -> Tensor:
        """The tensor as it is."""
        if input.dim() != self.dims:
            raise InputError(
                f"a BatchNorm that was folded (fold_batchnorm=True) got a tensor of {tuple(input.shape)}, "
                "whose second dimension is not the outputs of the layer before it; convert with "
                "fold_batchnorm=False"
            )
        return input

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stale = sorted(key for key in state_dict if key.startswith(prefix))
        if stale:
            raise ConversionError(
                f"the checkpoint has {stale[0]!r}, but this model's BatchNorm was folded into the layer "
                "before it (fold_batchnorm=True); "
                "load the checkpoint into the float model and convert that"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """Fold every BatchNorm that directly follows a linear or convolutional layer into that layer, in place.

    ``w' = w gamma / sqrt(var + eps)``, ``b' = (b - mean) gamma / sqrt(var + eps) + beta``.

    Args:
        model: a model in eval mode that torch.fx can trace.

    Returns:
        The same model; a folded BatchNorm became an identity.

    Raises:
        ConversionError: the model is in training mode, or torch.fx cannot trace it.

    References: C. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", 2025, Eq.
        22.
    """
    if model.training:
        raise ConversionError(
            "fold_batchnorm=True folds the running statistics, but the model is in training mode; call "
            "model.eval() first"
        )
    graph = traced(model, "fold_batchnorm=True", "convert without folding, or make forward traceable")
    for layer_name, norm_name in norm_pairs(model, graph):
        layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
        if isinstance(layer, _LAYERS) and norm.running_mean is not None:
            _fold_pair(layer, norm)
            dims = 2 if isinstance(layer, nn.Linear) else layer.weight.dim()
            model.set_submodule(norm_name, FoldedBatchNorm(dims))
    return model


def traced(model: nn.Module, what: str, instead: str) -> fx.Graph:
    """The graph of a model whose layers are leaves.

    Args:
        model: the model.
        what: needs the graph, for the error.
        instead: what a user can do without one.

    Returns:
        The graph.

    Raises:
        ConversionError: torch.fx cannot trace the model.
    """
    try:
        return LayerTracer().trace(model)
    except Exception as error:  # torch.fx raises whatever the model's forward does
        raise ConversionError(
            f"{what} needs torch.fx to trace the model, which failed: {error}; {instead}"
        ) from error


class LayerTracer(fx.Tracer):
    """Traces a converted model, crossbar layers being leaves as torch's own layers are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module is not looked into."""
        own = isinstance(m, CrossbarLayer | CrossbarMatrices | AnalogNorm)
        return own or super().is_leaf_module(m, module_qualified_name)


def norm_pairs(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """Modules that a BatchNorm of their outputs directly follows.

    Both are called once and nothing else uses what is between.

    Args:
        model: the model.
        graph: its trace.

    Returns:
        Names of the module and of its BatchNorm.
    """
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        norm = model.get_submodule(str(node.target))
        if not isinstance(norm, _NORMS) or source.op != "call_module" or len(source.users) > 1:
            continue
        layer = model.get_submodule(str(source.target))
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if outputs != norm.num_features:  # it normalises another dimension
            continue
        if calls[str(node.target)] == 1 and calls[str(source.target)] == 1:
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _fold_pair(layer: Any, norm: Any) -> None:
    ones, zeros = torch.ones_like(norm.running_mean), torch.zeros_like(norm.running_mean)
    gamma: Tensor = ones if norm.weight is None else norm.weight
    beta: Tensor = zeros if norm.bias is None else norm.bias
    stats = (norm.running_mean, norm.running_var, norm.eps, gamma, beta)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *stats)
    elif isinstance(layer, _TRANSPOSED) and layer.groups > 1:
        factor = gamma / torch.sqrt(norm.running_var + norm.eps)
        per_group = factor.view(layer.groups, 1, -1, *[1] * len(layer.kernel_size))
        weight = (layer.weight.unflatten(0, (layer.groups, -1)) * per_group).flatten(0, 1)
        bias = ((0 if layer.bias is None else layer.bias) - norm.running_mean) * factor + beta
    else:
        weight, bias = fuse_conv_bn_weights(
            layer.weight, layer.bias, *stats, transpose=isinstance(layer, _TRANSPOSED)
        )
    layer.weight = nn.Parameter(weight.detach(), layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias.detach(), layer.weight.requires_grad)
