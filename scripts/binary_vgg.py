"""VGG-small at a quarter of its width with binary weights and neurons, trained on CIFAR-10: the networks
`vgg_small_binary` and `vgg_small_binary01` of the zoo.

    python scripts/binary_vgg.py vgg_small_binary --data DIR      # neurons of -1 and 1
    python scripts/binary_vgg.py vgg_small_binary01 --data DIR    # neurons of 0 and 1

30 epochs of 40,000 images take about 45 minutes of one core. The first convolution and the last matrix stay
real, as is usual for binary networks. What is written holds sign times mean magnitude as weights: all that a
binary chip takes of them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from chip_networks import REAL_ENDS, BinaryWeights
from torch import Tensor, nn

from imcsim import zoo
from imcsim.train.augment import ImageBatches

NEURONS: dict[str, zoo.Neurons] = {"vgg_small_binary": "-1, 1", "vgg_small_binary01": "0, 1"}


def train(model: BinaryWeights, data: ImageBatches, test: list[tuple[Tensor, Tensor]], epochs: int) -> None:
    """Adam from 2e-3, a cosine to 0; products in bfloat16, which holds binary values exactly."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(data))
    start = time.monotonic()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in data(epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        top1 = accuracy(model, test)
        minutes = (time.monotonic() - start) / 60
        print(
            f"epoch {epoch + 1}: loss {total / len(data):.3f}, top-1 {100 * top1:.2f} %, {minutes:.1f} min",
            flush=True,
        )


@torch.no_grad()
def accuracy(model: nn.Module, test: list[tuple[Tensor, Tensor]]) -> float:
    """Top-1 in float32."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
    return right / sum(len(y) for _, y in test)


def save(model: BinaryWeights, file: Path) -> None:
    """The network's tensors, binary weights as sign times mean magnitude, compressed."""
    state = {**model.network.state_dict(), **model.binary()}
    kept = {key: value.detach().float().contiguous().numpy() for key, value in state.items()}
    kept = {key: value for key, value in kept.items() if not key.endswith("num_batches_tracked")}
    np.savez_compressed(file, **kept)


def main() -> None:
    """Train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=tuple(NEURONS))
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, help="training images, all if not given")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = zoo.vgg_small_binary(False, neurons=NEURONS[args.name])
    model = BinaryWeights(network, REAL_ENDS).to(memory_format=torch.channels_last)
    x, y = zoo.load_folder("cifar10", args.data, n=args.images, train=True, normalise=None)
    data = ImageBatches(x, y, 100, flip=True, pad=4, prepare=zoo.CIFAR10_NORM)
    test = list(zoo.batches(*zoo.load_folder("cifar10", args.data, normalise=zoo.CIFAR10_NORM), 500))
    train(model, data, test, args.epochs)
    save(model, args.out / f"{args.name}.npz")


if __name__ == "__main__":
    main()
