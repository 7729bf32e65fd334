"""A chip's components as numbers: how many, and what each costs for given arrays, converters and times."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.costs import Component, Confidence, Costs, Event, Tile
from imcsim.errors import HardwareError
from imcsim.functional.adc import level_converter
from imcsim.hardware import Hardware
from imcsim.nn.readout import pulse_train, streams, weight_slicing
from imcsim.ppa import adc, analog, digital, interconnect, memory  # noqa: F401  (they register their models)
from imcsim.ppa.defaults import default_costs
from imcsim.ppa.events import converted_columns, input_cycles, is_signed
from imcsim.ppa.registry import cost, model

SUBTOTAL = "published tile subtotal less its rows"
"""Name of the row that stands for what a paper's rows and its tile differ by."""


@dataclass(frozen=True)
class Costed:
    """One component of a chip.

    Attributes:
        name: its key under `[components]`.
        component: its table.
        instances: on one chip.
        energy_J: of one event; 0 for what is always on.
        power_W: of one instance at its full rate, or always.
        area_um2: of one instance.
        source: who says so.
        confidence: A, B or C; the table's where it names a source, else the model's.
        latency_s: of one event, where its model knows.
    """

    name: str
    component: Component
    instances: float
    energy_J: float
    power_W: float
    area_um2: float
    source: str
    confidence: Confidence
    latency_s: float = 0.0


def costs_of(hardware: Hardware, costs: Costs | None = None) -> Costs:
    """The tables to use: those given, else the chip's own, else the generic ones.

    Args:
        hardware: the chip.
        costs: tables that take precedence.

    Returns:
        The tables.
    """
    if costs is not None:
        return costs
    tile, components = getattr(hardware, "tile", None), getattr(hardware, "components", None)
    if not components:
        return default_costs(hardware)
    return Costs(tile=tile or Tile(), components=dict(components))


def lossless_bits(hardware: Hardware, *, signed: bool = False) -> int:
    """Bits that a converter needs to lose nothing on this chip.

    Args:
        hardware: the chip; its own converter's kind counts, not its bits.
        signed: whether input codes have a sign.

    Returns:
        The bits.
    """
    train = pulse_train(hardware, signed=signed)
    kind = "uniform" if hardware.adc is None or hardware.adc.kind == "sense_amp" else hardware.adc.kind
    if hardware.adc is None and any(s.low < 0 for s in streams(hardware, train, float("inf"))):
        kind = "symmetric"
    for bits in range(2 if kind == "symmetric" else 1, 64):
        if all(level_converter(kind, bits, s.low, s.high) for s in streams(hardware, train, float("inf"))):
            return bits
    raise HardwareError(
        "no converter of less than 64 bits loses nothing on this chip; use fewer input bits a cycle"
    )


def converter_bits(hardware: Hardware) -> int:
    """Bits of the chip's converter; of one that loses nothing where it states an ideal one."""
    if hardware.adc is not None:
        return hardware.adc.bits
    table = hardware.normalisation
    if hardware.array.output == "analog" and table is not None and table.bits is not None:
        return table.bits
    return lossless_bits(hardware, signed=is_signed(hardware, None))


