"""Straight-through gradients: those of the product of quantized inputs and weights; clipped inputs pass none.

The surrogate is computed independently, by autograd in float64 through torch's own layer.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import imcsim
from tests.layers import CASES, LayerCase, named
from tests.tolerances import GRADIENT_FLOAT64

BITS = 6


def codes_of_weight(layer: nn.Module, *, per_channel: bool) -> Tensor:
    """Quantized weights in real units, from the contract's formula."""
    w = layer.weight.detach()
    if not per_channel:
        peaks = w.abs().max()
    elif "Transpose" in type(layer).__name__:
        grouped = w.unflatten(0, (layer.groups, -1))
        peaks = (
            grouped.abs().amax((1, *range(3, grouped.dim())), keepdim=True).expand_as(grouped).flatten(0, 1)
        )
    else:
        peaks = w.abs().amax(tuple(range(1, w.dim())), keepdim=True)
    scale = peaks / (2 ** (BITS - 1) - 1)
    return torch.round(w / scale) * scale


def surrogate(
    layer: nn.Module, x: Tensor, full: Tensor | float, grad: Tensor, *, signed: bool, per_channel: bool
):
    """Gradients to input, weight and bias of ``layer(x_q; w_q)``."""
    scale = full / (2 ** (BITS - signed) - 1)
    low = -full if signed else 0.0 * full
    clipped = torch.minimum(torch.maximum(x, torch.as_tensor(low)), torch.as_tensor(full))
    x_q = (torch.round(clipped / scale) * scale).requires_grad_()
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.copy_(codes_of_weight(layer, per_channel=per_channel))
    parameters = list(twin.parameters())
    grads = torch.autograd.grad(twin(x_q), [x_q, *parameters], grad)
    inside = (x <= full) & (x >= low)
    return grads[0] * inside, grads[1:]


def close(got: Tensor, want: Tensor) -> bool:
    return bool((got - want).abs().max() <= GRADIENT_FLOAT64 * want.abs().max().clamp(min=1e-30))


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(**named(CASES))
def test_gradients_of_a_fixed_range(case: LayerCase, signed: bool, per_channel: bool) -> None:
    torch.manual_seed(1)
    layer, x = case.build(), case.inputs() if signed else case.inputs().abs() + 0.01
    hardware = imcsim.Hardware(
        array={"rows": 8},
        weights={"bits": BITS, "scale": "per_channel" if per_channel else "per_tensor"},
        inputs={"bits": BITS, "range": 0.8, "signed": signed},
        adc={"bits": 4},
    )
    sim = imcsim.convert(layer, hardware).train()
    leaf = x.clone().requires_grad_()
    y = sim(leaf)
    grad = torch.randn(y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, [leaf, *sim.parameters()], grad)
    want_x, want_parameters = surrogate(layer, x, 0.8, grad, signed=signed, per_channel=per_channel)
    assert (x.abs() > 0.8).any()
    assert not got[0][(x > 0.8) | (x < (-0.8 if signed else 0))].any()
    assert close(got[0], want_x)
    assert [name for name, _ in sim.named_parameters()] == [name for name, _ in layer.named_parameters()]
    for mine, want in zip(got[1:], want_parameters, strict=True):
        assert close(mine, want)


@pytest.mark.parametrize(**named(CASES))
def test_gradients_of_a_dynamic_range(case: LayerCase) -> None:
    torch.manual_seed(1)
    layer, x = case.build(), case.inputs()
    dims = (-1,) if isinstance(layer, nn.Linear) else tuple(range(1, x.dim()))
    full = x.abs().amax(dims, keepdim=True)
    sim = imcsim.convert(
        layer, imcsim.Hardware(weights={"bits": BITS}, inputs={"bits": BITS, "range": "dynamic"})
    )
    leaf = x.clone().requires_grad_()
    y = sim(leaf)
    grad = torch.randn(y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, [leaf, *sim.parameters()], grad)
    want_x, want_parameters = surrogate(layer, x, full, grad, signed=True, per_channel=False)
    assert close(got[0], want_x)
    for mine, want in zip(got[1:], want_parameters, strict=True):
        assert close(mine, want)


def test_binary_weights_and_inputs() -> None:
    layer = nn.Linear(6, 3, dtype=torch.float64)
    hardware = imcsim.Hardware(weights={"bits": 1, "encoding": "xnor"}, inputs={"bits": 1, "range": 2.0})
    sim = imcsim.convert(layer, hardware)
    x = torch.tensor([[0.5, -0.5, 1.9, -2.5, 2.5, 0.1]], dtype=torch.float64, requires_grad=True)
    y = sim(x)
    grad_x, grad_w, grad_b = torch.autograd.grad(y, [x, sim.weight, sim.bias], torch.ones_like(y))
    w_q = torch.where(layer.weight > 0, 1.0, -1.0).double() * layer.weight.abs().mean()
    inside = x.detach().abs() <= 2
    assert close(grad_x, torch.ones_like(y) @ w_q * inside)
    assert close(grad_w, torch.where(x > 0, 2.0, -2.0).double().expand(3, -1))
    assert torch.equal(grad_b, torch.ones(3, dtype=torch.float64))


def test_training_through_a_chip_reduces_the_loss() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    hardware = imcsim.Hardware(inputs={"range": "dynamic"}, weights={"bits": 5}, adc={"bits": 7})
    sim = imcsim.convert(net, hardware).train()
    x = torch.randn(128, 8)
    target = (x[:, 0] * x[:, 1] > 0).long()
    optimizer = torch.optim.Adam(sim.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(sim(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_frozen_parts_get_no_gradient() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(inputs={"range": "dynamic"}))
    sim.weight.requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    sim(x).sum().backward()
    assert x.grad is not None
    assert sim.weight.grad is None
    assert torch.equal(sim.bias.grad, torch.full((2,), 3.0))
    sim.requires_grad_(False)
    with torch.no_grad():
        assert not sim(x).requires_grad
    assert not sim(x.detach()).requires_grad


def test_only_the_bias_is_trained() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(inputs={"range": "dynamic"}))
    sim.weight.requires_grad_(False)
    sim(torch.randn(3, 4)).sum().backward()
    assert torch.equal(sim.bias.grad, torch.full((2,), 3.0))


def test_autocast_backward() -> None:
    sim = imcsim.convert(nn.Conv2d(2, 3, 3), imcsim.Hardware(inputs={"range": "dynamic"}))
    x = torch.randn(2, 2, 5, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = sim(x)
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32
    assert sim.weight.grad.dtype == torch.float32


def test_gradients_do_not_see_a_later_change_of_the_weight() -> None:
    """Two forward passes, a step between: torch refuses the stale graph, as it does for its own layers."""
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(inputs={"range": "dynamic"}))
    y = sim(torch.randn(3, 4, requires_grad=True)).sum()
    with torch.no_grad():
        sim.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
