"""Slices recombine to the weight, and levels stay on their cells."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.errors import MappingError
from imcsim.functional.encode import cell_levels, flip_columns, slicing
from tests.strategies import weight_tables


@given(data=st.data())
def test_slice_then_recombine_is_the_identity(data: st.DataObject) -> None:
    table = data.draw(weight_tables(max_bits=16))
    bits, encoding = table["bits"], table["encoding"]
    widths = table["cell_bits"]
    slices = slicing(encoding, bits, widths if isinstance(widths, int) else tuple(widths))
    two_sided = table.get("sided") == "two"
    top = max(2 ** (bits - 1) - 1, 1)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    w = torch.randint(-top, top + 1, (2, 3, 17), generator=generator)
    w = torch.where(w >= 0, 1, -1) if bits == 1 else w
    w[0, 0, :2] = torch.tensor([top, -top])
    levels = cell_levels(w.double(), slices, encoding, two_sided=two_sided).double()
    planes, count, rows = 2 if slices.paired else 1, len(slices.widths), 34 if encoding == "xnor" else 17
    assert levels.shape == (2, planes, count, rows, 3)
    tops = torch.tensor(slices.top_levels, dtype=torch.float64).view(-1, 1, 1)
    assert (levels >= 0).all()
    assert (levels <= tops).all()
    if encoding == "xnor":
        assert torch.equal(
            levels[:, 0, 0, ::2] + levels[:, 0, 0, 1::2], torch.ones(2, 17, 3, dtype=torch.float64)
        )
        back = 2 * levels[:, 0, 0, ::2] - 1
    else:
        net = levels[:, 0] - levels[:, 1] if slices.paired else levels[:, 0]
        gains = torch.tensor(slices.gains, dtype=torch.float64).view(-1, 1, 1)
        back = (net * gains).sum(1) - slices.offset
    assert torch.equal(back.transpose(1, 2), w.double())
    if slices.paired and not two_sided:
        assert not (levels[:, 0] * levels[:, 1]).any()
    if two_sided:
        assert torch.equal(levels[:, 0] + levels[:, 1], tops.expand_as(levels[:, 0]))


def test_least_significant_slice_first_and_short_top_slice_keeps_its_cell() -> None:
    slices = slicing("differential", 8, 2)
    assert slices.widths == (2, 2, 2, 2)
    levels = cell_levels(torch.tensor([[[0b1100110, -0b0000111]]]).double(), slices, "differential")
    assert levels[0, :, :, 0, 0].tolist() == [[2, 1, 2, 1], [0, 0, 0, 0]]
    assert levels[0, :, :, 1, 0].tolist() == [[0, 0, 0, 0], [3, 1, 0, 0]]
    assert slices.top_levels[-1] == 3


def test_sign_bit_is_a_slice_at_level_one() -> None:
    slices = slicing("twos_complement", 4, 3)
    assert slices.gains == (1, -8)
    levels = cell_levels(torch.tensor([[[-7.0, 7.0, -1.0]]]), slices, "twos_complement")
    assert levels[0, 0, :, :, 0].tolist() == [[1, 7, 7], [1, 0, 1]]


def test_widths_that_do_not_reach_say_how_many_bits_are_needed() -> None:
    with pytest.raises(MappingError, match=r"holds 3 bits, but encoding 'offset' slices 8; .* reach 8"):
        slicing("offset", 8, (1, 2))


def test_flips_are_by_array_and_slice() -> None:
    levels = torch.zeros(1, 1, 8, 2)
    levels[0, 0, :4, 0] = 3
    levels[0, 0, 4:, 1] = 2
    flip = flip_columns(levels, ((0, 4), (4, 8)), 8, 1)
    assert flip[:, 0, 0].tolist() == [[-1, 1], [1, -1]]
    assert flip_columns(levels, ((0, 4), (4, 8)), 9, 1)[:, 0, 0].tolist() == [[-1, 1], [1, 1]]
