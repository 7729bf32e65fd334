"""Ideal parts give the integer product exactly, for every layer option, encoding and engine.

Weights and input ranges are whole numbers whose scales are 1, so that a layer's output is the integer
product itself.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import imcsim
from tests.layers import CASES, LayerCase, named
from tests.strategies import ENCODINGS, chips, examples, hardware_of, lossless_bits

WIDTHS: dict[str, dict[str, Any]] = {
    "differential": {"bits": 5, "cell_bits": 2},
    "offset": {"bits": 5, "cell_bits": [1, 3, 1]},
    "isaac": {"bits": 4, "cell_bits": 2},
    "twos_complement": {"bits": 5, "cell_bits": 3},
    "xnor": {"bits": 1, "cell_bits": 1},
    "ternary": {"bits": 2, "cell_bits": 1},
}


def chip_of(encoding: str, *, signed: bool = True, **adc: Any) -> dict[str, Any]:
    """A small chip with the fewest bits at which its converters lose nothing."""
    xnor = encoding == "xnor"
    inputs = {"bits": 1, "signed": True} if xnor else {"bits": 4, "bits_per_cycle": 2, "signed": signed}
    chip = {
        "array": {"rows": 8, "rows_active": 6},
        "weights": {"encoding": encoding, **WIDTHS[encoding]},
        "inputs": {"signed_encoding": "sign_magnitude", **inputs},
        "adc": {"per": "cycle", "subtract": "analog", "kind": "auto", "offset_correction": "digital", **adc},
    }
    chip["adc"]["bits"] = lossless_bits(chip)
    return chip


def top_weight(chip: dict[str, Any]) -> int:
    return max(2 ** (chip["weights"]["bits"] - 1) - 1, 1)


def top_input(chip: dict[str, Any]) -> int:
    bits = chip["inputs"]["bits"]
    return 1 if bits == 1 else 2 ** (bits - chip["inputs"]["signed"]) - 1


def exact(case: LayerCase, chip: dict[str, Any], engine: str, seed: int = 0) -> None:
    layer, x = case.whole_numbers(
        top_weight(chip), top_input(chip), signed=chip["inputs"]["signed"], seed=seed
    )
    ranged = {**chip, "inputs": {**chip["inputs"], "range": float(top_input(chip))}}
    sim = imcsim.convert(layer, hardware_of(ranged), engine=engine)
    assert torch.equal(sim(x), layer(x))


@pytest.mark.parametrize("engine", ["reference", "matmul", "collapsed"])
@pytest.mark.parametrize(**named(CASES))
def test_every_layer_option_in_every_engine(case: LayerCase, engine: str) -> None:
    exact(case, chip_of("differential"), engine)


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e != "differential"])
@pytest.mark.parametrize(**named(CASES))
def test_every_layer_option_in_every_encoding(case: LayerCase, encoding: str) -> None:
    exact(case, chip_of(encoding), "auto", seed=1)
    exact(case, chip_of(encoding), "matmul", seed=2)


@examples(150)
@given(data=st.data())
def test_any_lossless_chip(data: st.DataObject) -> None:
    chip = data.draw(chips(converters=data.draw(st.sampled_from(["enough", "none"])), finite_ratio=False))
    case = data.draw(st.sampled_from(CASES))
    for engine in ("auto", "reference", "matmul", "collapsed"):
        exact(case, chip, engine, seed=data.draw(st.integers(0, 1000)))


@examples(50)
@given(data=st.data())
def test_g_min_that_cancels_in_analog(data: st.DataObject) -> None:
    chip = data.draw(chips(converters="enough", encodings=("differential", "ternary"), finite_ratio=False))
    chip["device"]["on_off_ratio"] = data.draw(st.sampled_from([2.0, 3.0, 10.0, 37.0]))
    chip["adc"]["subtract"] = "analog"
    chip["adc"]["bits"] = max(chip["adc"]["bits"], lossless_bits(chip))
    case = data.draw(st.sampled_from(CASES))
    for engine in ("auto", "reference"):
        exact(case, chip, engine)


def test_xnor_padding_drives_no_word_line() -> None:
    """A padded position is a true zero: neither line of the pair is on, and the popcount does not count
    it."""
    conv = nn.Conv2d(3, 4, 3, padding=2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.where(torch.rand(conv.weight.shape) < 0.5, 1.0, -1.0))
    x = torch.where(torch.rand(2, 3, 5, 5) < 0.5, 1.0, -1.0).double()
    hardware = imcsim.Hardware.model_validate(
        {
            "array": {"rows": 128},
            "weights": {"bits": 1, "encoding": "xnor"},
            "inputs": {"bits": 1, "range": 1.0},
            "adc": {"bits": 7},
        }
    )
    for engine in ("reference", "matmul", "collapsed"):
        sim = imcsim.convert(conv, hardware, engine=engine)
        assert torch.equal(sim(x), conv(x))
        corner = sim(x)[:, :, 0, 0]
        assert corner.abs().max() <= 3  # one position of nine overlaps the image


@pytest.mark.parametrize("engine", ["reference", "matmul", "auto"])
@pytest.mark.parametrize(
    ("encoding", "cell_bits", "ratio", "option"),
    [
        ("offset", 2, 10.0, {}),
        ("offset", 1, 4.0, {}),
        ("isaac", 2, 7.5, {}),
        ("twos_complement", 3, 10.0, {}),
        ("differential", 2, 10.0, {"subtract": "digital"}),
        ("offset", 2, 10.0, {"offset_correction": "unit_column"}),
        ("isaac", 2, 10.0, {"offset_correction": "unit_column"}),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else "-".join(value.values()) if isinstance(value, dict) else None
    ),
)
def test_snap_removes_a_known_baseline(
    encoding: str, cell_bits: int, ratio: float, option: dict[str, Any], engine: str
) -> None:
    """On two arrays, so that each read's baseline is its own."""
    layer, x = matrix(48, 5, 127, 255, signed=False)
    adc = {"bits": 12, "snap": True, **option}
    tables = {
        "device": {"on_off_ratio": ratio},
        "array": {"rows": 32},
        "weights": {"encoding": encoding, "cell_bits": cell_bits},
        "inputs": {"range": 255.0},
        "adc": adc,
    }
    hardware = imcsim.Hardware.model_validate(tables)
    assert torch.equal(imcsim.convert(layer, hardware, engine=engine)(x), layer(x))
    if encoding != "differential":  # there both sides are rounded alike
        without = imcsim.convert(layer, hardware.replace({"adc.snap": False}), engine=engine)
        assert not torch.equal(without(x), layer(x))


