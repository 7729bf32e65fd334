"""Gradients of rounding and clipping, against their equations in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from imcsim.functional.adc import convert, ranged_converter
from imcsim.functional.quantize import quantize_input
from imcsim.train.straight import converted, rounded_input

FULL, BITS = 1.5, 4


def sample(signed: bool) -> torch.Tensor:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low = -FULL if signed else 0.0
    return torch.cat([x, torch.tensor([low, FULL, low - 1e-9, FULL + 1e-9], dtype=torch.float64)])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_inputs_are_the_chips_and_clipped_ones_pass_nothing(signed, dtype):
    x = sample(signed).to(dtype).requires_grad_()
    out = rounded_input(x, FULL, BITS, signed=signed)
    codes, scale = quantize_input(x.detach(), FULL, BITS, signed=signed)
    assert torch.equal(out, codes * scale)
    out.sum().backward()
    low = -FULL if signed else 0.0
    assert torch.equal(x.grad, ((x >= low) & (x <= FULL)).to(dtype))


def test_ranges_of_each_sample_pass_what_is_inside():
    x = torch.tensor([[0.5, 2.0], [0.5, 2.0]], requires_grad=True)
    rounded_input(x, torch.tensor([[1.0], [3.0]]), BITS, signed=False).sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("signed", [True, False])
def test_gradient_of_an_input_range(signed):
    x, full = sample(signed), torch.tensor(FULL, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (rounded_input(x, full, BITS, signed=signed) * weights).sum().backward()
    top = 2 ** (BITS - signed) - 1
    v, w = x.numpy(), weights.numpy()
    step, low = FULL / top, -FULL if signed else 0.0
    inside = (np.rint(np.clip(v, low, FULL) / step) * step - v) / FULL
    slope = np.where(v > FULL, 1.0, np.where(v < low, -1.0 if signed else 0.0, inside))
    assert float(full.grad) == pytest.approx((w * slope).sum() / math.sqrt(len(v) * top), rel=1e-12)


@pytest.mark.parametrize(("kind", "low"), [("symmetric", -20.0), ("uniform", 0.0), ("sense_amp", 0.0)])
def test_conversions_are_the_converters(kind, low):
    converter = ranged_converter(kind, 4, low, 20.0)
    current = 12 * torch.randn(300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    current.requires_grad_()
    high = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    read = converted(current, converter, high)
    value = (convert(current.detach(), converter) + converter.residue) * converter.step
    assert torch.equal(read, value)
    read.sum().backward()
    inside = (current >= low) & (current <= 20.0)
    assert torch.equal(current.grad, inside.double())
    v = current.detach().numpy()
    slope = np.where(v > 20, 1.0, np.where(v < low, -1.0 if low else 0.0, (value.numpy() - v) / 20))
    assert float(high.grad) == pytest.approx(slope.sum() / math.sqrt(300 * converter.top), rel=1e-12)
