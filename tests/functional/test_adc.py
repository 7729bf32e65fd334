"""Converters: error bound, monotonicity, ends, ties, theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from imcsim.errors import HardwareError, ImcsimError
from imcsim.functional.adc import Converter, convert, level_converter, ranged_converter
from tests.tolerances import HALF_LSB, Z

KINDS = ("uniform", "symmetric", "sense_amp", "auto")


@st.composite
def converters(draw: st.DrawFn) -> tuple[Converter, float, float]:
    kind = draw(st.sampled_from(KINDS))
    hi = draw(st.floats(0.5, 1e4))
    lo = draw(st.sampled_from([0.0, -hi, -0.3 * hi]))
    if kind in ("symmetric", "auto") and lo < 0:
        lo = -hi
    bits = draw(st.integers(2, 14))
    made = ranged_converter(kind, bits, lo, hi, literal=draw(st.booleans()))
    low, high = -made.origin * made.step, (made.top - made.origin) * made.step
    return made, low, high


def value(levels: torch.Tensor, converter: Converter) -> torch.Tensor:
    return (convert(levels, converter) + converter.residue) * converter.step


@given(converters(), st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=50))
def test_error_is_at_most_half_an_lsb_inside_and_clipped_outside(made, places) -> None:
    converter, low, high = made
    v = low + torch.tensor(places, dtype=torch.float64) * (high - low)
    inside = (v >= low) & (v <= high)
    error = (value(v, converter) - v).abs() / converter.step
    assert (error[inside] <= HALF_LSB).all()
    ends = value(v[~inside], converter)
    wanted = torch.where(v[~inside] > high, *torch.tensor([high, low], dtype=torch.float64))
    assert torch.allclose(ends, wanted, rtol=1e-9, atol=1e-9 * (high - low))


@given(converters(), st.lists(st.floats(-2, 2), min_size=2, max_size=50))
def test_monotone(made, places) -> None:
    converter, low, high = made
    v = (low + torch.tensor(sorted(places), dtype=torch.float64) * (high - low)).sort().values
    assert (convert(v, converter).diff() >= 0).all()


@given(converters())
def test_codes_are_whole_and_each_is_its_own_fixed_point(made) -> None:
    converter, _, _ = made
    assume(converter.top < 4096)
    codes = torch.arange(converter.top + 1, dtype=torch.float64)
    v = (codes - converter.origin) * converter.den / converter.num
    assert torch.equal(convert(v, converter) + converter.zero, codes)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_zero_is_a_code_where_the_contract_says_so(bits: int) -> None:
    for made in (
        ranged_converter("symmetric", bits, -5, 5),
        ranged_converter("uniform", bits, -5, 5),
        ranged_converter("uniform", bits, 0, 5),
        ranged_converter("auto", bits, -5, 5),
    ):
        assert made.residue == 0
        assert value(torch.zeros(1, dtype=torch.float64), made) == 0
    literal = ranged_converter("uniform", bits, -5, 5, literal=True)
    assert literal.residue != 0


def test_uniform_with_negative_currents_has_one_more_code_below() -> None:
    made = ranged_converter("uniform", 8, -10.0, 10.0)
    codes = convert(torch.tensor([-1e9, 1e9], dtype=torch.float64), made)
    assert codes.tolist() == [-128, 127]
    assert made.step == pytest.approx(20 / 255)


def test_symmetric_spans_its_range_with_an_odd_number_of_codes() -> None:
    made = ranged_converter("symmetric", 4, -7.0, 7.0)
    assert made.top + 1 == 15
    assert value(torch.tensor([-9.0, -7.0, 0.4, 7.0, 9.0], dtype=torch.float64), made).tolist() == [
        -7,
        -7,
        0,
        7,
        7,
    ]


def test_ties_go_to_the_even_code_and_up_in_a_comparator() -> None:
    v = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
    assert convert(v, level_converter("uniform", 3, 0, 7)).tolist() == [0, 2, 2]
    assert convert(v, level_converter("sense_amp", 3, 0, 7)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "low", "high", "bits"),
    [
        ("uniform", 0, 384, 9),
        ("symmetric", -384, 384, 10),
        ("uniform", -384, 384, 10),
        ("auto", -384, 384, 10),
        ("uniform", 0, 255, 8),
        ("symmetric", 0, 255, 9),
        ("uniform", 0, 1, 1),
        ("sense_amp", 0, 7, 3),
        ("sense_amp", -7, 7, 4),
    ],
)
def test_levels_told_apart(kind: str, low: float, high: float, bits: int) -> None:
    made = level_converter(kind, bits, low, high)
    assert made is not None
    assert made.lossless(low, high)
    levels = torch.arange(low, high + 1, dtype=torch.float64)
    assert torch.equal(value(levels, made), levels)
    if bits > (2 if low < 0 or kind == "symmetric" else 1):
        assert level_converter(kind, bits - 1, low, high) is None


@pytest.mark.parametrize("kind", ["symmetric", "auto"])
def test_one_bit_is_no_symmetric_converter(kind: str) -> None:
    with pytest.raises(HardwareError, match=r"adc\.bits = 1 .* use adc\.bits >= 2") as caught:
        ranged_converter(kind, 1, -1.0, 1.0)
    assert isinstance(caught.value, ImcsimError)


def test_six_decibels_a_bit() -> None:
    """A uniform quantizer of a uniform signal: SNR = 20 log10(2^bits), 6.02 dB a bit.

    n = 200,000 samples; the error's power is a mean of squares of a uniform variable, whose relative
    standard deviation is
    sqrt(4/5), so a figure in dB has a standard error of 4.34 sqrt(0.8 / n) x sqrt(2).
    """
    rng = np.random.default_rng(11)
    v = torch.from_numpy(rng.uniform(0, 1000, 200_000))
    bits = np.arange(6, 14)
    snr = []
    for b in bits:
        made = ranged_converter("uniform", int(b), 0.0, 1000.0)
        power = float((value(v, made) - v).square().mean())
        # LSB = range / (2^b - 1): the ends hold half a cell each.
        snr.append(10 * math.log10(1000**2 / 12 / power))
        ideal = 20 * math.log10(2**b - 1)
        assert abs(snr[-1] - ideal) <= Z * 4.34 * math.sqrt(0.8 / len(v)) * math.sqrt(2)
    slope = np.polyfit(bits, snr, 1)[0]
    expected = np.polyfit(bits, 20 * np.log10(2.0**bits - 1), 1)[0]
    assert slope == pytest.approx(expected, abs=0.01)
    assert slope == pytest.approx(20 * math.log10(2), abs=0.03)
