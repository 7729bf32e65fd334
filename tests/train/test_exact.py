"""The exact fidelity: evaluation's forward pass on chips of their own, and none of them left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim
from imcsim import train
from imcsim.convert import arrays
from tests.train.small import CHIP, calibrated, generator, inputs, linear


@pytest.mark.parametrize("chips", [1, 3])
def test_forward_is_that_of_the_chip_programmed_with_the_step_s_seed(chips):
    x = inputs(9)
    sim = calibrated(linear(), CHIP, x, engine="matmul")  # auto builds tables in eval mode, not in training
    with torch.no_grad(), train.inject(sim, "exact", chips=chips) as injection:
        got = sim.train()(x)
        seeds = [injection.chip_seed(chip) for chip in range(chips)]
    assert len(set(seeds)) == chips
    sim.eval()
    for part, out, seed in zip(x.chunk(chips), got.chunk(chips), seeds, strict=True):
        imcsim.program(sim, seed)
        with torch.no_grad():
            assert torch.equal(sim(part), out)


def test_the_user_s_chip_is_back_in_eval_mode_and_afterwards():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x)
    imcsim.program(sim, 5)
    sim.eval()
    with torch.no_grad():
        want = sim(x)
        with train.inject(sim, "exact"):
            assert not torch.equal(sim.train()(x), want)
            assert torch.equal(sim.eval()(x), want)
            assert not torch.equal(sim.train()(x), want)
            imcsim.program(sim, 6)
            other = sim.eval()(x)
        assert torch.equal(sim(x), other)
        imcsim.program(sim, 5)
        assert torch.equal(sim(x), want)


def test_a_state_dict_taken_in_training_holds_no_training_chip():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x)
    with torch.no_grad(), train.inject(sim, "exact"):
        sim.train()(x)
        state = sim.state_dict()
    twin = imcsim.convert(linear(seed=2), CHIP)
    twin.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(twin.eval()(x), sim.eval()(x))


def test_strength_moves_cells_between_target_and_written():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x)
    ((_, array),) = arrays(sim)
    with torch.no_grad(), train.inject(sim, "exact", strength=0.25) as injection:
        sim.train()(x)
        quarter = array.cells["conductance_S"]
        injection.strength, injection.step = 1.0, -1
        sim(x)
        sim(x)  # another chip, so that the first one is written anew
        injection.step = -1
        sim(x)
        whole = array.cells["conductance_S"]
        target = array.target_conductance()
    assert torch.allclose(quarter - target, 0.25 * (whole - target), atol=1e-6)


def test_gradients_reach_weights_and_inputs():
    torch.manual_seed(0)
    net, x = nn.Conv2d(4, 6, 3, padding=1), torch.rand(3, 4, 5, 5, generator=generator()).requires_grad_()
    sim = calibrated(net, CHIP, x.detach())
    with train.inject(sim, "exact", chips=2):
        sim.train()(x).square().sum().backward()
    assert all(bool(t.grad.any()) for t in (x, sim.weight, sim.bias))
