"""The data sets in the package, and normalisation."""

import numpy as np
import pytest
import torch

from imcsim import zoo
from imcsim.errors import DataError, FileMissingError
from imcsim.zoo import datasets


def test_cifar10_test_images_are_the_official_first_ones() -> None:
    images, labels = zoo.cifar10_test(normalise=None)
    assert images.shape == (2000, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    assert set(labels.tolist()) == set(range(10))
    assert len(zoo.CIFAR10_CLASSES) == 10


def test_exact_only_leaves_out_the_four_jpeg_images() -> None:
    images, labels = zoo.cifar10_test(normalise=None)
    exact, exact_labels = zoo.cifar10_test(normalise=None, exact_only=True)
    keep = torch.ones(2000, dtype=torch.bool)
    keep[[722, 1259, 1369, 1422]] = False
    assert torch.equal(exact, images[keep])
    assert torch.equal(exact_labels, labels[keep])


def test_calibration_images_are_the_first_training_images() -> None:
    images, labels = zoo.cifar10_calibration(normalise=None)
    assert images.shape == (256, 3, 32, 32)
    assert labels[:8].tolist() == [6, 9, 9, 4, 1, 1, 2, 7]


@pytest.mark.parametrize(
    ("train", "n", "first"), [(True, 2000, [5, 0, 4, 1, 9, 2]), (False, 1000, [7, 2, 1, 0, 4, 1])]
)
def test_mnist_subset(train: bool, n: int, first: list[int]) -> None:
    images, labels = zoo.mnist_subset(train=train)
    assert images.shape == (n, 1, 28, 28)
    assert images.dtype == torch.float32
    assert labels[:6].tolist() == first


def test_normalisation_by_hand() -> None:
    images, _ = zoo.cifar10_test(3, normalise=None)
    x = images.double().numpy() / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (x - mean[:, None, None]) / std[:, None, None]
    got, _ = zoo.cifar10_test(3)
    np.testing.assert_allclose(got.double().numpy(), expected, atol=1e-6)
    raw, _ = zoo.cifar10_test(3, zoo.CIFAR10_RAW)
    assert torch.equal(raw, images.float())


@pytest.mark.parametrize("n", [0, -1, 2001])
def test_wrong_counts(n: int) -> None:
    with pytest.raises(DataError, match=rf"cifar10_test got n = {n}; n must be 1 to 2000"):
        zoo.cifar10_test(n)


def test_normalisation_of_the_wrong_channels() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 3, 2, 2\).*\(N, 1, H, W\)"):
        zoo.MNIST_NORM(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


def test_batches() -> None:
    images, labels = torch.arange(10).view(10, 1), torch.arange(10)
    pairs = list(zoo.batches(images, labels, 4))
    assert [len(x) for x, _ in pairs] == [4, 4, 2]
    assert torch.equal(torch.cat([y for _, y in pairs]), labels)
    with pytest.raises(DataError, match="10 images and 9 labels"):
        next(zoo.batches(images, labels[:9]))
    with pytest.raises(DataError, match="size = 0"):
        next(zoo.batches(images, labels, 0))


def test_a_damaged_installation(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "DATA_FOLDER", tmp_path)
    with pytest.raises(FileMissingError, match=r"cifar10_calibration.npz.*install imcsim again"):
        zoo.cifar10_calibration()
    (tmp_path / "cifar10_calibration.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match=r"is damaged.*install imcsim again"):
        zoo.cifar10_calibration()
