"""Engines against the float64 reference, bit for bit on whole levels; and what the planner says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import imcsim
from imcsim.functional.adc import level_converter, ranged_converter
from imcsim.kernels import matmul
from tests.strategies import chips, examples, hardware_of
from tests.tolerances import SCALED_FLOAT64


@examples(60)
@given(data=st.data())
def test_every_engine_gives_the_reference_on_whole_levels(data: st.DataObject) -> None:
    """Whatever is lost in the converters is lost alike: the same codes, so the same sums."""
    chip = data.draw(chips(converters=data.draw(st.sampled_from(["short", "enough"])), finite_ratio=False))
    chip["inputs"]["range"] = 1.0
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    layer = nn.Linear(
        data.draw(st.integers(1, 70)), 5, dtype=data.draw(st.sampled_from([torch.float32, torch.float64]))
    )
    x = 1.5 * torch.randn(9, layer.in_features, dtype=layer.weight.dtype)
    want = imcsim.convert(layer, hardware_of(chip), engine="reference")(x)
    assert torch.equal(imcsim.convert(layer, hardware_of(chip), engine="matmul")(x), want)
    auto = imcsim.convert(layer, hardware_of(chip))(x)
    # The same codes; the table engine multiplies a sum by LSB and scales in another order, an ulp of float64.
    assert (auto - want).abs().max() <= SCALED_FLOAT64 * want.abs().max()


def test_matmul_works_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest matrix that it holds is bounded whatever the batch, and blocks do not show."""
    layer, hardware = nn.Linear(64, 16), imcsim.Hardware(inputs={"range": "dynamic"}, adc={"bits": 5})
    x = torch.randn(300, 64)
    want = imcsim.convert(layer, hardware, engine="matmul")(x)
    monkeypatch.setattr(matmul, "BLOCK_ELEMENTS", 1)
    assert torch.equal(imcsim.convert(layer, hardware, engine="matmul")(x), want)


@given(
    st.sampled_from(["uniform", "symmetric", "sense_amp"]),
    st.integers(2, 12),
    st.integers(1, 2000),
    st.floats(0.05, 1.5),
    st.booleans(),
)
def test_float32_twins_give_the_same_codes(
    kind: str, bits: int, high: int, part: float, signed: bool
) -> None:
    """A twin is only given where float32 arithmetic puts every whole level on the code that float64 does."""
    low = -high if signed else 0
    made = ranged_converter(kind, bits, -high * part if signed else 0.0, high * part)
    twin = matmul.float32_twin(made, low, high)
    if twin is None:
        return
    levels = torch.arange(low, high + 1, dtype=torch.float64)
    from imcsim.functional.adc import convert

    assert torch.equal(convert(levels, made), convert(levels.float(), twin).double())


def test_lossless_converters_have_a_twin() -> None:
    for bits, high in ((9, 384), (10, 1000), (12, 4095)):
        made = level_converter("uniform", bits, 0, high)
        assert made is not None
        assert matmul.float32_twin(made, 0, high) is not None


def test_the_planners_reason_names_what_is_lost() -> None:
    layer = nn.Linear(40, 4)
    base = imcsim.Hardware(inputs={"range": "dynamic"}, adc={"bits": 10})

    def reason(change: dict) -> str:
        (row,) = imcsim.summary(imcsim.convert(layer, base.replace(change))).rows
        return row.reason

    assert reason({}) == "converters lose nothing"
    assert "codes" in reason({"adc.bits": 4})
    assert "g_min" in reason({"adc.subtract": "digital", "device.on_off_ratio": 10.0})
    assert "programmed" in reason({"device.programming": {"kind": "range", "sigma": 0.1}})
