"""What the training studies share: a loop for any training method, and data with a place to come from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim import quant, zoo
from imcsim.train.augment import ImageBatches

Optimizer = Callable[[nn.Module, float], torch.optim.Optimizer]
"""From a network and a learning rate."""

Schedule = Callable[[float], float]


def adam(net: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Adam as torch has it."""
    return torch.optim.Adam(net.parameters(), lr=lr)


@dataclass(frozen=True)
class Recipe:
    """A budget of training.

    Attributes:
        epochs: passes over the data.
        lr: learning rate at the start.
        schedule: its factor by the part of training that is done.
        optimizer: makes the optimizer.
    """

    epochs: int
    lr: float
    schedule: Schedule
    optimizer: Optimizer = adam


@dataclass
class Position:
    """How far a training is, for one that is to go on later.

    Attributes:
        epochs: that are finished.
        optimizer: its state after them; None: nothing is done yet.
    """

    epochs: int = 0
    optimizer: dict[str, Any] | None = None


def train(
    net: nn.Module,
    data: ImageBatches,
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    forward: nn.Module | None = None,
    position: Position | None = None,
    after_epoch: Callable[[Position], None] | None = None,
) -> list[float]:
    """An ordinary loop that works with every method, and with none.

    Args:
        net: a float or converted network; trained in place.
        data: the batches.
        recipe: the budget.
        device: where the batches go.
        forward: `net` wrapped for several processes.
        position: where an earlier run was left.
        after_epoch: called after each epoch.

    Returns:
        Seconds of each step.
    """
    optimizer = recipe.optimizer(net, recipe.lr)
    rates = [group["lr"] / recipe.lr for group in optimizer.param_groups]
    position = position or Position()
    if position.optimizer is not None:
        optimizer.load_state_dict(position.optimizer)
    steps, step, seconds = recipe.epochs * len(data), position.epochs * len(data), []
    run = forward or net
    for epoch in range(position.epochs, recipe.epochs):
        net.train()
        for x, y in data(epoch):
            start = time.perf_counter()
            quant.set_progress(net, step / steps)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * recipe.lr * recipe.schedule(step / steps)
            optimizer.zero_grad()
            loss = F.cross_entropy(run(x.to(device)), y.to(device)) + quant.penalty(net)
            loss.backward()
            optimizer.step()
            quant.after_step(net)
            seconds.append(time.perf_counter() - start)
            step += 1
        if after_epoch is not None:
            after_epoch(Position(epoch + 1, optimizer.state_dict()))
    quant.set_progress(net, 1.0)
    net.eval()
    return seconds


def on_batch_statistics(net: nn.Module, x: Tensor) -> Tensor:
    """A forward pass for `imcsim.calibrate` whose BatchNorms follow the batch.

    Methods change the scale of weights; running statistics of the float network would make ranges wrong.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return net(x)


def median_step_ms(seconds: list[float]) -> float:
    """The median step in milliseconds."""
    return 1e3 * statistics.median(seconds)


def images(
    name: str, folder: Path | None, *, train: bool, n: int | None, normalise: Any = "usual"
) -> tuple[Tensor, Tensor]:
    """Images and labels from a folder of the whole data set, or the few in the package."""
    if folder is not None:
        return zoo.load_folder(name, folder, train=train, n=n, normalise=normalise)
    how = {} if normalise == "usual" else {"normalise": normalise}
    if name == "mnist":
        return zoo.mnist_subset(n, train=train, **how)
    return zoo.cifar10_calibration(n, **how) if train else zoo.cifar10_test(n, **how)
