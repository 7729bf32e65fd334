"""Constants with which the kernels convert, checked level by level at build time against the converter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imcsim.functional.adc import Converter, convert

INT16_MAX = 32767


def codes_of(levels: NDArray[np.int64], converter: Converter, per_level: int) -> NDArray[np.int64]:
    """The codes, from 0, that the reference gives to multiples of ``1 / per_level`` levels."""
    exact = convert(torch.from_numpy(levels.astype(np.float64) / per_level), converter)
    return exact.numpy().astype(np.int64) + converter.zero


def float_codes(
    levels: NDArray[np.int64], scale: np.float32, remainder: np.float32, origin: np.float32
) -> NDArray[np.float32]:
    """``rint(levels (scale + remainder) + origin)`` in float32 as the kernels compute it.

    The product is rounded once (here by way of float64, which holds it but for 2^-53), then the sum.

    Shapes: levels (*any); returns the same.

    Args:
        levels: whole numbers.
        scale: the float32 nearest to the scale.
        remainder: what it lacks.
        origin: the code of zero current.

    Returns:
        Codes before clipping.
    """
    small = (levels.astype(np.float32) * remainder).astype(np.float64)
    return np.rint((levels * np.float64(scale) + small).astype(np.float32) + origin)


@dataclass(frozen=True)
class Constants:
    """How one stream is converted.

    Attributes:
        scale: codes per level.
        remainder: what the float lacks of the true scale; 0 where that does not matter.
        origin: code of zero current.
        top: highest code.
        identity: code = level + origin, clipped: no multiplication needed.
        exact: ``clip(rint(level (scale + remainder) + origin), 0, top)`` in float32 gives the reference's
            code for every level that can occur.
    """

    scale: np.float32
    remainder: np.float32
    origin: np.float32
    top: int
    identity: bool
    exact: bool


def constants(converter: Converter, per_level: int, low: int, high: int) -> Constants:
    """Float32 constants that reproduce every code from level `low` to level `high`.

    Ties decide. A rounded scale misses some; with the remainder none. Converters that round halves up need an
    origin a little higher.

    Args:
        converter: the converter.
        per_level: the kernel counts currents in ``1 / per_level`` levels.
        low: lowest count that can occur.
        high: highest.

    Returns:
        The constants; `exact` False where none was found.
    """
    levels = np.arange(low, high + 1)
    wanted = codes_of(levels, converter, per_level)
    slope, origin = converter.num / converter.den / per_level, np.float32(converter.origin)
    zero, top = np.float32(0), converter.top
    if float(converter.origin).is_integer():
        shifted = np.clip(levels + int(converter.origin), 0, top)
        if np.array_equal(shifted, wanted):
            return Constants(np.float32(1), zero, origin, top, identity=True, exact=True)
    scale = np.float32(slope)
    nudges = [np.float32(sign * 2.0**-k) for k in range(6, 18) for sign in (1, -1)]
    for remainder in (zero, np.float32(slope - np.float64(scale))):
        for nudge in (zero, *nudges):
            found = np.clip(float_codes(levels, scale, remainder, origin + nudge), 0, top)
            if np.array_equal(found, wanted):
                return Constants(scale, remainder, origin + nudge, top, identity=False, exact=True)
    return Constants(scale, zero, origin, top, identity=False, exact=False)
