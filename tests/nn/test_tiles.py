"""Cells on arrays: there and back, and where each cell lies."""

from __future__ import annotations

import pytest
import torch

from imcsim import Hardware
from imcsim.errors import HardwareError
from imcsim.nn.readout import array_rows, weight_slicing
from imcsim.nn.tiles import from_tiles, to_tiles, usable_columns


def chip(**tables) -> Hardware:
    return Hardware.model_validate(
        {"array": {"rows": 8, "cols": 6}, "weights": {"bits": 5, "cell_bits": 2}, **tables}
    )


@pytest.mark.parametrize("placement", ["adjacent", "separate"])
@pytest.mark.parametrize("pair", ["columns", "arrays"])
@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_there_and_back(placement: str, pair: str, lead: tuple[int, ...]) -> None:
    hardware = chip(weights={"bits": 5, "cell_bits": 2, "placement": placement, "pair": pair})
    slices = len(weight_slicing(hardware).widths)
    cells = torch.rand(*lead, 2, slices, 19, 7)
    arrays = array_rows(hardware, 19)
    tiles = to_tiles(cells, hardware, arrays)
    assert [tile.shape[-2] for tile in tiles] == [8, 8, 3]
    assert all(tile.shape[-1] == 6 for tile in tiles)
    assert torch.equal(from_tiles(tiles, cells, hardware), cells)


def test_an_outputs_slices_and_sides_are_adjacent_columns() -> None:
    hardware = chip()
    index = torch.arange(2 * 2 * 3).view(1, 2, 2, 1, 3).float()
    (tile,) = to_tiles(index.expand(1, 2, 2, 8, 3), hardware, ((0, 8),))
    assert tile.shape == (1, 1, 2, 8, 6)
    first = tile[0, 0, 0, 0].tolist()
    # output 0: slice 0 plus, minus; slice 1 plus, minus; then output 1
    assert first == [0, 6, 3, 9, 1, 7]


def test_spare_and_unit_columns_take_their_share() -> None:
    spared = chip(mitigation={"spare_columns": 2})
    assert usable_columns(spared) == 4
    unit = chip(
        weights={"bits": 5, "cell_bits": 2, "encoding": "offset"},
        adc={"bits": 8, "offset_correction": "unit_column"},
    )
    assert usable_columns(unit) == 5
    with pytest.raises(
        HardwareError, match="cols = 6 leaves no column beside 5 spare ones and the unit column"
    ):
        usable_columns(unit.replace({"mitigation.spare_columns": 5}))
