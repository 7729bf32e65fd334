"""Constants with which the kernels convert: found and checked at build time, level by level, against the float64 converter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from imcsim.functional.adc import Converter, convert

INT16_MAX = 32767


def codes_of(levels: NDArray[np.int64], converter: Converter, per_level: int) -> NDArray[np.int64]:
    """The codes, counted from 0, that the float64 reference gives to whole numbers of ``1 / per_level`` levels."""
    exact = convert(torch.from_numpy(levels.astype(np.float64) / per_level), converter)
    return exact.numpy().astype(np.int64) + converter.zero


def float_codes(levels: NDArray[np.int64], scale: np.float32, origin: np.float32) -> NDArray[np.float32]:
    """``rint(levels scale + origin)`` in float32, as the kernels compute it: product and sum are rounded each."""
    return np.rint(levels.astype(np.float32) * scale + origin)


@dataclass(frozen=True)
class Constants:
    """How one stream is converted.

    Attributes:
        exact: ``clip(rint(level scale + origin), 0, top)`` in float32 gives the reference's code for every level checked.
        identity: code = level + origin, clipped: no multiplication needed.
    """

    scale: np.float32
    origin: np.float32
    top: int
    identity: bool
    exact: bool


def constants(converter: Converter, per_level: int, low: int, high: int) -> Constants:
    """Float32 constants that reproduce every code from level `low` to level `high`.

    Ties decide: the rounded constants rarely miss, else their neighbours are tried, and for converters that round halves up an
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
    slope, origin = converter.num / converter.den / per_level, converter.origin
    top = converter.top
    if float(origin).is_integer() and np.array_equal(np.clip(levels + int(origin), 0, top), wanted):
        return Constants(np.float32(1), np.float32(origin), top, True, True)
    first = Constants(np.float32(slope), np.float32(origin), top, False, False)
    scales, origins = _neighbours(first.scale), _neighbours(first.origin)
    nudges = [first.origin + np.float32(sign * 2.0**-k) for k in range(6, 18) for sign in (1, -1)]
    for candidate_origin in [*origins, *nudges]:
        for candidate_scale in scales:
            found = float_codes(levels, candidate_scale, candidate_origin)
            if np.array_equal(np.clip(found, 0, top), wanted):
                return replace(first, scale=candidate_scale, origin=candidate_origin, exact=True)
    return first


def _neighbours(value: np.float32) -> list[np.float32]:
    """The value and the floats next to it, nearest first."""
    out, below, above = [value], value, value
    for _ in range(3):
        below, above = np.nextafter(below, np.float32(-np.inf)), np.nextafter(above, np.float32(np.inf))
        out += [below, above]
    return out
