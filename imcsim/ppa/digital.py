"""Adders, registers and the units behind them."""

from __future__ import annotations

from imcsim.ppa.registry import Cost, register
from imcsim.ppa.scaling import area_factor, energy_factor

_LIBRARY_40 = (
    "40 nm digital cells of an open estimator: 32 b adder 0.21 pJ / 278 um2, register bit 0.009 pJ / 5.98 um2"
)
_ISAAC = "A. Shafiee et al., ISCA 2016, tile table; one value a 1.2 GHz clock, an estimate"
_PUMA = "A. Ankit et al., ASPLOS 2019, core table at 1 GHz, recalled"


def _at(node_nm: float, from_nm: float, pJ: float, um2: float) -> Cost:
    return Cost(pJ * 1e-12 * energy_factor(from_nm, node_nm), um2 * area_factor(from_nm, node_nm), 1e-9)


@register("adder", source=_LIBRARY_40, confidence="B")
def adder(*, width: float = 32.0, node_nm: float = 32.0) -> Cost:
    """An adder, linear in its width.

    Args:
        width: bits.
        node_nm: node.

    Returns:
        The cost of one addition.
    """
    return _at(node_nm, 40, 0.21 * width / 32, 278 * width / 32)


@register("register", source=_LIBRARY_40, confidence="B")
def register_bytes(*, bytes: float, node_nm: float = 32.0) -> Cost:
    """A register file of flip-flops, one byte written or read.

    Args:
        bytes: capacity, for the area.
        node_nm: node.

    Returns:
        The cost of one byte.
    """
    return _at(node_nm, 40, 8 * 0.009, 8 * 5.98 * bytes)


@register("shift_add", source=_LIBRARY_40, confidence="B")
def shift_add(*, width: float = 32.0, node_nm: float = 32.0) -> Cost:
    """Shift-and-add: an adder and the accumulator it writes.

    Args:
        width: bits of the accumulator.
        node_nm: node.

    Returns:
        The cost of one conversion merged.
    """
    return _at(node_nm, 40, (0.21 / 32 + 0.009) * width, (278 / 32 + 5.98) * width)


@register(
    "shift_add_isaac",
    source="A. Shafiee et al., ISCA 2016: 0.2 mW for the 10.24 G conversions/s of an IMA",
    confidence="A",
)
def shift_add_isaac(*, node_nm: float = 32.0) -> Cost:
    """ISAAC's shift-and-add.

    Args:
        node_nm: node.

    Returns:
        The cost of one conversion merged.
    """
    return _at(node_nm, 32, 0.2e-3 / 10.24e9 * 1e12, 60.0)


@register("adder_tree", source=_LIBRARY_40 + "; rows - 1 adders of mean width", confidence="C")
def adder_tree(*, rows: float, node_nm: float = 32.0, product_bits: float = 1.0) -> Cost:
    """A digital adder tree: ``rows / 2^k`` adders of ``product_bits + k - 1`` bits, k from 1.

    Args:
        rows: leaves.
        node_nm: node.
        product_bits: bits of a leaf.

    Returns:
        The cost of one sum.
    """
    bits, level, left = 0.0, 0, rows
    while left > 1:
        left /= 2
        bits += left * (product_bits + level)
        level += 1
    return _at(node_nm, 40, 0.21 / 32 * bits, 278 / 32 * bits)


@register("activation_isaac", source=_ISAAC, confidence="B")
def activation_isaac(*, node_nm: float = 32.0) -> Cost:
    """A sigmoid unit.

    Args:
        node_nm: node.

    Returns:
        The cost of one value.
    """
    return _at(node_nm, 32, 0.26 / 1.2, 300.0)


@register("pool_isaac", source=_ISAAC, confidence="B")
def pool_isaac(*, node_nm: float = 32.0) -> Cost:
    """A max-pooling unit.

    Args:
        node_nm: node.

    Returns:
        The cost of one value that enters a window.
    """
    return _at(node_nm, 32, 0.4 / 1.2, 240.0)


@register("vector_unit", source=_PUMA + ": VFU of 4 lanes, 1.90 mW, 0.004 mm2", confidence="C")
def vector_unit(*, node_nm: float = 32.0, lanes: float = 4.0) -> Cost:
    """A vector unit of 16-bit lanes.

    Args:
        node_nm: node.
        lanes: values a clock, for the area.

    Returns:
        The cost of one value.
    """
    return _at(node_nm, 32, 1.90 / 4, 1000.0 * lanes)


@register("table_unit", source=_PUMA + ": SFU, 0.055 mW, 0.0006 mm2", confidence="C")
def table_unit(*, node_nm: float = 32.0) -> Cost:
    """A look-up-table unit for transcendental functions.

    Args:
        node_nm: node.

    Returns:
        The cost of one value.
    """
    return _at(node_nm, 32, 0.055, 600.0)


@register(
    "multiplier",
    source="M. Horowitz, ISSCC 2014: 45 nm, 8 b multiply 0.2 pJ, 32 b add 0.1 pJ, recalled; as bits squared",
    confidence="C",
)
def multiplier(*, node_nm: float = 32.0, width: float = 8.0) -> Cost:
    """A digital multiply-accumulate.

    Args:
        node_nm: node.
        width: bits of the operands.

    Returns:
        The cost of one MAC.
    """
    return _at(node_nm, 45, 0.2 * (width / 8) ** 2 + 0.1, 282 * (width / 8) ** 2 + 137)
