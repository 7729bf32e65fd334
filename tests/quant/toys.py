"""The quantized network in torch's own layers, which a chip of ideal parts must agree with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def quantized_twin(sim: nn.Module, layer: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A torch layer that holds a crossbar layer's quantized weight, and the quantized input."""
    codes = sim.array.weight_quantizer.encode(sim.weight_matrix(sim.weight.detach()))
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.copy_(sim.weight_from_matrix(codes.value()))
    return twin, sim.array.quantize(x, sim.sample_dims).value()
