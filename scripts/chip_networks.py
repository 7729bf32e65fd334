"""The networks of `chips.py`: those of the zoo with weights in the package, and small ones trained on MNIST
in a few minutes of one core, with binary weights where a chip has them.

Trained as plain torch modules: the float weights are replaced by their signs times their mean magnitude in
the forward pass, and gradients pass straight through. What `chips.py` converts holds the float weights, from
which chips take the same signs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from partial_sums import PartialSums
from torch import Tensor, nn

from imcsim import load_hardware, zoo
from imcsim.progress import progress
from imcsim.zoo.activation import Sign, Step


@dataclass(frozen=True)
class Trained:
    """A network with the images it is tested and calibrated on.

    Attributes:
        name: what it is.
        data: what it was trained and is tested on.
        model: in eval mode, for `imcsim.convert`.
        reference: computes in torch what an ideal chip computes, but for the bits of inputs.
        test: batches of images and labels.
        calibration: training images.
        digital: layers that do not go on the chip.
    """

    name: str
    data: str
    model: nn.Module
    reference: nn.Module
    test: list[tuple[Tensor, Tensor]]
    calibration: Tensor
    digital: tuple[str, ...] = ()


def binarized(weight: Tensor) -> Tensor:
    """Sign times mean magnitude, straight through where the weight is between -1 and 1."""
    soft = weight.clamp(-1, 1)
    hard = torch.where(weight > 0, 1.0, -1.0) * weight.abs().mean()
    return soft + (hard - soft).detach()


class BinaryWeights(nn.Module):
    """A network run with its matrices' weights binarized.

    Args:
        network: holds the float weights.
        real: names of matrices whose weights stay as they are.
    """

    def __init__(self, network: nn.Module, real: Collection[str] = ()) -> None:
        super().__init__()
        self.network, self.real = network, frozenset(real)

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.network, self.binary(), (x,))

    def binary(self) -> dict[str, Tensor]:
        """The binarized weights by parameter."""
        return {
            f"{name}.weight": binarized(m.weight)
            for name, m in self.network.named_modules()
            if isinstance(m, nn.Linear | nn.Conv2d) and name not in self.real
        }


def mlp(activation: Callable[[], nn.Module], hidden: int = 512) -> nn.Sequential:
    """784 inputs, two hidden layers, BatchNorm after each matrix."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        activation(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        activation(),
        nn.Linear(hidden, 10, bias=False),
        nn.BatchNorm1d(10),
    )


