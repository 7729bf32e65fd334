"""ResNet-8 of MLPerf Tiny's image classification task, with the layer names of its Keras original."""

from __future__ import annotations

import os

import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.zoo.weights import DATA_FOLDER, load_weights

_KERAS_EPS = 1e-3


class ResNet8(nn.Module):
    """Three residual blocks of widths 16, 32 and 64 on 32x32 images, every convolution with a bias.

    Parameter names are those of the Keras model (``conv2d_3.weight``, ``batch_normalization.bias``,
    ``dense.weight``).
    Keras pads `same` convolutions of stride 2 on the right and at the bottom only.

    Shapes:
        Input (N, 3, 32, 32), RGB, 0..255 as floats, not normalised; output logits (N, 10).

    References:
        C. Banbury et al., "MLPerf Tiny Benchmark", NeurIPS Datasets and Benchmarks 2021, section 4; code and
        weights github.com/mlcommons/tiny, benchmark/training/image_classification.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(3, 16, 3, padding=1)
        self.batch_normalization = nn.BatchNorm2d(16, eps=_KERAS_EPS)
        self.conv2d_1 = nn.Conv2d(16, 16, 3, padding=1)
        self.batch_normalization_1 = nn.BatchNorm2d(16, eps=_KERAS_EPS)
        self.conv2d_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.batch_normalization_2 = nn.BatchNorm2d(16, eps=_KERAS_EPS)
        self.conv2d_3 = nn.Conv2d(16, 32, 3, stride=2)
        self.batch_normalization_3 = nn.BatchNorm2d(32, eps=_KERAS_EPS)
        self.conv2d_4 = nn.Conv2d(32, 32, 3, padding=1)
        self.batch_normalization_4 = nn.BatchNorm2d(32, eps=_KERAS_EPS)
        self.conv2d_5 = nn.Conv2d(16, 32, 1, stride=2)
        self.conv2d_6 = nn.Conv2d(32, 64, 3, stride=2)
        self.batch_normalization_5 = nn.BatchNorm2d(64, eps=_KERAS_EPS)
        self.conv2d_7 = nn.Conv2d(64, 64, 3, padding=1)
        self.batch_normalization_6 = nn.BatchNorm2d(64, eps=_KERAS_EPS)
        self.conv2d_8 = nn.Conv2d(32, 64, 1, stride=2)
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = F.relu(self.batch_normalization(self.conv2d(x)))

        y = F.relu(self.batch_normalization_1(self.conv2d_1(x)))
        y = self.batch_normalization_2(self.conv2d_2(y))
        x = F.relu(x + y)

        y = F.relu(self.batch_normalization_3(self.conv2d_3(F.pad(x, (0, 1, 0, 1)))))
        y = self.batch_normalization_4(self.conv2d_4(y))
        x = F.relu(self.conv2d_5(x) + y)

        y = F.relu(self.batch_normalization_5(self.conv2d_6(F.pad(x, (0, 1, 0, 1)))))
        y = self.batch_normalization_6(self.conv2d_7(y))
        x = F.relu(self.conv2d_8(x) + y)

        return self.dense(x.mean((2, 3)))


def resnet8(pretrained: bool | str | os.PathLike[str] = False) -> ResNet8:
    """ResNet-8 for CIFAR-10, 0.08 M parameters.

    Args:
        pretrained: True for the weights in the package (87.2 % on CIFAR-10), or the path of a checkpoint.

    Returns:
        The network; in eval mode if it has weights.

    Raises:
        FileMissingError: no file at the path.
        DataError: the file does not hold this network.
    """
    net = ResNet8()
    if pretrained is False:
        return net
    path = DATA_FOLDER / "resnet8_mlperftiny_cifar10.safetensors" if pretrained is True else pretrained
    return load_weights(net, path, "resnet8")
