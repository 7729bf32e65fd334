"""Converters: column current in, code out.

Inside imcsim a column current is counted in *levels*: one level is the current of one cell one conductance
level above g_min
with its input at digit 1. A converter is an affine map from levels to codes, rounded and clipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imcsim.errors import HardwareError

FINER = 1 << 16
"""Steps of a converter that only clips, in one of the real one's; its rounding is 96 dB below."""


@dataclass(frozen=True)
class Converter:
    """An ideal quantizer of column currents counted in levels.

    ``code = clip(round(v num / den + origin), 0, top)`` and the value it stands for is ``(code - origin) den
    / num`` levels.
    In the units of the contract, ``q = (codes - 1) / (hi - lo)``, ``num / den = q x (one level)`` and
    ``origin = -lo q``.

    Attributes:
        num: numerator of codes per level. Kept apart from `den` so that exact ties stay exact.
        den: its denominator, positive.
        origin: the (possibly fractional) code of zero current.
        top: the highest code; the lowest is 0.
        ties_up: round halves up, as a comparator does at its reference (sense amplifiers); else half to even.
    """

    num: float
    den: float
    origin: float
    top: int
    ties_up: bool = False

    @property
    def step(self) -> float:
        """One LSB in levels."""
        return self.den / self.num

    @property
    def zero(self) -> int:
        """The code nearest to zero current.

        Codes are counted from it. Outside [0, top] when the range excludes zero.
        """
        return round(self.origin)

    @property
    def residue(self) -> float:
        """``zero - origin``, in codes.

        What every conversion must still be given back; 0 where zero is a code.
        """
        return self.zero - self.origin

    def lossless(self, low: float, high: float) -> bool:
        """Whether every integer level from `low` to `high` has a code of its own, one LSB apart."""
        exact = self.num == self.den and float(self.origin).is_integer()
        return exact and low + self.origin >= 0 and high + self.origin <= self.top


def convert(levels: Tensor, converter: Converter) -> Tensor:
    """Digitise column currents: codes counted from the code of zero current.

    ``clip(round(levels num / den + origin), 0, top) - zero``.

    Shapes: levels (*any); returns the same shape.

    Args:
        levels: float64 column currents in levels.
        converter: the quantizer.

    Returns:
        Integer-valued float64 codes minus `Converter.zero`.
    """
    code = levels * converter.num / converter.den + converter.origin
    code = torch.floor(code + 0.5) if converter.ties_up else torch.round(code)
    return code.clamp(0, converter.top) - converter.zero


def read_back(levels: Tensor, converter: Converter) -> Tensor:
    """What currents are taken for: ``step (code - origin)``. Shapes: levels (*any), float64; the same."""
    return (convert(levels, converter) + converter.residue) * converter.step


def ranged_converter(
    kind: str, bits: int, low: float, high: float, *, literal: bool = False, codes: int | None = None
) -> Converter:
    """A converter of the given kind on a range.

    uniform: ``2^bits`` codes on [low, high]; with ``low < 0`` and not `literal`, zero is kept a code:
    ``[-2^(bits-1), 2^(bits-1) - 1]`` LSB, the LSB being ``(high - low) / (2^bits - 1)``. symmetric: ``2^bits
    - 1`` codes on
    ``[-m, m]``, ``m = max(-low, high)``. sense_amp: ``2^bits - 1`` comparators midway between the codes of a
    literal uniform
    converter; a current at a reference counts as above it.

    Args:
        kind: auto (symmetric if low < 0, else uniform), uniform, symmetric or sense_amp; a circuit (sar,
            flash, ramp, cyclic, pipeline, integrate_fire) quantizes as auto.
        bits: resolution.
        low: lower end in levels.
        high: upper end in levels, above `low`.
        literal: the range is the user's and is not moved.
        codes: how many where not 2^bits (a flash converter of 11 levels); a symmetric converter takes the odd
            number at or below it.

    Returns:
        The converter.

    Raises:
        HardwareError: one bit for a symmetric converter.
    """
    codes = 1 << bits if codes is None else codes
    kind = _resolve(kind, codes, low)
    if kind == "symmetric":
        half = (codes - 1) // 2
        return Converter(half, max(-low, high), half, 2 * half)
    top = codes - 1
    if kind == "uniform" and low < 0 and not literal:
        return Converter(top, high - low, codes // 2, top)
    return Converter(top, high - low, -low * top / (high - low), top, ties_up=kind == "sense_amp")


def level_converter(
    kind: str, bits: int, low: float, high: float, codes: int | None = None
) -> Converter | None:
    """A converter whose LSB is exactly one level, if its codes reach from `low` to `high`.

    Args:
        kind: as for `ranged_converter`.
        bits: resolution.
        low: the lowest current that can occur, in levels.
        high: the highest.
        codes: as for `ranged_converter`.

    Returns:
        The converter, or None where the codes do not suffice.

    Raises:
        HardwareError: one bit for a symmetric converter.
    """
    codes = 1 << bits if codes is None else codes
    kind = _resolve(kind, codes, low)
    top = codes - 1
    if kind == "symmetric":
        origin = top // 2
        top = 2 * origin
    else:
        origin = codes // 2 if low < 0 else 0
    if low + origin < 0 or high + origin > top:
        return None
    return Converter(1, 1, origin, top, ties_up=kind == "sense_amp")


def finer(converter: Converter) -> Converter:
    """A converter of the same range whose steps are `FINER` times smaller: it clips, and hardly rounds.

    Args:
        converter: the converter.

    Returns:
        The finer one.
    """
    return replace(
        converter,
        num=converter.num * FINER,
        origin=converter.origin * FINER,
        top=converter.top * FINER,
    )


def _resolve(kind: str, codes: int, low: float) -> str:
    if kind not in ("uniform", "symmetric", "sense_amp"):
        kind = "symmetric" if low < 0 else "uniform"
    if kind == "symmetric" and codes < 3:
        raise HardwareError(
            "adc.bits = 1 leaves a symmetric converter (adc.kind = 'auto', or a circuit, with currents of "
            "both signs) a single code; use adc.bits >= 2, or adc.kind = 'sense_amp' for a comparator"
        )
    return kind
