"""The activations that networks of this zoo can be built with."""

from __future__ import annotations

from typing import Literal

from torch import nn

from imcsim.errors import DataError

Activation = Literal["relu", "hardtanh"]

_MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardtanh": nn.Hardtanh}


def activation_module(name: str, network: str) -> nn.Module:
    """An activation by name: relu, or hardtanh for activations that are to become -1 and +1.

    Args:
        name: of the activation.
        network: what it is for, named in the error.

    Returns:
        A module.

    Raises:
        DataError: an unknown activation.
    """
    if name not in _MODULES:
        raise DataError(f"{network} got activation = {name!r}; it must be 'relu' or 'hardtanh'.")
    return _MODULES[name]()
