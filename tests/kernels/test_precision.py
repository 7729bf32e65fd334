"""Float32 is used only where it is exact, whatever the user allows torch to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim


@pytest.fixture
def medium_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_products_stay_exact_where_torch_may_round(medium_precision):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(16, 8, 3)
    x = torch.rand(2, 16, 8, 8, generator=generator)
    chip = imcsim.Hardware(weights={"bits": 12}, inputs={"bits": 12, "range": 1.0})
    with torch.no_grad():
        fast = imcsim.convert(layer, chip)(x)
        want = imcsim.convert(layer, chip, engine="reference")(x)
    assert torch.equal(fast, want)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("adc", [None, {"bits": 6, "range": [-40.0, 40.0]}])
def test_a_gpu_gives_the_same_chip(adc):
    layer = nn.Conv2d(16, 8, 3, padding=1)
    x = torch.rand(2, 16, 8, 8)
    chip = imcsim.Hardware(
        device={"programming": {"kind": "range", "sigma": 0.02}}, inputs={"range": 1.0}, adc=adc
    )
    sim = imcsim.convert(layer, chip)
    with torch.no_grad():
        want = sim(x)
        got = sim.cuda()(x.cuda()).cpu()
    assert float((got - want).abs().max()) <= 1e-4 * float(want.abs().max()) or adc is not None
    assert float((got - want).norm() / want.norm()) < 1e-2
