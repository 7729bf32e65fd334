"""scripts/partial_sums.py: what is trained with is what the ideal chip computes, and where gradients pass."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

import imcsim
from imcsim import zoo

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NEURONS = {"kim2022": zoo.Sign(), "sun2018_parallel": zoo.Step()}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("partial_sums"), importlib.import_module("chip_networks")


def _layer(kind: str) -> tuple[nn.Module, torch.Tensor]:
    if kind == "linear":
        return nn.Linear(300, 20, bias=False), torch.randn(400, 300)
    # 297 inputs, and blocks that begin and end within a channel; padding drives no word line.
    return nn.Conv2d(33, 20, 3, padding=1, bias=False), torch.randn(14, 33, 6, 6)


@pytest.mark.parametrize("preset", NEURONS)
@pytest.mark.parametrize("partition", ["fill", "even"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_an_ideal_chip_computes_what_is_trained_with(modules, preset: str, partition: str, kind: str) -> None:
    partial_sums, networks = modules
    torch.manual_seed(0)
    layer, x = _layer(kind)
    x = NEURONS[preset](x)
    chip = imcsim.load_hardware(preset).replace({"inputs.range": 1.0, "weights.partition": partition})
    net = nn.Sequential(layer)
    model = partial_sums.PartialSums(networks.BinaryWeights(net), chip)
    model.train()
    model(x)
    sim = imcsim.convert(net.eval(), chip)
    imcsim.calibrate(sim, [x])
    comparators = model.eval().comparators["0"]
    assert len(comparators.blocks) > 2
    levels = 2 if comparators.matches else 1
    chosen = torch.tensor([comparators.low, comparators.high]) / levels
    torch.testing.assert_close(chosen, torch.tensor(sim[0].array.adc_values[0]))
    with torch.no_grad():
        ours, theirs = model(x), sim(x)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(x), ours)
        assert not torch.allclose(ours, net(x), atol=0.05)
    assert not layer._forward_hooks


def test_gradients_pass_where_a_sum_is_near_its_reference(modules) -> None:
    partial_sums, _ = modules
    sums = torch.tensor([[-9.0, -3.0, 1.0, 2.0, 6.0, 9.0]], requires_grad=True)
    out = partial_sums._Comparison.apply([torch.tensor(1.5)], 5.0, sums)
    assert out.tolist() == [[-1, -1, -1, 1, 1, 1]]
    out.backward(torch.full((1, 6), 10.0))
    assert sums.grad.tolist() == [[0, 2, 2, 2, 2, 0]]


def test_training_through_comparators_wins_back_what_they_cost(modules) -> None:
    partial_sums, networks = modules
    torch.manual_seed(0)
    chip = imcsim.load_hardware("kim2022")
    images, labels = zoo.mnist_subset(normalise=None, train=True)
    x = torch.where(images.float() > 127, 1.0, -1.0)

    def trained(through: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        binary = networks.BinaryWeights(networks.mlp(zoo.Sign, 64))
        comparators = partial_sums.PartialSums(binary, chip)
        networks.train(comparators if through else binary, x[:1500], labels[:1500], 6, "")
        if not through:
            comparators.train()
            comparators(x[:500])
        found = []
        for model in (binary, comparators):
            model.eval()
            with torch.no_grad():
                found.append(float((model(x[1500:]).argmax(1) == labels[1500:]).float().mean()))
        return found[0], found[1]

    plain, lost = trained(False)
    _, won = trained(True)
    assert lost < plain - 0.1
    assert won > lost + 0.1


def test_whole_sums_turn_into_those_of_comparators_over_the_ramp(modules) -> None:
    partial_sums, networks = modules
    torch.manual_seed(0)
    layer, x = _layer("linear")
    x = x.sign()
    binary = networks.BinaryWeights(nn.Sequential(layer))
    model = partial_sums.PartialSums(binary, imcsim.load_hardware("kim2022"), ramp=4).train()
    with torch.no_grad():
        outs = [model(x) for _ in range(6)]
        torch.testing.assert_close(outs[0], binary(x))
        assert torch.equal(outs[5], outs[4])
        torch.testing.assert_close(outs[1], (3 * outs[0] + outs[4]) / 4)
        assert torch.equal(model.eval()(x), outs[4])
