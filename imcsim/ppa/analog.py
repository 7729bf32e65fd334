"""Cells and what drives and samples them."""

from __future__ import annotations

from imcsim.ppa.registry import Cost, register
from imcsim.ppa.scaling import area_factor, energy_factor, supply

_ISAAC = "A. Shafiee et al., ISCA 2016, IMA table, per event"


@register(
    "dac_isaac", source=_ISAAC + " (1-bit driver); wider drivers as 2^bits - 1, an assumption", confidence="B"
)
def dac_isaac(*, dac_bits: float = 1.0, node_nm: float = 32.0) -> Cost:
    """A word-line driver: 0.391 pJ and 0.166 um2 at 1 bit and 32 nm, times ``2^bits - 1``.

    Args:
        dac_bits: bits of one pulse.
        node_nm: node.

    Returns:
        The cost of one pulse.
    """
    steps = 2**dac_bits - 1
    return Cost(
        0.390625e-12 * steps * energy_factor(32, node_nm),
        0.166015625 * steps * area_factor(32, node_nm),
        1e-9,
    )


@register("sample_hold_isaac", source=_ISAAC, confidence="A")
def sample_hold_isaac(*, node_nm: float = 32.0) -> Cost:
    """A sample-and-hold: 0.977 fJ and 0.039 um2 at 32 nm.

    Args:
        node_nm: node.

    Returns:
        The cost of one sample.
    """
    return Cost(0.9765625e-15 * energy_factor(32, node_nm), 0.0390625 * area_factor(32, node_nm))


@register(
    "rram_array_isaac",
    source=_ISAAC + "; as the square of the side in puma-simulator's table",
    confidence="A",
)
def rram_array_isaac(*, rows: float, cols: float, cycle_s: float = 1e-7) -> Cost:
    """An RRAM array, one cell read: 18.3 nW a cell (0.3 mW for 128 x 128) for a cycle; 25 um2 for 128 x 128.

    Args:
        rows: word lines.
        cols: bit lines.
        cycle_s: how long a pulse lasts.

    Returns:
        The cost of reading one cell; the area of the array.
    """
    return Cost(0.3e-3 / 16384 * cycle_s, 25.0 * rows * cols / 16384, cycle_s)


@register("rram_array_ohmic", source="Ohm's law; cell of 12 F^2 (1T1R), an assumption", confidence="C")
def rram_array_ohmic(
    *,
    rows: float,
    cols: float,
    g_max_S: float,
    read_V: float = 0.2,
    mean_level: float = 0.5,
    cycle_s: float = 1e-7,
    node_nm: float = 32.0,
    cell_F2: float = 12.0,
) -> Cost:
    """An array of resistive cells: a cell read costs ``V^2 (mean_level g_max) t``.

    Args:
        rows: word lines.
        cols: bit lines.
        g_max_S: conductance of a fully-on cell.
        read_V: on a driven word line.
        mean_level: mean conductance of a cell over g_max.
        cycle_s: how long a pulse lasts.
        node_nm: node of the selector.
        cell_F2: area of a cell in squared features.

    Returns:
        The cost of reading one cell; the area of the array.
    """
    area = rows * cols * cell_F2 * (node_nm * 1e-3) ** 2
    return Cost(read_V**2 * mean_level * g_max_S * cycle_s, area, cycle_s)


@register(
    "word_line", source="charge of a word line: cells x gate and wire x V^2; assumptions", confidence="C"
)
def word_line(
    *, cols: float, node_nm: float = 32.0, cell_fF: float = 1.0, supply_V: float | None = None
) -> Cost:
    """A word line charged once: ``cols C V^2``, C gate and wire of a cell.

    Args:
        cols: cells on the line.
        node_nm: node; sets the supply where none is given.
        cell_fF: capacitance of one cell's gate and piece of wire.
        supply_V: what the line is charged to.

    Returns:
        The cost of one pulse; drivers of 6 F^2 a cell.
    """
    volts = supply(node_nm) if supply_V is None else supply_V
    return Cost(cols * cell_fF * 1e-15 * volts**2, 6 * cols * (node_nm * 1e-3) ** 2, 1e-9)


@register("charge_array", source="a capacitor a cell charged once: C V^2; assumptions", confidence="C")
def charge_array(
    *,
    rows: float,
    cols: float,
    node_nm: float = 32.0,
    cell_fF: float = 1.0,
    supply_V: float | None = None,
    switching: float = 0.5,
    cell_F2: float = 150.0,
) -> Cost:
    """An array that averages charge: a cell read costs ``switching C V^2``.

    Args:
        rows: word lines.
        cols: bit lines.
        node_nm: node; sets the supply where none is given.
        cell_fF: capacitance of one cell.
        supply_V: what it is charged to.
        switching: fraction of driven cells that change their charge.
        cell_F2: area of a cell in squared features.

    Returns:
        The cost of reading one cell; the area of the array.
    """
    volts = supply(node_nm) if supply_V is None else supply_V
    area = rows * cols * cell_F2 * (node_nm * 1e-3) ** 2
    return Cost(switching * cell_fF * 1e-15 * volts**2, area, 1e-9)


@register(
    "sram_write",
    source="as a bit read from a 2 KB SRAM buffer at 45 nm, 17.5 pJ for 256 (secondary table)",
    confidence="C",
)
def sram_write(*, node_nm: float = 32.0) -> Cost:
    """Writing one SRAM bit.

    Args:
        node_nm: node.

    Returns:
        The cost of one written cell.
    """
    return Cost(17.5e-12 / 256 * energy_factor(45, node_nm), 0.0, 1e-9)


@register(
    "rram_write",
    source="V I t of a pulse times pulses with their verify reads; an assumption",
    confidence="C",
)
def rram_write(
    *, write_V: float = 2.0, write_A: float = 1e-4, pulse_s: float = 5e-8, pulses: float = 10.0
) -> Cost:
    """Writing one cell: ``V I t`` a pulse.

    Args:
        write_V: amplitude.
        write_A: current.
        pulse_s: width.
        pulses: mean number of pulses of the closed loop.

    Returns:
        The cost of one written cell.
    """
    return Cost(write_V * write_A * pulse_s * pulses, 0.0, pulse_s * pulses)


@register("sram_array", source="a bit cell of 150 F^2 and its bit line's charge; assumptions", confidence="C")
def sram_array(
    *, rows: float, cols: float, node_nm: float = 32.0, cell_fJ: float = 1.0, cell_F2: float = 150.0
) -> Cost:
    """An SRAM compute array, one cell read.

    Args:
        rows: word lines.
        cols: bit lines.
        node_nm: node; the energy is given at 32 nm.
        cell_fJ: one cell's share of word and bit line.
        cell_F2: area of a cell in squared features.

    Returns:
        The cost of reading one cell; the area of the array.
    """
    area = rows * cols * cell_F2 * (node_nm * 1e-3) ** 2
    return Cost(cell_fJ * 1e-15 * energy_factor(32, node_nm), area, 1e-9)
