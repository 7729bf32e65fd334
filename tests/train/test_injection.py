"""The injection itself: options, what it leaves alone, what it leaves behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import imcsim
from imcsim import train
from imcsim.errors import ConversionError, InputError
from imcsim.quant.methods.base import Method
from tests.train.small import CHIP, calibrated, inputs, linear


def test_eval_mode_is_the_chip_s():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).eval()
    with torch.no_grad():
        want = sim(x)
        with train.inject(sim) as injection:
            assert torch.equal(sim(x), want)
            assert injection.step == -1
            sim.train()(x)
            assert injection.step == 0
        assert torch.equal(sim.eval()(x), want)
        assert torch.equal(sim.train()(x), want)


@pytest.mark.parametrize("fidelity", ["statistical", "exact"])
def test_torch_s_global_generator_is_neither_read_nor_moved(fidelity):
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).train()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with torch.no_grad(), train.inject(sim, fidelity):
            found.append(sim(x))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_seeds_give_other_chips():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).train()
    out = []
    for seed in (0, 0, 1):
        with torch.no_grad(), train.inject(sim, seed=seed):
            out.append(sim(x))
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])


def test_a_copy_trains_by_itself():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).train()
    with torch.no_grad(), train.inject(sim):
        twin = copy.deepcopy(sim)
        assert torch.equal(twin(x), sim(x))


def test_a_changed_range_is_seen():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).train()
    with torch.no_grad(), train.inject(sim, strength=0.0) as injection:
        one = sim(x)
        imcsim.calibrate(sim, [x / 2])
        injection.step = -1
        assert not torch.allclose(one, sim(x))


def test_wires_are_held_until_a_refresh():
    """Then, and with cells at their targets, one product with the wired weights is what the chip gives."""
    x = inputs(8, 60)
    wires = {"device.g_max_S": 1e-4, "array.word_line_ohm": 5.0, "array.bit_line_ohm": 5.0, "adc": None}
    hardware = CHIP.replace({**wires, "device.programming": {"kind": "none"}})
    sim = calibrated(linear(60, 8), hardware, x).train()

    def off() -> float:
        with torch.no_grad():
            return float((sim.train()(x) - sim.eval()(x)).abs().max() / sim(x).abs().max())

    with train.inject(sim) as injection:
        assert off() < 1e-4
        with torch.no_grad():
            sim.weight.mul_(-1)
        assert off() > 1e-2
        injection.refresh()
        assert off() < 1e-4


BAD = [
    (
        {"fidelity": "statistic"},
        r"fidelity = 'statistic' is not one of 'statistical', 'exact'\. Did you mean",
    ),
    ({"chips": 0}, "chips = 0: parts of a batch with a chip each, a whole number from 1"),
    ({"seed": 1.5}, r"inject: seed = 1\.5 is not an integer"),
    ({"strength": -1.0}, r"strength = -1\.0: a factor of the device's errors, 0 or more"),
    ({"learn": "inputs"}, r"learn = 'inputs': a tuple of 'inputs', 'converters', or \(\) is needed"),
    ({"learn": ("weights",)}, r"learn = \('weights',\): a tuple of"),
]


@pytest.mark.parametrize(("options", "text"), BAD)
def test_wrong_options(options, text):
    sim = calibrated(linear(), CHIP, inputs(8))
    with pytest.raises(InputError, match=text):
        train.inject(sim, **options)


def test_wrong_models():
    with pytest.raises(ConversionError, match="convert it first"):
        train.inject(nn.Linear(2, 2))
    sim = calibrated(linear(), CHIP, inputs(8))
    with train.inject(sim), pytest.raises(InputError, match="injected already; close that injection first"):
        train.inject(sim)


def test_ranges_that_cannot_be_learned():
    fixed = imcsim.convert(linear(), CHIP.replace({"inputs.range": 1.0, "adc": None}))
    for what in ("inputs", "converters"):
        with pytest.raises(InputError, match=f"learn = '{what}': no layer has .*range = 'calibrated'"):
            train.inject(fixed, learn=(what,))
    with pytest.raises(
        InputError, match=r"was not calibrated, so its range cannot be learned.*imcsim\.calibrate"
    ):
        train.inject(imcsim.convert(linear(), CHIP), learn=("inputs",))
    method = calibrated(linear(), CHIP, inputs(8), qat=Method())
    with pytest.raises(InputError, match="no layer has inputs"):
        train.inject(method, learn=("inputs",))
