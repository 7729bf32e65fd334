"""BatchNorm folded while a network trains, for chips that have no BatchNorm of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imcsim.fold import norm_pairs, traced

_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FoldingLayer(nn.Module):
    """A layer that trains with the weights it will have once its BatchNorm is folded into it.

    ``y = L(w gamma / sigma) + (b - mu) gamma / sigma + beta``: the folded weight is what is quantized and
    programmed, so that training sees its range and rounding. In training mode mu and sigma are those of the
    batch (and the running statistics follow), from the float product of the unfolded weight; in eval mode, or
    frozen, the running ones.

    Attributes:
        layer: the layer, with the unfolded master weight.
        norm: its BatchNorm.
        frozen: use running statistics in training mode too, and leave them alone.

    Shapes: input as the layer's; output alike.

    Notes:
        A second product in training mode gives the statistics, as in the paper; scale and shift of the batch
        get their gradients. The bias is added digitally, behind the arrays.

    References: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2, doi:10.1109/CVPR.2018.00286; R.
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper",
        arXiv:1806.08342, 2018, section 3.2.2 (frozen statistics); L. Zhang et al., "Quantized convolutional
        neural networks: a hardware perspective", Front. Electron. 6 (2025), Eq. 22.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """The folded layer."""
        layer: Any = self.layer
        norm: Any = self.norm
        mean, var = norm.running_mean, norm.running_var
        if self.training and not self.frozen:
            mean, var = self._batch_statistics(x)
        factor = torch.rsqrt(var + norm.eps) * (1.0 if norm.weight is None else norm.weight)
        bias = (0.0 if layer.bias is None else layer.bias) - mean
        bias = bias * factor + (0.0 if norm.bias is None else norm.bias)
        weight = layer.weight * factor.view(-1, *[1] * (layer.weight.dim() - 1))
        own = {"weight": weight}
        if layer.bias is not None:
            own["bias"] = torch.zeros_like(bias)
        out = torch.func.functional_call(layer, own, (x,))
        return out + bias.view(-1, *[1] * (out.dim() - 2))

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each output over the batch; the running ones follow."""
        layer: Any = self.layer
        norm: Any = self.norm
        base: Any = next(cls for cls in _LAYERS if isinstance(layer, cls))
        y = base.forward(layer, x)
        with torch.no_grad():
            norm(y.detach())
        dims = (0, *range(2, y.dim()))
        return y.mean(dims), y.var(dims, correction=0)


def fold_in_training(model: nn.Module) -> list[str]:
    """Let every linear or convolutional layer train with the BatchNorm that directly follows it folded in.

    In place; off unless it is called: a crossbar chip normalises in its digital part (the survey's section
    5.4.2). `unfold` puts layers and BatchNorms back, for `imcsim.convert(model, ..., fold_batchnorm=True)`.

    Args:
        model: a float or converted model that torch.fx can trace (crossbar layers are leaves).

    Returns:
        Names of the layers that were folded; their parameters have ``.layer`` and ``.norm`` in their names
        until `unfold`.

    Raises:
        ConversionError: torch.fx cannot trace the model.

    Notes:
        `imcsim.calibrate` sees the inputs of folded layers, but currents of unfolded weights: choose
        calibrated converter ranges after `unfold` and conversion.
    """
    graph = traced(model, "fold_in_training", "make forward traceable")
    folded = []
    for layer_name, norm_name in norm_pairs(model, graph):
        layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
        if isinstance(layer, _LAYERS) and norm.running_mean is not None:
            model.set_submodule(layer_name, FoldingLayer(layer, norm).train(model.training))
            model.set_submodule(norm_name, _Emptied())
            folded.append(layer_name)
    return folded


def unfold(model: nn.Module) -> None:
    """Put back what `fold_in_training` folded, trained, in place.

    Args:
        model: the model.
    """
    emptied = [name for name, module in model.named_modules() if isinstance(module, _Emptied)]
    folding = [(name, m) for name, m in model.named_modules() if isinstance(m, FoldingLayer)]
    for (layer_name, module), norm_name in zip(folding, emptied, strict=True):
        model.set_submodule(layer_name, module.layer)
        model.set_submodule(norm_name, module.norm)


class _Emptied(nn.Identity):
    """Where a BatchNorm was that trains within the layer before it."""
