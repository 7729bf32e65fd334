"""Test and calibration data by name, file or import path."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from imcsim import zoo
from imcsim.errors import DataError, FileMissingError, did_you_mean
from imcsim.models.importing import import_object

CALIBRATION_IMAGES = 256
"""Test samples that calibrate a chip where a file or function gives no calibration data."""


class Data(NamedTuple):
    """What a network is tested and calibrated on.

    Attributes:
        images: (N, ...), as the network wants them.
        labels: (N,), int64.
        calibration: (M, ...), inputs to calibrate on.
    """

    images: Tensor
    labels: Tensor
    calibration: Tensor


class _Set(NamedTuple):
    """A data set: its test images in the package, its name in a folder of files, images to calibrate on."""

    inside: Callable[..., tuple[Tensor, Tensor]]
    name: str
    calibration: Callable[..., tuple[Tensor, Tensor]]
    normalise: zoo.Normalisation


_CIFAR10 = _Set(zoo.cifar10_test, "cifar10", zoo.cifar10_calibration, zoo.CIFAR10_NORM)
DATA_SETS: dict[str, _Set] = {
    "cifar10": _CIFAR10,
    "cifar10_raw": _CIFAR10._replace(normalise=zoo.CIFAR10_RAW),
    "mnist": _Set(
        zoo.mnist_subset,
        "mnist",
        partial(zoo.mnist_subset, CALIBRATION_IMAGES, train=True),
        zoo.MNIST_NORM,
    ),
}
"""Data sets by name; normalised as the zoo's networks want them, cifar10_raw with values of 0 to 255."""


def load_data(name: str, *, n: int | None = None, folder: str | os.PathLike[str] | None = None) -> Data:
    """Test and calibration data.

    Args:
        name: a key of `DATA_SETS`; an .npz file with arrays ``images``, ``labels`` and, if it has them,
            ``calibration``; or the import path of a function that returns two or three such tensors.
        n: how many test samples from the start; None for all.
        folder: of the official files of a named data set; None for the images in the package.

    Returns:
        The data. Without calibration data the first 256 test samples calibrate, and the accuracy is that of
        a chip that has seen them.

    Raises:
        FileMissingError: there is no such data set or file.
        DataError: the file or the function's result is not what it should be, or ``n`` is out of range.
        InputError: the import path is wrong.
    """
    if name in DATA_SETS:
        kind = DATA_SETS[name]
        read = kind.inside if folder is None else partial(zoo.load_folder, kind.name, folder)
        images, labels = read(n=n, normalise=kind.normalise)
        return Data(images, labels, kind.calibration(normalise=kind.normalise)[0])
    if name.endswith(".npz"):
        return _checked(_from_file(Path(name)), n, f"data file {name!r}")
    if ":" in name:
        made = import_object(name, "data")
        return _checked(made() if callable(made) else made, n, f"data {name!r}")
    raise FileMissingError(
        f"there is no data set {name!r}.{did_you_mean(name, DATA_SETS)} Available: {', '.join(DATA_SETS)}; "
        "or give an .npz file, or the import path of a function, package.module:name"
    )


def _from_file(path: Path) -> tuple[Any, ...]:
    if not path.is_file():
        raise FileMissingError(f"data file {str(path)!r} does not exist; give the path of an .npz file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in ("images", "labels", "calibration") if key in arrays}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"data file {str(path)!r} cannot be read ({error}); write it with numpy.savez"
        ) from None
    missing = {"images", "labels"} - set(found)
    if missing:
        raise DataError(
            f"data file {str(path)!r} has no array {' and no array '.join(sorted(missing))}; write it with "
            "numpy.savez(file, images=..., labels=..., calibration=...)"
        )
    return tuple(found.values())


def _checked(found: Any, n: int | None, what: str) -> Data:
    """Tensors of the right kind, cut to n test samples."""
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise DataError(f"{what} gave {type(found).__name__}; it must give (images, labels[, calibration])")
    try:
        images, labels, *more = (torch.as_tensor(part) for part in found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} holds what is no array of numbers: {error}") from None
    images, labels = images.float(), labels.long()
    if labels.dim() != 1 or images.shape[:1] != labels.shape:
        raise DataError(
            f"{what} has images {tuple(images.shape)} and labels {tuple(labels.shape)}; there must be one "
            "class index an image"
        )
    count = len(labels) if n is None else n
    if not 1 <= count <= len(labels):
        raise DataError(f"{what}: n = {n}, but it has {len(labels)} test samples; give 1 to {len(labels)}")
    calibration = more[0].float() if more else images[:CALIBRATION_IMAGES]
    return Data(images[:count], labels[:count], calibration)
