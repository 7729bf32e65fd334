"""Checkpoints into networks, with errors that say which tensor does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from imcsim.errors import DataError, FileMissingError

DATA_FOLDER = Path(__file__).parent / "data"

_Net = TypeVar("_Net", bound=nn.Module)


def load_weights(net: _Net, path: str | os.PathLike[str], name: str) -> _Net:
    """Load a float checkpoint into a network and put it in eval mode.

    Reads safetensors, NumPy's ``.npz``, and PyTorch files (``.pt``, ``.pth``, ``.th``) with their
    restricted, tensors-only unpickler. A ``{"state_dict": ...}`` around the tensors and a ``module.`` before
    their names are removed.
    BatchNorm's ``num_batches_tracked`` may be absent.

    Args:
        net: the network, changed in place.
        path: the checkpoint.
        name: what the network is called in errors.

    Returns:
        ``net``.

    Raises:
        FileMissingError: no file at ``path``.
        DataError: the file cannot be read, or its tensors are not those of ``net``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissingError(
            f"{name}: no checkpoint at {str(path)!r}; give the path of a .safetensors, .npz, .pt, .pth "
            "or .th file."
        )
    state = {key.removeprefix("module."): value for key, value in _read(path, name).items()}
    own = net.state_dict()
    wrong = [
        *(f"{key} is missing" for key in own if key not in state and not key.endswith("num_batches_tracked")),
        *(f"{key} is unknown" for key in state if key not in own),
        *(
            f"{key} has shape {tuple(value.shape)} instead of {tuple(own[key].shape)}"
            for key, value in state.items()
            if key in own and value.shape != own[key].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{str(path)!r} is not a checkpoint of {name}: {', '.join(wrong[:3])}{more}.")
    net.load_state_dict(state)
    return net.eval()


def _read(path: Path, name: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                state = {key: torch.from_numpy(value) for key, value in held.items()}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise DataError(
            f"{name}: cannot read the checkpoint {str(path)!r} ({_first_line(error)}); "
            f"it must be safetensors, npz without pickles, or a PyTorch file that holds tensors only."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{name}: {str(path)!r} holds no dictionary of tensors; save net.state_dict().")
    return dict(state)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
