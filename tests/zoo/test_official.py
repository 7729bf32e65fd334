"""Readers of the official files, on synthetic files in the official formats."""

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from imcsim import zoo
from imcsim.errors import DataError, FileMissingError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 0, 9, 1, 1, 7]
DIGITS = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)


class Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 did, which the official CIFAR-10 batches were written with."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, obj: str | bytes) -> None:
        raw = obj.encode("latin1") if isinstance(obj, str) else obj
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(obj)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def write_batch(path: Path, pixels: object = PIXELS, labels: object = LABELS, *, python: int = 2) -> None:
    batch = {
        b"batch_label": b"testing batch 1 of 1",
        b"labels": labels,
        b"data": pixels,
        b"filenames": [b"a.png"],
    }
    if python == 3:
        path.write_bytes(pickle.dumps({key.decode(): value for key, value in batch.items()}, protocol=4))
        return
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(batch)
    path.write_bytes(buffer.getvalue().replace(b"numpy._core", b"numpy.core"))


def write_idx(path: Path, values: np.ndarray) -> None:
    raw = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("python", [2, 3])
def test_cifar10_python_batches(tmp_path, python: int) -> None:
    for i in range(1, 6):
        write_batch(
            tmp_path / f"data_batch_{i}", np.roll(PIXELS, i, axis=0), LABELS[-i:] + LABELS[:-i], python=python
        )
    write_batch(tmp_path / "test_batch", python=python)
    images, labels = zoo.load_cifar10(tmp_path, normalise=None)
    assert torch.equal(images, torch.from_numpy(PIXELS).view(6, 3, 32, 32))
    assert labels.tolist() == LABELS
    images, labels = zoo.load_cifar10(tmp_path, train=True, normalise=None)
    assert images.shape == (30, 3, 32, 32)
    assert torch.equal(images[7], torch.from_numpy(np.roll(PIXELS, 2, axis=0)[1]).view(3, 32, 32))
    assert labels[6:12].tolist() == LABELS[-2:] + LABELS[:-2]


def test_cifar10_binary_batches_in_the_folder_of_the_archive(tmp_path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    np.column_stack([np.array(LABELS, np.uint8), PIXELS]).tofile(folder / "test_batch.bin")
    images, labels = zoo.load_cifar10(tmp_path, n=4, normalise=None)
    assert torch.equal(images, torch.from_numpy(PIXELS[:4]).view(4, 3, 32, 32))
    assert labels.tolist() == LABELS[:4]


def test_images_of_the_package_survive_the_official_format(tmp_path) -> None:
    images, labels = zoo.cifar10_test(20, normalise=None)
    write_batch(tmp_path / "test_batch", images.flatten(1).numpy(), labels.tolist())
    benchmark = zoo.load("resnet20", folder=tmp_path)
    expected = zoo.cifar10_test(20)
    assert torch.equal(benchmark.images, expected[0])
    assert torch.equal(benchmark.labels, expected[1])


@pytest.mark.parametrize("name", ["{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte"])
def test_mnist_files(tmp_path, name: str) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, values in (("t10k", DIGITS), ("train", DIGITS[::-1])):
        write_idx(folder / name.format(f"{split}-images", 3), np.ascontiguousarray(values))
        write_idx(folder / name.format(f"{split}-labels", 1), np.array(LABELS, np.uint8))
    images, labels = zoo.load_mnist(tmp_path, normalise=None)
    assert torch.equal(images[:, 0], torch.from_numpy(DIGITS))
    assert labels.tolist() == LABELS
    images, _ = zoo.load_mnist(folder, train=True, n=2)
    expected = (DIGITS[:-3:-1] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(images[:, 0].numpy(), expected, atol=1e-6)


class Touch:
    """What an attacker would put into a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_code(tmp_path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(Touch(tmp_path / "owned")))
    with pytest.raises(DataError, match=r"asks for (posix|nt|os).mkdir"):
        zoo.load_cifar10(tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("pixels", "labels", "text"),
    [
        (PIXELS, LABELS[:5], "6 images and 5 labels"),
        (PIXELS, [*LABELS[:5], 10], "labels run from 0 to 10"),
        (PIXELS, 7, "'labels' is not a list"),
        (PIXELS[:, :100], LABELS, "'data' is not an array of bytes"),
        (PIXELS.astype(np.float32), LABELS, "'data' is not an array of bytes"),
        (PIXELS[:0], [], "0 images and 0 labels"),
        (None, LABELS, "'data' is not an array of bytes"),
    ],
)
def test_python_batches_with_wrong_content(tmp_path, pixels, labels, text: str) -> None:
    write_batch(tmp_path / "test_batch", pixels, labels, python=3)
    with pytest.raises(DataError, match=f"test_batch.*not an official CIFAR-10 batch.*{text}"):
        zoo.load_cifar10(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps([1]), pickle.dumps(PIXELS)[:1000]])
def test_python_batches_that_are_none(tmp_path, content: bytes) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match="not an official CIFAR-10 batch"):
        zoo.load_cifar10(tmp_path)


@pytest.mark.parametrize("size", [0, 3072, 5000])
def test_binary_batches_of_a_wrong_size(tmp_path, size: int) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"its {size} bytes are not a multiple of 3073"):
        zoo.load_cifar10(tmp_path)


def test_missing_folders_and_files(tmp_path) -> None:
    with pytest.raises(FileMissingError, match=r"CIFAR-10: .*nowhere' is not a folder"):
        zoo.load_cifar10(tmp_path / "nowhere")
    for i in (1, 2, 4):
        write_batch(tmp_path / f"data_batch_{i}")
    text = r"lacks data_batch_3 or data_batch_3\.bin; data_batch_5 or data_batch_5\.bin\. Get the official"
    with pytest.raises(FileMissingError, match=text):
        zoo.load_cifar10(tmp_path, train=True)
    with pytest.raises(FileMissingError, match=r"lacks t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"):
        zoo.load_mnist(tmp_path)


def mnist_with(folder: Path, images: bytes | np.ndarray, labels: int = 6) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    if isinstance(images, bytes):
        path.write_bytes(images)
    else:
        write_idx(path, images)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(labels, np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (b"", 6, "not an idx file of bytes in 3 dimension"),
        (b"\x00\x00\x0d\x03" + bytes(12), 6, "starts with '00000d03' instead of '00000803'"),
        (
            b"\x00\x00\x08\x03" + struct.pack(">3I", 6, 28, 28) + bytes(50),
            6,
            r"announces \(6, 28, 28\) values but holds 50",
        ),
        (DIGITS, 5, "holds 6 images but .* 5 labels"),
        (DIGITS[:, :20], 6, r"images of \(20, 28\) pixels"),
    ],
)
def test_wrong_mnist_files(tmp_path, images, labels: int, text: str) -> None:
    mnist_with(tmp_path, images, labels)
    with pytest.raises(DataError, match=text):
        zoo.load_mnist(tmp_path)


def test_a_truncated_gzip_file(tmp_path) -> None:
    mnist_with(tmp_path, DIGITS)
    whole = gzip.compress((tmp_path / "t10k-images-idx3-ubyte").read_bytes())
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(whole[:200])
    with pytest.raises(DataError, match="cannot be read"):
        zoo.load_mnist(tmp_path)
