"""The calibrated range end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.adc import convert, ranged_converter
from imcsim.functional.ranges import mse_range, percentile_range, power_of_two_ranges


def error(values: torch.Tensor, counts: torch.Tensor, kind: str, bits: int, end: float) -> float:
    low = -end if float(values.min()) < 0 else 0.0
    made = ranged_converter(kind, bits, low, end)
    read = (convert(values, made) + made.residue) * made.step
    return float(((read - values).square() * counts).sum())


@given(st.integers(2, 9), st.sampled_from(["auto", "uniform", "symmetric"]), st.integers(0, 500))
def test_never_worse_than_the_largest_current_and_close_to_the_best(bits: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signed = bool(rng.integers(2))
    values = torch.arange(-2000 if signed else 0, 2001, dtype=torch.float64) / 10
    counts = torch.from_numpy(np.exp(-(values.numpy() ** 2) / (2 * rng.uniform(5, 80) ** 2)).round(4) * 1e4)
    make = lambda end: ranged_converter(kind, bits, -end if signed else 0.0, end)  # noqa: E731
    chosen = mse_range(values, counts, make)
    at_choice = error(values, counts, kind, bits, chosen)
    seen = values[counts > 0].abs().max().item()
    assert at_choice <= error(values, counts, kind, bits, seen)
    assert at_choice <= error(values, counts, kind, bits, 200.0)
    best = min(error(values, counts, kind, bits, end) for end in np.linspace(seen / 100, seen, 100))
    assert at_choice <= best * 1.05


def test_no_currents_at_all() -> None:
    values, counts = torch.arange(5.0).double(), torch.tensor([3.0, 0, 0, 0, 0]).double()
    assert mse_range(values, counts, lambda end: ranged_converter("uniform", 4, 0, end)) == 1.0
    assert percentile_range(values, counts, 99) == 1.0


def test_percentile() -> None:
    values = torch.arange(-50, 51).double()
    assert percentile_range(values, torch.ones(101).double(), 100) == 50
    assert percentile_range(values, torch.ones(101).double(), 50) == pytest.approx(25, abs=1)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=8))
def test_powers_of_two_apart(ends: list[float]) -> None:
    fitted = power_of_two_ranges(ends)
    for end, fit in zip(ends, fitted, strict=True):
        assert end <= fit <= max(ends)
        assert float(np.log2(max(ends) / fit)).is_integer()
        assert fit == max(ends) or fit < 2 * end
