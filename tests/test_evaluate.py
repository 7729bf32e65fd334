"""Accuracy with its interval, and distance from a reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import imcsim
from imcsim.errors import InputError
from imcsim.evaluate import Evaluation, sqnr_db


class Fixed(nn.Module):
    """Logits are the inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def pairs(right: int, wrong: int) -> list[tuple[Tensor, Tensor]]:
    x = torch.eye(3)[torch.arange(right + wrong) % 3]
    y = torch.arange(right + wrong) % 3
    y[right:] = (y[right:] + 1) % 3
    return list(zip(x.split(7), y.split(7), strict=True))


def test_top1_and_n() -> None:
    ev = imcsim.evaluate(Fixed(), pairs(30, 10))
    assert (ev.top1, ev.n, ev.sqnr_db) == (0.75, 40, None)
    assert "75.00 %" in str(ev)
    assert "n = 40" in str(ev)


@given(st.integers(0, 60), st.integers(0, 60).filter(bool))
def test_the_interval_is_wilsons(right: int, wrong: int) -> None:
    ev = imcsim.evaluate(Fixed(), pairs(right, wrong))
    want = stats.binomtest(right, right + wrong).proportion_ci(0.95, "wilson")
    assert ev.ci95 == pytest.approx((want.low, want.high), abs=1e-12)
    assert 0 <= ev.ci95[0] <= ev.top1 <= ev.ci95[1] <= 1


def test_sqnr_is_over_all_logits_of_all_batches() -> None:
    assert imcsim.evaluate(Scaled(1.1), pairs(20, 3), reference=Fixed()).sqnr_db == pytest.approx(20.0)
    assert imcsim.evaluate(Fixed(), pairs(20, 3), reference=Fixed()).sqnr_db == math.inf
    ref, y = torch.randn(50), torch.randn(50)
    want = 10 * math.log10((ref.double() ** 2).sum() / ((ref - y).double() ** 2).sum())
    assert sqnr_db(ref, y) == pytest.approx(want, rel=1e-6)


def test_a_generator_will_do_and_modes_are_restored() -> None:
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 3)).train()
    first = imcsim.evaluate(net, (pair for pair in pairs(20, 3)))
    assert net.training
    assert net[0].training
    assert imcsim.evaluate(net, pairs(20, 3)) == first
    assert not net[1].weight.grad_fn


def test_lists_are_pairs_too() -> None:
    assert imcsim.evaluate(Fixed(), [list(pair) for pair in pairs(9, 3)]).top1 == 0.75


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([], r"evaluate got no samples; give at least one"),
        ([torch.zeros(3, 3)], r"evaluate needs \(input, label\) pairs of tensors, but got Tensor"),
        (torch.zeros(3, 3), r"got one tensor; pass \[\(inputs, labels\)\]"),
        ([(torch.zeros(3, 3), torch.zeros(4))], r"inputs are \(3, 3\) and labels \(4,\)"),
        ([(torch.zeros(3, 3), [0, 1, 2])], r"pairs of tensors, but got a tuple of 2: Tensor, list"),
        ([(torch.zeros(3, 3), torch.zeros(3), 1)], r"got a tuple of 3"),
    ],
)
def test_bad_batches(batches, text: str) -> None:
    with pytest.raises(InputError, match=text):
        imcsim.evaluate(Fixed(), batches)


def test_a_row_holds_labels_and_figures() -> None:
    found = Evaluation(0.5, 8, (0.2, 0.8), 12.0)
    assert found.row(adc_bits=6) == {
        "adc_bits": 6,
        "top1": 0.5,
        "ci95_low": 0.2,
        "ci95_high": 0.8,
        "sqnr_db": 12.0,
        "n": 8,
    }
