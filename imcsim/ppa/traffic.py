"""What moves between tiles and chips: where layers lie on the mesh, and how far results travel.

Tiles are filled in the order the layers run, along a snake over the routers' square; a layer's place is its
middle router. Results go from there to the middle router of the next layer (the networks' branches are not
followed), once for every tile that holds columns of the same row block. Partial sums of a layer whose row
blocks lie on several tiles travel one hop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imcsim.costs import Event, Tile
from imcsim.ppa.events import Layout, output_bits
from imcsim.ppa.shapes import LayerShape


@dataclass(frozen=True)
class Place:
    """Tiles of a layer with its copies.

    Attributes:
        first: its first tile, counted over all chips.
        last: its last tile.
        chip: the chip of its middle tile.
        router: its middle router on that chip, (row, column).
    """

    first: int
    last: int
    chip: int
    router: tuple[int, int]


def places(arrays: Sequence[int], tile: Tile, tiles: int) -> tuple[Place, ...]:
    """Where layers lie.

    Args:
        arrays: of each layer, copies included.
        tile: how arrays are grouped.
        tiles: on a chip.

    Returns:
        The places.
    """
    side = math.ceil(math.sqrt(-(-tiles // tile.tiles_per_router)))
    out, used = [], 0
    for need in arrays:
        first, last = used // tile.arrays, (used + need - 1) // tile.arrays
        used += need
        chip, within = divmod((first + last) // 2, tiles)
        row, step = divmod(within // tile.tiles_per_router, side)
        out.append(Place(first, last, chip, (row, step if row % 2 == 0 else side - 1 - step)))
    return tuple(out)


def hops(here: Place, there: Place) -> int:
    """Routers' hops between two layers on a chip: none within one tile, at least one otherwise."""
    if here == there and here.first == here.last:
        return 0
    return max(1, sum(abs(a - b) for a, b in zip(here.router, there.router, strict=True)))


def travel(
    shape: LayerShape,
    where: Layout,
    here: Place,
    following: tuple[Layout, Place] | None,
    tile: Tile,
    *,
    first: bool,
) -> dict[Event, float]:
    """Flit hops and bytes off the chip of a layer for one sample.

    Args:
        shape: the layer.
        where: its layout.
        here: its place.
        following: the next layer on arrays, or None: results leave the chip.
        tile: how arrays are grouped.
        first: the network's input enters here.

    Returns:
        The counts; values and sums that stay analog are no flits.
    """
    bits = where.hardware.inputs.bits
    analog = where.hardware.array.output == "analog"
    output_bytes = 0.0 if shape.stays_analog else shape.output_elements * output_bits(where.hardware) / 8
    flit_hops = link = 0.0
    if first:
        link += shape.input_elements * bits / 8
    if following is None:
        link += output_bytes
    else:
        next_layout, there = following
        receivers = -(-next_layout.column_arrays // tile.arrays)
        if there.chip != here.chip:
            link += output_bytes * receivers
        flit_hops += math.ceil(output_bytes / tile.flit_bytes) * receivers * hops(here, there)
    blocks_a_tile = max(1, tile.arrays // where.column_arrays)
    spans = -(-len(where.row_blocks) // blocks_a_tile)
    partial_bytes = 0.0 if analog else shape.output_elements * (spans - 1) * where.partial_bits / 8
    flit_hops += math.ceil(partial_bytes / tile.flit_bytes)
    return {"flit_hop": flit_hops, "link_byte": link}
