"""What a batch may be: a tensor, or an (input, target) pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.errors import InputError

Forward = Callable[[nn.Module, Any], Any]


def batch_input(batch: Any) -> Tensor:
    """The input of a batch.

    Args:
        batch: a tensor, or a tuple or list of two whose first is a tensor.

    Returns:
        The input.

    Raises:
        InputError: it is neither.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Tensor):
        first: Tensor = batch[0]
        return first
    raise InputError(
        f"a batch is a tensor or an (input, target) pair, but got {_describe(batch)}; pass forward=lambda "
        "net, batch: ... for anything else"
    )


def batch_pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Input and class labels of a batch.

    Args:
        batch: a tuple or list of two tensors, (inputs, labels).

    Returns:
        Both.

    Raises:
        InputError: it is not such a pair, or the two have different lengths.
    """
    if not (
        isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)
    ):
        raise InputError(f"evaluate needs (input, label) pairs of tensors, but got {_describe(batch)}")
    x, y = batch
    if y.dim() != 1 or x.shape[:1] != y.shape[:1]:
        raise InputError(
            f"labels are one class index a sample, but inputs are {tuple(x.shape)} and labels "
            f"{tuple(y.shape)}"
        )
    return x, y


def iterate(batches: Iterable[Any], what: str) -> list[Any]:
    """All batches, read once, so that a generator will do.

    Args:
        batches: the batches.
        what: the caller, for the error.

    Returns:
        The list.

    Raises:
        InputError: it cannot be iterated, or is a bare tensor.
    """
    if isinstance(batches, Tensor):
        raise InputError(
            f"{what} takes an iterable of batches, but got one tensor of shape {tuple(batches.shape)}; "
            "pass [tensor]"
        )
    try:
        each = iter(batches)
    except TypeError:
        raise InputError(f"{what} takes an iterable of batches, but got {type(batches).__name__}") from None
    return list(each)


def to_model(model: nn.Module, x: Tensor) -> Tensor:
    """The tensor on the device of the model's parameters."""
    parameter = next(model.parameters(), None)
    return x if parameter is None else x.to(parameter.device)


class evaluation_mode:
    """Eval mode and no gradients inside; each module's own mode afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(m, m.training) for m in self.model.modules()]
        self.model.eval()
        self.no_grad = torch.no_grad()
        self.no_grad.__enter__()

    def __exit__(self, *exc: object) -> None:
        self.no_grad.__exit__(*exc)
        for module, training in self.modes:
            module.training = training


def _describe(batch: Any) -> str:
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)}: {', '.join(type(b).__name__ for b in batch[:4])}"
    return type(batch).__name__
