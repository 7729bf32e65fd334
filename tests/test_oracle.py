"""Linear layers on every kind of chip against the dense loop of `tests.oracle`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st
from torch import nn

import imcsim
from tests import oracle
from tests.strategies import ENCODINGS, chips, examples, hardware_of, matrices
from tests.tolerances import ORACLE_FLOAT32, ORACLE_FLOAT64


def full_tables(hardware: imcsim.Hardware) -> dict[str, Any]:
    return hardware.model_dump()


def simulated(w, x, full: float, chip: dict[str, Any], ends: list[Fraction] | None, dtype, engine: str):
    """The layer through `imcsim.convert`; `ends` (in fully-on cells) take the place of calibrated ranges."""
    chip = {**chip, "inputs": {**chip["inputs"], "range": full}}
    layer = nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.linspace(-1, 1, len(w), dtype=torch.float64))
    sim = imcsim.convert(layer, hardware_of(chip), engine=engine)
    if ends is not None:
        set_calibrated_ends(sim, chip, ends)
    return sim.to(dtype), layer.bias.detach().numpy()


def set_calibrated_ends(sim: nn.Module, chip: dict[str, Any], ends: list[Fraction]) -> None:
    """What calibration would have stored: the upper end of each stream in levels, the unit column's last."""
    array, weights = sim.array, chip["weights"]
    fine = 2 if chip["adc"]["subtract"] == "digital" and weights.get("sided") == "two" else 1
    tops = [top * fine for top in array.slicing.top_levels]
    g_min = oracle.g_min_of(full_tables(array.hardware))
    level = [(1 - g_min) / (top * array.pulses.digit_max) for top in tops]
    highs = [float(end / one) for end, one in zip(ends, level, strict=False)]
    if chip["adc"]["subtract"] == "digital":
        highs = [*highs, *highs]
    if array.has_unit_column:
        highs.append(float(ends[-1] / level[0]))
    array.adc_high = tuple(highs)
    array.forget_plans()


def agree(chip: dict[str, Any], w, x, full: float, ends: list[Fraction] | None, dtype, engine: str) -> None:
    sim, bias = simulated(w, x, full, chip, ends, dtype, engine)
    tables = full_tables(sim.array.hardware)
    want = oracle.linear(
        x,
        w,
        tables,
        input_range=full,
        signed=chip["inputs"]["signed"],
        bias=bias,
        calibrated=ends,
        unit_calibrated=None if ends is None else ends[-1],
    )
    got = sim(torch.from_numpy(x).to(dtype)).detach().double().numpy()
    assume(not want.between.all())
    tolerance = ORACLE_FLOAT64 if dtype == torch.float64 else ORACLE_FLOAT32
    scale = max(np.abs(want.y).max(), np.abs(want.y - bias).max(), 1e-30)
    off = np.abs(got - want.y)[~want.between] / scale
    note(f"{engine}: {off.max():.3g} of the largest output off")
    assert off.max() <= tolerance


def some_ends(draw: st.DrawFn, chip: dict[str, Any]) -> list[Fraction] | None:
    """Ends that a calibration might have chosen, one a slice and one for the unit column."""
    if chip["adc"] is None or chip["adc"]["range"] != "calibrated":
        return None
    count = len(imcsim_slices(chip)) + 1
    return [Fraction(draw(st.integers(1, 400)), 37) for _ in range(count)]


def imcsim_slices(chip: dict[str, Any]) -> list[oracle.Slice]:
    weights = hardware_of(chip).model_dump()
    return oracle.slices_of(np.zeros((1, 1), dtype=np.int64) + 1, weights)


@pytest.mark.oracle
@examples(100)
@pytest.mark.parametrize("encoding", ENCODINGS)
@given(data=st.data())
def test_any_chip(encoding: str, data: st.DataObject) -> None:
    chip = data.draw(chips(encodings=(encoding,)))
    w, x, full = data.draw(matrices(chip))
    ends = some_ends(data.draw, chip)
    for engine in ("reference", "auto"):
        agree(chip, w, x, full, ends, torch.float64, engine)


@pytest.mark.oracle
@examples(40)
@given(data=st.data())
def test_any_chip_in_float32(data: st.DataObject) -> None:
    chip = data.draw(chips())
    w, x, full = data.draw(matrices(chip))
    w = w.astype(np.float32).astype(np.float64)
    ends = some_ends(data.draw, chip)
    for engine in ("reference", "auto"):
        agree(chip, w, x, full, ends, torch.float32, engine)


@pytest.mark.oracle
@examples(40)
@given(data=st.data())
def test_wide_codes(data: st.DataObject) -> None:
    chip = data.draw(chips(max_bits=16, max_rows=12))
    w, x, full = data.draw(matrices(chip, max_inputs=20))
    for engine in ("reference", "auto"):
        agree(chip, w, x, full, some_ends(data.draw, chip), torch.float64, engine)


@pytest.mark.oracle
@pytest.mark.parametrize("converters", ["enough", "none"])
@given(data=st.data())
def test_the_oracle_itself_gives_the_integer_product(converters: str, data: st.DataObject) -> None:
    """A converter that loses nothing: the dense loop is the integer product, so the loop is right about
    what that is."""
    chip = data.draw(chips(converters=converters, finite_ratio=False))
    w, x, full = data.draw(matrices(chip))
    signed = chip["inputs"]["signed"]
    tables = full_tables(hardware_of(chip))
    w_int, _ = oracle.weight_codes(w, tables)
    x_int, _ = oracle.input_codes(x, tables, full, signed)
    product, _ = oracle.integer_product(x_int, w_int, tables, signed, None, None)
    assert (product == x_int @ w_int.T).all()


@pytest.mark.oracle
def test_text_examples_of_bits() -> None:
    """128 rows, 2-bit cells, 1-bit pulses: 9 bits (offset, digital subtraction), 10 (differential), 8
    (isaac)."""
    base = {"device": {"on_off_ratio": float("inf")}, "array": {"rows": 128}}
    for encoding, subtract, bits in (
        ("offset", "analog", 9),
        ("differential", "digital", 9),
        ("differential", "analog", 10),
        ("isaac", "analog", 8),
    ):
        for given_bits, lossless in ((bits, True), (bits - 1, False)):
            chip = {
                **base,
                "weights": {"encoding": encoding, "cell_bits": 2, "bits": 8, "sided": "one"},
                "adc": {"bits": given_bits, "kind": "auto", "range": "full", "subtract": subtract},
            }
            adc = oracle.converter(chip, 3, 1, False, None)
            assert ((adc.hi - adc.lo) / (adc.codes - 1) == Fraction(1, 3)) is lossless
