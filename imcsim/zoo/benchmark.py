"""A network together with the images it is tested and calibrated on, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from imcsim.errors import DataError, FileMissingError, did_you_mean
from imcsim.zoo.datasets import (
    CIFAR10_NORM,
    CIFAR10_RAW,
    MNIST_NORM,
    Normalisation,
    batches,
    cifar10_calibration,
    cifar10_test,
    mnist_subset,
)
from imcsim.zoo.folder import load_folder
from imcsim.zoo.lenet import lenet5
from imcsim.zoo.mobilenet import mobilenetv2
from imcsim.zoo.resnet import resnet20, resnet32, resnet44
from imcsim.zoo.resnet8 import resnet8
from imcsim.zoo.resnet18 import resnet18
from imcsim.zoo.vgg import vgg7, vgg_small, vgg_small_binary


@dataclass(frozen=True)
class Benchmark:
    """A network with weights, its test images, and training images to calibrate on.

    Args:
        name: as `load` knows it.
        model: the float network, in eval mode.
        images: test images (N, C, H, W), normalised as ``model`` wants them.
        labels: (N,), int64.
        calibration: training images, normalised alike.
        normalise: what was done to the 8-bit images; None where that is not known.
    """

    name: str
    model: nn.Module
    images: Tensor
    labels: Tensor
    calibration: Tensor
    normalise: Normalisation | None

    def batches(self, size: int = 100, n: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in batches of ``size``; with ``n`` only its first ``n`` images.

        Raises:
            DataError: ``n`` below 1 or above the number of images.
        """
        if n is not None and not 1 <= n <= len(self.images):
            raise DataError(f"{self.name}: n must be 1 to {len(self.images)}, its test images; got {n}.")
        return batches(self.images[:n], self.labels[:n], size)

    def calibration_batches(self, size: int = 64) -> Iterator[Tensor]:
        """The calibration images in batches of ``size``."""
        return iter(self.calibration.split(size))


class _Entry(NamedTuple):
    build: Callable[[bool | str | os.PathLike[str]], nn.Module]
    weights_inside: bool
    data_set: str
    normalise: Normalisation


_ENTRIES = {
    "resnet20": _Entry(resnet20, True, "cifar10", CIFAR10_NORM),
    "resnet32": _Entry(resnet32, False, "cifar10", CIFAR10_NORM),
    "resnet44": _Entry(resnet44, False, "cifar10", CIFAR10_NORM),
    "resnet8": _Entry(resnet8, True, "cifar10", CIFAR10_RAW),
    "resnet18": _Entry(resnet18, False, "cifar10", CIFAR10_NORM),
    "vgg_small": _Entry(vgg_small, False, "cifar10", CIFAR10_NORM),
    "vgg_small_binary": _Entry(vgg_small_binary, True, "cifar10", CIFAR10_NORM),
    "vgg_small_binary01": _Entry(partial(vgg_small_binary, neurons="0, 1"), True, "cifar10", CIFAR10_NORM),
    "vgg7": _Entry(vgg7, False, "cifar10", CIFAR10_NORM),
    "mobilenetv2": _Entry(mobilenetv2, False, "cifar10", CIFAR10_NORM),
    "lenet5": _Entry(lenet5, False, "mnist", MNIST_NORM),
}


def available() -> list[str]:
    """Names that `load` takes; resnet20, resnet8 and vgg_small_binary(01) have weights, others want them."""
    return list(_ENTRIES)


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    n: int | None = None,
) -> Benchmark:
    """A benchmark by name.

    Args:
        name: one of `available`.
        weights: path of a checkpoint; None for the weights in the package.
        folder: of the data files (`load_folder`), for the whole test set; None for the images in the package.
        n: how many test images from the start; None for all.

    Returns:
        The network in eval mode, test images with labels, and calibration images.

    Raises:
        FileMissingError: an unknown name, a network without weights in the package, missing files.
        DataError: a file is not what it should be, or ``n`` is out of range.
    """
    if name not in _ENTRIES:
        raise FileMissingError(
            f"there is no network named {name!r} in the zoo.{did_you_mean(name, _ENTRIES)} "
            f"Available: {', '.join(_ENTRIES)}."
        )
    entry = _ENTRIES[name]
    if weights is None and not entry.weights_inside:
        inside = ", ".join(key for key, value in _ENTRIES.items() if value.weights_inside)
        raise FileMissingError(
            f"the package holds no weights of {name!r}, only of {inside}; "
            f"give the path of a checkpoint as weights."
        )
    model = entry.build(True if weights is None else weights)
    if entry.data_set == "cifar10":
        test = (
            cifar10_test(n, entry.normalise)
            if folder is None
            else load_folder("cifar10", folder, n=n, normalise=entry.normalise)
        )
        calibration, _ = cifar10_calibration(normalise=entry.normalise)
    else:
        test = (
            mnist_subset(n, entry.normalise)
            if folder is None
            else load_folder("mnist", folder, n=n, normalise=entry.normalise)
        )
        calibration, _ = mnist_subset(256, entry.normalise, train=True)
    return Benchmark(name, model, *test, calibration, entry.normalise)
