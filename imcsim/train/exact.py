"""The exact fidelity of training: the forward pass of evaluation, on arrays written anew at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imcsim.nn.array import CrossbarArray
from imcsim.nn.layer import CrossbarLayer
from imcsim.train.ranges import with_range_gradients
from imcsim.train.straight import rounded_input

if TYPE_CHECKING:
    from imcsim.train.injection import Injection


class ExactForward:
    """A layer in training, as it runs in evaluation; gradients are straight-through.

    Args:
        layer: the layer.
        injection: whose step, chips and strength apply.
    """

    def __init__(self, layer: CrossbarLayer, injection: Injection) -> None:
        self.layer, self.injection = layer, injection

    def forget(self) -> None:
        """Nothing is held from step to step."""

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output. Shapes: x (batch, ...); returns (batch, outputs, ...)."""
        layer, injection = self.layer, self.injection
        array = layer.array
        full = injection.learned_input(array)
        if full is not None:
            x = rounded_input(x, full, array.hardware.inputs.bits, signed=array.signed)
        parts = x.chunk(injection.chips) if x.dim() > 1 else (x,)
        outs = [self._on_chip(part, injection.chip_seed(chip)) for chip, part in enumerate(parts)]
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _on_chip(self, x: Tensor, seed: int) -> Tensor:
        layer, array = self.layer, self.layer.array
        array.other_seed = seed
        try:
            self._write(array)
            out = layer.training_forward(x)
        finally:
            array.other_seed = None
        highs = self.injection.converter_range(array)
        return out if highs is None else with_range_gradients(out, x, highs, layer, seed)

    @torch.no_grad()
    def _write(self, array: CrossbarArray) -> None:
        before, strength = array.cells, self.injection.strength
        array.sync(self.layer.weight)
        if strength == 1.0 or not array.cells or array.cells is before:
            return
        target, written = array.target_conductance(), array.cells["conductance_S"]
        array.cells["conductance_S"] = target.lerp(written, strength).clamp_(min=0.0)
        array.forget_plans()
