"""What is done to weights so that a chip's errors matter less: clipping, and filling the cells' range."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from imcsim.convert import arrays
from imcsim.errors import InputError
from imcsim.fold import norm_pairs, traced
from imcsim.nn import CrossbarLayer


@torch.no_grad()
def clip_weights(sim: nn.Module, sigmas: float = 2.5) -> None:
    """Clip the weights on crossbars to so many of their standard deviations.

    ``w = clip(w, -sigmas std(w), sigmas std(w))``, over the tensor, or over each output where the chip's
    scales are per channel. The largest weight sets a layer's scale, and the error of a cell is a fraction of
    it: fewer outliers make all errors smaller. Call it after each optimizer step.

    Args:
        sim: a converted model.
        sigmas: standard deviations, positive; 2 to 3 are usual.

    Raises:
        InputError: sigmas is not positive.
        ConversionError: the model was not converted.

    References: V. Joshi et al., "Accurate deep neural network inference using computational phase-change
        memory", Nature Communications 11, 2473, 2020, DOI 10.1038/s41467-020-16108-9.
    """
    if not 0 < sigmas < float("inf"):
        raise InputError(
            f"sigmas = {sigmas!r}: a positive number of standard deviations is needed, such as 2.5"
        )
    for layer, array in arrays(sim):
        matrix = layer.weight_matrix(layer.weight)
        dims = (2,) if array.hardware.weights.scale == "per_channel" else (0, 1, 2)
        limit = sigmas * matrix.std(dims, keepdim=True, correction=0)
        clipped = torch.minimum(torch.maximum(matrix, -limit), limit)
        layer.weight.copy_(layer.weight_from_matrix(clipped))


@torch.no_grad()
def remap(sim: nn.Module) -> list[str]:
    """Let every output channel fill the cells' range, where a BatchNorm undoes the scaling.

    ``w_c *= k_c``, ``k_c = max|w| / max|w_c|``, and of the BatchNorm that directly follows ``mean_c *= k_c``,
    ``var_c = k_c^2 (var_c + eps) - eps``: the float network computes the same, but the errors of a channel of
    small weights shrink by k_c. Layers with a scale per channel fill their range already. Converters see
    larger currents: calibrate again.

    Args:
        sim: a converted model that torch.fx can trace (crossbar layers are leaves).

    Returns:
        Names of the layers that were scaled.

    Raises:
        ConversionError: the model was not converted, or torch.fx cannot trace it.
    """
    arrays(sim)
    graph = traced(sim, "remap", 'make forward traceable, or use weights.scale = "per_channel"')
    scaled = []
    for layer_name, norm_name in norm_pairs(sim, graph):
        layer, norm = sim.get_submodule(layer_name), sim.get_submodule(norm_name)
        if isinstance(layer, CrossbarLayer) and layer.array.hardware.weights.scale == "per_tensor":
            _fill(layer, norm)
            scaled.append(layer_name)
    return scaled


def _fill(layer: CrossbarLayer, norm: Any) -> None:
    matrix = layer.weight_matrix(layer.weight)
    peaks = matrix.abs().amax(2, keepdim=True)
    factor = torch.where(peaks > 0, peaks.max() / peaks.clamp(min=1e-30), torch.ones_like(peaks))
    layer.weight.copy_(layer.weight_from_matrix(matrix * factor))
    by_output = factor.flatten()
    if layer.bias is not None:
        layer.bias.mul_(by_output)
    if norm.running_mean is not None:
        norm.running_mean.mul_(by_output)
        norm.running_var.add_(norm.eps).mul_(by_output.square()).sub_(norm.eps)
