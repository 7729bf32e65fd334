"""Gated dual-precision activations: against two torch layers and a mask, values and gradients."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError
from imcsim.quant.gated import dual_bits
from tests.layers import PLAIN, LayerCase, named

CHIP = imcsim.Hardware(
    array={"rows": 8}, weights={"bits": 1, "encoding": "offset"}, inputs={"bits": 1}, adc={"bits": 8}
)
GATE = 0.125
METHOD = quant.FracBNN(high=1.5, gate=GATE, decay=0.1, target=1.0, per_channel=False)


def test_two_bits() -> None:
    x = np.linspace(-2, 2, 401) + 0.001
    first, second = (bit.numpy() for bit in dual_bits(torch.from_numpy(x), 1.5))
    levels = 1.5 * np.array([-1, -1 / 3, 1 / 3, 1])
    want = levels[np.abs(x[:, None] - levels).argmin(1)]
    np.testing.assert_allclose(1.5 * (2 * first + second) / 3, want)


def parts_of(case: LayerCase) -> tuple[nn.Module, nn.Module, Tensor, list[Tensor]]:
    """The chip, a torch layer of its binary weights without bias, the input, and its two parts."""
    layer, x = case.build(), case.inputs()
    sim = imcsim.convert(layer, CHIP, qat=METHOD).train()
    twin = copy.deepcopy(layer)
    twin.bias = None
    with torch.no_grad():
        codes = sim.array.weight_quantizer.encode(sim.weight_matrix(layer.weight))
        twin.weight.copy_(sim.weight_from_matrix(codes.value()))
    first, second = dual_bits(x, 1.5)
    return sim, twin, x, [first * 1.0, second * 0.5]


def column(values: Tensor, like: Tensor, *, linear: bool) -> Tensor:
    return values if linear else values.view(-1, *[1] * (like.dim() - 2))


@pytest.mark.parametrize(**named(PLAIN))
@torch.no_grad()
def test_output(case: LayerCase) -> None:
    sim, twin, x, parts = parts_of(case)
    first, second = (twin(part) for part in parts)
    bias = column(sim.bias, first, linear=isinstance(twin, nn.Linear))
    want = first + second * (first > GATE) + bias
    torch.testing.assert_close(sim(x), want, rtol=1e-12, atol=1e-12)
    assert torch.equal(sim(x), sim.eval()(x))
    assert 0.1 < (first > GATE).double().mean() < 0.9


@pytest.mark.parametrize(**named(PLAIN))
def test_gradients(case: LayerCase) -> None:
    sim, twin, x, parts = parts_of(case)
    leaf, gate = x.clone().requires_grad_(), sim.array.input_quantizer.threshold
    y = sim(leaf)
    grad = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(y, [leaf, sim.weight, sim.bias, gate], grad)
    coarse = parts[0].requires_grad_()
    threshold = torch.tensor(GATE, dtype=torch.float64, requires_grad=True)
    first, second = twin(coarse), twin(parts[1])
    soft = torch.sigmoid(5 * (first - threshold))
    hard = (first > threshold).double()
    mask = hard + soft - soft.detach()
    out = first + second * mask
    want = torch.autograd.grad(out, [coarse, twin.weight, threshold], grad)
    # the second part's weight gradient counts too, its input's does not
    torch.testing.assert_close(got[0], want[0] * (x.abs() <= 1.5), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got[1], want[1], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got[3].double(), want[2], rtol=1e-5, atol=1e-6)
    dims = tuple(range(grad.dim() - 1)) if isinstance(twin, nn.Linear) else (0, *range(2, grad.dim()))
    torch.testing.assert_close(got[2], grad.sum(dims))


@pytest.mark.parametrize(**named(PLAIN))
def test_gates_by_channel(case: LayerCase) -> None:
    """Each channel has its threshold and its gradient, as if it were the layer's own."""
    layer, x = case.build(), case.inputs()
    method = dataclasses.replace(METHOD, per_channel=True)
    sim = imcsim.convert(layer, CHIP, qat=method).train()
    gate = sim.array.input_quantizer.threshold
    groups, outputs, _ = sim.weight_matrix(sim.weight).shape
    assert gate.shape == (groups, outputs, 1)
    with torch.no_grad():
        gate.copy_(torch.linspace(-0.5, 0.5, gate.numel()).view_as(gate))
    y = sim(x)
    grad = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (got,) = torch.autograd.grad(y, [gate], grad)
    dim = -1 if isinstance(layer, nn.Linear) else 1
    for channel, value in enumerate(gate.detach().flatten().tolist()):
        one = imcsim.convert(layer, CHIP, qat=dataclasses.replace(METHOD, gate=value)).train()
        alone = one(x)
        assert torch.equal(alone.select(dim, channel), y.select(dim, channel))
        only = torch.zeros_like(grad)
        only.select(dim, channel).copy_(grad.select(dim, channel))
        (want,) = torch.autograd.grad(alone, [one.array.input_quantizer.threshold], only)
        torch.testing.assert_close(got.flatten()[channel], want, rtol=1e-5, atol=1e-6)
    penalty = quant.penalty(sim)
    assert penalty.item() == pytest.approx(0.1 * (gate.detach() - 1).square().sum().item())


def test_engines_files_and_penalty(tmp_path) -> None:
    layer, x = (
        nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64),
        torch.randn(2, 3, 6, 6, dtype=torch.float64),
    )
    sims = [imcsim.convert(layer, CHIP, engine=engine, qat=METHOD).eval() for engine in ("auto", "reference")]
    with torch.no_grad():
        assert torch.equal(sims[0](x), sims[1](x))
        assert torch.equal(torch.cat([sims[0](x[:1]), sims[0](x[1:])]), sims[0](x))
        sims[0].array.input_quantizer.threshold.fill_(0.5)
        imcsim.save(sims[0], tmp_path / "chip.safetensors")
        assert torch.equal(imcsim.load(tmp_path / "chip.safetensors", layer).eval()(x), sims[0](x))
        assert not torch.equal(sims[0](x), sims[1](x))
    assert quant.penalty(sims[0]).item() == pytest.approx(0.1 * 0.5**2)


def test_hardware_weights_where_there_are_bits() -> None:
    wide = CHIP.replace({"weights.bits": 4})
    sim = imcsim.convert(nn.Linear(8, 3), wide, qat=METHOD)
    assert isinstance(sim.array.weight_quantizer, quant.HardwareWeight)
    with pytest.raises(ConversionError, match="high = 0 must be positive"):
        quant.FracBNN(high=0)
