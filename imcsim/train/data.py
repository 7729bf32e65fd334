"""Training batches, epoch after epoch."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from imcsim.errors import InputError

Batches = Iterable[Any] | Callable[..., Iterable[Any]]


class Epochs:
    """Batches that can be gone through once an epoch.

    Args:
        batches: a list, a DataLoader, any iterable that starts anew each time, or a function that returns
            one; the function is given the epoch's number if it takes an argument. An iterator will do for
            one epoch.
        epochs: how many are needed.

    Raises:
        InputError: an iterator for more than one epoch, or nothing that can be iterated.
    """

    def __init__(self, batches: Batches, epochs: int) -> None:
        if isinstance(batches, Tensor) or not (callable(batches) or isinstance(batches, Iterable)):
            kind = (
                f"one tensor of shape {tuple(batches.shape)}"
                if isinstance(batches, Tensor)
                else repr(batches)
            )
            raise InputError(
                f"fit takes (input, target) batches, a list or a DataLoader for example, but got {kind:.80}"
            )
        if isinstance(batches, Iterator) and epochs > 1:
            raise InputError(
                f"fit: the training batches are a {type(batches).__name__}, which is used up after one "
                f"epoch, but epochs = {epochs}; give a list, a DataLoader, or a function that returns the "
                "batches of an epoch"
            )
        self._batches = batches

    def head(self, samples: int, size: Callable[[Any], int]) -> list[Any]:
        """The first batches, until so many samples; an iterator still yields them afterwards.

        Args:
            samples: enough.
            size: samples of a batch.

        Returns:
            The batches.
        """
        source, out, count = iter(self.of(0)), [], 0
        for batch in source:
            out.append(batch)
            count += size(batch)
            if count >= samples:
                break
        if isinstance(self._batches, Iterator):
            self._batches = itertools.chain(out, source)
        return out

    def of(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch."""
        set_epoch = getattr(getattr(self._batches, "sampler", None), "set_epoch", None)
        if set_epoch is not None:  # of a DistributedSampler
            set_epoch(epoch)
        if isinstance(self._batches, Iterable):
            return self._batches
        takes_epoch = any(
            p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
            for p in inspect.signature(self._batches).parameters.values()
        )
        return self._batches(epoch) if takes_epoch else self._batches()
