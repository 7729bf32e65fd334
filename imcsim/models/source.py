"""A network from the zoo, an import path, a torch.export or an ONNX file, with weights from a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from imcsim import zoo
from imcsim.errors import FileMissingError, InputError, did_you_mean
from imcsim.models.data import load_data
from imcsim.models.importing import import_object
from imcsim.zoo import Benchmark, load_weights

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".th", ".ckpt")
"""Endings of files that hold weights and no network."""


def load_model(source: str, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """A float network in eval mode.

    Args:
        source: a name of the zoo, ``package.module:name`` of a network or of a function that makes one, or
            the path of a ``.pt2`` file (torch.export) or an ``.onnx`` file.
        weights: a checkpoint, safetensors or a state_dict, read as tensors only; None: the network's own.

    Returns:
        The network.

    Raises:
        FileMissingError: there is no such network or file.
        InputError: the source is none of these, or makes no network.
        DataError: a file cannot be read, or the checkpoint is of another network.
        MissingPackageError: an ONNX file, and no converter is installed.
    """
    if source in zoo.available():
        return zoo.load(source, weights=weights, n=1).model
    net = _network(source)
    return net.eval() if weights is None else load_weights(net, weights, source)


def load_benchmark(
    model: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    data: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    n: int | None = None,
) -> Benchmark:
    """A network with what it is tested and calibrated on.

    Args:
        model: as for `load_model`.
        weights: as for `load_model`.
        data: as `load_data` takes it; None: for a network of the zoo its own, else an error.
        folder: of the official files of a named data set.
        n: how many test samples from the start; None for all.

    Returns:
        The network in eval mode, its test samples and its calibration samples.

    Raises:
        InputError: a network from elsewhere than the zoo, and no data.
        FileMissingError, DataError, MissingPackageError: as `load_model` and `load_data` say.
    """
    if data is None:
        if model in zoo.available():
            return zoo.load(model, weights=weights, folder=folder, n=n)
        net = load_model(model, weights)
        raise InputError(
            f"model {model!r} ({type(net).__name__}) says nothing of its data; name a data set such as "
            "cifar10, an .npz file with images and labels, or a function, package.module:name"
        )
    net = load_model(model, weights)
    return Benchmark(model, net, *load_data(data, n=n, folder=folder), normalise=None)


def _network(source: str) -> nn.Module:
    ending = Path(source).suffix
    if ending == ".pt2":
        from imcsim.models.exported import load_exported

        return load_exported(_existing(source))
    if ending == ".onnx":
        from imcsim.models.onnx_file import load_onnx  # onnx, only where it is asked for

        return load_onnx(_existing(source))
    if ending in CHECKPOINTS:
        raise InputError(
            f"model {source!r} is a checkpoint: weights without a network; give the network as a name of the "
            "zoo or package.module:name, and this file as its weights"
        )
    if ":" not in source:
        raise FileMissingError(
            f"there is no network named {source!r} in the zoo.{did_you_mean(source, zoo.available())} "
            f"Available: {', '.join(zoo.available())}; or give package.module:name, a .pt2 or an "
            ".onnx file"
        )
    made = import_object(source, "model")
    net = made if isinstance(made, nn.Module) else made() if callable(made) else made
    if not isinstance(net, nn.Module):
        raise InputError(
            f"model {source!r} is {type(net).__name__}; it must be a torch.nn.Module, or a function without "
            "arguments that returns one"
        )
    return net


def _existing(source: str) -> Path:
    path = Path(source)
    if not path.is_file():
        raise FileMissingError(f"model file {source!r} does not exist; give the path of a .pt2 or .onnx file")
    return path
