"""Digits of input codes recombine, and stay within their converter."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.dac import PulseTrain, digits
from imcsim.hardware import Hardware
from imcsim.nn.readout import pulse_train
from tests.strategies import SIGNED_ENCODINGS


@st.composite
def trains(draw: st.DrawFn) -> tuple[PulseTrain, int, bool, str]:
    bits = draw(st.integers(2, 16))
    signed, how = draw(st.booleans()), draw(st.sampled_from(SIGNED_ENCODINGS))
    inputs = {
        "bits": bits,
        "bits_per_cycle": draw(st.integers(1, bits)),
        "signed": signed,
        "signed_encoding": how,
    }
    adc = {"bits": 8, "per": draw(st.sampled_from(["cycle", "vector"]))}
    return pulse_train(Hardware(inputs=inputs, adc=adc), signed=signed), bits, signed, how


@given(trains(), st.integers(0, 1000))
def test_digits_recombine(made, seed: int) -> None:
    train, bits, signed, _ = made
    top = 2 ** (bits - signed) - 1
    x = torch.randint(-top if signed else 0, top + 1, (50,), generator=torch.Generator().manual_seed(seed))
    x[0], x[1] = top, -top if signed else 0
    for dtype in (torch.float32, torch.float64):
        pulses = digits(x.to(dtype), train)
        assert pulses.dtype == dtype
        weights = torch.tensor(train.weights, dtype=torch.float64)
        assert torch.equal(weights @ pulses.double(), (x + train.shift).double())
        assert pulses.abs().max() <= train.digit_max
        assert train.signed_digits or (pulses >= 0).all()


@given(trains())
def test_number_of_cycles(made) -> None:
    train, bits, signed, how = made
    if train.accumulate:
        assert len(train.weights) == 1
        return
    width = train.bits_per_cycle
    whole, magnitude = -(-bits // width), -(-(bits - 1) // width)
    expected = whole if not signed or how == "offset" else magnitude + (how == "twos_complement")
    assert len(train.weights) == expected
    assert train.weights[0] == 1


def test_sign_bit_has_a_cycle_of_its_own_with_negative_weight() -> None:
    train = PulseTrain(7, 3, sign_cycle=True)
    assert train.weights == (1, 8, 64, -128)
    assert digits(torch.tensor([-1.0, 5.0]), train)[:, 0].tolist() == [7, 7, 1, 1]
    assert digits(torch.tensor([-1.0, 5.0]), train)[:, 1].tolist() == [5, 0, 0, 0]
