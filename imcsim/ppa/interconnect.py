"""Wires between components."""

from __future__ import annotations

from imcsim.ppa.registry import Cost, register
from imcsim.ppa.scaling import area_factor, energy_factor

_WIRE = "0.1 pJ a bit and millimetre at 32 nm, W. J. Dally / S. W. Keckler et al., IEEE Micro 2011, recalled"


@register(
    "bus_isaac",
    source="A. Shafiee et al., ISCA 2016: 384 wires, 7 mW for 1 KB in 100 ns, 0.090 mm2",
    confidence="A",
)
def bus_isaac(*, node_nm: float = 32.0) -> Cost:
    """The bus between buffer and units of a tile: 0.684 pJ a byte.

    Args:
        node_nm: node.

    Returns:
        The cost of one byte.
    """
    return Cost(7e-3 / 10.24e9 * energy_factor(32, node_nm), 90_000 * area_factor(32, node_nm), 1e-9)


@register("wire", source=_WIRE, confidence="C")
def wire(*, length_mm: float, node_nm: float = 32.0, pJ_per_bit_mm: float = 0.1, um2: float = 0.0) -> Cost:
    """A bus of a given length.

    Args:
        length_mm: length.
        node_nm: node; the energy is given at 32 nm.
        pJ_per_bit_mm: energy of a bit over a millimetre.
        um2: area of its wires, where they block logic.

    Returns:
        The cost of one byte.
    """
    return Cost(8e-12 * pJ_per_bit_mm * length_mm * energy_factor(32, node_nm), um2)


@register("h_tree", source=_WIRE + "; one path of a binary tree over a square", confidence="C")
def h_tree(
    *, side_mm: float, leaves: float, node_nm: float = 32.0, pJ_per_bit_mm: float = 0.1, um2: float = 0.0
) -> Cost:
    """An H-tree over a square: the path to a leaf is ``side (1 - leaves^-1/2)`` long.

    Args:
        side_mm: side of the square.
        leaves: ends of the tree.
        node_nm: node.
        pJ_per_bit_mm: energy of a bit over a millimetre at 32 nm.
        um2: area.

    Returns:
        The cost of one byte from root to leaf.
    """
    length = side_mm * (1 - leaves**-0.5)
    return Cost(8e-12 * pJ_per_bit_mm * length * energy_factor(32, node_nm), um2)


@register(
    "router_isaac",
    source="A. Shafiee et al., ISCA 2016: 42 mW, 0.151 mm2, 8 ports of 32 b; at 1.2 GHz each, an estimate",
    confidence="B",
)
def router_isaac(*, node_nm: float = 32.0) -> Cost:
    """A router of a concentrated mesh: 4.375 pJ a flit and hop.

    Args:
        node_nm: node.

    Returns:
        The cost of one flit through one router.
    """
    return Cost(42e-3 / 9.6e9 * energy_factor(32, node_nm), 151_000 * area_factor(32, node_nm), 1e-9)


@register(
    "link_isaac",
    source="A. Shafiee et al., ISCA 2016: 4 HyperTransport links, 10.4 W at 25.6 GB/s, 22.88 mm2",
    confidence="A",
)
def link_isaac() -> Cost:
    """Links off the chip: 406 pJ a byte; pads do not scale with the node.

    Returns:
        The cost of one byte.
    """
    return Cost(10.4 / 25.6e9, 22.88e6, 5e-9)
