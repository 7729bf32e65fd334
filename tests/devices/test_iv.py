from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from imcsim.devices.iv import LinearIV, SinhIV, TableIV, sinh_current_A

V = torch.linspace(-0.3, 0.3, 13, dtype=torch.float64)


def test_linear_is_the_input_itself() -> None:
    digits = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert torch.equal(LinearIV(read_voltage_V=0.2).digit_ratio(digits), digits * 0.2 / 0.2)
    assert LinearIV().linear


@pytest.mark.parametrize("where", ["read", "zero"])
def test_sinh_ratio_is_current_over_the_linear_cells(where) -> None:
    iv = SinhIV(v0_V=0.15, read_voltage_V=0.3, conductance_at=where)
    g = 10e-6
    g_zero = g if where == "zero" else g * 0.3 / (0.15 * math.sinh(2.0))
    current = sinh_current_A(torch.tensor(g_zero, dtype=torch.float64), V, 0.15)
    torch.testing.assert_close(iv.ratio(V), current / (g * 0.3))
    assert float(iv.ratio(torch.tensor(0.3, dtype=torch.float64))) == pytest.approx(
        1.0 if where == "read" else 0.15 * math.sinh(2.0) / 0.3
    )


def test_sinh_is_odd_and_becomes_linear() -> None:
    iv = SinhIV(v0_V=0.1, read_voltage_V=0.3)
    torch.testing.assert_close(iv.ratio(-V), -iv.ratio(V))
    torch.testing.assert_close(SinhIV(v0_V=1e3, read_voltage_V=0.3).ratio(V), V / 0.3, rtol=1e-6, atol=1e-12)
    assert not iv.linear


def test_amplitude_digits_see_the_curve_and_pulses_only_a_factor() -> None:
    iv = SinhIV(v0_V=0.2, read_voltage_V=0.2, conductance_at="zero")
    digits = torch.arange(4, dtype=torch.float64) / 3
    got = iv.digit_ratio(digits)
    assert bool((got[1:3] / digits[1:3] < got[3]).all())  # less than the full pulse's share
    pulses = iv.digit_ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(pulses, torch.tensor([0.0, math.sinh(1.0)], dtype=torch.float64))


def test_sinh_gradient() -> None:
    assert torch.autograd.gradcheck(SinhIV(v0_V=0.1).ratio, V.clone().requires_grad_())


def test_table_is_exact_at_its_nodes_and_odd() -> None:
    iv = TableIV(read_voltage_V=0.2, table={"voltage_V": (0.0, 0.1, 0.2), "current_norm": (0.0, 0.4, 1.0)})
    v = torch.tensor([-0.2, -0.1, 0.0, 0.05, 0.1, 0.15, 0.2], dtype=torch.float64)
    want = torch.tensor([-1.0, -0.4, 0.0, 0.2, 0.4, 0.7, 1.0], dtype=torch.float64)
    torch.testing.assert_close(iv.ratio(v), want)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"voltage_V": (0.0, 0.1), "current_norm": (0.0, 1.0)}, "below read_voltage_V"),
        ({"voltage_V": (0.1, 0.3), "current_norm": (0.1, 1.0)}, "starts at"),
        ({"voltage_V": (0.0, 0.3, 0.2), "current_norm": (0.0, 1.0, 2.0)}, "must increase"),
        ({"voltage_V": (0.0, 0.3)}, "current_norm missing"),
    ],
)
def test_bad_tables(table, words) -> None:
    with pytest.raises(ValidationError, match=words):
        TableIV(read_voltage_V=0.2, table=table)
