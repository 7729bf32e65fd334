"""Bits of each layer by sensitivity: against brute force, exact Hessians and hand-made quantizers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import HardwareError, InputError
from imcsim.functional.quantize import quantize_weight
from imcsim.hardware import Hardware
from imcsim.train.mixed import array_count, by_sensitivity, settings, weight_bits
from imcsim.train.sensitivity import hessian_traces, layer_sqnr, weight_loss

BASE = Hardware.model_validate(
    {"weights": {"bits": 8}, "inputs": {"bits": 8}, "array": {"rows": 16, "cols": 16}}
)


def tiny(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 4))


def data(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 12, generator=generator), torch.randint(0, 4, (n,), generator=generator)


def test_sqnr_of_weights_alone_is_that_of_rounding_them() -> None:
    """With 16-bit inputs the chip's error is that of its weights, in a product written out by hand."""
    net, (x, _) = tiny().double(), data()
    x = x.double()
    found = layer_sqnr(net, BASE.replace({"weights.bits": 4, "inputs.bits": 16}), [x])
    for index in (0, 2, 4):
        inputs, weight = net[:index](x).detach(), net[index].weight.detach()
        codes, scale = quantize_weight(weight[None], 4, per_channel=False)
        want, got = inputs @ weight.T, inputs @ (codes * scale)[0].T
        db = 10 * math.log10(float(want.square().sum() / (want - got).square().sum()))
        assert found[str(index)] == pytest.approx(db, abs=0.02)


def test_sqnr_grows_by_six_decibels_a_bit() -> None:
    """Theory: an error uniform within a step has a twelfth of its square as power, 6.02 dB a bit."""
    net, (x, _) = tiny(), data(256)
    at = [layer_sqnr(net, BASE.replace({"weights.bits": b, "inputs.bits": 16}), [x])["0"] for b in (5, 9)]
    assert (at[1] - at[0]) / 4 == pytest.approx(6.02, abs=0.35)


def test_sqnr_reaches_recurrent_matrices() -> None:
    torch.manual_seed(0)
    found = layer_sqnr(nn.LSTM(6, 5), BASE, [torch.randn(7, 3, 6)])
    assert set(found) == {"weight_ih_l0", "weight_hh_l0"}
    assert all(db > 25 for db in found.values())


