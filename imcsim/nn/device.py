"""A hardware description's cell.

Its card bound to the window, overrides and fault rates given in [device].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from imcsim.devices import DeviceCard, DeviceModel, ProgrammingSpec, bind_write_verify, load, programming_spec
from imcsim.errors import HardwareError
from imcsim.functional.dac import PulseTrain, digits
from imcsim.functional.encode import Slicing
from imcsim.hardware import Hardware
from imcsim.hardware_tables import Programming, WriteVerifyProgramming


def bind_device(hardware: Hardware) -> DeviceModel:
    """The device model of a chip.

    Values in [device] override the card's; without g_max_S conductances are in units of g_max.

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
        programming_override=_override(card, device.programming),
        temperature_K=device.temperature_K,
        stuck_on=device.stuck_on,
        stuck_off=device.stuck_off,
        normalised=device.g_max_S is None and window.g_max_S is None,
    )


def _override(card: DeviceCard, how: Programming) -> ProgrammingSpec | None:
    """What [device] programming puts in the place of the card's own error, or None."""
    if isinstance(how, WriteVerifyProgramming):
        return bind_write_verify(card, how.tolerance, how.max_pulses, how.retries, how.read_s)
    return programming_spec(how.kind, getattr(how, "sigma", None))


def check_fit(model: DeviceModel, hardware: Hardware, slices: Slicing) -> None:
    """Refuse a chip whose device cannot do what its description asks for.

    Args:
        model: the bound device.
        hardware: the chip.
        slices: how weights are spread over its cells.

    Raises:
        DeviceError: a cell cannot hold that many levels.
        HardwareError: readout, wires or converters do not go with the device.
    """
    model.check_levels(max(slices.top_levels) + 1)
    array, readout = hardware.array, model.card.readout
    wires = array.word_line_ohm > 0 or array.bit_line_ohm > 0
    if readout is not None and readout.kind != array.readout:
        raise HardwareError(
            f"device card {model.card.name!r} is read out by {readout.kind!r}, but array.readout = "
            f"{array.readout!r}; "
            f"set array.readout = {readout.kind!r}"
        )
    if wires and model.window.normalised:
        raise HardwareError(
            f"array.word_line_ohm = {array.word_line_ohm}, bit_line_ohm = {array.bit_line_ohm} need "
            "conductances in "
            "siemens; set device.g_max_S"
        )
    if wires and not model.iv.linear:
        raise HardwareError(
            f"device card {model.card.name!r} has a non-linear I-V, which wires of a whole network do not "
            "support; "
            "set word_line_ohm and bit_line_ohm to 0, or solve one array with imcsim.circuits.solve_crossbar"
        )
    if array.readout == "digital" and (hardware.adc is not None or needs_cells(model)):
        raise HardwareError(
            "array.readout = 'digital' is an exact adder tree, without converters and device effects; "
            "leave the [adc] table out and use a card such as 'sram_digital'"
        )
    if array.readout == "divider" and hardware.weights.encoding != "xnor":
        raise HardwareError(
            f"array.readout = 'divider' is a pull-up and a pull-down a weight, but weights.encoding = "
            f"{hardware.weights.encoding!r}; set weights.encoding = 'xnor'"
        )
    analog_pair = slices.paired and (hardware.adc is None or hardware.adc.subtract == "analog")
    if readout is not None and readout.saturation_norm is not None and analog_pair:
        raise HardwareError(
            f"device card {model.card.name!r} saturates its bit lines one by one, so their difference "
            "cannot be taken "
            "in analog; set adc.subtract = 'digital' or another encoding"
        )


def bent_by_cells(
    train: PulseTrain, model: DeviceModel, dac_inl: tuple[float, ...] | None = None
) -> PulseTrain:
    """The pulse train as cells with a non-linear I-V behind a non-linear DAC see it: what each digit drives.

    Digits are amplitudes; cycles accumulated in analog are pulses of the same cells one after the other.

    Args:
        train: the pulses.
        model: the bound device.
        dac_inl: what each digit drives beyond itself, in digits; None: nothing.

    Returns:
        The train, with its table of drives where the DAC or the I-V is not linear.
    """
    if model.iv.linear and dac_inl is None:
        return train
    top = (1 << train.bits_per_cycle) - 1
    amplitude = torch.arange(top + 1, dtype=torch.float64)
    if dac_inl is not None:
        amplitude = amplitude + torch.tensor(dac_inl, dtype=torch.float64)
    if not model.iv.linear:
        amplitude = top * model.iv.digit_ratio(amplitude / top)
    if not train.accumulate:
        return replace(train, drive=tuple(amplitude.tolist()))
    codes = torch.arange(train.digit_max + 1, dtype=torch.float64)
    cycles = replace(train, accumulate=False, polarity=False, sign_cycle=False, shift=0)
    pulses = amplitude[digits(codes, cycles).to(torch.int64)]
    weights = torch.tensor(cycles.weights, dtype=torch.float64)
    return replace(train, drive=tuple(torch.einsum("t,tn->n", weights, pulses).tolist()))


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


def read_variance(model: DeviceModel, cells: Tensor, seen: Tensor, seconds: float) -> Tensor | None:
    """Variance of one read of each cell, as its column sees it.

    Behind wires a cell's noise reaches its column as its own current does, to first order: scaled by
    effective over true conductance.

    Shapes: cells and seen (*any); returns the same.
    Units: siemens; the variance in units of g_max squared.

    Args:
        model: the bound device.
        cells: conductances.
        seen: effective conductances, behind wires; `cells` itself without them.
        seconds: age.

    Returns:
        The variance, None where reads are noiseless.
    """
    sigma = model.read_sigma_S(cells, seconds)
    if sigma is None:
        return None
    passed = torch.where(cells > 0, seen / cells, torch.ones_like(cells)) if seen is not cells else 1.0
    return (sigma * passed / model.window.g_max_S).square()
