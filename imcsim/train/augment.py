"""Training batches of a data set in memory: shuffled, flipped and cropped by keyed draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from imcsim.errors import DataError
from imcsim.functional.noise import keyed_generator


class ImageBatches:
    """Batches of images and labels, an epoch after another.

    The order of an epoch, and what is done to each image in it, are keyed by seed and epoch: an image's
    flip and crop do not depend on the batch it falls into, and a training that goes on at epoch e sees what
    it would have seen. Iterating gives epoch 0, 1, 2 ... in turn; calling gives one by its number, which
    `imcsim.train.fit` does.

    Args:
        images: (N, C, H, W); 8-bit ones with `prepare`, or ready ones.
        labels: (N,).
        size: images a batch; a last, shorter one is left out if it holds a single image, which BatchNorm
            cannot normalise.
        seed: of order, flips and crops.
        flip: mirror half of the images left to right.
        pad: crop each image at random from itself with so many zeros around it; 0: do not.
        prepare: done to each batch after that, a `imcsim.zoo.Normalisation` for 8-bit images.
        part: (index, count): of each batch only the samples of one process of many, every count-th.

    Raises:
        DataError: different numbers of images and labels, or a number out of range.

    References: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (4
        pixels of padding, a random crop or its mirror image).
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        size: int,
        *,
        seed: int = 0,
        flip: bool = False,
        pad: int = 0,
        prepare: Callable[[Tensor], Tensor] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        index, count = part
        if images.dim() != 4 or len(images) != len(labels) or not len(images):
            raise DataError(
                f"ImageBatches got images of shape {tuple(images.shape)} and {len(labels)} labels; "
                f"(N, C, H, W) with one label an image are needed, at least one"
            )
        if size < 1 or pad < 0 or not 0 <= index < count or size % count:
            raise DataError(
                f"ImageBatches got size = {size}, pad = {pad}, part = {part}; size at least 1 and a "
                f"multiple of the parts, pad at least 0, and 0 <= index < count are needed"
            )
        self.images, self.labels, self.size, self.seed = images, labels, size, seed
        self.flip, self.pad, self.prepare, self.part = flip, pad, prepare, part
        self.epoch = 0

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.images), self.size)
        return whole + (rest // self.part[1] > 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the next epoch."""
        self.epoch += 1
        return self(self.epoch - 1)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch."""
        n = len(self.images)
        name = f"epoch {epoch}"
        order = torch.from_numpy(keyed_generator(self.seed, name, "order").permutation(n))
        draws = torch.from_numpy(keyed_generator(self.seed, name, "augmentation").random((n, 3)))
        index, count = self.part
        for chosen in order.split(self.size)[: len(self)]:
            own = chosen[index : len(chosen) // count * count : count]
            x = self._augmented(self.images[own], draws[own])
            yield x if self.prepare is None else self.prepare(x), self.labels[own]

    def _augmented(self, x: Tensor, draws: Tensor) -> Tensor:
        """Shapes: x (batch, C, H, W); draws (batch, 3), uniform: mirrored or not, row, column."""
        if self.flip:
            x = torch.where((draws[:, 0] < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
        if not self.pad:
            return x
        height, width = x.shape[2:]
        padded = F.pad(x, [self.pad] * 4)
        first = (draws[:, 1:] * (2 * self.pad + 1)).long()
        rows = first[:, 0, None] + torch.arange(height)
        columns = first[:, 1, None] + torch.arange(width)
        sample = torch.arange(len(x)).view(-1, 1, 1, 1)
        channel = torch.arange(x.shape[1]).view(1, -1, 1, 1)
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
