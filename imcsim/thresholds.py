"""BatchNorm and the sign after it as one comparison, as binary chips do it in their sense amplifiers."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from imcsim.errors import ConversionError
from imcsim.nn import CrossbarLayer
from imcsim.quant.strategies import AlternatingPad2d

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MODULES = (nn.Hardtanh, nn.Tanh, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, AlternatingPad2d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_FUNCTIONS = {F.hardtanh, torch.tanh, torch.flatten, F.max_pool1d, F.max_pool2d, F.max_pool3d, F.dropout}
_METHODS = {"flatten", "view", "reshape", "tanh", "contiguous"}


class Threshold(nn.Module):
    """``high`` where a channel's sum is beyond its threshold, else ``low``: never between, at ties ``low``.

    ``high`` where ``direction (x - threshold) > 0``; a channel whose BatchNorm has gamma = 0 is constant.

    Shapes: x (batch, channels, ...); returns the same.

    Args:
        threshold: (channels,).
        direction: (channels,) 1 or -1, the sign of gamma; 0: constant.
        constant: (channels,) bool, whether a constant channel is high.
        low: output below: -1, or 0 for neurons of 1 and 0.
    """

    threshold: Tensor
    direction: Tensor
    constant: Tensor

    def __init__(self, threshold: Tensor, direction: Tensor, constant: Tensor, low: float) -> None:
        super().__init__()
        self.low = low
        self.register_buffer("threshold", threshold)
        self.register_buffer("direction", direction)
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        """The comparison's result."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        direction, constant = self.direction.view(shape), self.constant.view(shape)
        above = (x.double() - self.threshold.view(shape)) * direction > 0
        high = torch.where(direction == 0, constant, above)
        return torch.where(high, 1.0, self.low).to(x.dtype)


def fold_thresholds(sim: nn.Module) -> nn.Module:
    """A copy of a converted binary network whose BatchNorms became thresholds of their layers' sums.

    ``gamma (x - mean) / sqrt(var + eps) + beta > 0`` is ``sign(gamma) (x - t) > 0`` with ``t = mean - beta
    sqrt(var + eps) / gamma``. A BatchNorm is folded where everything that its result reaches is an input of
    one bit (`inputs.bits = 1`, not planes of several), through nothing but what keeps signs: hardtanh, tanh,
    max-pooling, flattening, `imcsim.quant.AlternatingPad2d`. The result is 1 or -1, never 0 (1 or 0 where the
    inputs are unsigned).

    Args:
        sim: converted, in eval mode, traceable by torch.fx. Set ``inputs.range = 1.0`` on its chips, or
            calibrate after folding.

    Returns:
        The copy; other BatchNorms are as they were.

    Raises:
        ConversionError: the model is in training mode, cannot be traced, or no BatchNorm can be folded.

    Notes: the comparison is on the digitally summed result, which all row blocks and converters contribute
        to: it is the sense amplifier's own threshold only where a layer fits one array.

    References: C. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front.
        Electron. 6, 2025, section 5.4.2; Y. Umuroglu et al., "FINN", FPGA 2017, section 4.2.2.
    """
    if sim.training:
        raise ConversionError("fold_thresholds folds running statistics; call sim.eval() first")
    try:
        graph = _Tracer().trace(sim)
    except Exception as error:  # torch.fx raises whatever the model's forward does
        raise ConversionError(
            f"fold_thresholds needs torch.fx to trace the model, which failed: {error}; make forward "
            "traceable"
        ) from error
    lows = _foldable(sim, graph)
    if not lows:
        raise ConversionError(
            "no BatchNorm of the model reaches only inputs of one bit; convert with a chip of inputs.bits "
            "= 1 and leave nothing but hardtanh, tanh, max-pooling and flattening between them"
        )
    folded = copy.deepcopy(sim)
    for name, low in lows.items():
        folded.set_submodule(name, _threshold(folded.get_submodule(name), low))
    return folded


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualname: str) -> bool:
        return isinstance(m, (CrossbarLayer, *_MODULES)) or super().is_leaf_module(m, qualname)


def _foldable(sim: nn.Module, graph: fx.Graph) -> dict[str, float]:
    """Names of BatchNorms to fold, and what they give below the threshold."""
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    found = {}
    for node in graph.nodes:
        if node.op != "call_module" or calls[str(node.target)] > 1:
            continue
        norm = sim.get_submodule(str(node.target))
        if isinstance(norm, _NORMS) and norm.running_mean is not None:
            lows = _reached(sim, node)
            if len(lows) == 1 and None not in lows:
                found[str(node.target)] = next(iter(lows)) or 0.0
    return found


def _reached(sim: nn.Module, node: fx.Node) -> set[float | None]:
    """What one-bit inputs downstream of a node send for what is not positive; None: something else."""
    found: set[float | None] = set()
    for user in node.users:
        module = sim.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, CrossbarLayer) and _one_bit(module):
            found.add(-1.0 if module.array.signed else 0.0)
        elif isinstance(module, (*_MODULES, *_POOLS)) or _keeps_signs(user):
            found |= _reached(sim, user)
        else:
            found.add(None)
    return found or {None}


def _one_bit(layer: CrossbarLayer) -> bool:
    """Whether a layer sees the sign of its input and no more; planes of bits together are more."""
    return layer.array.hardware.inputs.bits == 1 and not layer.array.input_quantizer.planes


def _keeps_signs(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _FUNCTIONS
    return node.op == "call_method" and node.target in _METHODS


def _threshold(norm: Any, low: float) -> Threshold:
    mean, sigma = norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    at = mean - beta * sigma / torch.where(gamma == 0, torch.ones_like(gamma), gamma)
    return Threshold(at, gamma.sign(), beta > 0, low)
