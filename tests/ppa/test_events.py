"""Event counts against counts by hand, and ISAAC's own checks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim import Hardware, ppa
from imcsim.ppa.events import count, layout
from tests.ppa.chips import chip, costs, small_net


def events_of(name: str) -> list[dict[str, float]]:
    tables = costs("isaac")
    report = ppa.estimate(small_net(), torch.zeros(1, 3, 8, 8), chip(name), costs=tables, replicate=False)
    return [dict(row.events) for row in report.rows if row.name != "(always on)"]


def test_isaac_by_hand() -> None:
    conv, linear = events_of("isaac")
    # Convolution: 64 windows, 27 word lines, 20 outputs x 8 cells = 160 columns on arrays of 127 and a unit
    # column: 2 arrays. 16 one-bit cycles. Partial sums: 16 + 16 + 5 bits. All in one unit of one tile.
    assert conv == {
        "array_read": 64 * 2 * 16,
        "dac": 64 * 27 * 2 * 16,
        "cell_read": 64 * 27 * (160 + 2) * 16,
        "sample_hold": 64 * (160 + 2) * 16,
        "adc": 64 * (160 + 2) * 16,
        "shift_add": 64 * (160 + 2) * 16,
        "input_register_byte": (1 + 2) * 64 * 27 * 2,
        "output_register_byte": 2 * 64 * 20 * 37 / 8,
        "buffer_byte": 64 * 27 * 2 + 64 * 20 * 2,
        "bus_byte": 64 * 27 * 2 + 64 * 20 * 2,
        "busy": pytest.approx(64 * 16 * 100e-9 * 2),
        "activation": 64 * 20,
        "pool": 64 * 20,
        "link_byte": 3 * 8 * 8 * 2,
    }
    # Linear: 320 word lines on 3 arrays (128 + 128 + 64), 80 columns and a unit column on each. Partial sums:
    # 16 + 16 + 9 bits.
    assert linear == {
        "array_read": 3 * 16,
        "dac": 320 * 16,
        "cell_read": 320 * (80 + 1) * 16,
        "sample_hold": 3 * (80 + 1) * 16,
        "adc": 3 * (80 + 1) * 16,
        "shift_add": 3 * (80 + 1) * 16,
        "add": 10 * 2,
        "input_register_byte": 2 * 320 * 2,
        "output_register_byte": 2 * 10 * 3 * 41 / 8,
        "buffer_byte": 320 * 2 + 10 * 2,
        "bus_byte": 320 * 2 + 10 * 2,
        "busy": pytest.approx(16 * 100e-9 * 3),
        "link_byte": 10 * 2,
    }


def test_xnor_rram_by_hand() -> None:
    conv, linear = events_of("xnor_rram")
    # Two word lines an input, one cycle, one column an output. 27 inputs: 54 lines of one array; partial sums
    # of 1 + 1 + 5 bits.
    assert conv == {
        "array_read": 64,
        "dac": 64 * 54,
        "cell_read": 64 * 54 * 20,
        "sample_hold": 64 * 20,
        "adc": 64 * 20,
        "shift_add": 64 * 20,
        "input_register_byte": 2 * 64 * 27 / 8,
        "output_register_byte": 2 * 64 * 20 * 7 / 8,
        "buffer_byte": 64 * 27 / 8 + 64 * 20 / 8,
        "bus_byte": 64 * 27 / 8 + 64 * 20 / 8,
        "busy": pytest.approx(64 * 100e-9),
        "activation": 64 * 20,
        "pool": 64 * 20,
        "link_byte": 3 * 8 * 8 / 8,
    }
    # 320 inputs on 5 arrays of 64.
    assert linear == {
        "array_read": 5,
        "dac": 640,
        "cell_read": 640 * 10,
        "sample_hold": 5 * 10,
        "adc": 5 * 10,
        "shift_add": 5 * 10,
        "add": 10 * 4,
        "input_register_byte": 2 * 320 / 8,
        "output_register_byte": 2 * 10 * 5 * 11 / 8,
        "buffer_byte": 320 / 8 + 10 / 8,
        "bus_byte": 320 / 8 + 10 / 8,
        "busy": pytest.approx(5 * 100e-9),
        "link_byte": 10 / 8,
    }


def test_zhu2019_by_hand() -> None:
    """Seven bits, plus and minus: an output is a column of each of 14 arrays; 8-bit inputs in four pulses."""
    conv, linear = events_of("zhu2019")
    # 27 word lines and 20 columns on each of 14 arrays; pairs of arrays are subtracted before 7 conversions.
    # The 14 lie in two units of 8. Partial sums of 8 + 8 + 5 bits.
    assert conv == {
        "array_read": 64 * 14 * 4,
        "dac": 64 * 27 * 14 * 4,
        "cell_read": 64 * 27 * (20 * 14) * 4,
        "sample_hold": 64 * (20 * 7) * 4,
        "adc": 64 * (20 * 7) * 4,
        "shift_add": 64 * (20 * 7) * 4,
        "input_register_byte": (2 + 14) * 64 * 27,
        "output_register_byte": 2 * 64 * 20 * 21 / 8,
        "buffer_byte": 64 * 27 + 64 * 20,
        "bus_byte": 64 * 27 + 64 * 20,
        "busy": pytest.approx(64 * 4 * 100e-9 * 14),
        "activation": 64 * 20,
        "pool": 64 * 20,
        "link_byte": 3 * 8 * 8,
    }
    # 320 word lines are two row blocks (256 + 64): 28 arrays; partial sums of 8 + 8 + 9 bits.
    assert linear == {
        "array_read": 2 * 14 * 4,
        "dac": 320 * 14 * 4,
        "cell_read": 320 * (10 * 14) * 4,
        "sample_hold": 2 * (10 * 7) * 4,
        "adc": 2 * (10 * 7) * 4,
        "shift_add": 2 * (10 * 7) * 4,
        "add": 10,
        "input_register_byte": (2 + 14) * 320,
        "output_register_byte": 2 * 10 * 2 * 25 / 8,
        "buffer_byte": 320 + 10,
        "bus_byte": 320 + 10,
        "busy": pytest.approx(4 * 100e-9 * 28),
        "link_byte": 10,
    }


def test_pipelayer_by_hand() -> None:
    """15 magnitude bits on four cells, plus and minus: eight arrays; 16 spikes, each side counted once.

    Each array is a tile of its own: 32 tiles, four a router, on a square of 3 x 3 routers.
    """
    report = ppa.estimate(small_net(), torch.zeros(1, 3, 8, 8), chip("pipelayer"), replicate=False)
    conv, linear = (dict(row.events) for row in report.rows[:2])
    assert conv == {
        "array_read": 64 * 8 * 16,
        "dac": 64 * 27 * 8 * 16,
        "cell_read": 64 * 27 * (20 * 8) * 16,
        "sample_hold": 64 * (20 * 8) * 16,
        "adc": 64 * (20 * 8),
        "shift_add": 64 * (20 * 8),
        "input_register_byte": (8 + 8) * 64 * 27 * 2,
        "output_register_byte": 2 * 64 * 20 * 37 / 8,
        "buffer_byte": 8 * 64 * 27 * 2 + 64 * 20 * 2,
        "bus_byte": 8 * 64 * 27 * 2 + 64 * 20 * 2,
        "busy": pytest.approx(64 * 16 * 29.31e-9 * 8),
        "activation": 64 * 20,
        "pool": 64 * 20,
        "link_byte": 3 * 8 * 8 * 2,
        # from router (0, 0) of tiles 0 to 7 to (1, 1) of tiles 8 to 31, to eight tiles, in flits of 4 B
        "flit_hop": 64 * 20 * 2 / 4 * 8 * 2,
    }
    # 320 word lines are three row blocks: 24 arrays.
    assert linear == {
        "array_read": 3 * 8 * 16,
        "dac": 320 * 8 * 16,
        "cell_read": 320 * (10 * 8) * 16,
        "sample_hold": 3 * (10 * 8) * 16,
        "adc": 3 * (10 * 8),
        "shift_add": 3 * (10 * 8),
        "add": 10 * 2,
        "input_register_byte": (8 + 8) * 320 * 2,
        "output_register_byte": 2 * 10 * 3 * 41 / 8,
        "buffer_byte": 8 * 320 * 2 + 10 * 2,
        "bus_byte": 8 * 320 * 2 + 10 * 2,
        "busy": pytest.approx(16 * 29.31e-9 * 24),
        "link_byte": 10 * 2,
        "flit_hop": 26,  # two partial sums of 10 x 41 bits, 102.5 B, one hop
    }


def test_one_conversion_a_16_bit_mac_in_isaac() -> None:
    """A column is converted in each of 16 cycles, 8 columns hold 128 weights: 128 conversions for 128 MACs.

    The unit column's conversions come on top.
    """
    hardware = chip("isaac").replace({"adc.offset_correction": "digital"})
    shape = ppa.LayerShape("full", 1, 64, 512, vectors=9)
    events = count(shape, layout(shape, hardware), costs("isaac").tile, 100e-9)
    assert events["adc"] == shape.macs


@pytest.mark.parametrize("rows", [16, 100, 128, 256])
@pytest.mark.parametrize("cell_bits", [1, 2, 4])
@pytest.mark.parametrize("digit_bits", [1, 2])
def test_flipping_saves_exactly_one_bit(rows: int, cell_bits: int, digit_bits: int) -> None:
    plain = Hardware.model_validate(
        {
            "array": {"rows": rows},
            "weights": {"bits": 16, "cell_bits": cell_bits, "encoding": "offset"},
            "inputs": {"bits": 16, "bits_per_cycle": digit_bits, "signed_encoding": "twos_complement"},
        }
    )
    flipped = plain.replace({"weights.encoding": "isaac"})
    assert ppa.lossless_bits(plain) - ppa.lossless_bits(flipped) == 1


def test_isaac_needs_8_bits() -> None:
    assert ppa.lossless_bits(chip("isaac")) == 8


def test_accumulated_cycles_are_converted_once() -> None:
    shape = ppa.LayerShape("a", 1, 10, 100)
    each = chip("isaac").replace({"adc.offset_correction": "digital"})
    once = each.replace({"adc.per": "vector"})
    tile = costs("isaac").tile
    before, after = (count(shape, layout(shape, hw), tile, 1e-7) for hw in (each, once))
    assert before["adc"] == 16 * after["adc"]
    assert before["dac"] == after["dac"]


def test_digital_readout_has_no_converter() -> None:
    hardware = Hardware.model_validate(
        {"array": {"readout": "digital"}, "weights": {"bits": 4, "cell_bits": 1}}
    )
    shape = ppa.LayerShape("a", 1, 10, 100)
    events = count(shape, layout(shape, hardware), costs("isaac").tile, 1e-7)
    assert "adc" not in events
    assert events["adder_tree"] == 10 * 3 * 8


def test_digital_subtraction_and_fewer_rows_convert_more() -> None:
    base = Hardware.model_validate({"adc": {"bits": 8}})
    shape = ppa.LayerShape("a", 1, 10, 128)

    def adc(changes: dict) -> float:
        hardware = base.replace(changes)
        return count(shape, layout(shape, hardware), costs("isaac").tile, 1e-7)["adc"]

    assert adc({"adc.subtract": "digital"}) == 2 * adc({})
    assert adc({"array.rows_active": 32}) == 4 * adc({})


@given(
    groups=st.integers(1, 6),
    outputs=st.integers(1, 200),
    inputs=st.integers(1, 400),
    vectors=st.integers(1, 50),
)
def test_counts_are_linear_in_vectors(groups: int, outputs: int, inputs: int, vectors: int) -> None:
    def counted(number: int) -> dict[str, float]:
        shape = ppa.LayerShape("a", groups, outputs, inputs, vectors=number)
        return dict(count(shape, layout(shape, chip("isaac")), costs("isaac").tile, 1e-7))

    one, many = counted(1), counted(vectors)
    assert many == pytest.approx({event: number * vectors for event, number in one.items()})
