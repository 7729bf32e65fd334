"""Multiple activation quantization: terms by hand, gradients, and the same on arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.convert import named_layers
from imcsim.errors import InputError
from imcsim.hardware import Hardware
from imcsim.train.activations import BinaryPasses, binary_terms

X = torch.randn(6, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CHIP = Hardware.model_validate({"weights": {"bits": 6}, "inputs": {"bits": 1}, "array": {"rows": 64}})


def by_hand(x: np.ndarray, passes: int) -> np.ndarray:
    total, residual = np.zeros_like(x), x.copy()
    for _ in range(passes):
        for sample in range(len(x)):
            beta = np.abs(residual[sample]).mean()
            term = beta * np.where(residual[sample] > 0, 1.0, -1.0)
            total[sample] += term
            residual[sample] -= term
    return total


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_terms_by_hand(passes: int) -> None:
    total = sum(beta * code for beta, code in binary_terms(X, passes))
    np.testing.assert_allclose(total.numpy(), by_hand(X.numpy(), passes), rtol=1e-12)


def test_every_pass_takes_something_of_the_error() -> None:
    errors = [float((sum(b * c for b, c in binary_terms(X, m)) - X).square().mean()) for m in (1, 2, 3, 4)]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(errors))


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, bias=False)])
def test_output_is_the_layer_at_the_sum_and_its_gradient_goes_straight_through(layer: nn.Module) -> None:
    layer = layer.double()
    x = X.clone().requires_grad_()
    total = sum(beta * code for beta, code in binary_terms(X, 3)).requires_grad_()
    want, got = layer(total), BinaryPasses(layer, 3)(x)
    assert torch.allclose(got, want)
    weights = torch.randn(want.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer.zero_grad()
    (want * weights).sum().backward()
    at_sum = layer.weight.grad.clone()
    layer.zero_grad()
    (got * weights).sum().backward()
    assert torch.allclose(x.grad, total.grad * (X.abs() <= 1))
    assert torch.allclose(layer.weight.grad, at_sum)


@pytest.mark.parametrize("encoding", ["differential", "xnor"])
def test_passes_on_arrays_equal_the_integer_network(encoding: str) -> None:
    torch.manual_seed(0)
    xnor = CHIP.replace({"weights.bits": 1, "weights.cell_bits": 1, "weights.encoding": "xnor"})
    model = nn.Sequential(BinaryPasses(nn.Conv2d(3, 4, 3), 3)).double()
    sim = imcsim.convert(model, xnor if encoding == "xnor" else CHIP)
    imcsim.calibrate(sim, [X])
    (layer,) = named_layers(sim).values()
    assert layer.array.input_range == 1.0
    twin = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        written = layer.array.written
        twin.weight.copy_((written.w_int * written.scale).view_as(twin.weight))
        twin.bias.copy_(layer.bias)
        total = sum(beta * code for beta, code in binary_terms(X, 3))
        assert torch.allclose(sim(X), twin(total), rtol=1e-12, atol=1e-12)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model = BinaryPasses(nn.Conv2d(3, 4, 3).double(), 2)
    with torch.no_grad():
        assert torch.allclose(model(X)[2:3], model(X[2:3]), rtol=1e-12)


def test_inputs_of_zero_give_the_bias() -> None:
    layer = nn.Linear(4, 2)
    assert torch.allclose(BinaryPasses(layer, 2)(torch.zeros(3, 4)), layer.bias.expand(3, 2), atol=1e-6)


def test_wrong_passes() -> None:
    with pytest.raises(InputError, match="passes = 0; at least one"):
        BinaryPasses(nn.Linear(2, 2), 0)
