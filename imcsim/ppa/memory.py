"""Buffers and memory off the chip; an event is one byte."""

from __future__ import annotations

import math

from imcsim.errors import HardwareError
from imcsim.ppa.registry import Cost, register
from imcsim.ppa.scaling import area_factor, energy_factor

SRAM_READ: dict[int, dict[int, float]] = {
    2: {64: 3.67, 128: 8.05, 256: 17.5},
    8: {64: 7.17, 128: 11.8, 256: 27.2},
    32: {64: 16.1, 128: 23.9, 256: 41.7},
    64: {64: 27.3, 128: 38.0, 256: 61.8},
    256: {64: 62.5, 128: 97.9, 256: 138.0},
}
"""pJ of one read at 45 nm, by kilobytes and width in bits (B)."""


@register(
    "sram_buffer",
    source="SRAM reads at 45 nm by size and width; area 0.6 um2 a bit, an assumption",
    confidence="B",
)
def sram_buffer(
    *, kilobytes: float, width: float = 256.0, node_nm: float = 32.0, um2_per_bit: float = 0.6
) -> Cost:
    """An SRAM buffer: the table's energy a read over its bytes, interpolated in the logarithm of the size.

    Args:
        kilobytes: capacity, 2 to 256.
        width: 64, 128 or 256 bits.
        node_nm: node.
        um2_per_bit: area with periphery at 45 nm.

    Returns:
        The cost of one byte.
    """
    if width not in (64, 128, 256) or not 2 <= kilobytes <= 256:
        raise HardwareError(
            f"sram_buffer: kilobytes = {kilobytes:g}, width = {width:g} is outside the table; use 2 to "
            "256 KB and a width of 64, 128 or 256 bits"
        )
    sizes = sorted(SRAM_READ)
    upper = next(s for s in sizes if s >= kilobytes)
    lower = max(s for s in sizes if s <= kilobytes)
    low, high = SRAM_READ[lower][int(width)], SRAM_READ[upper][int(width)]
    part = 0.0 if upper == lower else math.log(kilobytes / lower) / math.log(upper / lower)
    pJ = low * (high / low) ** part / (width / 8)
    area = um2_per_bit * kilobytes * 8192 * area_factor(45, node_nm)
    return Cost(pJ * 1e-12 * energy_factor(45, node_nm), area, 1e-9)


@register(
    "edram_isaac",
    source="A. Shafiee et al., ISCA 2016: 64 KB, 20.7 mW for 1 KB in 100 ns, 0.083 mm2",
    confidence="A",
)
def edram_isaac(*, kilobytes: float = 64.0, node_nm: float = 32.0) -> Cost:
    """An eDRAM buffer: 2.02 pJ a byte at 64 KB; energy as the root of the size (assumed), area linear.

    Args:
        kilobytes: capacity.
        node_nm: node.

    Returns:
        The cost of one byte.
    """
    pJ = 20.7e-3 / 10.24e9 * 1e12 * math.sqrt(kilobytes / 64)
    return Cost(
        pJ * 1e-12 * energy_factor(32, node_nm), 83_000 * kilobytes / 64 * area_factor(32, node_nm), 1e-9
    )


DRAM_pJ_PER_BYTE = {"ddr": 244.0, "lpddr": 64.0, "hbm": 31.0}


@register(
    "dram",
    source="ddr: M. Horowitz, ISSCC 2014, 1.3-2.6 nJ a 64-bit access, the middle; hbm: 3.9 pJ/bit, M. "
    "O'Connor et al., MICRO 2017; lpddr: 8 pJ/bit; all recalled",
    confidence="C",
)
def dram(*, kind: str = "ddr") -> Cost:
    """Memory off the chip; its area is not the chip's.

    Args:
        kind: ddr, lpddr or hbm.

    Returns:
        The cost of one byte.
    """
    if kind not in DRAM_pJ_PER_BYTE:
        raise HardwareError(f"dram: kind = {kind!r}; use one of {', '.join(DRAM_pJ_PER_BYTE)}")
    return Cost(DRAM_pJ_PER_BYTE[kind] * 1e-12, 0.0, 5e-8)