def converters_per_array(hardware: Hardware) -> int:
    """Converters of one array."""
    shared = hardware.array.cols if hardware.adc is None else hardware.adc.columns_per_adc
    return -(-hardware.array.cols // min(shared, hardware.array.cols))


def lines_per_input(hardware: Hardware) -> int:
    """Word lines that one input takes."""
    return 2 if hardware.weights.encoding == "xnor" else 1


def subtracts_in_an_array(hardware: Hardware) -> bool:
    """Whether two columns of an array, a pair, are read by one conversion."""
    after = hardware.adc is not None and hardware.adc.subtract == "digital"
    return weight_slicing(hardware).paired and hardware.weights.pair == "columns" and not after


def cycle_time(hardware: Hardware, costs: Costs) -> float:
    """Seconds of one input cycle: the tile's, or what its converters need where that is longer.

    Args:
        hardware: the chip.
        costs: its tables; an `adc` component with `events_per_s` sets the converters' pace.

    Returns:
        The cycle in seconds.
    """
    cycle = costs.tile.cycle_s
    if hardware.array.output == "analog" or (hardware.adc is not None and hardware.adc.per == "vector"):
        return cycle
    columns = -(-hardware.array.cols // converters_per_array(hardware))
    if subtracts_in_an_array(hardware):
        columns = -(-columns // 2)
    for component in costs.components.values():
        if component.event == "adc" and component.per == "converter" and component.events_per_s:
            need = columns / component.events_per_s
            if need > cycle * (1 + 1e-9):
                cycle = need
    return cycle


def activity(hardware: Hardware, costs: Costs) -> float:
    """Mean pulse on a word line over full scale where none was measured."""
    if costs.tile.activity is not None:
        return costs.tile.activity
    return 0.5 if hardware.weights.encoding == "xnor" else 1.0


def vector_time(hardware: Hardware, costs: Costs, cycles: int, serial: int = 1) -> float:
    """Seconds between vectors of one array: its input cycles, times the reads that follow each other."""
    return cycles * serial * cycle_time(hardware, costs)


def macs_per_array(hardware: Hardware) -> float:
    """Multiply-accumulates of one full array for one vector, unit columns left out."""
    slices = weight_slicing(hardware)
    per_weight = len(slices.widths) * (2 if slices.paired else 1)
    apart = 1
    if hardware.weights.placement == "separate":
        apart *= len(slices.widths)
    if slices.paired and hardware.weights.pair == "arrays":
        apart *= 2
    weights = hardware.array.cols // (per_weight // apart) / apart
    return hardware.array.rows // lines_per_input(hardware) * weights


def evaluate(name: str, component: Component, hardware: Hardware, costs: Costs, tiles: int) -> Costed:
    """A component of a chip in numbers.

    Args:
        name: its key.
        component: its table.
        hardware: the chip.
        costs: all its tables.
        tiles: how many tiles the chip has.

    Returns:
        The numbers.

    Raises:
        HardwareError: the model does not exist, or its parameters do not fit.
    """
    number = _instances(component, hardware, costs.tile, tiles)
    rate = (
        component.events_per_s
        or _full_rate(component.event, hardware, costs) * tiles * costs.tile.arrays / number
    )
    energy, area, leakage, latency, limit = 0.0, 0.0, 0.0, 0.0, component.confidence
    source = component.source
    if component.model != "fixed":
        context = _context(hardware, costs, rate)
        try:
            found = cost(component.model, component.params, context)
        except HardwareError as error:
            raise HardwareError(f"components.{name}: {error}") from None
        energy, area, leakage = found.energy_J, found.area_um2, found.leakage_W
        latency = found.latency_s
        source = source or model(component.model).source
        limit = component.confidence if component.source else model(component.model).confidence
    if component.energy_pJ is not None:
        energy = component.energy_pJ * 1e-12
    elif component.power_mW is not None and component.event != "static":
        energy = component.power_mW * 1e-3 / rate
    power = energy * rate + leakage if component.power_mW is None else component.power_mW * 1e-3
    if component.event == "static":
        energy = 0.0
    area = area if component.area_um2 is None else component.area_um2
    return Costed(name, component, number, energy, power, area, source, limit, latency)


def _instances(component: Component, hardware: Hardware, tile: Tile, tiles: int) -> float:
    arrays = tiles * tile.arrays
    containers = {
        "chip": 1,
        "tile": tiles,
        "unit": tiles * tile.units_per_tile,
        "array": arrays,
        "row": arrays * hardware.array.rows,
        "column": arrays * hardware.array.cols,
        "converter": arrays * converters_per_array(hardware),
    }
    return containers[component.per] * component.count


def _full_rate(event: Event, hardware: Hardware, costs: Costs) -> float:
    """Events a second of one array that computes all the time; of digital units one a clock."""
    cycles, conversions = input_cycles(hardware, signed=is_signed(hardware, None))
    cycle = cycle_time(hardware, costs)
    vectors = 1 / (cycles * cycle)
    rows, cols = hardware.array.active, hardware.array.cols
    values = rows / lines_per_input(hardware) * hardware.inputs.bits / 8
    outputs = macs_per_array(hardware) / (hardware.array.rows // lines_per_input(hardware))
    converted = outputs * converted_columns(hardware)
    rates: dict[Event, float] = {
        "array_read": 1 / cycle,
        "cell_read": rows * cols * activity(hardware, costs) / cycle,
        "dac": rows * activity(hardware, costs) / cycle,
        "sample_hold": converted / cycle,
        "adc": converted * conversions * vectors,
        "adder_tree": converted / cycle,
        "shift_add": converted * (cycles if hardware.array.readout == "digital" else conversions) * vectors,
        "input_register_byte": 2 * values * vectors,
        "output_register_byte": 8 * outputs * vectors,
        "buffer_byte": (values + outputs * hardware.inputs.bits / 8) * vectors,
        "bus_byte": (values + outputs * hardware.inputs.bits / 8) * vectors,
        "cell_write": 0.0,
        "dram_byte": 0.0,
        "busy": 1.0,
        "static": 0.0,
    }
    return rates.get(event, costs.tile.clock_Hz / costs.tile.arrays)


def _context(hardware: Hardware, costs: Costs, rate: float) -> dict[str, float]:
    context = {
        "node_nm": costs.tile.node_nm,
        "bits": float(converter_bits(hardware)),
        "dac_bits": 1.0 if hardware.inputs.analog else float(hardware.inputs.bits_per_cycle),
        "rows": float(hardware.array.rows),
        "cols": float(hardware.array.cols),
        "rate_Hz": rate,
        "cycle_s": costs.tile.cycle_s,
        "clock_Hz": costs.tile.clock_Hz,
    }
    if hardware.device.g_max_S is not None:
        context["g_max_S"] = hardware.device.g_max_S
    return context
