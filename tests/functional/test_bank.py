"""Sets of converters that are not ideal: search, ties, error, affine errors; k-means values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.adc import Converter, convert
from imcsim.functional.bank import Bank, Transfer, decision_levels, read_out, ties_to_even
from imcsim.functional.ranges import kmeans_values
from tests.tolerances import Z

OWNER = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
FIRST = torch.zeros((), dtype=torch.int64)


def counting(thresholds: torch.Tensor) -> Transfer:
    codes = torch.arange(thresholds.shape[1] + 1, dtype=torch.float64)
    return Transfer(thresholds, codes.expand(thresholds.shape[0], -1))


@given(st.integers(2, 300), st.integers(1, 9), st.floats(0, 5), st.integers(0, 1000))
def test_search_counts_the_levels_at_or_below(codes: int, rows: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.sort(np.arange(1, codes) - 0.5 + spread * rng.normal(size=(rows, codes - 1)), axis=1)
    inputs = np.concatenate([rng.uniform(-9, codes + 9, 200), levels[0][:20]])  # some exactly at a level
    row = rng.integers(0, rows, len(inputs))
    row[200:] = 0
    got = counting(torch.from_numpy(levels)).read(torch.from_numpy(inputs), torch.from_numpy(row))
    want = [np.searchsorted(levels[r], u, side="right") for r, u in zip(row, inputs, strict=True)]
    assert got.tolist() == want


@given(st.integers(2, 70))
def test_levels_of_ideal_converters_round_halves_to_even(codes: int) -> None:
    inputs = torch.arange(-8, 4 * codes + 8, dtype=torch.float64) / 4
    transfer = counting(ties_to_even(decision_levels(codes).unsqueeze(0)))
    assert torch.equal(transfer.read(inputs, FIRST), inputs.round().clamp(0, codes - 1))


def test_mean_square_of_moved_levels_is_exact() -> None:
    """Moving a level by d adds d^2 / codes to the 1 / 12 of rounding."""
    rng = np.random.default_rng(3)
    moved = torch.from_numpy(rng.uniform(-0.4, 0.4, (3, 63)))
    transfer = counting(decision_levels(64) + moved)
    want = 1 / 12 + moved.square().sum(1) / 64
    assert torch.allclose(transfer.mean_square(63), want, rtol=1e-12)
    inputs = torch.linspace(-0.5, 63.5, 2_000_001, dtype=torch.float64)
    measured = (transfer.read(inputs, FIRST) - inputs).square().mean()
    assert float(measured) == pytest.approx(float(want[0]), rel=1e-5)


def test_gain_offset_and_noise_act_where_they_say() -> None:
    converter = Converter(1, 1, 8, 16)
    levels = torch.linspace(-6, 6, 25, dtype=torch.float64)
    bank = Bank(OWNER, (0,), gain=torch.tensor([0.1]).double(), offset=torch.tensor([0.3]).double())
    want = convert(levels * (1 + bank.gain[0]) + 0.3, converter)
    assert torch.equal(read_out(levels, converter, bank, 0, FIRST), want)
    draws = torch.from_numpy(np.random.default_rng(0).standard_normal(100_000))
    noisy = Bank(OWNER, (0,), noise=1.5)
    codes = read_out(torch.zeros(100_000).double(), Converter(1, 1, 100, 200), noisy, 0, FIRST, draws)
    variance = 1.5**2 + 1 / 12  # rounding adds its own where noise is wider than a code
    assert abs(float(codes.var()) - variance) <= Z * variance * math.sqrt(2 / 100_000)
    assert noisy.excess_square(converter) == 1.5**2


def test_streams_read_by_rows_of_their_own() -> None:
    transfer = Transfer(
        torch.tensor([[0.5], [1.5]]).double(), torch.tensor([[0.0, 1.0], [0.0, 2.0]]).double()
    )
    bank = Bank(OWNER, (0, 1), transfer=transfer)
    converter, one = Converter(1, 1, 0, 2), torch.ones(1, dtype=torch.float64)
    assert read_out(one, converter, bank, 0, FIRST).tolist() == [1.0]
    assert read_out(one, converter, bank, 1, FIRST).tolist() == [0.0]
    assert read_out(2 * one, converter, bank, 1, FIRST).tolist() == [2.0]


def test_kmeans_of_a_normal_gives_its_known_quantizer() -> None:
    """J. Max, IRE Trans. Inf. Theory 6, 1960, table I: 4 values of a normal, +-0.4528 and +-1.510."""
    at = torch.linspace(-6, 6, 40_001, dtype=torch.float64)
    values = kmeans_values(at, torch.exp(-at.square() / 2), 4)
    assert values == pytest.approx((-1.510, -0.4528, 0.4528, 1.510), abs=2e-3)


def test_kmeans_of_few_currents_takes_them_all() -> None:
    at, counts = torch.tensor([-2.0, 0.0, 1.0, 5.0]), torch.tensor([3.0, 9.0, 0.0, 1.0])
    assert kmeans_values(at, counts, 5) == (-2.0, 0.0, 5.0, 5.0, 5.0)
