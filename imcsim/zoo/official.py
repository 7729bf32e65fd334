"""Readers of the official CIFAR-10 and MNIST files, from a folder that the user names."""

from __future__ import annotations

import gzip
import math
import os
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt
from torch import Tensor

from imcsim.errors import DataError, FileMissingError
from imcsim.zoo.datasets import CIFAR10_NORM, MNIST_NORM, Normalisation, as_tensors

_Bytes = npt.NDArray[np.uint8]

_reconstruct = np.empty(0).__reduce__()[0]  # NumPy's own, wherever this version keeps it
_CIFAR_PIXELS = 3 * 32 * 32
_CIFAR_SUBFOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_MNIST_SUBFOLDERS = ("MNIST/raw", "FashionMNIST/raw", "raw")


def load_cifar10(
    folder: str | os.PathLike[str],
    *,
    train: bool = False,
    n: int | None = None,
    normalise: Normalisation | None = CIFAR10_NORM,
) -> tuple[Tensor, Tensor]:
    """CIFAR-10 from its official files, the Python version or the binary version.

    Python batches are pickles; they are read with an unpickler that builds arrays and plain containers only,
    so a file cannot run code.

    Args:
        folder: where ``data_batch_1`` ... and ``test_batch`` (or with ``.bin``) lie, or the folder above.
        train: the 50,000 training images instead of the 10,000 test images.
        n: how many from the start; None for all.
        normalise: CIFAR10_NORM for ResNet-20/32/44, CIFAR10_RAW for ResNet-8, None for 8-bit values.

    Returns:
        Images (n, 3, 32, 32), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        FileMissingError: no such folder, or files are missing in it; lists them.
        DataError: a file is not a CIFAR-10 batch, or ``n`` is out of range.

    References:
        A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the file formats are
        described at www.cs.toronto.edu/~kriz/cifar.html.
    """
    stems = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    names = [(stem, f"{stem}.bin") for stem in stems]
    files = _find(folder, names, _CIFAR_SUBFOLDERS, "CIFAR-10", "www.cs.toronto.edu/~kriz/cifar.html")
    parts = [_cifar_binary(file) if file.suffix == ".bin" else _cifar_pickle(file) for file in files]
    images = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[1] for part in parts])
    return as_tensors(images, labels, n, normalise, f"CIFAR-10 in {str(folder)!r}")


def load_mnist(
    folder: str | os.PathLike[str],
    *,
    train: bool = False,
    n: int | None = None,
    normalise: Normalisation | None = MNIST_NORM,
) -> tuple[Tensor, Tensor]:
    """MNIST, or a set in the same format such as Fashion-MNIST, from its idx files, gzipped or not.

    Args:
        folder: where ``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` ... (or with ``.gz``) lie.
        train: the 60,000 training images instead of the 10,000 test images.
        n: how many from the start; None for all.
        normalise: MNIST_NORM, FASHION_MNIST_NORM, or None for 8-bit values.

    Returns:
        Images (n, 1, 28, 28), float32 (uint8 with ``normalise=None``), and labels (n,), int64.

    Raises:
        FileMissingError: no such folder, or files are missing in it; lists them.
        DataError: a file is not what its name says, or ``n`` is out of range.

    References:
        Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", which describes
        the idx format.
    """
    split = "train" if train else "t10k"
    stems = (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
    names = [(stem, f"{stem}.gz", stem.replace("-idx", ".idx")) for stem in stems]
    image_file, label_file = _find(folder, names, _MNIST_SUBFOLDERS, "MNIST", "yann.lecun.com/exdb/mnist")
    images, labels = _idx(image_file, dimensions=3), _idx(label_file, dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{str(image_file)!r} holds {len(images)} images but {str(label_file)!r} {len(labels)} labels; "
            f"they must come from the same split."
        )
    if images.shape[1:] != (28, 28):
        raise DataError(f"{str(image_file)!r} holds images of {images.shape[1:]} pixels instead of (28, 28).")
    return as_tensors(images[:, None], labels, n, normalise, f"MNIST in {str(folder)!r}")


def _find(
    folder: str | os.PathLike[str],
    names: Sequence[tuple[str, ...]],
    subfolders: tuple[str, ...],
    what: str,
    source: str,
) -> list[Path]:
    """The file of each entry of ``names`` under the first of its spellings, all from one folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileMissingError(
            f"{what}: {str(folder)!r} is not a folder; give the one the official files are in."
        )
    missing: list[str] = []
    for place in (folder, *(folder / sub for sub in subfolders)):
        found = [next((place / s for s in spellings if (place / s).is_file()), None) for spellings in names]
        files = [file for file in found if file is not None]
        if len(files) == len(names):
            return files
        if files or not missing:
            missing = [
                " or ".join(spellings) for spellings, file in zip(names, found, strict=True) if file is None
            ]
    raise FileMissingError(
        f"{what}: {str(folder)!r} lacks {'; '.join(missing)}. "
        f"Get the official archive from {source}, unpack it, and give the folder that holds the files."
    )


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows NumPy arrays and nothing else that could be called."""

    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")


def _cifar_pickle(path: Path) -> tuple[_Bytes, _Bytes]:
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        _not_cifar(path, str(error) or type(error).__name__, error)
    if not isinstance(batch, dict):
        _not_cifar(path, f"it holds a {type(batch).__name__} instead of a dictionary")
    pixels, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_CIFAR_PIXELS,):
        _not_cifar(path, f"its 'data' is not an array of bytes (images, {_CIFAR_PIXELS})")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        _not_cifar(path, "its 'labels' is not a list of integers")
    return _checked(path, pixels, np.array(labels))


def _cifar_binary(path: Path) -> tuple[_Bytes, _Bytes]:
    data = np.fromfile(path, dtype=np.uint8)
    if data.size == 0 or data.size % (1 + _CIFAR_PIXELS):
        _not_cifar(path, f"its {data.size} bytes are not a multiple of {1 + _CIFAR_PIXELS}")
    records = data.reshape(-1, 1 + _CIFAR_PIXELS)
    return _checked(path, records[:, 1:], records[:, 0])


def _checked(path: Path, pixels: _Bytes, labels: npt.NDArray[np.integer]) -> tuple[_Bytes, _Bytes]:
    if len(pixels) != len(labels) or len(pixels) == 0:
        _not_cifar(path, f"it holds {len(pixels)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() > 9:
        _not_cifar(path, f"its labels run from {labels.min()} to {labels.max()} instead of 0 to 9")
    return pixels, labels.astype(np.uint8)


def _not_cifar(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise DataError(
        f"{str(path)!r} is not an official CIFAR-10 batch: {why}. Unpack the official archive again."
    ) from cause


def _idx(path: Path, dimensions: int) -> _Bytes:
    """An array from an idx file: 0, 0, 8 (bytes), dimensions, then each size as 4 bytes, then the values."""
    opened: BinaryIO = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[assignment]
    try:
        with opened as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} cannot be read ({error}); fetch the official file again.") from error
    start = 4 + 4 * dimensions
    if len(raw) < start or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(
            f"{str(path)!r} is not an idx file of bytes in {dimensions} dimension(s): "
            f"it starts with {raw[:4].hex()!r} instead of '000008{dimensions:02x}'; "
            f"fetch the official file again."
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", dimensions, offset=4))
    if len(raw) - start != math.prod(shape) or shape[0] == 0:
        raise DataError(
            f"{str(path)!r} announces {shape} values but holds {len(raw) - start} bytes of them; "
            f"it is cut short or damaged, fetch the official file again."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
