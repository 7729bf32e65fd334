"""Batches of a data set in memory: keyed draws, independent of the batch."""

from __future__ import annotations

import pytest
import torch

from imcsim import zoo
from imcsim.errors import DataError
from imcsim.train.augment import ImageBatches

N = 23
IMAGES = torch.arange(N * 2 * 6 * 5).view(N, 2, 6, 5).float() + 1  # no two pixels alike, none zero
LABELS = torch.arange(N)


def epoch(number: int, **options) -> dict[int, torch.Tensor]:
    """The images of an epoch by their label."""
    seen = {}
    for x, y in ImageBatches(IMAGES, LABELS, options.pop("size", 4), **options)(number):
        assert len(x) == len(y)
        seen.update(zip(y.tolist(), x, strict=True))
    return seen


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own() -> None:
    batches = ImageBatches(IMAGES, LABELS, 4)
    orders = [torch.cat([y for _, y in batches]).tolist() for _ in range(3)]
    assert [len(y) for _, y in batches] == [4, 4, 4, 4, 4, 3]
    assert len(batches) == 6
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert orders[1] == torch.cat([y for _, y in batches(1)]).tolist()
    assert torch.equal(torch.stack([epoch(0)[i] for i in range(N)]), IMAGES)


def test_an_image_does_not_depend_on_its_batch() -> None:
    whole = epoch(3, flip=True, pad=2, size=23)
    apart = epoch(3, flip=True, pad=2, size=2)
    assert set(apart) < set(whole)  # 23 = 11 x 2 + 1: a single image is left out
    assert len(apart) == 22
    assert all(torch.equal(apart[i], whole[i]) for i in apart)


def test_flips_and_crops_are_the_images_own_pixels() -> None:
    """Oracle: every augmented image is one of the 2 x 5 x 5 that mirroring and cropping can give."""
    seen = epoch(0, flip=True, pad=2)
    kinds = set()
    for i, got in seen.items():
        matches = []
        for mirrored in (False, True):
            source = torch.zeros(2, 10, 9)
            source[:, 2:8, 2:7] = IMAGES[i].flip(2) if mirrored else IMAGES[i]
            for row in range(5):
                for column in range(5):
                    if torch.equal(source[:, row : row + 6, column : column + 5], got):
                        matches.append((mirrored, row, column))
        assert len(matches) == 1
        kinds.add(matches[0])
    assert len(kinds) > 12


def test_half_are_mirrored_and_crops_are_uniform() -> None:
    """z-score bounds of 4: 3,000 draws of probability 1/2, and rows of mean 1 and variance 2/3."""
    n = 3000
    images = torch.zeros(n, 1, 3, 3)
    images[:, :, 1, 0] = 1
    batches = ImageBatches(images, torch.arange(n), 500, flip=True)
    mirrored = torch.cat([x[:, 0, 1, 2] for x, _ in batches]).sum()
    assert abs(float(mirrored) - n / 2) < 4 * (n / 4) ** 0.5
    images = torch.zeros(n, 1, 3, 3)
    images[:, :, 1, 1] = 1
    rows = [x[:, 0].sum(2).argmax(1).float() for x, _ in ImageBatches(images, torch.arange(n), 500, pad=1)]
    assert abs(float(torch.cat(rows).mean()) - 1) < 4 * (2 / 3 / n) ** 0.5


def test_seed_and_epoch_change_the_draws_and_torchs_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    a, again, other, later = epoch(0, pad=2), epoch(0, pad=2), epoch(0, pad=2, seed=1), epoch(1, pad=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[i], again[i]) for i in a)
    assert not all(torch.equal(a[i], other[i]) for i in a)
    assert not all(torch.equal(a[i], later[i]) for i in a)


def test_parts_are_the_whole_in_shares() -> None:
    """Two processes see what one would, half of each batch each."""
    halves = [list(ImageBatches(IMAGES, LABELS, 4, pad=1, part=(i, 2))(0)) for i in range(2)]
    whole = list(ImageBatches(IMAGES, LABELS, 4, pad=1)(0))
    for (x, y), (x0, y0), (x1, y1) in zip(whole, *halves, strict=False):
        assert y[: len(y) // 2 * 2].tolist() == torch.stack([y0, y1], 1).flatten().tolist()
        assert torch.equal(x[0::2][: len(x0)], x0)
        assert torch.equal(x[1::2][: len(x1)], x1)


def test_8_bit_images_are_prepared_batch_by_batch() -> None:
    images, labels = zoo.cifar10_calibration(16, None)
    (x, y), *_ = ImageBatches(images, labels, 16, prepare=zoo.CIFAR10_NORM)(0)
    expected = zoo.CIFAR10_NORM(images)
    matches = (x[:, None] == expected[None]).flatten(2).all(2)
    assert matches.any(1).all()
    assert torch.equal(labels[matches.float().argmax(1)], y)


@pytest.mark.parametrize(
    ("images", "labels", "options", "text"),
    [
        (IMAGES, LABELS[:5], {}, "and 5 labels"),
        (IMAGES[0], LABELS[:2], {}, r"shape \(2, 6, 5\)"),
        (IMAGES, LABELS, {"size": 0}, "size = 0"),
        (IMAGES, LABELS, {"pad": -1}, "pad = -1"),
        (IMAGES, LABELS, {"part": (2, 2)}, r"part = \(2, 2\)"),
        (IMAGES, LABELS, {"size": 5, "part": (0, 2)}, "a multiple of the parts"),
    ],
)
def test_wrong_requests(images, labels, options, text: str) -> None:
    with pytest.raises(DataError, match=text):
        ImageBatches(images, labels, **{"size": 4, **options})
