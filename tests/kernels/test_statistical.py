"""The statistical engine.

As noisy as the converters it stands for, new noise every sample, gradients of one product.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import EngineError
from imcsim.evaluate import sqnr_db


def layer(seed: int = 0) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    out = nn.Linear(200, 40, bias=False)
    with torch.no_grad():
        out.weight.copy_(torch.randn(40, 200, generator=generator))
    return out


def chip(**adc) -> imcsim.Hardware:
    return imcsim.Hardware(adc={"range": "calibrated", **adc})


def data(n: int) -> torch.Tensor:
    return torch.rand(n, 200, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [4, 5, 6])
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_as_noisy_as_the_exact_chip(bits, encoding):
    x, net = data(256), layer()
    hardware = chip(bits=bits).replace({"weights.encoding": encoding})
    found = []
    with torch.no_grad():
        for engine in ("auto", "statistical"):
            sim = imcsim.convert(net, hardware, engine=engine)
            imcsim.calibrate(sim, [x])
            found.append(sqnr_db(net(x), sim(x)))
    assert abs(found[0] - found[1]) < 1.5  # dB; errors of one column's conversions are not quite independent


def test_converters_that_lose_nothing_add_no_noise():
    x, net = data(8), layer()
    sims = [imcsim.convert(net, chip(bits=10), engine=engine) for engine in ("auto", "statistical")]
    for sim in sims:
        imcsim.calibrate(sim, [x])
    with torch.no_grad():
        assert torch.allclose(sims[0](x), sims[1](x), rtol=1e-5, atol=1e-5)


def test_without_calibration_rounding_is_uniform():
    """Theory: one stream and one cycle of step s give an output variance of gain^2 reads s^2 / 12."""
    net = nn.Linear(64, 8, bias=False)
    hardware = imcsim.Hardware(
        array={"rows": 32},
        weights={"bits": 4, "cell_bits": 3},
        inputs={"bits": 1, "signed": False, "range": 1.0},
        adc={"bits": 5, "range": [-20.0, 20.0]},
    )
    sim = imcsim.convert(net, hardware, engine="statistical")
    x = torch.ones(4000, 64)
    with torch.no_grad():
        y = sim(x).double()
    step = 40 / 30 * 7  # levels: 31 codes on 40 cells of 7 levels
    scale = float(net.weight.detach().abs().max()) / 7
    z = 4.5
    assert torch.allclose(
        y.var(0) / (scale**2 * 2 * step**2 / 12),
        torch.ones(8, dtype=torch.float64),
        atol=z * (2 / 4000) ** 0.5,
    )


def test_new_noise_every_sample_whatever_the_batch():
    x = data(6)
    sim = imcsim.convert(layer(), chip(bits=4), engine="statistical")
    imcsim.calibrate(sim, [x])
    with torch.no_grad():
        imcsim.seed_reads(sim, 1)
        whole, later = sim(x), sim(x)
        imcsim.seed_reads(sim, 1)
        parts = torch.cat([sim(part) for part in x.split([1, 2, 3])])
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole, later, rtol=1e-3)


def test_gradients_flow():
    x = data(4).requires_grad_()
    sim = imcsim.convert(layer(), chip(bits=5), engine="statistical")
    imcsim.calibrate(sim, [x.detach()])
    sim(x).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())
    assert bool(sim.weight.grad.any())


def test_it_says_what_it_cannot_do():
    hardware = imcsim.Hardware(
        weights={"bits": 1, "encoding": "xnor"}, inputs={"bits": 1, "range": 1.0}, adc={"bits": 3}
    )
    sim = imcsim.convert(layer(), hardware, engine="statistical")
    with pytest.raises(EngineError, match="not linear in the input code"):
        sim(data(2))


def test_summary_names_it():
    sim = imcsim.convert(layer(), chip(bits=5), engine="statistical")
    imcsim.calibrate(sim, [data(8)])
    row = imcsim.summary(sim).rows[0]
    assert row.engine == "statistical"
    assert "noise" in row.reason
