"""The networks that are trained rather than loaded: sizes, switches, and the bypass of binary networks."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from imcsim import zoo

VGG_CONVOLUTIONS = [3 * 128, 128 * 128, 128 * 256, 256 * 256, 256 * 512, 512 * 512]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# ResNet-18: the count that github.com/kuangliu/pytorch-cifar prints. MobileNetV2: the 3,504,872 of ImageNet
# networks (Sandler et al. give 3.4 M), with 10 instead of 1,000 classes of 1,280 weights and a bias.
@pytest.mark.parametrize(
    ("build", "count"),
    [(zoo.resnet18, 11_173_962), (zoo.mobilenetv2, 3_504_872 - 990 * 1281)],
)
def test_published_sizes(build, count: int) -> None:
    assert parameters(build()) == count


@pytest.mark.parametrize(("build", "neurons"), [(zoo.vgg_small, (1024, 1024)), (zoo.vgg7, (1024,))])
def test_vgg_sizes_from_the_plan_and_the_switches(build, neurons: tuple[int, ...]) -> None:
    sizes = [8192, *neurons, 10]
    weights = 9 * sum(VGG_CONVOLUTIONS) + sum(a * b for a, b in pairwise(sizes))
    normalised = 2 * (128 + 256 + 512) + sum(neurons)
    assert parameters(build(bias=False, affine=False)) == weights
    assert parameters(build(bias=True, affine=False)) == weights + normalised + 10
    assert parameters(build(bias=False, affine=True)) == weights + 2 * normalised


def test_hardtanh_networks_have_activations_of_both_signs() -> None:
    torch.manual_seed(0)
    seen = []
    net = zoo.vgg_small(width=0.1, activation="hardtanh").eval()
    net.features.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(torch.randn(2, 3, 32, 32))
    assert seen[0].min() < -0.1 < 0.1 < seen[0].max()
    assert seen[0].abs().max() <= 1


def test_mobilenet_width_rounds_channels_to_eighths() -> None:
    net = zoo.mobilenetv2(width=0.35)
    channels = [block.project[0].out_channels for block in net.blocks]
    # The 0.35 network's channels, counted in the authors' checkpoints (mobilenet_v2_0.35).
    assert sorted(set(channels)) == [8, 16, 24, 32, 56, 112]
    assert net.stem[0].out_channels == 16
    assert net.head[0].out_channels == 1280


def test_bypass_carries_the_full_precision_values() -> None:
    """Eq. 20: with a body that gives nothing, whatever came in goes out, unclipped and unrounded."""
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 8, 6, 6)
    body = nn.Sequential(nn.Hardtanh(), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
    bypass = zoo.Bypass(body).eval()
    assert torch.equal(bypass(x), body(x) + x)
    nn.init.zeros_(body[1].weight)
    assert torch.equal(bypass(x), x)


def test_every_convolution_of_a_bypassed_resnet_has_a_bypass() -> None:
    net = zoo.resnet18(width=4, shortcuts="layer")
    bypasses = [m for m in net.modules() if isinstance(m, zoo.Bypass)]
    assert len(bypasses) == 16
    assert sum(not isinstance(m.shortcut, nn.Identity) for m in bypasses) == 3
