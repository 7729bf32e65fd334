"""Strategies that are functions or modules: Tang's regulariser, average bit-width, bypass, binary padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.quant.base import Quantizer, WeightQuantizer

FLOAT_BITS = 32
"""Of a parameter that is not quantized."""


def binary_regulariser(weights: Iterable[Tensor], strength: float) -> Tensor:
    """Pull weights to -1 and 1: ``strength sum (1 - clip(w, -1, 1)^2)``.

    Shapes: weights (*any) each; returns a scalar.

    Args:
        weights: of the binary layers, as a rule ``p for p in sim.parameters() if p.dim() > 1``.
        strength: lambda.

    Returns:
        The term of the loss.

    Notes:
        ``1 - w^2`` alone falls without bound as weights grow; it is meant for weights clipped to [-1, 1], as
        `QNN` and `BinaryConnect` keep them. Beyond, the term is 0 here and pulls no further.

    References: W. Tang, G. Hua and L. Wang, "How to train a compact binary neural network with high
        accuracy?", AAAI 2017; the survey's Eq. 21.
    """
    terms = [(1 - w.clamp(-1, 1).square()).sum() for w in weights]
    return strength * torch.stack(terms).sum() if terms else torch.zeros(())


def average_bits(sim: nn.Module) -> float:
    """Average bit-width of a network: all bits of its parameters over its number of weights.

    ``BW = sum_w bits(w) / N``. A weight on arrays has weights.bits, or what its method's format stores;
    everything else (digital layers, biases, BatchNorm's affine parameters, what quantizers learn) has 32. N
    is the number of parameters of the same network with one-bit weights, without biases and affine
    parameters: its weights alone. A binary network without them has 1.

    Args:
        sim: a converted model.

    Returns:
        The average.

    Raises:
        InputError: the model has no weights.

    Notes:
        The survey does not say what architecture N counts; it must be the same one for 1 to be the least.

    References: the survey's Eq. 19.
    """
    bits: dict[int, float] = {}
    for module in sim.modules():
        quantizer = getattr(getattr(module, "array", None), "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer):
            layer: Any = module
            weight: Tensor = layer.weight
            stored = quantizer.stored_bits
            width = float(layer.array.described.weights.bits if stored is None else stored)
            whole = weight if weight._base is None else weight._base
            share = weight.numel() / whole.numel()  # of a packed matrix, a part
            bits[id(whole)] = bits.get(id(whole), FLOAT_BITS) + share * (width - FLOAT_BITS)
    learned = {id(p) for m in sim.modules() if isinstance(m, Quantizer) for p in m.parameters()}
    total = weights = 0.0
    for parameter in sim.parameters():
        total += parameter.numel() * bits.get(id(parameter), FLOAT_BITS)
        if parameter.dim() > 1 and id(parameter) not in learned:
            weights += parameter.numel()
    if not weights:
        raise InputError("average_bits: the model has no weights; give a network with a linear layer or more")
    return total / weights


class Bypass(nn.Module):
    """A full-precision bypass around a quantized layer: ``activation(layer(z) + z)``.

    `imcsim.convert` puts the layer inside on arrays; the bypass stays digital.

    Shapes: the layer's input and output must be alike.

    Args:
        layer: the layer, with what normalises its output.
        activation: AF; None: the identity, where the next layer's input quantizer is all there is.

    Raises:
        InputError: in forward, the layer changes the shape.

    References: Z. Liu et al., "Bi-Real net: enhancing the performance of 1-bit CNNs with improved
        representational capability and advanced training algorithm", ECCV 2018; the survey's Eq. 20.
    """

    def __init__(self, layer: nn.Module, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, z: Tensor) -> Tensor:
        """Shapes: z (batch, ...); returns the same."""
        out: Tensor = self.layer(z)
        if out.shape != z.shape:
            raise InputError(
                f"Bypass: its layer turns {tuple(z.shape)} into {tuple(out.shape)}, which the bypass cannot "
                "be added to; give a layer that keeps the shape"
            )
        return self.activation(out + z)


class AlternatingPad2d(nn.Module):
    """Borders of +1 and -1 in turn, for convolutions of binary inputs, which have no zero (FBNA's padding).

    1 where row plus column is even, counted from the padded image's corner. Put it before a convolution
    without padding.

    Shapes: x (batch, channels, height, width); returns (batch, channels, height + 2 padding, width + 2
    padding).

    Args:
        padding: width of the border.

    Raises:
        InputError: in forward, x is not a batch of images.

    References: P. Guo et al., "FBNA: a fully binarized neural network accelerator", FPL 2018, whose padding
        alternates; in which order is assumed.
    """

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """The padded images."""
        if x.dim() != 4:
            raise InputError(
                f"AlternatingPad2d takes (batch, channels, height, width), but got {tuple(x.shape)}; add the "
                "missing dimension"
            )
        inside = F.pad(torch.ones_like(x[:1, :1], dtype=torch.bool), (self.padding,) * 4)
        height, width = inside.shape[2:]
        odd = torch.arange(height, device=x.device).view(-1, 1) + torch.arange(width, device=x.device)
        border = (1 - 2 * (odd % 2)).to(x.dtype)
        return torch.where(inside, F.pad(x, (self.padding,) * 4), border)
