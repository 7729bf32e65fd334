"""BatchNorm and sign folded into thresholds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError
from imcsim.thresholds import Threshold

BINARY = imcsim.Hardware(weights={"bits": 1, "encoding": "xnor"}, inputs={"bits": 1, "range": 1.0})
UNSIGNED = imcsim.Hardware(weights={"bits": 1}, inputs={"bits": 1, "range": 1.0, "signed": False})


def network(seed: int = 0) -> nn.Sequential:
    """Odd fan-ins and whole thresholds occur: sums can meet them exactly."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 12, 3, bias=False),
            nn.BatchNorm2d(12),
            nn.Hardtanh(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 10, 3),
            nn.BatchNorm2d(10),
            nn.Flatten(),
            nn.Linear(40, 20),
            nn.BatchNorm1d(20),
            nn.Linear(20, 5),
            nn.BatchNorm1d(5),
        )
        for norm in (net[1], net[5], net[8], net[10]):
            width = norm.num_features
            norm.running_mean.copy_(torch.randn(width))
            norm.running_var.copy_(torch.rand(width) + 0.2)
            norm.weight.data.copy_(torch.randn(width))  # both signs
            norm.bias.data.copy_(torch.randn(width))
        net[1].weight.data[3] = 0.0
    return net.eval()


def test_the_folded_network_is_the_network() -> None:
    sim = imcsim.convert(network(), BINARY)
    x = torch.randn(64, 3, 10, 10)
    folded = imcsim.fold_thresholds(sim)
    assert [type(m) for m in (folded[1], folded[5], folded[8])] == [Threshold] * 3
    assert isinstance(folded[10], nn.BatchNorm1d)  # its result is the network's, not a sign
    assert isinstance(sim[1], nn.BatchNorm2d)
    assert torch.equal(folded(x), sim(x))


def test_outputs_are_plus_or_minus_one_and_ties_are_minus_one() -> None:
    one = torch.ones(3)
    compare = Threshold(
        torch.tensor([0.0, 2.0, 5.0]).double(), torch.tensor([1.0, -1.0, 0.0]).double(), one > 0, -1.0
    )
    x = torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 9.0], [-1.0, 3.0, -9.0]])
    assert compare(x).tolist() == [[-1, -1, 1], [1, 1, 1], [-1, -1, 1]]


def test_neurons_of_one_and_zero() -> None:
    """A comparison with zero: without folding, 1-bit unsigned inputs are rounded at half instead."""
    folded = imcsim.fold_thresholds(imcsim.convert(network(), UNSIGNED))
    x = torch.randn(4, 3, 10, 10)
    between = folded[1](folded[0](x))
    assert set(between.unique().tolist()) == {0.0, 1.0}
    norm = network()[1]
    assert torch.equal(between > 0, norm(folded[0](x)) > 0)


def test_what_is_not_binary_is_left() -> None:
    wide = BINARY.replace({"weights.encoding": "differential", "inputs.bits": 8})
    net = imcsim.convert(network(), {"*": BINARY, "4": wide})
    folded = imcsim.fold_thresholds(net)
    assert isinstance(folded[1], nn.BatchNorm2d)
    assert isinstance(folded[5], Threshold)
    with pytest.raises(ConversionError, match=r"no BatchNorm .* inputs\.bits = 1"):
        imcsim.fold_thresholds(imcsim.convert(network(), wide))
    with pytest.raises(ConversionError, match=r"sim\.eval\(\) first"):
        imcsim.fold_thresholds(net.train())


def test_planes_of_bits_are_more_than_a_sign() -> None:
    sim = imcsim.convert(network(), BINARY, qat={"*": None, "4": quant.FracBNN()})
    folded = imcsim.fold_thresholds(sim)
    assert isinstance(folded[1], nn.BatchNorm2d)
    assert isinstance(folded[5], Threshold)


def test_through_padding_of_plus_and_minus_one() -> None:
    net = network()
    padded = nn.Sequential(*net[:4], quant.AlternatingPad2d(1), net[4], nn.MaxPool2d(2), *net[5:]).eval()
    sim = imcsim.convert(padded, BINARY)
    folded = imcsim.fold_thresholds(sim)
    assert isinstance(folded[1], Threshold)
    x = torch.randn(32, 3, 10, 10)
    signs = nn.Sequential(*sim[:2], Sign(), *sim[3:])  # the padding meets signs, as after folding
    assert torch.equal(folded(x), signs(x))


class Sign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, 1.0, -1.0)
