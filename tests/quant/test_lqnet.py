"""LQ-Net and DSQ against NumPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.costs import Tile
from imcsim.errors import MappingError
from imcsim.ppa.events import count, layout
from imcsim.quant.methods.lqnet import LQInput, LQWeight, fitted_basis, nearest_codes
from tests.quant.statements import close, gradient, input_value, weight_value, weights

W = weights(0, (2, 3, 50))


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_nearest_level_of_eq_10(bits: int) -> None:
    x, basis = W.flatten(0, 1), weights(1, (6, bits), 0.7)
    levels = np.array([[b @ v for b in product((-1, 1), repeat=bits)] for v in basis.numpy()])
    got = (nearest_codes(x, basis) * basis.T.unsqueeze(-1)).sum(0).numpy()
    best = np.abs(levels[:, :, None] - x.numpy()[:, None, :]).min(1)
    close(np.abs(got - x.numpy()), best)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_basis_of_least_squares(bits: int) -> None:
    x = W.flatten(0, 1)
    codes = nearest_codes(x, weights(1, (6, bits), 0.7).abs())
    got = fitted_basis(x, codes).numpy()
    for row in range(6):
        want, *_ = np.linalg.lstsq(codes[:, row].numpy().T, x[row].numpy(), rcond=None)
        close(got[row], want, 1e-9)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_fit_never_gets_worse(bits: int) -> None:
    quantizer = LQWeight(bits, momentum=0.0)
    quantizer.start(W)
    errors = []
    for _ in range(4):
        errors.append(float((quantizer.encode(W).value() - W).square().mean()))
        quantizer.update(W)
    assert all(later <= earlier + 1e-15 for earlier, later in pairwise(errors))
    if bits == 1:
        close(quantizer.basis, W.abs().mean(2).reshape(-1, 1).numpy())  # the optimum of one bit
    uniform = quant.HardwareWeight(max(bits, 2), per_channel=True).encode(W).value()
    if bits > 1:
        assert errors[-1] < float((uniform - W).square().mean())


def test_moving_average_and_gradient() -> None:
    quantizer = LQWeight(2, momentum=0.9)
    quantizer.start(W)
    before, other = quantizer.basis.clone(), 2 * W
    fitted = fitted_basis(other.flatten(0, 1), nearest_codes(other.flatten(0, 1), before))
    quantizer.update(other)
    close(quantizer.basis, (0.9 * before + 0.1 * fitted).numpy())
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def test_activations_are_sent_in_passes_weighted_by_the_basis() -> None:
    quantizer = LQInput(2, momentum=0.9)
    x = weights(3, (8, 10), 1.0).relu()
    quantizer.update(x)
    codes = quantizer.encode(x, None)
    assert all(set(code.unique().tolist()) == {-1.0, 1.0} for code in codes.codes)
    assert codes.scale == tuple(quantizer.basis.tolist())
    high = float(quantizer.basis.abs().sum())
    close(gradient(lambda t: input_value(quantizer, t), x), (x.numpy() <= high).astype(float))


def test_layer_counts_its_planes() -> None:
    hardware = imcsim.Hardware(weights={"bits": 3, "cell_bits": 2}, inputs={"bits": 2})
    sim = imcsim.convert(nn.Linear(10, 4), hardware, qat=quant.LQNet())
    assert tuple(sim.array.written.w_int.shape) == (1, 12, 10)
    assert sim.array.hardware.weights.bits == sim.array.hardware.inputs.bits == 1
    assert sim.array.described == hardware
    with pytest.raises(MappingError, match="'twos_complement' has no weight of one bit"):
        imcsim.convert(
            nn.Linear(10, 4), hardware.replace({"weights.encoding": "twos_complement"}), qat=quant.LQNet()
        )


def test_estimate_counts_planes_and_passes() -> None:
    """K_w planes are as many columns, K_a passes as many reads of them."""
    hardware = imcsim.Hardware(
        weights={"bits": 3, "encoding": "offset"}, inputs={"bits": 2}, adc={"bits": 8}, array={"rows": 32}
    )
    sim, x = imcsim.convert(nn.Linear(64, 16), hardware, qat=quant.LQNet()), torch.rand(2, 64)
    (shape,) = imcsim.ppa.describe(sim, x)
    assert (shape.outputs, shape.terms, shape.passes) == (16, 3, 2)
    one = replace(shape, terms=1, passes=1)
    many, few = (count(s, layout(s, sim.array.hardware), Tile(), 1e-7) for s in (shape, one))
    for event in ("adc", "shift_add", "cell_read"):
        assert many[event] == 6 * few[event]
    assert many["dac"] == 2 * few["dac"]
    assert many["add"] == 16 * (2 * 6 - 1)  # row blocks, terms and passes
    assert (
        layout(shape, sim.array.hardware).placement.cells
        == 3 * layout(one, sim.array.hardware).placement.cells
    )
    assert imcsim.estimate(sim, x).energy_J > 0
