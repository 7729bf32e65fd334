"""Training for chips whose columns end in one comparator: what a row block's sum becomes, in plain torch.

A layer with more inputs than an array has rows is cut into row blocks, and each block's sum becomes one bit
before the blocks are added. A network that was not trained for it loses much; one trained through it does
not. That networks can be trained so is known from Y. Kim et al., "Neural network-hardware co-design for
scalable RRAM-based BNN accelerators", arXiv:1811.02187, who give each block a threshold for each output;
here all columns of a layer share one reference, as in imcsim.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.functional.partition import row_blocks
from imcsim.functional.ranges import kmeans_values
from imcsim.hardware import Hardware

KEPT = 0.98
"""Of what was counted before, at each step of training."""
SEEN = 512
"""Input vectors of a step whose sums are counted, at least those of one sample."""
WINDOW = 1.0
"""Sums that pass a gradient: so many standard deviations to either side of the reference."""

Matrix = nn.Linear | nn.Conv2d


class PartialSums(nn.Module):
    """A binary network run through the comparators of a chip, for training and as the chip's ideal result.

    Args:
        model: runs its `network` with binary weights, but for the layers named in `real`.
        chip: XNOR or differential cells of one bit, inputs of one bit, a comparator a column.
        ramp: steps of training over which sums turn from whole ones into those of comparators.
    """

    def __init__(self, model: Any, chip: Hardware, ramp: int = 0) -> None:
        super().__init__()
        self.model, self.ramp, self.step = model, ramp, 0
        self.matrices = {
            name.replace(".", "/"): layer
            for name, layer in model.network.named_modules()
            if isinstance(layer, Matrix) and name not in model.real
        }
        self.comparators = nn.ModuleDict(
            {name: Comparators(layer, chip) for name, layer in self.matrices.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        """The network's output, every binary layer's sums through its comparators."""
        strength = min(1.0, self.step / self.ramp) if self.training and self.ramp else 1.0
        self.step += self.training
        hooks = [
            layer.register_forward_hook(partial(_instead, self.comparators[name], strength))
            for name, layer in self.matrices.items()
        ]
        try:
            out: Tensor = self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        return out


def _instead(
    comparators: nn.Module, strength: float, layer: nn.Module, inputs: tuple[Tensor], _: Tensor
) -> Any:
    return comparators(layer, inputs[0], strength)


class Comparators(nn.Module):
    """The row blocks of one layer, and the comparators at their columns.

    A block's sum becomes one of two values, the means of the sums below and above a reference midway between
    them: k-means, as `adc.spacing = "kmeans"` chooses them from data. Sums are counted in training. Pairs of
    XNOR cells carry their matches, ``(sum + inputs driven) / 2``; the inputs driven are taken off digitally.

    Args:
        layer: whose inputs are cut into blocks.
        chip: says how.
    """

    counts: Tensor

    def __init__(self, layer: Matrix, chip: Hardware) -> None:
        super().__init__()
        self.matches = chip.weights.encoding == "xnor"
        rows = chip.array.rows // (2 if self.matches else 1)
        self.blocks = row_blocks(layer.weight[0].numel(), rows, chip.weights.partition)
        self.least, most = (0, 2 * rows) if self.matches else (-rows, rows)
        self.register_buffer("counts", torch.zeros(most - self.least + 1, dtype=torch.float64))
        self.low = self.high = self.spread = math.nan

    def forward(self, layer: Matrix, x: Tensor, strength: float = 1.0) -> Tensor:
        """The layer's output. Shapes: x as the layer takes it; returns what it returns.

        Args:
            layer: of binary weights, a number and its negative.
            x: inputs of 1 and -1, or 1 and 0.
            strength: below 1, the share of the comparators' result; the rest is the whole sum.
        """
        scale = layer.weight.detach().abs().max()
        signs = (layer.weight / scale).flatten(1).split([stop - start for start, stop in self.blocks], 1)
        sums = [_product(layer, x, part, *block) for part, block in zip(signs, self.blocks, strict=True)]
        driven = [
            self._driven(layer, x, part, *block) for part, block in zip(signs, self.blocks, strict=True)
        ]
        if self.training:
            self._count(sums, driven)
        # Sums are whole: half a unit below the first one at or above the reference is exact in bfloat16.
        reference = math.ceil((self.low + self.high) / 2) - 0.5
        references = [reference - lines for lines in driven]
        signs_of_sums = _Comparison.apply(references, WINDOW * self.spread, *sums).float()
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        total = len(sums) * middle + half * signs_of_sums
        total = total - sum(lines.float() for lines in driven)
        if strength < 1:
            total = strength * total + (1 - strength) * sum(part.float() for part in sums)
        return scale * total

    @torch.no_grad()
    def _driven(self, layer: Matrix, x: Tensor, signs: Tensor, start: int, stop: int) -> Tensor:
        """Inputs driven of a block, padding left out. Shapes: like one sample's output, of one column."""
        if not self.matches:
            return x.new_zeros(())
        return _product(layer, torch.ones_like(x[:1]), torch.ones_like(signs[:1]), start, stop)

    @torch.no_grad()
    def _count(self, sums: list[Tensor], driven: list[Tensor]) -> None:
        """Count the sums of some samples, and choose the two values."""
        samples = max(1, SEEN // sums[0][0, 0].numel())
        self.counts.mul_(KEPT)
        for part, lines in zip(sums, driven, strict=True):
            seen = (part[:samples] + lines - self.least).flatten().to(torch.int64)
            self.counts += torch.bincount(seen, minlength=len(self.counts))
        values = torch.arange(len(self.counts), dtype=torch.float64) + self.least
        self.low, self.high = kmeans_values(values, self.counts, 2)
        weight = self.counts / self.counts.sum()
        self.spread = float((weight * (values - weight @ values).square()).sum().sqrt())


class _Comparison(torch.autograd.Function):
    """The sum of 1 where a sum is above its reference, else -1; gradients are a line's within a window."""

    @staticmethod
    def forward(ctx: Any, references: list[Tensor], window: float, *sums: Tensor) -> Tensor:
        beyond = [part - reference for part, reference in zip(sums, references, strict=True)]
        ctx.save_for_backward(*beyond)
        ctx.window = window
        out = torch.zeros_like(sums[0])
        for part in beyond:
            out += part.sign()
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, window = grads[0] / ctx.window, ctx.window
        passed = (torch.ops.aten.hardtanh_backward(grad, part, -window, window) for part in ctx.saved_tensors)
        return None, None, *passed


def _product(layer: Matrix, x: Tensor, signs: Tensor, start: int, stop: int) -> Tensor:
    """The product with inputs `start` to `stop` of a layer's matrix, whose weights are given."""
    if isinstance(layer, nn.Linear):
        return F.linear(x[:, start:stop], signs)
    kernel = math.prod(layer.kernel_size)
    first, last = start // kernel, -(-stop // kernel)
    weight = F.pad(signs, (start - first * kernel, last * kernel - stop))
    weight = weight.view(-1, last - first, *layer.kernel_size)
    return F.conv2d(x[:, first:last], weight, None, layer.stride, layer.padding, layer.dilation)
