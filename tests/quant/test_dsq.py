"""DSQ against NumPy, and its way to the hard quantizer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from imcsim.quant.methods.dsq import DSQInput, DSQWeight, soft_uniform
from tests.quant.statements import close, input_value, weight_value, weights

W = weights()


def by_hand(x: np.ndarray, low: float, high: float, levels: int, alpha: float) -> np.ndarray:
    width = (high - low) / (levels - 1)
    k, s = np.log(2 / alpha - 1) / width, 1 / (1 - alpha)
    out = np.empty_like(x)
    for index, value in np.ndenumerate(x):
        if value < low:
            out[index] = low
        elif value >= high:
            out[index] = high
        else:
            i = int((value - low) // width)
            phi = s * np.tanh(k * (value - (low + (i + 0.5) * width)))
            out[index] = low + width * (i + (phi + 1) / 2)
    return out


@pytest.mark.parametrize("levels", [2, 4, 16])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.45])
def test_soft_value(levels: int, alpha: float) -> None:
    x = np.linspace(-2, 2, 397)
    got = soft_uniform(
        torch.from_numpy(x), -1.1, torch.tensor(1.3).double(), levels, torch.tensor(alpha).double()
    )
    close(got, by_hand(x, -1.1, float(torch.tensor(1.3)), levels, float(torch.tensor(alpha))), 1e-9)


def test_gradcheck() -> None:
    x = torch.tensor([-2.0, -0.71, -0.2, 0.13, 0.5, 0.93, 1.9], dtype=torch.float64, requires_grad=True)
    high = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, u, a: soft_uniform(x, -u, u, 5, a), (x, high, alpha))


def test_as_alpha_falls_it_becomes_the_hard_quantizer() -> None:
    x = torch.linspace(-1.5, 1.5, 1201, dtype=torch.float64)
    high = torch.tensor(1.0, dtype=torch.float64)
    width = 2 / 7
    hard = -1 + width * np.clip(np.ceil((x.numpy() + 1) / width - 0.5), 0, 7)
    middle = np.abs(((x.numpy() + 1) / width - 0.5) % 1 - 0.5) < 0.45  # away from thresholds
    errors = []
    for alpha in (0.4, 0.2, 0.1, 1e-2, 1e-4):
        soft = soft_uniform(x, -high, high, 8, torch.tensor(alpha, dtype=torch.float64)).numpy()
        errors.append(np.abs(soft - hard)[middle].max())
    assert all(later < earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("bits", [2, 4])
def test_hard_forward_soft_backward(bits: int) -> None:
    quantizer = DSQWeight(bits, alpha=0.2, decay=0.5).double()
    with torch.no_grad():
        quantizer.start(W)
    u = float(W.abs().max())
    width = 2 * u / (2**bits - 1)
    hard = -u + width * np.clip(np.ceil((W.numpy() + u) / width - 0.5), 0, 2**bits - 1)
    leaf, grad = W.clone().requires_grad_(), weights(1)
    out = weight_value(quantizer, leaf)
    close(out.detach(), hard)
    high, alpha = quantizer.softness.high, quantizer.softness.alpha
    got = torch.autograd.grad(out, [leaf, high, alpha], grad)
    soft = soft_uniform(leaf, -high, high, 2**bits, alpha)
    for mine, want in zip(got, torch.autograd.grad(soft, [leaf, high, alpha], grad), strict=True):
        assert torch.equal(mine, want)
    close(quantizer.penalty().detach(), 0.5 * alpha.item())


@pytest.mark.parametrize("signed", [False, True])
def test_activations(signed: bool) -> None:
    quantizer = DSQInput(3, signed=signed, alpha=0.1, decay=0.0).double()
    x = weights(2, (6, 9), 1.0)
    quantizer.update(x)
    u = float(x.abs().max()) if signed else float(x.max())
    levels, low = (7, -u) if signed else (8, 0.0)
    width = (u - low) / (levels - 1)
    want = low + width * np.clip(np.ceil((x.numpy() - low) / width - 0.5), 0, levels - 1)
    close(input_value(quantizer, x).detach(), want)
    assert quantizer.penalty() is None
