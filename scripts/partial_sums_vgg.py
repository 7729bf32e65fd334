"""The binary VGG-smalls of the zoo trained on for chips whose columns end in one comparator.

    python scripts/partial_sums_vgg.py kim2022 --data DIR             # writes vgg_small_kim2022.npz
    python scripts/partial_sums_vgg.py sun2018_parallel --data DIR    # writes vgg_small_sun2018_parallel.npz

From the zoo's networks, whose partial sums are whole numbers, through the comparators of the preset
(`partial_sums.py`). An epoch of 40,000 images takes 3 to 5 minutes of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from binary_vgg import accuracy, save, train
from chip_networks import REAL_ENDS, BinaryWeights
from partial_sums import PartialSums

import imcsim
from imcsim import zoo
from imcsim.train.augment import ImageBatches

NEURONS: dict[str, zoo.Neurons] = {"kim2022": "-1, 1", "sun2018_parallel": "0, 1"}
RATE = 1e-3


def main() -> None:
    """Train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("preset", choices=tuple(NEURONS))
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--start", type=Path, help="checkpoint to start from; the zoo's if not given")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, help="training images, all if not given")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = zoo.vgg_small_binary(args.start or True, neurons=NEURONS[args.preset])
    binary = BinaryWeights(network, REAL_ENDS)
    chip = imcsim.load_hardware(args.preset)
    model = PartialSums(binary, chip).to(memory_format=torch.channels_last)
    x, y = zoo.load_folder("cifar10", args.data, n=args.images, train=True, normalise=None)
    data = ImageBatches(x, y, 100, flip=True, pad=4, prepare=zoo.CIFAR10_NORM)
    test = list(zoo.batches(*zoo.load_folder("cifar10", args.data, normalise=zoo.CIFAR10_NORM), 500))
    print(f"without comparators: top-1 {100 * accuracy(binary, test):.2f} %", flush=True)
    train(model, data, test, args.epochs, RATE)
    save(binary, args.out / f"vgg_small_{args.preset}.npz")


if __name__ == "__main__":
    main()
