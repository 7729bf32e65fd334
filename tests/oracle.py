"""A dense loop over arrays, reads, cycles, slices and columns that says what a linear layer on crossbars
computes.

Written from the contract's "Arithmetic", not from the package, and sharing nothing with it: a chip is a
plain dict, currents
are exact rational numbers in units of one fully-on cell, and every conversion is the formula

    adc(v) = rint((clip(v, lo, hi) - lo) q) / q + lo,   q = (codes - 1) / (hi - lo).

Slow on purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chip = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TIE = Fraction(1, 10**9)
"""Conversions closer than this (in LSB) to the middle between two codes may fall on either."""


# ------------------------------------------------------------------------------------------------ weights
# and inputs


def weight_codes(w: Floats, chip: Chip) -> tuple[Ints, Floats]:
    """``w_int`` (outputs, inputs) and ``s_w`` (outputs,)."""
    bits, outputs = chip["weights"]["bits"], w.shape[0]
    w_int, scale = np.zeros(w.shape, np.int64), np.zeros(outputs)
    for o in range(outputs):
        pool = w[o] if chip["weights"]["scale"] == "per_channel" else w
        if bits == 1:
            scale[o] = np.abs(pool).mean()
            w_int[o] = np.where(w[o] > 0, 1, -1)
        else:
            peak = np.abs(pool).max()
            scale[o] = peak / (2 ** (bits - 1) - 1) if peak > 0 else 1.0
            w_int[o] = np.rint(w[o] / scale[o]).astype(np.int64)
    return w_int, scale


def input_codes(x: Floats, chip: Chip, input_range: float, signed: bool) -> tuple[Ints, float]:
    """``x_int`` (vectors, inputs) and ``s_x``."""
    bits = chip["inputs"]["bits"]
    if signed and bits == 1:
        return np.where(x > 0, 1, -1).astype(np.int64), input_range
    scale = input_range / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
    low = -input_range if signed else 0.0
    return np.rint(np.clip(x, low, input_range) / scale).astype(np.int64), scale


def blocks(inputs: int, rows: int, how: str) -> list[range]:
    """Inputs of each array."""
    n = math.ceil(inputs / rows)
    if how == "even":
        sizes = [math.ceil(inputs / n) if b < inputs % n else inputs // n for b in range(n)]
    else:
        sizes = [min(rows, inputs - b * rows) for b in range(n)]
    starts = [sum(sizes[:b]) for b in range(n)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


# -------------------------------------------------------------------------------------------------------
# the encodings


@dataclass
class Slice:
    """One slice of every weight: levels of plus cells, and of minus cells where there are such."""

    top: int
    gain: int
    plus: NDArray[Any]
    minus: NDArray[Any] | None = None


def widths_of(need: int, cell_bits: int | list[int]) -> list[int]:
    if isinstance(cell_bits, int):
        return [cell_bits] * math.ceil(need / cell_bits)
    return list(cell_bits)


def slices_of(w_int: Ints, chip: Chip) -> list[Slice]:
    """Levels (outputs, inputs) of every slice, least significant first."""
    weights = chip["weights"]
    encoding, bits, cell_bits = weights["encoding"], weights["bits"], weights["cell_bits"]
    if encoding == "xnor":
        return [Slice(1, 2, (w_int > 0).astype(np.int64), (w_int <= 0).astype(np.int64))]
    if encoding in ("offset", "isaac"):
        if bits == 1:  # the contract's w_int + 1 is 0 or 2: one bit of weight 2
            return [Slice(2 ** widths_of(1, cell_bits)[0] - 1, 2, (w_int + 1) // 2)]
        stored, need = w_int + 2 ** (bits - 1), bits
    elif encoding == "twos_complement":
        stored, need = w_int % 2 ** (bits - 1), bits - 1
    else:
        stored, need = np.abs(w_int), max(bits - 1, 1)
    out, weight = [], 1
    for width in widths_of(need, cell_bits):
        digit = stored // weight % 2**width
        if encoding in ("differential", "ternary"):
            signed = digit * np.sign(w_int)
            top = 2**width - 1
            if weights["sided"] == "two":
                plus, minus = (top + signed) * Fraction(1, 2), (top - signed) * Fraction(1, 2)
            else:
                plus, minus = np.maximum(signed, 0), np.maximum(-signed, 0)
            out.append(Slice(top, weight, plus, minus))
        else:
            out.append(Slice(2**width - 1, weight, digit))
        weight *= 2**width
    if encoding == "twos_complement":
        out.append(Slice(out[-1].top, -(2 ** (bits - 1)), (w_int < 0).astype(np.int64)))
    return out


@dataclass
class Pulses:
    """Digits of the input codes: one (weight, digits) pair a converted cycle; `full` drives a line fully
    on."""

    full: int
    shift: int
    bipolar: bool
    cycles: list[tuple[int, Ints]] = field(default_factory=list)


def pulses_of(x_int: Ints, chip: Chip, signed: bool) -> Pulses:
    inputs = chip["inputs"]
    bits, width, how = inputs["bits"], inputs["bits_per_cycle"], inputs["signed_encoding"]
    vector = chip["adc"] is not None and chip["adc"]["per"] == "vector"
    shift = 2 ** (bits - 1) if signed and how == "offset" else 0
    magnitude = bits if not signed or how == "offset" else max(bits - 1, 1)
    if vector:
        return Pulses(2**magnitude - 1, shift, signed and how != "offset", [(1, x_int + shift)])
    pulses = Pulses(2**width - 1, shift, signed and how == "sign_magnitude")
    sign = np.sign(x_int) if pulses.bipolar else np.ones_like(x_int)
    code = np.abs(x_int) if pulses.bipolar else x_int + shift
    low = code % 2 ** (bits - 1) if signed and how == "twos_complement" else code
    for start in range(0, magnitude, width):
        pulses.cycles.append((2**start, sign * (low // 2**start % 2**width)))
    if signed and how == "twos_complement":
        pulses.cycles.append((-(2 ** (bits - 1)), (x_int < 0).astype(np.int64)))
    return pulses


# ----------------------------------------------------------------------------------------------------- the
# converter


@dataclass(frozen=True)
class Adc:
    lo: Fraction
    hi: Fraction
    codes: int
    ties_up: bool = False
    decided: bool = False

    def position(self, v: Fraction) -> Fraction:
        """Where a current lies on the scale of codes."""
        return (min(max(v, self.lo), self.hi) - self.lo) * (self.codes - 1) / (self.hi - self.lo)

    def value(self, v: Fraction) -> tuple[Fraction, bool]:
        """What the digital side takes it for, and whether rounding errors can put it on the other side of a
        middle.

        They cannot where g_min is 0 and the ends are whole fractions: then level counts decide, exactly.
        """
        at = self.position(v)
        code = math.floor(at + Fraction(1, 2)) if self.ties_up else round(at)
        between = not self.decided and abs(at - math.floor(at) - Fraction(1, 2)) < TIE
        return code * (self.hi - self.lo) / (self.codes - 1) + self.lo, between


def converter(chip: Chip, top: int, full: int, bipolar: bool, calibrated: Fraction | None) -> Adc:
    """The converter of a slice whose cells have levels up to `top` (half levels count when they are
    converted)."""
    adc = _converter(chip, top, full, bipolar, calibrated)
    short = max(end.denominator for end in (adc.lo, adc.hi)) < 1 << 20
    return replace(adc, decided=g_min_of(chip) == 0 and chip["adc"]["range"] != "calibrated" and short)


def _converter(chip: Chip, top: int, full: int, bipolar: bool, calibrated: Fraction | None) -> Adc:
    adc, weights = chip["adc"], chip["weights"]
    bits, kind, rows = adc["bits"], adc["kind"], chip["array"]["rows"]
    g_min = g_min_of(chip)
    level = (1 - g_min) / (top * full)
    paired = weights["encoding"] in ("differential", "ternary") and adc["subtract"] == "analog"
    signed = paired or bipolar
    if isinstance(adc["range"], (list, tuple)):
        lo, hi = (Fraction(end) for end in adc["range"])
        if kind == "symmetric" or (kind == "auto" and lo < 0):
            return Adc(-hi, hi, 2**bits - 1)
        return Adc(lo, hi, 2**bits, kind == "sense_amp")
    kind = ("symmetric" if signed else "uniform") if kind == "auto" else kind
    if adc["range"] == "calibrated":
        assert calibrated is not None
        hi = calibrated
    else:
        if weights["encoding"] == "isaac":
            all_on = rows * top * full
            hi = (2 ** (int(all_on).bit_length() - 1) - 1) * level
        elif paired:
            hi = rows * (1 - g_min)
        else:
            hi = Fraction(rows // 2 if weights["encoding"] == "xnor" else rows)
        levels = hi / level
        half = 2 ** (bits - 1) - 1
        if kind == "symmetric":
            if levels <= half:
                return Adc(-half * level, half * level, 2**bits - 1)
        elif signed:
            if levels <= half:
                return Adc(-(half + 1) * level, half * level, 2**bits, kind == "sense_amp")
        elif levels <= 2**bits - 1:
            return Adc(Fraction(0), (2**bits - 1) * level, 2**bits, kind == "sense_amp")
    if kind == "symmetric":
        return Adc(-hi, hi, 2**bits - 1)
    lo = -hi if signed else Fraction(0)
    if signed and kind == "uniform":
        lsb = (hi - lo) / (2**bits - 1)
        return Adc(-(2 ** (bits - 1)) * lsb, (2 ** (bits - 1) - 1) * lsb, 2**bits)
    return Adc(lo, hi, 2**bits, kind == "sense_amp")


def exact(number: Any) -> Fraction:
    """A NumPy integer or a fraction as a fraction of Python's unbounded integers."""
    return Fraction(int(number)) if isinstance(number, np.integer) else Fraction(number)


