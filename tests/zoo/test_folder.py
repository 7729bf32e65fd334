"""Whole data sets from a folder, in either file format."""

import numpy as np
import pytest
import torch

from imcsim import zoo
from imcsim.errors import DataError, FileMissingError
from tests.zoo.test_official import DIGITS, LABELS, PIXELS, write_batch, write_idx

BYTES = np.array(LABELS, np.uint8)


def write_archives(folder) -> None:
    images = PIXELS.reshape(6, 3, 32, 32)
    np.savez(folder / "cifar10_test.npz", images=images, labels=BYTES)
    np.savez(folder / "cifar10_train.npz", images=images[::-1], labels=BYTES[::-1])
    pair = {"train_images": DIGITS[::-1], "train_labels": BYTES[::-1]}
    for name in ("mnist", "fashion_mnist"):
        np.savez(folder / f"{name}.npz", test_images=DIGITS, test_labels=BYTES, **pair)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "fashion_mnist"])
def test_archives(tmp_path, name: str) -> None:
    write_archives(tmp_path)
    expected = PIXELS.reshape(6, 3, 32, 32) if name == "cifar10" else DIGITS[:, None]
    images, labels = zoo.load_folder(name, tmp_path, normalise=None)
    assert torch.equal(images, torch.from_numpy(expected))
    assert labels.tolist() == LABELS
    images, labels = zoo.load_folder(name, tmp_path, train=True, n=2, normalise=None)
    assert torch.equal(images, torch.from_numpy(expected[:-3:-1].copy()))
    assert labels.tolist() == LABELS[:-3:-1]
    norm = {"cifar10": zoo.CIFAR10_NORM, "mnist": zoo.MNIST_NORM, "fashion_mnist": zoo.FASHION_MNIST_NORM}
    usual, _ = zoo.load_folder(name, tmp_path)
    assert torch.equal(usual, norm[name](torch.from_numpy(expected)))


def test_official_files_give_the_same(tmp_path) -> None:
    archives, official = tmp_path / "npz", tmp_path / "official"
    archives.mkdir()
    official.mkdir()
    write_archives(archives)
    write_batch(official / "test_batch")
    write_idx(official / "t10k-images-idx3-ubyte", DIGITS)
    write_idx(official / "t10k-labels-idx1-ubyte", BYTES)
    for name in ("cifar10", "mnist"):
        for one, other in zip(zoo.load_folder(name, archives), zoo.load_folder(name, official), strict=True):
            assert torch.equal(one, other)


def test_a_benchmark_takes_a_folder_of_archives(tmp_path) -> None:
    write_archives(tmp_path)
    benchmark = zoo.load("resnet8", folder=tmp_path)
    assert torch.equal(benchmark.images, torch.from_numpy(PIXELS.reshape(6, 3, 32, 32)).float())


def write_wrong_shape(folder) -> None:
    np.savez(folder / "mnist.npz", test_images=DIGITS[:, :20], test_labels=BYTES)


def write_wrong_count(folder) -> None:
    np.savez(folder / "mnist.npz", test_images=DIGITS, test_labels=BYTES[:5])


def write_floats(folder) -> None:
    np.savez(folder / "mnist.npz", test_images=DIGITS / 255, test_labels=BYTES)


def write_no_labels(folder) -> None:
    np.savez(folder / "mnist.npz", test_images=DIGITS)


def write_text(folder) -> None:
    (folder / "mnist.npz").write_text("hello")


def write_one_array(folder) -> None:
    with (folder / "mnist.npz").open("wb") as file:
        np.save(file, DIGITS)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (write_wrong_shape, r"'test_images' has shape \(6, 20, 28\).*\(N, 28, 28\) and \(N,\) are needed"),
        (write_wrong_count, r"'test_labels' \(5,\)"),
        (write_floats, "'test_images' is float64; an array of uint8"),
        (write_no_labels, "'test_labels' is missing"),
        (write_text, "not a readable NumPy archive"),
        (write_one_array, "not a readable NumPy archive"),
    ],
)
def test_wrong_archives(tmp_path, write, text: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=text):
        zoo.load_folder("mnist", tmp_path)


def test_wrong_requests(tmp_path) -> None:
    with pytest.raises(FileMissingError, match=r"no data set named 'cifar'.*Did you mean 'cifar10'"):
        zoo.load_folder("cifar", tmp_path)
    with pytest.raises(FileMissingError, match="lacks t10k-images-idx3-ubyte"):
        zoo.load_folder("mnist", tmp_path)
    with pytest.raises(DataError, match="'usual', a Normalisation, or None"):
        zoo.load_folder("mnist", tmp_path, normalise="cifar10")
    write_archives(tmp_path)
    with pytest.raises(DataError, match="n must be 1 to 6"):
        zoo.load_folder("cifar10", tmp_path, n=7)
