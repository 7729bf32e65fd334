"""ResNet-18 for 32x32 images, with a shortcut a block or a layer."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import DataError
from imcsim.zoo.bypass import Bypass
from imcsim.zoo.weights import load_weights

Shortcuts = Literal["block", "layer"]


class ProjectedBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around both.

    Shapes:
        Input (N, ``inputs``, H, W); output (N, ``outputs``, H / ``stride``, W / ``stride``).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class BypassedBlock(nn.Module):
    """Two 3x3 convolutions, each with a full-precision bypass of its own (`Bypass`).

    Shapes:
        Input (N, ``inputs``, H, W); output (N, ``outputs``, H / ``stride``, W / ``stride``).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution; its bypass averages over as many samples, then projects.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        shortcut = None
        if stride != 1 or inputs != outputs:
            project = (nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            shortcut = nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), *project)
        self.layer1 = Bypass(_clipped_conv(inputs, outputs, stride), shortcut)
        self.layer2 = Bypass(_clipped_conv(outputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Two bypassed convolutions."""
        return self.layer2(self.layer1(x))


class ResNet18(nn.Module):
    """ResNet-18 as it is used on 32x32 images: a 3x3 stem without pooling, four stages of two blocks.

    Shapes:
        Input (N, 3, 32, 32), normalised; output logits (N, ``classes``).

    Args:
        classes: outputs of the last layer.
        width: channels of the first stage; they double in each later one. 64 is the published network.
        shortcuts: block (as published), or layer: a full-precision bypass around every convolution of the
            blocks, for binary networks.

    Raises:
        DataError: a number below 1, or an unknown kind of shortcuts.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1
        (18 layers), doi:10.1109/CVPR.2016.90, with the stem of its section 4.2; shortcuts = "layer":
        Z. Liu et al., "Bi-Real Net", ECCV 2018.
    """

    def __init__(self, classes: int = 10, *, width: int = 64, shortcuts: Shortcuts = "block") -> None:
        super().__init__()
        if classes < 1 or width < 1:
            raise DataError(f"ResNet18 got classes = {classes}, width = {width}; both must be at least 1.")
        if shortcuts not in ("block", "layer"):
            raise DataError(f"ResNet18 got shortcuts = {shortcuts!r}; it must be 'block' or 'layer'.")
        block = ProjectedBlock if shortcuts == "block" else BypassedBlock
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        sizes = [width << i for i in range(4)]
        self.layer1 = nn.Sequential(block(width, width, 1), block(width, width, 1))
        self.layer2 = nn.Sequential(block(sizes[0], sizes[1], 2), block(sizes[1], sizes[1], 1))
        self.layer3 = nn.Sequential(block(sizes[1], sizes[2], 2), block(sizes[2], sizes[2], 1))
        self.layer4 = nn.Sequential(block(sizes[2], sizes[3], 2), block(sizes[3], sizes[3], 1))
        self.linear = nn.Linear(sizes[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean((2, 3)))


def _clipped_conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """What a bypass goes around. Clipping is inside: the values that pass by are not clipped."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(
        OrderedDict[str, nn.Module](act=nn.Hardtanh(), conv=conv, bn=nn.BatchNorm2d(outputs))
    )


def resnet18(
    pretrained: bool | str | os.PathLike[str] = False, *, width: int = 64, shortcuts: Shortcuts = "block"
) -> ResNet18:
    """ResNet-18 for CIFAR-10, 11.2 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (no weights of it are in the package).
        width: channels of the first stage.
        shortcuts: block, or layer for a full-precision bypass around every convolution of the blocks.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, the file does not hold this network, or an option is wrong.
    """
    net = ResNet18(width=width, shortcuts=shortcuts)
    if pretrained is False:
        return net
    if pretrained is True:
        raise DataError(
            "resnet18(pretrained=True): the package holds no weights of it; "
            "give the path of a checkpoint, resnet18(pretrained='weights.safetensors')."
        )
    return load_weights(net, pretrained, "resnet18")
