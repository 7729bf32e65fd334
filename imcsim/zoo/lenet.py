"""LeNet-5 for 28x28 grey images (MNIST, Fashion-MNIST)."""

from __future__ import annotations

import os

import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import DataError
from imcsim.zoo.activation import Activation, activation_module
from imcsim.zoo.weights import load_weights


class LeNet5(nn.Module):
    """Two 5x5 convolutions (6 and 16 channels), each pooled by 2, and layers of 120, 84 and 10 neurons.

    Shapes:
        Input (N, 1, 28, 28), normalised; output logits (N, ``classes``).

    Args:
        classes: outputs of the last layer.
        norm: a BatchNorm after each layer but the last (``bn1`` ... ``bn4``), after its pooling, which
            low-bit training needs.
        activation: relu, or hardtanh for activations that are to become -1 and +1.

    Raises:
        DataError: ``classes`` below 1, or an unknown activation.

    Notes:
        Departs from the paper as today's users of the name do: ReLU instead of scaled tanh (so that inputs of
        an array are unsigned), maximum pooling without weights, the second convolution connected to all of
        the first, a linear last layer instead of radial basis functions; 28x28 images are padded to the
        paper's 32x32.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
        Proc. IEEE 86 (1998), section II.B, figure 2.
    """

    def __init__(self, classes: int = 10, *, norm: bool = False, activation: Activation = "relu") -> None:
        super().__init__()
        if classes < 1:
            raise DataError(f"LeNet5 got classes = {classes}; it must be at least 1.")
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.act = activation_module(activation, "LeNet5")
        self.bn1: nn.Module = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.bn2: nn.Module = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.bn3: nn.Module = nn.BatchNorm1d(120) if norm else nn.Identity()
        self.bn4: nn.Module = nn.BatchNorm1d(84) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.act(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        x = self.act(self.bn2(F.max_pool2d(self.conv2(x), 2)))
        x = self.act(self.bn3(self.fc1(x.flatten(1))))
        return self.fc3(self.act(self.bn4(self.fc2(x))))


def lenet5(
    pretrained: bool | str | os.PathLike[str] = False, *, norm: bool = False, activation: Activation = "relu"
) -> LeNet5:
    """LeNet-5 for 28x28 images, 0.06 M parameters.

    Args:
        pretrained: False, or the path of a checkpoint (no weights of it are in the package).
        norm: a BatchNorm after each layer but the last.
        activation: relu or hardtanh.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: ``pretrained`` is True, the file does not hold this network, or an unknown activation.
    """
    net = LeNet5(norm=norm, activation=activation)
    if pretrained is False:
        return net
    if pretrained is True:
        raise DataError(
            "lenet5(pretrained=True): the package holds no weights of LeNet-5; train it (MNIST is in "
            "imcsim.zoo.mnist_subset and imcsim.zoo.load_mnist), or give the path of a checkpoint."
        )
    return load_weights(net, pretrained, "lenet5")
