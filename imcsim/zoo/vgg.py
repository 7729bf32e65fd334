"""VGG-small (VGG-9) and VGG-7 for 32x32 images, with the switches of the survey's Table 2."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from imcsim.errors import DataError
from imcsim.zoo.activation import Activation, activation_module
from imcsim.zoo.weights import DATA_FOLDER, load_weights


class VGG(nn.Module):
    """Six 3x3 convolutions, pooled by 2 after every second one, and fully connected layers.

    Layers are ``conv1`` ... ``conv6``, ``fc1`` ..., each but the last followed by BatchNorm (``bn1`` ...) and
    the activation.

    Shapes:
        Input (N, 3, 32, 32), normalised; output logits (N, ``classes``).

    Args:
        channels: of the six convolutions.
        hidden: neurons of each fully connected layer before the last.
        classes: outputs of the last layer.
        width: multiplies all channels and hidden neurons (rounded, at least 1); 1 is the published network.
        bias: convolutions and fully connected layers have a bias.
        affine: BatchNorm has its scale and shift.
        activation: see `imcsim.zoo.activation`.

    Raises:
        DataError: not six channels, a number below 1, or an unknown activation.

    Notes:
        Pooling comes before BatchNorm, the order of binary networks: what is binarized is centred after
        pooling, not before. A BatchNorm behind a pooling layer is not folded by `imcsim.convert`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        hidden: Sequence[int],
        classes: int = 10,
        *,
        width: float = 1.0,
        bias: bool = True,
        affine: bool = True,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if len(channels) != 6 or min(*channels, *hidden, classes) < 1 or not width > 0:
            raise DataError(
                f"VGG got channels = {tuple(channels)}, hidden = {tuple(hidden)}, classes = {classes}, width "
                f"= {width}; six channels are needed, every number at least 1, width above 0."
            )
        sizes = [max(1, round(c * width)) for c in (*channels, *hidden)]
        features: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (inputs, outputs) in enumerate(zip([3, *sizes[:5]], sizes[:6], strict=True), start=1):
            features[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
            if i % 2 == 0:
                features[f"pool{i}"] = nn.MaxPool2d(2)
            features[f"bn{i}"] = nn.BatchNorm2d(outputs, affine=affine)
            features[f"act{i}"] = activation_module(activation, "VGG")
        self.features = nn.Sequential(features)
        neurons = [sizes[5] * 4 * 4, *sizes[6:]]
        classifier: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (inputs, outputs) in enumerate(pairwise(neurons), start=1):
            classifier[f"fc{i}"] = nn.Linear(inputs, outputs, bias=bias)
            classifier[f"bn{i}"] = nn.BatchNorm1d(outputs, affine=affine)
            classifier[f"act{i}"] = activation_module(activation, "VGG")
        classifier[f"fc{len(neurons)}"] = nn.Linear(neurons[-1], classes, bias=bias)
        self.classifier = nn.Sequential(classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        return self.classifier(self.features(x).flatten(1))


_CHANNELS = (128, 128, 256, 256, 512, 512)


def vgg_small(
    pretrained: bool | str | os.PathLike[str] = False,
    *,
    width: float = 1.0,
    bias: bool = True,
    affine: bool = True,
    activation: Activation = "relu",
) -> VGG:
    """VGG-small (VGG-9) for CIFAR-10: 2x128C3-P2-2x256C3-P2-2x512C3-P2-1024FC-1024FC-10, 14.0 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (no weights of it are in the package).
        width: multiplies channels and hidden neurons.
        bias: layers have a bias.
        affine: BatchNorm has its scale and shift.
        activation: relu; hardtanh, sign or step for binary activations.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, the file does not hold this network, or an option is wrong.

    Notes:
        The name is used for other networks too: LQ-Net's VGG-Small has no hidden fully connected layer. This
        is the survey's Figure 3b. A plain last layer stands for the paper's L2-SVM output with BatchNorm.

    References:
        M. Courbariaux, Y. Bengio, J.-P. David, "BinaryConnect: Training Deep Neural Networks with binary
        weights during propagations", NeurIPS 2015, section 3.3; L. Zhang et al., "Quantized convolutional
        neural networks: a hardware perspective", Front. Electron. 6 (2025), figure 3b,
        doi:10.3389/felec.2025.1469802.
    """
    net = VGG(_CHANNELS, (1024, 1024), width=width, bias=bias, affine=affine, activation=activation)
    return _from_path(net, "vgg_small", pretrained)


def vgg7(
    pretrained: bool | str | os.PathLike[str] = False,
    *,
    width: float = 1.0,
    bias: bool = True,
    affine: bool = True,
    activation: Activation = "relu",
) -> VGG:
    """VGG-7 for CIFAR-10: 2x128C3-P2-2x256C3-P2-2x512C3-P2-1024FC-10, 13.0 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (no weights of it are in the package).
        width: multiplies channels and hidden neurons.
        bias: layers have a bias.
        affine: BatchNorm has its scale and shift.
        activation: relu; hardtanh, sign or step for binary activations.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, the file does not hold this network, or an option is wrong.

    Notes:
        With its convolutions at {8-4-2-1-1-1} bits and the rest at 1 bit it is 1.06 times as large as at
        1 bit throughout, which is what the survey's section 4.5.2 reports of Chu et al.: the hidden layer of
        1,024 neurons belongs to it.

    References:
        F. Li, B. Liu, "Ternary Weight Networks", 2016, section 3, arXiv:1605.04711; T. Chu et al.,
        "Mixed-precision quantized neural networks with progressively decreasing bitwidth", Pattern
        Recognition 111 (2021), doi:10.1016/j.patcog.2020.107647.
    """
    net = VGG(_CHANNELS, (1024,), width=width, bias=bias, affine=affine, activation=activation)
    return _from_path(net, "vgg7", pretrained)


Neurons = Literal["-1, 1", "0, 1"]

_BINARY: dict[str, tuple[Activation, str]] = {
    "-1, 1": ("sign", "vgg_small_binary.npz"),
    "0, 1": ("step", "vgg_small_binary01.npz"),
}


def vgg_small_binary(pretrained: bool | str | os.PathLike[str] = True, *, neurons: Neurons = "-1, 1") -> VGG:
    """VGG-small at a quarter of its width with binary weights and neurons, for binary chips; 0.88 M weights.

    Weights are -a or a, a number a layer, and each activation one of two values, so it computes in torch what
    a binary chip without errors computes. The first convolution and the last layer are real: keep them
    digital, ``imcsim.convert(net, {"*": chip, "features.conv1": None, "classifier.fc3": None})``.

    Args:
        pretrained: True: trained for 30 epochs of 40,000 images (scripts/binary_vgg.py); or the path of a
            checkpoint; False: new, with weights that are not binary.
        neurons: what they give; "0, 1" is for chips with ``inputs.signed = false``.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: the file does not hold this network, or neurons of another kind.
    """
    if neurons not in _BINARY:
        raise DataError(
            f"vgg_small_binary: neurons = {neurons!r} is not one of {', '.join(map(repr, _BINARY))}."
        )
    activation, file = _BINARY[neurons]
    net = VGG(_CHANNELS, (1024, 1024), width=0.25, bias=False, activation=activation)
    if pretrained is False:
        return net
    return load_weights(net, DATA_FOLDER / file if pretrained is True else pretrained, "vgg_small_binary")


def _from_path(net: VGG, name: str, pretrained: bool | str | os.PathLike[str]) -> VGG:
    if pretrained is False:
        return net
    if pretrained is True:
        raise DataError(
            f"{name}(pretrained=True): the package holds no weights of it; train it "
            f"(scripts/studies/vgg_small.py shows how), or give the path of a checkpoint."
        )
    return load_weights(net, pretrained, name)
