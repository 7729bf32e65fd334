"""Float32 constants reproduce every code of the float64 converter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.adc import Converter, ranged_converter
from imcsim.kernels.table_adc import codes_of, constants, float_codes
from tests.kernels.table_cases import CONVERTERS


@pytest.mark.parametrize("converter", CONVERTERS, ids=str)
@pytest.mark.parametrize("per_level", [1, 2])
def test_constants_are_exact_at_ties(converter: Converter, per_level: int) -> None:
    found = constants(converter, per_level, -768, 768)
    levels = np.arange(-768, 769)
    if found.exact:
        codes = np.clip(float_codes(levels, found.scale, found.remainder, found.origin), 0, found.top)
        np.testing.assert_array_equal(codes, codes_of(levels, converter, per_level))


@given(
    st.sampled_from(["uniform", "symmetric", "sense_amp"]),
    st.integers(2, 14),
    st.sampled_from([32, 64, 128, 256]),
    st.integers(1, 4),
)
def test_full_ranges_have_exact_constants(kind: str, bits: int, rows: int, cell_bits: int) -> None:
    high = rows * ((1 << cell_bits) - 1)
    converter = ranged_converter(kind, bits, -high if kind == "symmetric" else 0, high)
    assert constants(converter, 1, -high if kind == "symmetric" else 0, high).exact