def g_min_of(chip: Chip) -> Fraction:
    """g_min / g_max."""
    ratio = chip["device"]["on_off_ratio"]
    return Fraction(0) if ratio is None or math.isinf(ratio) else 1 / Fraction(ratio)


# ---------------------------------------------------------------------------------------------------------
# the layer


@dataclass
class Answer:
    """`product` in units of one weight code times one input code (a rational number), `y` in real units.

    `between` marks outputs for which some current lay between two codes.
    """

    product: NDArray[Any]
    between: NDArray[np.bool_]
    y: Floats


def linear(
    x: Floats,
    w: Floats,
    chip: Chip,
    *,
    input_range: float,
    signed: bool,
    bias: Floats | None = None,
    calibrated: list[Fraction] | None = None,
    unit_calibrated: Fraction | None = None,
) -> Answer:
    """A linear layer with cells at their targets.

    Shapes: x (vectors, inputs), w (outputs, inputs).

    Args:
        x: inputs.
        w: weights.
        chip: tables of the description, as a dict.
        input_range: the magnitude that maps to the top code.
        signed: whether input codes have a sign.
        bias: (outputs,).
        calibrated: upper end of each slice's range, in fully-on cells.
        unit_calibrated: that of the unit column.
    """
    w_int, w_scale = weight_codes(w, chip)
    x_int, x_scale = input_codes(x, chip, input_range, signed)
    product, between = integer_product(x_int, w_int, chip, signed, calibrated, unit_calibrated)
    y = product.astype(np.float64) * w_scale[None, :] * x_scale
    return Answer(product, between, y if bias is None else y + bias[None, :])


