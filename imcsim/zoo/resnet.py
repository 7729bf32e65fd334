"""Residual networks for CIFAR-10 (ResNet-20/32/44/56) with parameter-free shortcuts."""

from __future__ import annotations

import os
from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import DataError
from imcsim.zoo.weights import DATA_FOLDER, load_weights


class SubsampleShortcut(nn.Module):
    """The option-A shortcut: every second pixel, and zero channels on both sides; it has no parameters.

    Shapes:
        Input (N, C, H, W); output (N, C + 2 ``pad``, ceil(H / 2), ceil(W / 2)).

    Args:
        pad: zero channels added before the first channel, and as many after the last.
    """

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """Subsample and pad."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))) with 3x3 convolutions.

    Shapes:
        Input (N, ``inputs``, H, W); output (N, ``outputs``, H / ``stride``, W / ``stride``).

    Args:
        inputs: channels that come in.
        outputs: channels that go out; twice ``inputs`` where ``stride`` is 2.
        stride: of the first convolution and of the shortcut, 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else SubsampleShortcut((outputs - inputs) // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network for 32x32 images: 6n + 2 layers, n basic blocks in each of three stages.

    Widths 16, 32, 64; the first block of the second and third stage halves the image. Shortcuts are option A,
    without parameters. Parameter names are those of the usual PyTorch checkpoints (``conv1.weight``,
    ``layer1.0.bn1.weight``, ``linear.bias`` ...).

    Shapes:
        Input (N, 3, 32, 32), normalised; output logits (N, ``classes``).

    Args:
        blocks_per_stage: n; 3 is ResNet-20, 5 ResNet-32, 7 ResNet-44, 9 ResNet-56.
        classes: outputs of the last layer.

    Raises:
        DataError: ``blocks_per_stage`` or ``classes`` below 1.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
        section 4.2.
    """

    def __init__(self, blocks_per_stage: int, classes: int = 10) -> None:
        super().__init__()
        if blocks_per_stage < 1 or classes < 1:
            raise DataError(
                f"CifarResNet got blocks_per_stage = {blocks_per_stage} and classes = {classes}; "
                f"both must be at least 1 (ResNet-20 is CifarResNet(3))."
            )
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks_per_stage, stride=1)
        self.layer2 = _stage(16, 32, blocks_per_stage, stride=2)
        self.layer3 = _stage(32, 64, blocks_per_stage, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    rest = (BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict((str(i), block) for i, block in enumerate((first, *rest))))


def resnet20(pretrained: bool | str | os.PathLike[str] = False) -> CifarResNet:
    """ResNet-20 for CIFAR-10, 0.27 M parameters.

    Args:
        pretrained: True for the weights in the package (91.7 % on CIFAR-10), or the path of a checkpoint.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: the file does not hold this network.
    """
    if pretrained is True:
        pretrained = DATA_FOLDER / "resnet20_cifar10.safetensors"
    return _from_path("resnet20", 3, pretrained)


def resnet32(pretrained: bool | str | os.PathLike[str] = False) -> CifarResNet:
    """ResNet-32 for CIFAR-10, 0.46 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (its weights are not in the package).

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, or the file does not hold this network.
    """
    return _from_path("resnet32", 5, pretrained)


def resnet44(pretrained: bool | str | os.PathLike[str] = False) -> CifarResNet:
    """ResNet-44 for CIFAR-10, 0.66 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (its weights are not in the package).

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, or the file does not hold this network.
    """
    return _from_path("resnet44", 7, pretrained)


def _from_path(name: str, blocks: int, pretrained: bool | str | os.PathLike[str]) -> CifarResNet:
    net = CifarResNet(blocks)
    if pretrained is False:
        return net
    if pretrained is True:
        raise DataError(
            f"{name}(pretrained=True): the package holds weights of resnet20 and resnet8 only; "
            f"give the path of a checkpoint, {name}(pretrained='weights.safetensors')."
        )
    return load_weights(net, pretrained, name)
