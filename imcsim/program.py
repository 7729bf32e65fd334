"""Writing, ageing and reading the arrays of a whole model."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Literal

from torch import nn

from imcsim.convert import arrays, named_layers
from imcsim.devices import WriteReport
from imcsim.errors import InputError
from imcsim.nn.norm import analog_norms


def program(sim: nn.Module, seed: int = 0) -> None:
    """Write every array anew: programming error, device-to-device spread, faults. Ages restart at 0.

    The same seed gives the same chip on any machine and device, whatever was drawn before.

    Args:
        sim: a converted model.
        seed: any integer.

    Raises:
        InputError: the seed is not an integer.
        ConversionError: the model was not converted.
    """
    number = _integer(seed, "program")
    for layer, array in arrays(sim):
        array.program(number)
        array.sync(layer.weight)
    for norm in analog_norms(sim):
        norm.program(number)


def age(sim: nn.Module, seconds: float, *, compensation: Literal["global", "column"] | None = None) -> None:
    """Let the arrays drift to an absolute time since their verify read.

    It is not cumulative: ``age(sim, 0)`` is as programmed.

    Args:
        sim: a converted model.
        seconds: the time, 0 or more.
        compensation: one digital factor a layer (global) or a column against drift, from reference reads of
            every word line at programming and now; None: no compensation.

    Raises:
        InputError: the time is negative or not finite, or the compensation is unknown, or a layer whose sums
            stay analog has no digital side for it.
        ConversionError: the model was not converted.
    """
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, Real)
        or not math.isfinite(seconds)
        or seconds < 0
    ):
        raise InputError(
            f"age: seconds = {seconds!r} is not a time since programming; give 0 or a positive number of "
            "seconds"
        )
    if compensation not in (None, "global", "column"):
        raise InputError(f"age: compensation = {compensation!r} is not one of 'global', 'column' or None")
    for _, array in arrays(sim):
        if compensation is not None and array.hardware.array.output == "analog":
            raise InputError(
                f"age: compensation = {compensation!r} is a digital factor, but the sums of layer "
                f"{array.name!r} stay analog; leave compensation out, normalisation takes a common factor "
                "away"
            )
    for _, array in arrays(sim):
        array.age(float(seconds), compensation)


def seed_reads(sim: nn.Module, seed: int = 0) -> None:
    """Restart the stream of read noise: the next sample is number 0.

    Args:
        sim: a converted model.
        seed: any integer.

    Raises:
        InputError: the seed is not an integer.
        ConversionError: the model was not converted.
    """
    number = _integer(seed, "seed_reads")
    for _, array in arrays(sim):
        array.seed_reads(number)
    for norm in analog_norms(sim):
        norm.seed_reads(number)


def write_report(sim: nn.Module) -> dict[str, WriteReport]:
    """What the last programming by write-verify took, layer by layer: errors, pulses, energy, time.

    Args:
        sim: a converted model.

    Returns:
        Layer name -> report, of the layers whose cells were written with ``device.programming = { kind =
        "write_verify", ... }`` in this process; a model read from a file does not know. Reports add up:
        ``sum(write_report(sim).values(), WriteReport())``.

    Raises:
        ConversionError: the model was not converted.
    """
    for layer, array in arrays(sim):
        array.sync(layer.weight)
    found = {name: layer.array.write_report for name, layer in named_layers(sim).items()}
    return {name: report for name, report in found.items() if report is not None}


def _integer(seed: int, what: str) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InputError(f"{what}: seed = {seed!r} is not an integer; give one such as 0")
    return int(seed)