def full_hessian(net: nn.Module, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weight = net.get_parameter(f"{name}.weight")

    def loss(w: torch.Tensor) -> torch.Tensor:
        out = torch.func.functional_call(net, {f"{name}.weight": w.view_as(weight)}, (x,))
        return nn.functional.cross_entropy(out, y)

    return torch.autograd.functional.hessian(loss, weight.detach().flatten())


def test_hutchinson_agrees_with_the_exact_trace() -> None:
    net, (x, y) = tiny().double(), data()
    x, probes = x.double(), 128
    batches = [(x[:40], y[:40]), (x[40:], y[40:])]  # unequal ones: the loss is a mean over samples
    found = hessian_traces(net, batches, probes=probes)
    for name in ("0", "2", "4"):
        exact = float(full_hessian(net, name, x, y).trace())
        spread = float(found[name].std()) / math.sqrt(probes)
        assert abs(float(found[name].mean()) - exact) < 4 * spread
        assert spread < exact


def test_hutchinson_estimates_are_unbiased_probe_by_probe() -> None:
    """A diagonal Hessian has no spread at all: v^2 = 1. Mean square loss of one linear layer of one output
    has off-diagonal terms only between inputs, which orthogonal inputs remove."""
    net = nn.Sequential(nn.Linear(4, 1, bias=False)).double()
    x, y = torch.eye(4, dtype=torch.float64), torch.zeros(4)
    found = hessian_traces(net, [(x, y)], loss=lambda out, _: out.square().mean(), probes=5)
    assert torch.allclose(found["0"], torch.full((5,), 2.0, dtype=torch.float64))


def test_same_seed_same_traces_and_torchs_random_state_is_left_alone() -> None:
    net, batch = tiny(), data()
    state = torch.get_rng_state()
    first = hessian_traces(net, [batch], probes=2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    again = hessian_traces(net, [batch], probes=2, seed=3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0"], hessian_traces(net, [batch], probes=2, seed=4)["0"])


def test_assignment_is_the_best_of_all() -> None:
    """Brute force over all 3^3 choices, for several budgets and both measures."""
    net, batch = tiny(), data()
    options = {"weights.bits": (2, 4, 8)}
    traces = {k: max(0.0, float(v.mean())) for k, v in hessian_traces(net, [batch], probes=8).items()}
    chips = settings(BASE, options)
    sqnr = [layer_sqnr(net, chip, [batch]) for chip in chips]
    losses = {
        "sqnr": {n: [10 ** (-s[n] / 10) for s in sqnr] for n in traces},
        "hessian": {
            n: [weight_loss(net.get_submodule(n).weight, b, t) for b in (2, 4, 8)] for n, t in traces.items()
        },
    }
    sizes = {"0": 120, "2": 80, "4": 32}
    for budget, (measure, loss) in itertools.product((464, 900, 1200, 1856), losses.items()):
        within = [
            (sum(loss[n][o] for n, o in zip(loss, choice, strict=True)), choice)
            for choice in itertools.product(range(3), repeat=3)
            if sum(sizes[n] * (2, 4, 8)[o] for n, o in zip(loss, choice, strict=True)) <= budget
        ]
        chosen = by_sensitivity(
            net, BASE, options, [batch], budget=budget, cost=weight_bits, measure=measure, probes=8
        )
        assert [chips.index(chosen[n]) for n in loss] == list(min(within)[1])


def test_assignment_takes_inputs_and_converters_and_keeps_what_is_fixed() -> None:
    net, batch = tiny(), data()
    chip = BASE.replace({"adc": {"bits": 8, "range": "calibrated"}})
    chosen = by_sensitivity(
        net,
        chip,
        {"weights.bits": (2, 8), "inputs.bits": (4, 8), "adc.bits": (4, 8)},
        [batch[0]],
        budget=1000,
        fixed={"0": BASE, "4": None},
    )
    assert set(chosen) == {"0", "2", "4"}
    assert chosen["0"] is BASE
    assert chosen["4"] is None
    free = chosen["2"]
    assert (free.weights.bits, free.inputs.bits, free.adc.bits) == (8, 8, 8)  # arrays to spare: the most bits
    sim = imcsim.convert(net, chosen)
    imcsim.calibrate(sim, [batch[0]])
    assert imcsim.evaluate(sim, [batch], reference=net).sqnr_db > 15


def test_costs_by_hand() -> None:
    sim = imcsim.convert(tiny(), {"*": BASE, "2": BASE.replace({"weights.bits": 2, "weights.cell_bits": 1})})
    assert weight_bits(sim) == {"0": 960.0, "2": 160.0, "4": 256.0}
    # 8 bits: four 2-bit slices, each a pair of columns, so 10 x 8 columns of arrays of 16; 2 bits: 8 x 2.
    assert array_count(sim) == {"0": 5.0, "2": 1.0, "4": 2.0}


def test_options_that_change_several_fields() -> None:
    binary = {"weights.bits": 1, "weights.cell_bits": 1}
    chips = settings(BASE, {"weights": (binary, {"weights.bits": 4}), "inputs.bits": (4, 8)})
    got = [(c.weights.bits, c.weights.cell_bits, c.inputs.bits) for c in chips]
    assert got == [(1, 1, 4), (1, 1, 8), (4, 2, 4), (4, 2, 8)]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"budget": 100}, InputError, "budget = 100 is below 464, what the cheapest"),
        ({"options": {}}, InputError, "at least one field"),
        ({"options": {"weights.bits": ()}}, InputError, "at least one value"),
        ({"options": {"weights.bitz": (2,)}}, HardwareError, "bitz"),
        ({"measure": "fisher"}, InputError, "'fisher' is not one of sqnr, hessian"),
        (
            {"measure": "hessian", "options": {"inputs.bits": (4, 8)}},
            InputError,
            r"options change 'inputs\.bits'",
        ),
        ({"cost": lambda sim: {"0": 1.0}}, InputError, "cost gave None for layer '2'"),
        ({"cost": lambda sim: dict.fromkeys("024", np.nan)}, InputError, "cost gave nan for layer '0'"),
    ],
)
def test_wrong_requests(change, error, text: str) -> None:
    request = {"options": {"weights.bits": (2, 4)}, "budget": 10_000, "cost": weight_bits} | change
    with pytest.raises(error, match=text):
        by_sensitivity(tiny(), BASE, request.pop("options"), [data()], **request)


def test_wrong_requests_of_the_hessian() -> None:
    with pytest.raises(InputError, match="0 batches"):
        hessian_traces(tiny(), [])
    with pytest.raises(InputError, match="'5' has no weight that takes gradients"):
        hessian_traces(tiny(), [data()], layers=["5"])
