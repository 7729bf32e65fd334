"""Tables for chips that state none: a generic tile from the component library, no published chip."""

from __future__ import annotations

from typing import Any

from imcsim.costs import Costs, Event
from imcsim.hardware import Hardware

DRAM: dict[str, Any] = {
    "model": "dram",
    "per": "chip",
    "event": "dram_byte",
    "energy_pJ": 244.0,
    "power_mW": 0.0,
    "events_per_s": 25.6e9,
}
"""Memory off the chip: the library's ddr, a 64-bit channel at 3200 MT/s (C); its power is not the chip's."""

WRITES: dict[str, dict[str, Any]] = {
    "rram_write": {"model": "rram_write", "per": "array", "event": "cell_write"},
    "sram_write": {"model": "sram_write", "per": "array", "event": "cell_write"},
}


def writing(hardware: Hardware) -> str:
    """The library's model of writing this chip's cells, for chips whose tables have none."""
    return "sram_write" if hardware.array.readout == "digital" else "rram_write"


def default_costs(hardware: Hardware, *, node_nm: float = 32.0) -> Costs:
    """A generic tile of 12 units of 8 arrays: ISAAC's digital periphery, converters from the library.

    Converters: sense amplifiers up to 3 bits or where the chip says so, else the survey's regression. Digital
    readout: SRAM cells and adder trees, no converters.

    Bytes off the chip cost what ISAAC's links do; pads count in neither area nor peak power.

    Args:
        hardware: the chip.
        node_nm: node of the periphery.

    Returns:
        The tables; as many tiles as a network needs.
    """
    parts: dict[str, dict[str, Any]] = {
        "dac": {"model": "dac_isaac", "per": "row", "event": "dac"},
        "shift_add": {"model": "shift_add", "per": "converter", "event": "shift_add"},
        "adder": {"model": "adder", "per": "unit", "event": "add"},
        "input_register": {
            "model": "register",
            "per": "unit",
            "event": "input_register_byte",
            "params": {"bytes": 2048.0},
        },
        "output_register": {
            "model": "register",
            "per": "unit",
            "event": "output_register_byte",
            "params": {"bytes": 256.0},
        },
        "buffer": {
            "model": "sram_buffer",
            "per": "tile",
            "event": "buffer_byte",
            "params": {"kilobytes": 64.0},
        },
        "bus": {"model": "bus_isaac", "per": "tile", "event": "bus_byte"},
        "router": {"model": "router_isaac", "per": "tile", "count": 0.25, "event": "flit_hop"},
        "link": {
            "model": "link_isaac",
            "per": "chip",
            "event": "link_byte",
            "energy_pJ": 10.4e12 / 25.6e9,
            "power_mW": 0.0,
            "area_um2": 0.0,
        },
        "dram": DRAM,
        "activation": {"model": "activation_isaac", "per": "tile", "event": "activation"},
        "pool": {"model": "pool_isaac", "per": "tile", "event": "pool"},
        "vector_unit": {"model": "vector_unit", "per": "tile", "event": "vector_op"},
        "multiplier": {"model": "multiplier", "per": "tile", "event": "digital_mac"},
    }
    if hardware.array.readout == "digital":
        parts["array"] = {"model": "sram_array", "per": "array", "event": "cell_read"}
        parts["adder_tree"] = {"model": "adder_tree", "per": "column", "event": "adder_tree"}
    else:
        parts["array"] = {"model": "rram_array_isaac", "per": "array", "event": "cell_read"}
        if hardware.device.g_max_S is not None:
            parts["array"]["model"] = "rram_array_ohmic"
        parts["sample_hold"] = {"model": "sample_hold_isaac", "per": "column", "event": "sample_hold"}
        latch = hardware.adc is not None and (hardware.adc.kind == "sense_amp" or hardware.adc.bits < 4)
        parts["adc"] = {"model": "sense_amp" if latch else "adc_survey", "per": "converter", "event": "adc"}
    parts["write"] = WRITES[writing(hardware)]
    return Costs.model_validate({"tile": {"node_nm": node_nm}, "components": parts})


def with_rest(costs: Costs, hardware: Hardware) -> Costs:
    """The tables, and where they ask for it the generic tile's parts for events that none of theirs covers.

    The generic tile's parts serve 12 units of 8 arrays; an array of the chip gets the same share of them.

    Args:
        costs: the chip's tables.
        hardware: the chip.

    Returns:
        The tables for an estimate; the parts added are called "... (library)".
    """
    if costs.tile.rest == "none":
        return costs
    covered: set[Event] = set()
    for part in costs.components.values():
        covered |= {part.event, *part.includes}
    if covered & {"array_read", "cell_read"}:
        covered |= {"array_read", "cell_read"}
    generic = default_costs(hardware, node_nm=costs.tile.node_nm)
    ours, theirs = costs.tile, generic.tile
    share = {"tile": ours.arrays / theirs.arrays, "unit": ours.arrays_per_unit / theirs.arrays_per_unit}
    more = {
        f"{name} (library)": part.model_copy(update={"count": part.count * share.get(part.per, 1.0)})
        for name, part in generic.components.items()
        if part.event not in covered
    }
    return Costs(tile=costs.tile, components={**costs.components, **more})
