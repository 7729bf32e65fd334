"""MobileNetV2 for 32x32 images, with its width multiplier."""

from __future__ import annotations

import os

import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import DataError
from imcsim.zoo.weights import load_weights

_STAGES = (
    # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""The paper's table 2, with strides of 1 where a 224x224 image is reduced before this network's 32x32."""


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3, depthwise), project (1x1, linear); shortcut if shapes agree.

    Shapes:
        Input (N, ``inputs``, H, W); output (N, ``outputs``, H / ``stride``, W / ``stride``).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        expansion: hidden channels over ``inputs``; 1: no expanding layer.
        stride: of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = nn.Sequential(
                nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
            )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block, with its shortcut."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 for 32x32 images: 17 inverted residual blocks between a 3x3 stem and a 1x1 convolution.

    Shapes:
        Input (N, 3, 32, 32), normalised; output logits (N, ``classes``).

    Args:
        classes: outputs of the last layer.
        width: multiplies all channels, rounded to multiples of 8 and never by more than 10 % down; the last
            1,280 channels only grow.

    Raises:
        DataError: ``classes`` below 1, or ``width`` not above 0.

    Notes:
        The stem and the second stage have stride 1 instead of 2, and the last pooling is over 4x4, as is
        usual for CIFAR-10.

    References:
        M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2,
        doi:10.1109/CVPR.2018.00474.
    """

    def __init__(self, classes: int = 10, *, width: float = 1.0) -> None:
        super().__init__()
        if classes < 1 or not width > 0:
            raise DataError(
                f"MobileNetV2 got classes = {classes}, width = {width}; classes must be at least 1 and width "
                f"above 0."
            )
        channels, last = _channels(32 * width), _channels(1280 * max(1.0, width))
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6()
        )
        blocks: list[nn.Module] = []
        for expansion, base, count, stride in _STAGES:
            outputs = _channels(base * width)
            for i in range(count):
                blocks.append(InvertedResidual(channels, outputs, expansion, stride if i == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6())
        self.linear = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.head(self.blocks(self.stem(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _channels(value: float) -> int:
    """The nearest multiple of 8, at least 8, and at least 90 % of the value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def mobilenetv2(pretrained: bool | str | os.PathLike[str] = False, *, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 for CIFAR-10, 2.2 M parameters at width 1.

    Args:
        pretrained: False, or the path of a checkpoint (no weights of it are in the package).
        width: multiplies the channels.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, the file does not hold this network, or an option is wrong.
    """
    net = MobileNetV2(width=width)
    if pretrained is False:
        return net
    if pretrained is True:
        raise DataError(
            "mobilenetv2(pretrained=True): the package holds no weights of it; "
            "give the path of a checkpoint, mobilenetv2(pretrained='weights.safetensors')."
        )
    return load_weights(net, pretrained, "mobilenetv2")
