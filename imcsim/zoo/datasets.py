"""The small real data sets in the package, and how a network wants its images."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imcsim.errors import DataError, FileMissingError
from imcsim.zoo.weights import DATA_FOLDER

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Normalisation:
    """What a network wants done with 8-bit images: (image / ``divisor`` - mean) / std, channel by channel.

    Args:
        mean: one number a channel, after the division.
        std: one number a channel, after the division.
        divisor: of the 8-bit values.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    divisor: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise 8-bit images.

        Shapes:
            images (N, C, H, W), uint8; returns the same, float32.

        Raises:
            DataError: images that are not four-dimensional, or have another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise DataError(
                f"images have shape {tuple(images.shape)}; "
                f"this normalisation wants (N, {len(self.mean)}, H, W)."
            )
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images.float() / self.divisor - mean) / std


CIFAR10_NORM = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""For ResNet-20/32/44: the constants of ImageNet, which those networks were trained with."""

CIFAR10_RAW = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), divisor=1.0)
"""For ResNet-8, which takes 0..255 as floats."""

MNIST_NORM = Normalisation((0.1307,), (0.3081,))
FASHION_MNIST_NORM = Normalisation((0.2860,), (0.3530,))


def cifar10_test(
    n: int | None = None, normalise: Normalisation | None = CIFAR10_NORM, *, exact_only: bool = False
) -> tuple[Tensor, Tensor]:
    """The first 2,000 images of CIFAR-10's official test set, in their official order.

    Args:
        n: how many from the start; None for all.
        normalise: CIFAR10_NORM for ResNet-20/32/44, CIFAR10_RAW for ResNet-8, None for 8-bit values.
        exact_only: leave out the 4 of 2,000 images of which only a JPEG was to be had.

    Returns:
        Images (n, 3, 32, 32), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        DataError: ``n`` below 1 or above what there is.
    """
    parts = [_arrays(f"cifar10_test_{i}.npz") for i in range(2)]
    images, labels, exact = (np.concatenate([p[key] for p in parts]) for key in ("images", "labels", "exact"))
    if exact_only:
        images, labels = images[exact], labels[exact]
    return as_tensors(images, labels, n, normalise, "cifar10_test")


def cifar10_calibration(
    n: int | None = None, normalise: Normalisation | None = CIFAR10_NORM
) -> tuple[Tensor, Tensor]:
    """The first 256 images of CIFAR-10's official training set, for calibration.

    Args:
        n: how many from the start; None for all.
        normalise: as for `cifar10_test`.

    Returns:
        Images (n, 3, 32, 32), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        DataError: ``n`` below 1 or above what there is.
    """
    part = _arrays("cifar10_calibration.npz")
    return as_tensors(part["images"], part["labels"], n, normalise, "cifar10_calibration")


def mnist_subset(
    n: int | None = None, normalise: Normalisation | None = MNIST_NORM, *, train: bool = False
) -> tuple[Tensor, Tensor]:
    """The first 1,000 test images of MNIST, or the first 2,000 training images, in their official order.

    Args:
        n: how many from the start; None for all.
        normalise: MNIST_NORM, or None for 8-bit values.
        train: the training images instead of the test images.

    Returns:
        Images (n, 1, 28, 28), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        DataError: ``n`` below 1 or above what there is.
    """
    part, split = _arrays("mnist_subset.npz"), "train" if train else "test"
    return as_tensors(part[f"{split}_images"][:, None], part[f"{split}_labels"], n, normalise, "mnist_subset")


def batches(images: Tensor, labels: Tensor, size: int = 100) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut images and labels into batches; the last may be short.

    Args:
        images: (N, ...).
        labels: (N,).
        size: images a batch.

    Yields:
        Pairs of images and labels.

    Raises:
        DataError: different numbers of images and labels, or ``size`` below 1.
    """
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images and {len(labels)} labels; there must be one label an image.")
    if size < 1:
        raise DataError(f"batches got size = {size}; it must be at least 1.")
    yield from zip(images.split(size), labels.split(size), strict=True)


def as_tensors(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    n: int | None,
    normalise: Normalisation | None,
    name: str,
) -> tuple[Tensor, Tensor]:
    """The first ``n`` images and labels as tensors.

    Shapes:
        images (N, C, H, W); labels (N,); returns the first ``n`` of both.

    Raises:
        DataError: ``n`` below 1 or above N; names the data set, ``name``.
    """
    count = len(images) if n is None else n
    if not 1 <= count <= len(images):
        raise DataError(f"{name} got n = {n}; n must be 1 to {len(images)}, the images there are.")
    x = torch.from_numpy(images[:count].copy())
    y = torch.from_numpy(labels[:count].astype(np.int64))
    return (x if normalise is None else normalise(x)), y


def _arrays(name: str) -> dict[str, npt.NDArray[np.uint8]]:
    path = DATA_FOLDER / name
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError as error:
        raise FileMissingError(
            f"{str(path)!r} is missing from the installation; install imcsim again."
        ) from error
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{str(path)!r} is damaged ({error}); install imcsim again.") from error