def integer_product(
    x_int: Ints,
    w_int: Ints,
    chip: Chip,
    signed: bool,
    calibrated: list[Fraction] | None,
    unit_calibrated: Fraction | None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    encoding, adc = chip["weights"]["encoding"], chip["adc"]
    xnor = encoding == "xnor"
    g_min = g_min_of(chip)
    slices = slices_of(w_int, chip)
    if xnor:
        pulses = Pulses(1, 0, False, [(1, x_int)])
    else:
        pulses = pulses_of(x_int, chip, signed)
    digital = adc is not None and adc["subtract"] == "digital"
    unit = adc is not None and adc["offset_correction"] == "unit_column"
    vectors, outputs = len(x_int), len(w_int)
    total = np.full((vectors, outputs), Fraction(0), dtype=object)
    between = np.zeros((vectors, outputs), dtype=bool)

    converters: list[Adc | None] = []
    for s, part in enumerate(slices):
        halves = 2 if digital and chip["weights"]["sided"] == "two" else 1
        own = None if calibrated is None else calibrated[s]
        converters.append(
            None if adc is None else converter(chip, part.top * halves, pulses.full, pulses.bipolar, own)
        )
    unit_adc = converter(chip, slices[0].top, pulses.full, pulses.bipolar, unit_calibrated) if unit else None

    # A code stands for levels: the known part of g_min goes, and with snap the rest is a whole level.
    @cache
    def read(q: int, levels: Fraction, drive: int, baseline: bool) -> tuple[Fraction, bool]:
        """Levels that the digital side takes a column for; `levels` above g_min, `drive` the sum of
        digits."""
        part, convert = (slices[0], unit_adc) if q < 0 else (slices[q], converters[q])
        fine = 2 if q >= 0 and digital and chip["weights"]["sided"] == "two" else 1
        per_level = (1 - g_min) / (part.top * pulses.full)
        known = g_min * drive / pulses.full if baseline else Fraction(0)
        v = levels * per_level + known
        value, tie = (v, False) if convert is None else convert.value(v)
        seen = (value - known) / per_level
        if convert is not None and adc["snap"]:
            near = seen * fine
            tie = tie or abs(near - math.floor(near) - Fraction(1, 2)) < TIE
            seen = Fraction(round(near), fine)
        return seen, tie

    lines_a_weight = 2 if xnor else 1
    for array in blocks(
        w_int.shape[1], chip["array"]["rows"] // lines_a_weight, chip["weights"]["partition"]
    ):
        flipped = {}
        for s, part in enumerate(slices):
            for o in range(outputs):
                top_bit = 2 ** ((chip["array"]["rows"] * part.top * pulses.full).bit_length() - 1)
                all_on = sum(int(part.plus[o, k]) for k in array) * pulses.full
                flipped[s, o] = encoding == "isaac" and all_on >= top_bit
        active = (chip["array"]["rows_active"] or chip["array"]["rows"]) // lines_a_weight
        for first in range(array.start, array.stop, active):
            rows = slice(first, min(first + active, array.stop))
            for weight, digits in pulses.cycles:
                for n in range(vectors):
                    d = digits[n, rows]
                    if xnor:
                        up, down, drive = (d > 0).astype(int), (d < 0).astype(int), int(np.abs(d).sum())
                    else:
                        drive = int(d.sum())
                    if unit:
                        counted, tie = read(-1, Fraction(drive), drive, True)
                        between[n] |= tie
                    else:
                        counted = Fraction(drive)
                    for o in range(outputs):
                        for s, part in enumerate(slices):
                            if xnor:
                                on = int(up @ part.plus[o, rows] + down @ part.minus[o, rows])
                                seen, tie = read(s, Fraction(on), drive, True)
                                got = part.gain * seen - drive
                            elif part.minus is None:
                                cells = part.plus[o, rows]
                                cells = part.top - cells if flipped[s, o] else cells
                                seen, tie = read(s, Fraction(int(d @ cells)), drive, True)
                                seen = part.top * counted - seen if flipped[s, o] else seen
                                got = part.gain * seen
                            elif digital:
                                plus, tie_plus = read(s, exact(d @ part.plus[o, rows]), drive, True)
                                minus, tie = read(s, exact(d @ part.minus[o, rows]), drive, True)
                                tie, got = tie or tie_plus, part.gain * (plus - minus)
                            else:
                                difference = part.plus[o, rows] - part.minus[o, rows]
                                seen, tie = read(s, exact(d @ difference), drive, False)
                                got = part.gain * seen
                            total[n, o] += weight * got
                            between[n, o] |= tie
                        if encoding in ("offset", "isaac"):
                            bits = chip["weights"]["bits"]
                            total[n, o] -= weight * counted * (2 ** (bits - 1) if bits > 1 else 1)
    if pulses.shift:
        total -= pulses.shift * w_int.sum(1)[None, :]
    return total, between
