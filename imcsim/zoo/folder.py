"""A whole data set from a folder that the user names: official files, or NumPy archives."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from imcsim.errors import DataError, FileMissingError, did_you_mean
from imcsim.zoo.datasets import (
    CIFAR10_NORM,
    FASHION_MNIST_NORM,
    MNIST_NORM,
    Normalisation,
    as_tensors,
)
from imcsim.zoo.official import load_cifar10, load_mnist


class _Layout(NamedTuple):
    """Where a data set's archives keep a split: file, keys of images and labels; shape of an image."""

    train: tuple[str, str, str]
    test: tuple[str, str, str]
    shape: tuple[int, ...]
    official: Callable[..., tuple[Tensor, Tensor]]
    normalise: Normalisation


def _one_file(stem: str, normalise: Normalisation) -> _Layout:
    train, test = ((f"{stem}.npz", f"{s}_images", f"{s}_labels") for s in ("train", "test"))
    return _Layout(train, test, (28, 28), load_mnist, normalise)


_LAYOUTS = {
    "cifar10": _Layout(
        ("cifar10_train.npz", "images", "labels"),
        ("cifar10_test.npz", "images", "labels"),
        (3, 32, 32),
        load_cifar10,
        CIFAR10_NORM,
    ),
    "mnist": _one_file("mnist", MNIST_NORM),
    "fashion_mnist": _one_file("fashion_mnist", FASHION_MNIST_NORM),
}


def load_folder(
    name: str,
    folder: str | os.PathLike[str],
    *,
    train: bool = False,
    n: int | None = None,
    normalise: Normalisation | str | None = "usual",
) -> tuple[Tensor, Tensor]:
    """A data set from a folder, whichever of its file formats lies there.

    NumPy archives are ``mnist.npz`` and ``fashion_mnist.npz`` (``train_images`` (N, 28, 28) uint8,
    ``train_labels``, ``test_images``, ``test_labels``), ``cifar10_train.npz`` and ``cifar10_test.npz``
    (``images`` (N, 3, 32, 32) uint8, ``labels``). Without them the official files are looked for
    (`load_cifar10`, `load_mnist`).

    Args:
        name: cifar10, mnist or fashion_mnist.
        folder: where the files lie.
        train: the training images instead of the test images.
        n: how many from the start; None for all.
        normalise: "usual" for the data set's own (CIFAR10_NORM, MNIST_NORM, FASHION_MNIST_NORM), another
            `Normalisation`, or None for 8-bit values.

    Returns:
        Images (n, C, H, W), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        FileMissingError: an unknown data set, no such folder, or neither kind of files in it.
        DataError: a file is not what its name says, or ``n`` is out of range.
    """
    if name not in _LAYOUTS:
        raise FileMissingError(
            f"there is no data set named {name!r}.{did_you_mean(name, _LAYOUTS)} "
            f"Available: {', '.join(_LAYOUTS)}."
        )
    layout = _LAYOUTS[name]
    if isinstance(normalise, str):
        if normalise != "usual":
            raise DataError(
                f"load_folder got normalise = {normalise!r}; it must be 'usual', a Normalisation, or None."
            )
        normalise = layout.normalise
    file, image_key, label_key = layout.train if train else layout.test
    path = Path(folder) / file
    if not path.is_file():
        return layout.official(folder, train=train, n=n, normalise=normalise)
    images, labels = _read(path, image_key), _read(path, label_key)
    if images.shape[1:] != layout.shape or labels.shape != images.shape[:1] or not len(labels):
        raise DataError(
            f"{str(path)!r}: {image_key!r} has shape {images.shape} and {label_key!r} {labels.shape}; "
            f"(N, {', '.join(map(str, layout.shape))}) and (N,) are needed."
        )
    return as_tensors(images.reshape(len(images), -1, *layout.shape[-2:]), labels, n, normalise, str(path))


def _read(path: Path, key: str) -> npt.NDArray[np.uint8]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values = arrays[key] if key in arrays else None
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{str(path)!r} is not a readable NumPy archive ({error}).") from error
    if values is None or values.dtype != np.uint8:
        found = "is missing" if values is None else f"is {values.dtype}"
        raise DataError(f"{str(path)!r}: {key!r} {found}; an array of uint8 is needed.")
    return values
