"""Where a training stood: safetensors with JSON inside, written at once, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from imcsim.convert import arrays
from imcsim.errors import DataError
from imcsim.hardware import write_atomically

FORMAT = "imcsim training 1"

State = dict[str, Tensor]


@dataclass
class Progress:
    """What of a training is not a tensor.

    Attributes:
        epoch: that goes on.
        batch: batches of it that are done.
        step: forward passes in training mode so far.
        loss_sum: of those batches.
        history: one entry a finished epoch.
        best: index of the best of them, or None.
        ranges: of each layer's array.
        best_ranges: at the best epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = -1
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    ranges: dict[str, Any] = field(default_factory=dict)
    best_ranges: dict[str, Any] = field(default_factory=dict)


def model_state(sim: nn.Module) -> State:
    """Parameters and buffers, learned ranges included; what is programmed is drawn again from its seed."""
    named = [*sim.named_parameters(), *sim.named_buffers()]
    return {name: value.detach().clone().contiguous() for name, value in named}


@torch.no_grad()
def restore_model(sim: nn.Module, state: State) -> None:
    """Put back what `model_state` took."""
    for name, value in [*sim.named_parameters(), *sim.named_buffers()]:
        value.copy_(state[name])


def ranges_of(sim: nn.Module) -> dict[str, Any]:
    """Calibrated ranges and conversion errors of every array, as JSON holds them."""
    return {
        array.name: [array.input_range, array.input_signed, array.adc_high, array.conversion_errors]
        for _, array in arrays(sim)
    }


def restore_ranges(sim: nn.Module, ranges: dict[str, Any]) -> None:
    """Put back what `ranges_of` took."""
    for _, array in arrays(sim):
        array.input_range, array.input_signed, highs, errors = ranges[array.name]
        array.adc_high = None if highs is None else tuple(highs)
        array.conversion_errors = None if errors is None else tuple(tuple(row) for row in errors)
        array.forget_plans()


def write_checkpoint(
    path: Path,
    settings: dict[str, Any],
    progress: Progress,
    sim: nn.Module,
    optimizer: Optimizer,
    best: State | None,
) -> None:
    """Write everything that a training needs to go on as if it had not stopped.

    Args:
        path: the file.
        settings: what must be the same when it goes on.
        progress: where it stands.
        sim: the model.
        optimizer: its optimizer.
        best: the state of the best epoch, if one was chosen.

    Raises:
        FileMissingError: there is no such folder.
    """
    tensors = {f"model.{name}": value for name, value in model_state(sim).items()}
    tensors.update({f"best.{name}": value for name, value in (best or {}).items()})
    numbers: dict[str, Any] = {}
    packed = optimizer.state_dict()
    for index, state in packed["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.detach().clone().contiguous()
            else:
                numbers[f"{index}.{key}"] = value
    meta = {
        "format": FORMAT,
        "settings": settings,
        "progress": asdict(progress),
        "groups": packed["param_groups"],
        "numbers": numbers,
    }
    write_atomically(path, to_bytes(tensors, {"imcsim": json.dumps(meta)}))


def read_checkpoint(
    path: Path, settings: dict[str, Any], sim: nn.Module, optimizer: Optimizer
) -> tuple[Progress, State | None]:
    """Put model and optimizer where a checkpoint left them.

    Args:
        path: the file.
        settings: of this training.
        sim: the model.
        optimizer: its optimizer, made as it was then.

    Returns:
        Where the training stood, and the best state so far.

    Raises:
        DataError: the file is damaged, or belongs to another training.
    """
    try:
        with safe_open(str(path), framework="pt") as stored:
            meta = json.loads((stored.metadata() or {}).get("imcsim", "null"))
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"checkpoint {str(path)!r} is damaged ({error}); delete it, or give another path"
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DataError(
            f"{str(path)!r} is not a checkpoint of imcsim.train.fit ({FORMAT!r}); give another path"
        )
    for key, value in settings.items():
        then = meta["settings"].get(key)
        if then != value:
            raise DataError(
                f"checkpoint {str(path)!r} was made with {key} = {then!r}, but now it is "
                f"{value!r}; give the same, another path, or resume=False to start anew"
            )
    parts: dict[str, State] = {"model": {}, "best": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    own = model_state(sim)
    if {name: value.shape for name, value in own.items()} != {
        name: value.shape for name, value in parts["model"].items()
    }:
        raise DataError(
            f"checkpoint {str(path)!r} belongs to another network; give another path, or resume=False"
        )
    restore_model(sim, parts["model"])
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*parts["optimizer"].items(), *meta["numbers"].items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": meta["groups"]})
    progress = Progress(**meta["progress"])
    restore_ranges(sim, progress.ranges)
    return progress, parts["best"] or None
