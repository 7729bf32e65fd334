"""Helpers of the tests that state an equation by hand in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from imcsim.quant import InputQuantizer, Span, WeightQuantizer


def weights(seed: int = 0, shape: tuple[int, ...] = (1, 6, 40), scale: float = 0.5) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weight_value(quantizer: WeightQuantizer, matrix: Tensor) -> Tensor:
    return quantizer(matrix, quantizer.encode(matrix.detach()).value())


def input_value(quantizer: InputQuantizer, x: Tensor, span: Span | None = None) -> Tensor:
    return quantizer(x, quantizer.encode(x.detach(), span).value(), span)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor | None = None) -> np.ndarray:
    """Gradient of ``sum(grad * function(x))``; ones without grad."""
    leaf = x.detach().clone().requires_grad_()
    out = function(leaf)
    (got,) = torch.autograd.grad(out, leaf, torch.ones_like(out) if grad is None else grad)
    return got.numpy()


def close(got: Tensor | np.ndarray, want: np.ndarray | float, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


def slope(function: Callable[[float], float], x: float, step: float = 1e-6) -> float:
    """A central difference."""
    return (function(x + step) - function(x - step)) / (2 * step)
