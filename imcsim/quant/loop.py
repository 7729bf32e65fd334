"""What an ordinary training loop calls beside its optimizer; each looks at every quantizer of a model."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.quant.base import Quantizer, WeightQuantizer


def quantizers(sim: nn.Module) -> Iterator[Quantizer]:
    """Every quantizer of a converted model.

    Args:
        sim: a converted model.

    Yields:
        The quantizers, in module order.
    """
    for module in sim.modules():
        if isinstance(module, Quantizer):
            yield module


def parameters(sim: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of quantizers (clipping ranges, steps, thresholds), for an optimizer group of their own.

    Args:
        sim: a converted model.

    Yields:
        The parameters, each once.
    """
    seen: set[int] = set()
    for quantizer in quantizers(sim):
        for parameter in quantizer.parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


@torch.no_grad()
def after_step(sim: nn.Module) -> None:
    """Call after each ``optimizer.step()``: weights are clipped or take a proximal step, as methods ask.

    Args:
        sim: a converted model.
    """
    for module in sim.modules():
        layer: Any = module
        quantizer = getattr(getattr(module, "array", None), "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer):
            moved = quantizer.after_step(layer.weight_matrix(layer.weight))
            if moved is not None:
                layer.weight.copy_(layer.weight_from_matrix(moved))


def set_progress(sim: nn.Module, fraction: float) -> None:
    """Tell the quantizers how far training is: those that harden on the way are hard at 1.

    Args:
        sim: a converted model.
        fraction: 0 at the start to 1 at the end.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 <= fraction <= 1:
        raise InputError(
            f"set_progress: fraction = {fraction!r} is not between 0 (training's start) and 1 (its end); "
            "give steps done over all steps"
        )
    for quantizer in quantizers(sim):
        quantizer.set_progress(float(fraction))


def penalty(sim: nn.Module) -> Tensor:
    """What methods add to the loss: PACT's decay of its clipping ranges, DSQ's of its softness, and so on.

    Args:
        sim: a converted model.

    Returns:
        A scalar, 0 where no method has one.
    """
    terms = [term for quantizer in quantizers(sim) if (term := quantizer.penalty()) is not None]
    if terms:
        return torch.stack([term.reshape(()) for term in terms]).sum()
    return torch.zeros((), device=next((p.device for p in sim.parameters()), None))
