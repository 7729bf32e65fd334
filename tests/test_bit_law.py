"""How many bits a converter needs to lose nothing, with inputs that show what one bit less does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import imcsim
from tests.strategies import chips, examples, hardware_of, lossless_bits

INPUTS, WEIGHTS = 128, 8


def linear(w: Tensor) -> nn.Linear:
    layer = nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(w)
    return layer


def hardware(encoding: str, bits: int, cell_bits: int = 2, **adc: Any) -> imcsim.Hardware:
    return imcsim.Hardware.model_validate(
        {
            "array": {"rows": INPUTS},
            "weights": {"encoding": encoding, "bits": WEIGHTS, "cell_bits": cell_bits},
            "inputs": {"bits": 8, "bits_per_cycle": 1, "signed": False, "range": 255.0},
            "adc": {"bits": bits, **adc},
        }
    )


def stored(codes: Tensor) -> Tensor:
    """Weights whose offset code is `codes`, with one column at full scale so that their scale is 1."""
    w = codes.double() - 128
    w[-1] = 127
    return w


def hard_columns(cell_bits: int) -> Tensor:
    """Columns whose sums, all rows on, are each number of levels that 128 cells can reach.

    Shapes: (outputs, inputs) codes of which every slice has the same level.
    """
    top = 2**cell_bits - 1
    sums = torch.arange(0, INPUTS * top + 1)
    rows = torch.arange(INPUTS)
    level = (sums[:, None] // INPUTS + (rows < sums[:, None] % INPUTS)).clamp(max=top)
    ones = sum(1 << shift for shift in range(0, WEIGHTS, cell_bits))
    codes = (level * ones).clamp(min=1)  # a stored 0 would be the weight -128, which no weight is
    return torch.cat([codes, torch.full((1, INPUTS), 255)])


def result(encoding: str, bits: int, w: Tensor, x: Tensor, cell_bits: int = 2, **adc: Any) -> bool:
    """Whether the integer product comes out, in the reference and in the engine that the planner takes."""
    same = []
    for engine in ("reference", "matmul"):
        sim = imcsim.convert(linear(w), hardware(encoding, bits, cell_bits, **adc), engine=engine)
        same.append(torch.equal(sim(x), x @ w.T))
    assert same[0] == same[1]
    return same[0]


X = torch.cat([torch.full((1, INPUTS), 255.0), torch.eye(INPUTS)[:3] * 255, torch.ones(1, INPUTS)]).double()


@pytest.mark.parametrize(
    ("encoding", "cell_bits", "adc", "bits"),
    [
        ("offset", 2, {}, 9),
        ("isaac", 2, {}, 8),
        ("isaac", 2, {"offset_correction": "unit_column"}, 8),
        ("offset", 2, {"offset_correction": "unit_column"}, 9),
        ("differential", 2, {}, 10),
        ("differential", 2, {"subtract": "digital"}, 9),
        ("twos_complement", 2, {}, 9),
        ("offset", 1, {}, 8),
        ("offset", 4, {}, 11),
        ("isaac", 1, {}, 7),
        ("isaac", 1, {"offset_correction": "unit_column"}, 8),
        ("isaac", 4, {}, 10),
    ],
)
def test_128_rows_take_so_many_bits_and_not_one_less(
    encoding: str, cell_bits: int, adc: dict[str, Any], bits: int
) -> None:
    """Every sum of levels that 128 cells and 1-bit pulses can reach, and the smallest ones."""
    w = stored(hard_columns(cell_bits))
    if encoding in ("differential", "twos_complement"):
        w = torch.cat([w.clamp(min=0), -w.clamp(min=0)])
    assert result(encoding, bits, w, X, cell_bits, **adc)
    assert not result(encoding, bits - 1, w, X, cell_bits, **adc)


@pytest.mark.parametrize("correction", ["digital", "unit_column"])
def test_isaac_flips_what_would_set_the_top_bit(correction: str) -> None:
    """255 levels are stored as they are and fill eight bits; 256 are stored flipped, as 384 - 256 = 128."""
    codes = torch.full((3, INPUTS), 0b01010101)
    codes[0, :127] = 0b10101010  # 127 x 2 + 1 = 255
    codes[1] = 0b10101010  # 256
    w = stored(codes)
    sim = imcsim.convert(linear(w), hardware("isaac", 8, offset_correction=correction))
    flip = sim.array.job().columns.flip
    assert flip[0, 0, :, 0].tolist() == [1, 1, 1, 1]
    assert flip[0, 0, :, 1].tolist() == [-1, -1, -1, -1]
    x = torch.full((1, INPUTS), 255.0, dtype=torch.float64)
    assert torch.equal(sim(x), x @ w.T)
    short = imcsim.convert(linear(w), hardware("isaac", 7, offset_correction=correction))
    assert not torch.equal(short(x), x @ w.T)


def test_isaac_with_eight_bits_is_as_good_as_offset_with_nine() -> None:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(1, 256, (64, INPUTS), generator=generator)
    w, x = stored(codes), torch.randint(0, 256, (20, INPUTS), generator=generator).double()
    assert result("isaac", 8, w, x)
    assert result("offset", 9, w, x)
    assert not result("offset", 8, w, x)


@examples(60)
@given(data=st.data())
def test_the_law(data: st.DataObject) -> None:
    """With the bits of the law every level has a code of its own; with one bit less it has not."""
    chip = data.draw(chips(converters="enough", finite_ratio=False))
    law = lossless_bits(chip)
    for bits in (law, law + 1, law - 1):
        both_signs = 2 if chip["adc"]["kind"] in ("auto", "symmetric") else 1
        if bits < both_signs:
            continue
        chip["adc"]["bits"] = bits
        chip["inputs"]["range"] = 1.0
        sim = imcsim.convert(nn.Linear(3, 2), hardware_of(chip))
        job = sim.array.job()
        steps = {c.step for c in [*job.converters, *([job.unit_converter] if job.unit_converter else [])]}
        one_level = steps == {1.0}
        widths = chip["weights"]["cell_bits"]
        unequal = not isinstance(widths, int) and len(set(widths)) > 1
        if bits >= law:
            assert one_level
        elif chip["weights"]["encoding"] != "isaac" and not unequal:
            assert not one_level


@pytest.mark.parametrize("encoding", ["offset", "isaac"])
def test_binary_weights_in_wider_cells(encoding: str) -> None:
    """A short slice keeps the denominator of its cell: level 1 of a 2-bit cell conducts a third of g_max."""
    tables = {
        "array": {"rows": 16},
        "weights": {"bits": 1, "cell_bits": [2], "encoding": encoding},
        "inputs": {"bits": 4, "range": 1.0, "signed": False},
    }
    array = imcsim.convert(nn.Linear(8, 3), imcsim.Hardware.model_validate(tables)).array
    assert array.slicing.top_levels == (3,)
    assert array.target_conductance().max() == pytest.approx(1 / 3)
