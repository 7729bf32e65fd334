"""Torch's global random numbers inside `fit`: reproducible there, untouched outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from imcsim.functional.noise import keyed_generator

_END = object()


@contextmanager
def forked(model: nn.Module) -> Iterator[None]:
    """Inside, torch's global generators may be used and seeded; outside they are as they were."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        yield


def seed_torch(seed: int, what: str) -> None:
    """Seed torch's global generators (dropout, data augmentation) for one purpose."""
    torch.manual_seed(int(keyed_generator(seed, "fit", what).integers(1 << 62)))


def with_own_state(batches: Iterable[Any], seed: int, what: str) -> Iterator[Any]:
    """Batches whose shuffling and augmentation draw from torch's global generator, whatever else draws.

    Args:
        batches: of one epoch.
        seed: of the training.
        what: names the epoch.

    Yields:
        The batches.
    """
    outside = torch.get_rng_state()
    seed_torch(seed, what)
    source = iter(batches)
    inside = torch.get_rng_state()
    torch.set_rng_state(outside)
    while True:
        outside = torch.get_rng_state()
        torch.set_rng_state(inside)
        batch = next(source, _END)
        inside = torch.get_rng_state()
        torch.set_rng_state(outside)
        if batch is _END:
            return
        yield batch
