"""A hardware description's cell: its card bound to the window, overrides and fault rates given in [device]."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.devices import DeviceModel, load, programming_spec
from imcsim.hardware import Hardware


def bind_device(hardware: Hardware) -> DeviceModel:
    """The device model of a chip. Values in [device] override the card's; without g_max_S conductances are in units of g_max.

    Args:
        hardware: the chip.

    Returns:
        The bound model.

    Raises:
        FileMissingError: there is no such card.
        DeviceError: the card cannot be used as described.
    """
    device = hardware.device
    card = load(device.card)
    window = card.conductance
    g_max = device.g_max_S or window.g_max_S or 1.0
    if device.on_off_ratio is not None:
        g_min = g_max / device.on_off_ratio
    elif window.g_min_S is not None:
        g_min = window.g_min_S
    elif window.on_off_ratio is not None:
        g_min = g_max / window.on_off_ratio
    else:
        g_min = 0.0
    return DeviceModel(
        card,
        g_max_S=g_max,
        g_min_S=g_min,
        programming_override=programming_spec(device.programming.kind, getattr(device.programming, "sigma", None)),
        temperature_K=device.temperature_K,
        stuck_on=device.stuck_on,
        stuck_off=device.stuck_off,
        normalised=device.g_max_S is None and window.g_max_S is None,
    )


def on_off_ratio(model: DeviceModel) -> float:
    """g_max / g_min of a bound device; inf where g_min is 0."""
    window = model.window
    return window.g_max_S / window.g_min_S if window.g_min_S > 0 else float("inf")


def needs_cells(model: DeviceModel) -> bool:
    """Whether cells must be held as conductances: False when they sit at whole levels for ever."""
    return not model.is_deterministic or model.has_drift or model.has_read_noise


def level_conductance(model: DeviceModel, levels: Tensor, top_levels: tuple[int, ...]) -> Tensor:
    """Target conductance of cells at given levels: ``g_min + (g_max - g_min) level / top``.

    Shapes: levels (groups, planes, slices, rows, outputs); returns the same, float32.
    Units: siemens, or g_max where the chip states none.

    Args:
        model: the bound device.
        levels: target levels.
        top_levels: level of a fully-on cell of each slice.

    Returns:
        The conductances.
    """
    window = model.window
    top = torch.tensor(top_levels, dtype=torch.float64, device=levels.device).view(1, 1, -1, 1, 1)
    return (window.g_min_S + (window.g_max_S - window.g_min_S) * levels.double() / top).float()