def lenet() -> nn.Sequential:
    """LeNet-5 with BatchNorm, for binary weights and ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120, bias=False),
        nn.BatchNorm1d(120),
        nn.ReLU(),
        nn.Linear(120, 84, bias=False),
        nn.BatchNorm1d(84),
        nn.ReLU(),
        nn.Linear(84, 10, bias=False),
        nn.BatchNorm1d(10),
    )


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each position: what the columns of one read put out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def layer_norm_cnn() -> nn.Sequential:
    """Four layers for arrays of 25 x 25: 25 kernels of 5 x 5 a convolution, LayerNorm between."""
    return nn.Sequential(
        nn.Conv2d(1, 25, 5, bias=False),
        ChannelNorm(25),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(25, 25, 5, bias=False),
        ChannelNorm(25),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 75, bias=False),
        nn.LayerNorm(75, elementwise_affine=False),
        nn.ReLU(),
        nn.Linear(75, 10, bias=False),
    )


def yao() -> nn.Sequential:
    """The network of P. Yao et al., Nature 577, 2020: convolutions of 8 and 12 kernels, 192 x 10."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(192, 10),
    )


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, label: str) -> nn.Module:
    """Adam, batches of 100, a cosine of the rate; seed 0, images in one order an epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    order = torch.Generator().manual_seed(0)
    model.train()
    for _ in progress(range(epochs), f"training {label}"):
        for rows in torch.randperm(len(images), generator=order).split(100):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


REAL_ENDS = ("features.conv1", "classifier.fc3")
"""Of VGG-small: its first and last layer stay real and digital, as is usual for binary networks."""

THROUGH = {
    "kim2022": "binary MLP, trained for binary partial sums",
    "sun2018_parallel": "binary MLP, neurons 1 and 0, trained for binary partial sums",
}
"""Networks trained through the comparators of a preset."""


def resnet20(n: int) -> Trained:
    """ResNet-20 with the weights and CIFAR-10 images in the package."""
    return _of_zoo("resnet20", "ResNet-20", n)


def _of_zoo(key: str, name: str, n: int, digital: tuple[str, ...] = ()) -> Trained:
    found = zoo.load(key, n=n)
    batches = list(found.batches(100))
    return Trained(name, "CIFAR-10", found.model, found.model, batches, found.calibration, digital)


def networks(
    folder: Path | None, images_of_cifar: int, n: int, epochs: int
) -> dict[str, Callable[[], Trained]]:
    """The networks by name, each made when it is first asked for.

    Args:
        folder: of the whole MNIST; None: the 2,000 training images in the package.
        images_of_cifar: test images of CIFAR-10.
        n: test images of MNIST.
        epochs: of training on the whole MNIST; five times as many on the subset.
    """
    images, labels, test, of = _mnist(folder, n)
    epochs = epochs if folder is not None else 5 * epochs

    def make(
        name: str,
        build: Callable[[], nn.Module],
        binary: bool,
        prepare: Callable[[Tensor], Tensor],
        through: str | None = None,
    ) -> Any:
        """A network trained on MNIST, through the comparators of a preset where one is named."""

        def run() -> Trained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = build()
            model = BinaryWeights(network) if binary else network
            if through is not None:
                steps = epochs * -(-len(images) // 100)
                model = PartialSums(model, load_hardware(through), ramp=3 * steps // 4)
            train(model, prepare(images), labels, epochs, name)
            if through is not None:
                # Calibration runs the network without comparators: with the same weights, sums are alike.
                network.load_state_dict(model.model.binary(), strict=False)
            batches = [(prepare(x), y) for x, y in zoo.batches(*test, 250)]
            return Trained(name, of, network.eval(), model, batches, prepare(images[:512]))

        return run

    def signs(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, 1.0, -1.0)

    def steps(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, 1.0, 0.0)

    def grey(x: Tensor) -> Tensor:
        return x

    def vgg(key: str, neurons: str) -> Callable[[], Trained]:
        name = f"VGG-small x0.25, 30 epochs, {neurons}"
        return lambda: _of_zoo(key, name, images_of_cifar, REAL_ENDS)

    return {
        "ResNet-20": lambda: resnet20(images_of_cifar),
        "vgg_small_binary": vgg("vgg_small_binary", "neurons 1 and -1"),
        "vgg_small_binary01": vgg("vgg_small_binary01", "neurons 1 and 0"),
        "binary MLP": make("binary MLP", lambda: mlp(Sign), True, signs),
        "binary MLP, neurons 1 and 0": make("binary MLP, neurons 1 and 0", lambda: mlp(Step), True, steps),
        THROUGH["kim2022"]: make(THROUGH["kim2022"], lambda: mlp(Sign), True, signs, "kim2022"),
        THROUGH["sun2018_parallel"]: make(
            THROUGH["sun2018_parallel"], lambda: mlp(Step), True, steps, "sun2018_parallel"
        ),
        "LeNet-5, binary weights": make("LeNet-5, binary weights", lenet, True, grey),
        "CNN with LayerNorm, binary weights": make(
            "CNN with LayerNorm, binary weights", layer_norm_cnn, True, grey
        ),
        "Yao's CNN": make("Yao's CNN", yao, False, grey),
    }


def _mnist(folder: Path | None, n: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], str]:
    """Training images, labels, the test set and what it is; images from 0 (black) to 1."""
    if folder is None:
        images, labels = zoo.mnist_subset(normalise=None, train=True)
        test = zoo.mnist_subset(min(n, 1000), normalise=None)
    else:
        images, labels = zoo.load_folder("mnist", folder, train=True, normalise=None)
        test = zoo.load_folder("mnist", folder, n=n, normalise=None)
    of = f"MNIST, trained on {len(images):,} images"
    return _unit(images), labels, (_unit(test[0]), test[1]), of


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255