def test_snap_cannot_undo_an_odd_number_of_half_levels() -> None:
    """g_max / g_min = 3 with binary cells: every driven row adds half a level, which rounds half to even."""
    layer, x = matrix(48, 5, 127, 255, signed=False)
    hardware = imcsim.Hardware.model_validate(
        {
            "device": {"on_off_ratio": 3.0},
            "weights": {"encoding": "offset", "cell_bits": 1},
            "inputs": {"range": 255.0},
            "adc": {"bits": 12, "snap": True},
        }
    )
    assert not torch.equal(imcsim.convert(layer, hardware)(x), layer(x))


def matrix(
    inputs: int, outputs: int, top_w: int, top_x: int, *, signed: bool, seed: int = 0
) -> tuple[nn.Linear, Tensor]:
    case = LayerCase("Linear", nn.Linear, (inputs, outputs), (6, inputs), {"bias": False})
    layer, x = case.whole_numbers(top_w, top_x, signed=signed, seed=seed)
    assert isinstance(layer, nn.Linear)
    return layer, x


@pytest.mark.parametrize("rows", [519, 576, 777, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collapsed_engine_at_full_scale(rows: int, dtype: torch.dtype) -> None:
    """255 x 127 x 519 leaves float32's exact integers; sums that do not must still be exact."""
    layer, x = matrix(rows, 6, 127, 255, signed=False)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = 127, -127
        layer.weight[2, : rows // 2] = 127
        layer.weight[3, 1:] = 126
        layer.weight[3, 0] = 127
        x[0], x[1] = 255, 254
        x[2, ::2] = 255
    for encoding in ("differential", "offset"):
        hardware = imcsim.Hardware.model_validate(
            {"weights": {"encoding": encoding}, "inputs": {"range": 255.0}, "adc": {"bits": 10}}
        )
        sim = imcsim.convert(layer.to(torch.float32), hardware, engine="collapsed").to(dtype)
        want = x @ layer.weight.double().T
        got = sim(x.to(dtype))
        assert torch.equal(got, want.to(dtype))


def test_collapsed_engine_of_convolutions_at_full_scale() -> None:
    conv = nn.Conv2d(64, 4, 3, padding=1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.fill_(127)
        conv.weight[1] = -127
        conv.weight[2, 1:] = 126
    x = torch.full((1, 64, 5, 5), 255.0, dtype=torch.float64)
    x[0, 0, 2, 2] = 254
    hardware = imcsim.Hardware.model_validate({"inputs": {"range": 255.0}})
    sim = imcsim.convert(conv, hardware, engine="collapsed")
    assert torch.equal(sim(x), conv(x))


@pytest.mark.parametrize("preset", ["isaac", "puma"])
@pytest.mark.parametrize("engine", ["auto", "reference", "matmul", "collapsed"])
def test_sixteen_bits_by_sixteen_bits(preset: str, engine: str) -> None:
    top = 2**15 - 1
    layer, x = matrix(300, 4, top, top, signed=True)
    with torch.no_grad():
        layer.weight[0], x[0] = top, top
        layer.weight[1], x[1] = -top, -top
    hardware = imcsim.load_hardware(preset).replace({"inputs.range": float(top), "inputs.signed": True})
    assert torch.equal(imcsim.convert(layer, hardware, engine=engine)(x), x @ layer.weight.T)


def test_ternary_weights_are_minus_one_zero_and_one() -> None:
    layer, x = matrix(40, 6, 1, 255, signed=False)
    with torch.no_grad():
        layer.weight[:, ::3] = 0
    hardware = imcsim.Hardware.model_validate(
        {"weights": {"bits": 2, "encoding": "ternary"}, "inputs": {"range": 255.0}, "adc": {"bits": 9}}
    )
    sim = imcsim.convert(layer, hardware, engine="matmul")
    assert torch.equal(sim(x), layer(x))
    # One bit of magnitude: whatever the weights are, a one-hot input reads -1, 0 or 1.
    with torch.no_grad():
        sim.weight.copy_(torch.randn(sim.weight.shape))
    scale = sim.weight.detach().abs().max() * 255
    read = sim(255 * torch.eye(40, dtype=torch.float64)) / scale
    assert torch.equal(read.round(), torch.round(sim.weight.T / sim.weight.abs().max()))
    assert set(read.round().unique().tolist()) == {-1.0, 0.0, 1.0}
