"""Clipping and remapping weights; BatchNorm on the chip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim
from imcsim import train
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, ConversionError, InputError
from imcsim.evaluate import sqnr_db
from tests.train.small import CHIP, calibrated, generator, linear


def test_weights_are_clipped_to_their_deviations():
    sim = imcsim.convert(linear(), CHIP)
    limit = 1.5 * float(sim.weight.detach().std(correction=0))
    before = sim.weight.detach().clone()
    train.clip_weights(sim, 1.5)
    assert torch.allclose(sim.weight, before.clamp(-limit, limit), rtol=1e-6)
    with pytest.raises(InputError, match="sigmas = 0: a positive number of standard deviations"):
        train.clip_weights(sim, 0)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_with_a_scale_a_channel_each_channel_has_its_own_limit(kind):
    torch.manual_seed(0)
    sim = imcsim.convert(kind(4, 6, 3, groups=2), CHIP.replace({"weights.scale": "per_channel"}))
    ((layer, _),) = arrays(sim)
    before = layer.weight_matrix(layer.weight.detach().clone())
    train.clip_weights(sim, 1.0)
    limit = before.std(2, keepdim=True, correction=0)
    after = layer.weight_matrix(layer.weight.detach())
    assert torch.allclose(after, before.clamp(-limit, limit), rtol=1e-6)


def net_with_norms() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, groups=2),
        nn.BatchNorm2d(6),
    )
    with torch.no_grad():
        net[0].weight.mul_(torch.logspace(-1, 1, 8).view(-1, 1, 1, 1))
        net[3].weight.mul_(torch.logspace(-1, 0, 3).view(1, -1, 1, 1))
    for norm in (net[1], net[4]):
        norm.momentum = None
    net.train()(torch.rand(64, 3, 8, 8))
    for norm in (net[1], net[4]):
        norm.momentum = 0.1
    return net.eval()


def test_remapping_fills_the_range_and_changes_nothing_in_floats():
    net, x = net_with_norms(), torch.rand(4, 3, 8, 8, generator=generator())
    sim = imcsim.convert(net, CHIP)
    assert train.remap(sim) == ["0", "3"]
    for layer, _ in arrays(sim):
        peaks = layer.weight_matrix(layer.weight).abs().amax(2)
        assert torch.allclose(peaks, peaks.max().expand_as(peaks), rtol=1e-5)
    twin = net_with_norms()
    twin.load_state_dict({k: v for k, v in sim.state_dict().items() if k in twin.state_dict()})
    with torch.no_grad():
        assert torch.allclose(twin(x), net(x), rtol=1e-4, atol=1e-5)


def test_remapping_leaves_chips_with_a_scale_a_channel_alone():
    sim = imcsim.convert(net_with_norms(), CHIP.replace({"weights.scale": "per_channel"}))
    assert train.remap(sim) == []


def test_remapping_needs_a_traceable_model():
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) if x.sum() > 0 else x

    sim = imcsim.convert(Branches(), CHIP)
    with pytest.raises(ConversionError, match=r"remap needs torch\.fx to trace the model"):
        train.remap(sim)


def test_batchnorm_on_the_chip():
    """After it, each channel's statistics on the chip are what its BatchNorm takes them for."""
    net, x = net_with_norms(), torch.rand(32, 3, 8, 8, generator=generator())
    sim = calibrated(net, CHIP, x)
    imcsim.program(sim, 1)
    weights, momentum = sim[0].weight.clone(), sim[1].momentum
    with torch.no_grad():
        before = sqnr_db(net(x), sim(x))
        train.recalibrate_batchnorm(sim, [x[:16], x[16:]])
        assert sqnr_db(net(x), sim(x)) > before
        seen = sim[0](x)
    assert torch.allclose(sim[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert torch.equal(sim[0].weight, weights)
    assert sim[1].momentum == momentum
    assert not sim[1].training


def test_batchnorm_errors():
    sim = calibrated(linear(), CHIP, torch.rand(4, 150))
    with pytest.raises(ConversionError, match="no BatchNorm with running statistics"):
        train.recalibrate_batchnorm(sim, [torch.rand(4, 150)])
    norms = imcsim.convert(net_with_norms(), CHIP)
    with pytest.raises(CalibrationError, match="recalibrate_batchnorm got no batches"):
        train.recalibrate_batchnorm(norms, [])


def test_ramps():
    up = train.ramp(0.0, 2.0, until=0.5)
    assert [up(done) for done in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]
    assert [train.cosine(done) for done in (0.0, 1.0)] == [1.0, 0.0]
    with pytest.raises(InputError, match="until = 0 is a part of the training"):
        train.ramp(0, 1, until=0)
