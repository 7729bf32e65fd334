"""Accuracy of a model on data, and its distance from a reference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.batches import batch_pair, evaluation_mode, to_model
from imcsim.errors import InputError
from imcsim.progress import progress

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes:
        top1: fraction of samples whose largest logit is the label's.
        n: samples.
        ci95: 95 % Wilson score interval of `top1`, (low, high).
        sqnr_db: ``10 log10(sum ref^2 / sum (ref - y)^2)`` over all logits; inf where equal, None without a
            reference.
    """

    top1: float
    n: int
    ci95: tuple[float, float]
    sqnr_db: float | None

    def row(self, **labels: Any) -> dict[str, Any]:
        """As a row of a table: the labels, then top1, ci95_low, ci95_high, sqnr_db and n.

        Args:
            **labels: what was varied, such as ``adc_bits=6``.

        Returns:
            The row, as `imcsim.plot` takes it.
        """
        low, high = self.ci95
        return {
            **labels,
            "top1": self.top1,
            "ci95_low": low,
            "ci95_high": high,
            "sqnr_db": self.sqnr_db,
            "n": self.n,
        }

    def __str__(self) -> str:
        low, high = (100 * end for end in self.ci95)
        text = f"top-1 {100 * self.top1:.2f} % (95 %: {low:.2f} to {high:.2f}, n = {self.n})"
        return text if self.sqnr_db is None else f"{text}, SQNR {self.sqnr_db:.1f} dB"


def evaluate(model: nn.Module, batches: Iterable[Any], reference: nn.Module | None = None) -> Evaluation:
    """Top-1 accuracy of a classifier and, against a reference network, the SQNR of its logits.

    Args:
        model: a converted or float model; runs in eval mode without gradients, its mode is restored.
        batches: (input, label) pairs; shown with a progress bar on a terminal.
        reference: usually the float model.

    Returns:
        The accuracy with n and a 95 % interval, and the SQNR.

    Raises:
        InputError: no batches, batches that are not pairs of tensors, or a model that does not give logits.
    """
    if isinstance(batches, Tensor):
        raise InputError(
            "evaluate takes an iterable of (input, label) pairs, but got one tensor; pass [(inputs, labels)]"
        )
    if not isinstance(batches, Iterable):
        raise InputError(
            f"evaluate takes an iterable of (input, label) pairs, but got {type(batches).__name__}"
        )
    for what, net in (("model", model), ("reference", reference)):
        if not isinstance(net, nn.Module) and (what == "model" or net is not None):
            raise InputError(
                f"evaluate: {what} is a torch.nn.Module, but got {type(net).__name__}; pass a converted or a "
                "float model"
            )
    right = n = 0
    signal = noise = 0.0
    with evaluation_mode(model):
        for batch in progress(batches, "evaluating"):
            x, y = batch_pair(batch)
            logits = _logits(model(to_model(model, x)), len(y))
            right += int((logits.argmax(-1) == y.to(logits.device)).sum())
            n += len(y)
            if reference is not None:
                with evaluation_mode(reference):
                    want = _logits(reference(to_model(reference, x)), len(y)).double().to(logits.device)
                if want.shape != logits.shape:
                    raise InputError(
                        f"evaluate compares logits of one shape, but the model gave {tuple(logits.shape)} "
                        f"and the reference {tuple(want.shape)}; give a reference with the same classes"
                    )
                signal += float(want.square().sum())
                noise += float((want - logits.double()).square().sum())
    if n == 0:
        raise InputError(
            "evaluate got no samples; give at least one (input, label) batch (a generator can be used "
            "only once)"
        )
    return Evaluation(
        right / n, n, wilson_interval(right, n), None if reference is None else decibels(signal, noise)
    )


def _logits(out: Any, samples: int) -> Tensor:
    """What a classifier gave, checked. Shapes: returns (samples, classes)."""
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != samples:
        got = f"a tensor of {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"evaluate needs a model that gives logits (batch, classes), here ({samples}, classes), but got "
            f"{got}; wrap the model in one that returns its logits alone"
        )
    return out


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion.

    Args:
        successes: how many of n.
        n: trials, at least 1.

    Returns:
        (low, high).

    References: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
        1927.
    """
    p, z = successes / n, Z_95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two powers; inf without noise, -inf without signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


@torch.no_grad()
def sqnr_db(reference: Tensor, value: Tensor) -> float:
    """Signal to quantization noise of a tensor, ``10 log10(sum ref^2 / sum (ref - y)^2)``.

    Shapes: both (*any).

    Args:
        reference: what it should be.
        value: what it is.

    Returns:
        Decibels.
    """
    ref = reference.double()
    return decibels(float(ref.square().sum()), float((ref - value.double()).square().sum()))
