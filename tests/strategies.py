"""Hypothesis strategies: chips, and matrices to put on them.

Chips stay small (a few dozen rows) so that a dense loop can follow; what they cover is every encoding,
width, digit, signed
encoding, partition, readout order, range and kind of converter that the description allows together.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from imcsim import Hardware

ENCODINGS = ("differential", "offset", "isaac", "twos_complement", "xnor", "ternary")
SIGNED_ENCODINGS = ("sign_magnitude", "twos_complement", "offset")

SCALE = int(os.environ.get("IMCSIM_EXAMPLES", "1"))
"""How many times more examples than in CI, which takes the same ones every time; above 1 they are fresh."""


def examples(count: int) -> settings:
    """Hypothesis settings for a test that wants another number of examples than most."""
    return settings(max_examples=count * SCALE)


@st.composite
def weight_tables(
    draw: st.DrawFn, encodings: tuple[str, ...] = ENCODINGS, max_bits: int = 8
) -> dict[str, Any]:
    encoding = draw(st.sampled_from(encodings))
    table: dict[str, Any] = {
        "encoding": encoding,
        "scale": draw(st.sampled_from(["per_tensor", "per_channel"])),
        "partition": draw(st.sampled_from(["fill", "even"])),
    }
    if encoding == "xnor":
        return table | {"bits": 1, "cell_bits": 1}
    if encoding == "ternary":
        return table | {"bits": 2, "cell_bits": 1, "sided": draw(st.sampled_from(["one", "two"]))}
    bits = draw(st.integers(2 if encoding == "twos_complement" else 1, max_bits))
    need = bits if encoding in ("offset", "isaac") else max(bits - 1, 1)
    if draw(st.booleans()):
        cell_bits: int | list[int] = draw(st.integers(1, min(need, 5)))
    else:
        cell_bits = []
        while sum(cell_bits) < need:
            cell_bits.append(draw(st.integers(1, 4)))
    table |= {"bits": bits, "cell_bits": cell_bits}
    if encoding == "differential":
        table["sided"] = draw(st.sampled_from(["one", "two"]))
    return table


@st.composite
def input_tables(draw: st.DrawFn, xnor: bool, max_bits: int = 8) -> dict[str, Any]:
    if xnor:
        return {"bits": 1, "signed": True}
    bits = draw(st.integers(1, max_bits))
    # One bit unsigned is not something the contract describes.
    signed = bits == 1 or draw(st.booleans())
    encoding = "sign_magnitude" if bits == 1 else draw(st.sampled_from(SIGNED_ENCODINGS))
    return {
        "bits": bits,
        "bits_per_cycle": draw(st.integers(1, min(bits, 4))),
        "signed": signed,
        "signed_encoding": encoding,
    }


def full_levels(chip: dict[str, Any]) -> int:
    """Levels that a converter on the full range of `chip` must tell apart on one side of zero, g_min = 0."""
    weights, inputs, adc = chip["weights"], chip["inputs"], chip["adc"]
    if weights["encoding"] == "xnor":
        return chip["array"]["rows"] // 2
    signed, how, bits = inputs["signed"], inputs["signed_encoding"], inputs["bits"]
    magnitude = bits if not signed or how == "offset" else max(bits - 1, 1)
    digit = 2**magnitude - 1 if adc["per"] == "vector" else 2 ** inputs["bits_per_cycle"] - 1
    cell_bits = weights["cell_bits"]
    widths = [cell_bits] if isinstance(cell_bits, int) else cell_bits
    levels = chip["array"]["rows"] * (2 ** max(widths) - 1) * digit
    if weights["encoding"] == "isaac":
        # The widest slice is not flipped below the top bit of its own sum; a unit column also has to fit.
        narrow = max(2 ** ((chip["array"]["rows"] * (2**w - 1) * digit).bit_length() - 1) - 1 for w in widths)
        unit = chip["array"]["rows"] * digit if adc["offset_correction"] == "unit_column" else 0
        return max(narrow, unit)
    return levels * (2 if adc["subtract"] == "digital" and weights.get("sided") == "two" else 1)


def full_is_signed(chip: dict[str, Any]) -> bool:
    """Whether currents have both signs."""
    inputs, adc = chip["inputs"], chip["adc"]
    if chip["weights"]["encoding"] == "xnor":
        return False
    if chip["weights"]["encoding"] in ("differential", "ternary") and adc["subtract"] == "analog":
        return True
    if not inputs["signed"] or inputs["signed_encoding"] == "offset":
        return False
    return inputs["signed_encoding"] == "sign_magnitude" or adc["per"] == "vector"


def lossless_bits(chip: dict[str, Any]) -> int:
    """The law: the fewest bits at which the full range loses nothing.

    Unipolar, ``ceil(log2(levels + 1))``; bipolar or symmetric, one more.
    """
    both = full_is_signed(chip) or chip["adc"]["kind"] == "symmetric"
    return max(full_levels(chip).bit_length() + both, 2 if both else 1)


@st.composite
def chips(
    draw: st.DrawFn,
    *,
    encodings: tuple[str, ...] = ENCODINGS,
    converters: str = "any",
    finite_ratio: bool = True,
    max_bits: int = 8,
    max_rows: int = 24,
) -> dict[str, Any]:
    """Tables of a valid description.

    converters: "any"; "none": ideal; "enough": the full range with at least the bits of the law; "short":
    fewer.
    """
    weights = draw(weight_tables(encodings, max_bits))
    encoding = weights["encoding"]
    inputs = draw(input_tables(encoding == "xnor", max_bits))
    rows = draw(st.integers(1, max_rows)) * (2 if encoding == "xnor" else 1)
    rows += encoding == "isaac"  # one row of 1-bit cells is always flipped: its full range is [0, 0]
    active = draw(st.integers(1, rows)) if draw(st.booleans()) else rows
    active += active % 2 if encoding == "xnor" else 0
    chip: dict[str, Any] = {
        "array": {"rows": rows, "rows_active": active},
        "weights": weights,
        "inputs": inputs,
        "device": {"on_off_ratio": float("inf")},
        "adc": None,
    }
    if finite_ratio and draw(st.booleans()):
        chip["device"]["on_off_ratio"] = draw(st.sampled_from([2.0, 4.0, 5.0, 10.0, 17.0, 1000.0]))
    if converters == "none" or (converters == "any" and draw(st.integers(0, 7)) == 0):
        return chip
    adc: dict[str, Any] = {
        "kind": draw(st.sampled_from(["auto", "uniform", "symmetric", "sense_amp"])),
        "per": draw(st.sampled_from(["cycle", "vector"])),
        "range": "full",
        "subtract": "analog",
        "offset_correction": "digital",
        "snap": draw(st.booleans()) if converters == "any" else False,
    }
    if encoding in ("differential", "ternary"):
        adc["subtract"] = draw(st.sampled_from(["analog", "digital"]))
    if encoding in ("offset", "isaac"):
        adc["offset_correction"] = draw(st.sampled_from(["digital", "unit_column"]))
    chip["adc"] = adc
    need = lossless_bits(chip)
    if converters == "enough":
        adc["bits"] = need + draw(st.integers(0, 2))
        return chip
    low = 2 if adc["kind"] in ("auto", "symmetric") else 1
    adc["bits"] = draw(st.integers(low, max(low, need - 1 if converters == "short" else need + 1)))
    if converters == "any":
        shape = draw(st.sampled_from(["full", "explicit", "calibrated"]))
        if shape == "explicit":
            hi = draw(st.sampled_from([0.7, 1.0, 2.5, 4.1, 8.0, 13.3]))
            lo = draw(st.sampled_from([0.0, -hi, -0.31 * hi]))
            if adc["kind"] == "symmetric" or (adc["kind"] == "auto" and lo < 0):
                lo = -hi
            adc["range"] = [lo, hi]
        else:
            adc["range"] = shape
    return chip


def hardware_of(chip: dict[str, Any]) -> Hardware:
    """The validated description."""
    return Hardware.model_validate({key: table for key, table in chip.items() if table is not None})


def hardwares(**options: Any) -> st.SearchStrategy[Hardware]:
    return chips(**options).map(hardware_of)


@st.composite
def matrices(
    draw: st.DrawFn, chip: dict[str, Any], max_inputs: int = 40
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights (outputs, inputs), inputs (vectors, inputs) and the input range, in float64.

    Inputs lie near the middle of their codes' cells, so that rounding them never depends on the last bit;
    some lie beyond
    the range, some are zero.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    outputs, inputs, vectors = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, max_inputs)),
        draw(st.integers(1, 3)),
    )
    w = rng.normal(size=(outputs, inputs)) * 10.0 ** draw(st.integers(-2, 1))
    w *= rng.random(w.shape) < draw(st.sampled_from([0.5, 1.0]))
    if draw(st.booleans()):  # full scale: the largest sums
        w = np.where(rng.random(w.shape) < 0.9, np.abs(w).max(), -np.abs(w).max())
    full = float(draw(st.sampled_from([0.25, 1.0, 3.7])))
    bits, signed = chip["inputs"]["bits"], chip["inputs"]["signed"]
    if bits == 1 and signed:
        return w, full * rng.choice([-1.3, -1.0, -0.2, 0.3, 1.0], size=(vectors, inputs)), full
    top = 2 ** (bits - signed) - 1
    codes = rng.integers(-top if signed else 0, top + 1, size=(vectors, inputs))
    if draw(st.booleans()):
        codes = np.where(rng.random(codes.shape) < 0.9, top, codes)
    x = (codes + rng.uniform(-0.3, 0.3, size=codes.shape)) * (full / top)
    x = np.where(rng.random(x.shape) < 0.05, np.sign(x) * 2 * full, x)
    return w, x, full
