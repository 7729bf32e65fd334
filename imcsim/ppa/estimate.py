"""Energy, latency, throughput and area of a network on a chip: placement, copies, events, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from imcsim.costs import Component, Costs, Event
from imcsim.errors import InputError
from imcsim.hardware import Hardware
from imcsim.ppa import allocate
from imcsim.ppa.costing import SUBTOTAL, Costed, activity, costs_of, cycle_time, evaluate, vector_time
from imcsim.ppa.defaults import DRAM, WRITES, with_rest, writing
from imcsim.ppa.describe import describe
from imcsim.ppa.events import Layout, count, layout
from imcsim.ppa.report import ComponentRow, Estimate, LayerRow, aJ
from imcsim.ppa.shapes import LayerShape
from imcsim.ppa.traffic import Place, places, travel

TooLarge = Literal["chips", "reload"]


@dataclass(frozen=True)
class _Plan:
    """Arrays and time of a network."""

    mode: str
    copies: tuple[int, ...]
    passes: tuple[tuple[tuple[int, int], ...], ...]
    chips: int
    tiles: int
    period_s: float
    latency_s: float

    @property
    def level(self) -> str:
        """What is accelerated at a time: the network, or in passes whole layers or parts of one."""
        if not self.passes:
            return "network"
        parts = [layer for now in self.passes for layer, _ in now]
        return "layer" if len(set(parts)) == len(parts) else "tensor"


def estimate(
    model: nn.Module,
    x: Any,
    hardware: Hardware | None = None,
    *,
    costs: Costs | None = None,
    activity: bool = False,
    samples: int | None = None,
    **options: Any,
) -> Estimate:
    """A model on a chip, from shapes alone: nothing is programmed.

    Args:
        model: converted, or a float model with `hardware`.
        x: an input of it, or a tuple; only its shape counts unless `activity`.
        hardware: the chip of layers that carry none; without it that of the first crossbar layer.
        costs: `[tile]` and `[components]`; without them the chip's, else generic ones.
        activity: measure on x how busy the word lines are (drivers and cells then cost that much less).
        samples: samples in x, where its leading size is not that.
        **options: as for `estimate_layers`.

    Returns:
        The estimate for one sample.

    Raises:
        InputError: x does not fit, or no chip is known.
        HardwareError: a table does not fit.
    """
    shapes = describe(model, x, batch=samples, activity=activity)
    chip = hardware or next((shape.hardware for shape in shapes if shape.hardware is not None), None)
    if chip is None:
        raise InputError(
            "the model has no crossbar layer and no hardware was given; convert it with imcsim.convert, or "
            "give hardware"
        )
    return estimate_layers(shapes, chip, costs=costs, **options)


def estimate_layers(
    layers: Sequence[LayerShape],
    hardware: Hardware,
    *,
    costs: Costs | None = None,
    when_too_large: TooLarge | None = None,
    chips: int | None = None,
    replicate: bool = True,
    batch: int = 1,
) -> Estimate:
    """A network given as shapes on a chip.

    Args:
        layers: in the order they run.
        hardware: the chip of layers that carry none; its tables are the chip's.
        costs: `[tile]` and `[components]`; without them the chip's, else generic ones.
        when_too_large: chips: as many chips as it takes; reload: one chip (or `chips`), weights written in
            passes; None: as the chip's `[tile]` says.
        chips: how many there are; without it as few as hold the network once.
        replicate: copy layers so that all take about the same time, as far as the arrays go.
        batch: samples between two reloads, which share the cost of writing.

    Returns:
        The estimate for one sample.

    Raises:
        InputError: there is no layer on arrays, or an option is not allowed.
        MappingError: the network does not fit on `chips` chips.
        HardwareError: a table does not fit.
    """
    if when_too_large not in (None, "chips", "reload"):
        raise InputError(f"when_too_large = {when_too_large!r}; use 'chips' or 'reload'")
    if batch < 1 or (chips is not None and chips < 1):
        raise InputError(f"batch = {batch}, chips = {chips}; both are at least 1")
    generic = costs is None and not getattr(hardware, "components", None)
    costs = with_rest(costs_of(hardware, costs), hardware)
    layouts = [layout(s, s.hardware or hardware) if s.on_arrays else None for s in layers]
    mapped = [(shape, where) for shape, where in zip(layers, layouts, strict=True) if where is not None]
    if not mapped:
        raise InputError("no layer runs on arrays; there is nothing to estimate")
    plan = _plan(mapped, costs, when_too_large or costs.tile.when_too_large, chips, replicate, batch)
    if plan.passes:
        costs = _with_reloads(costs, hardware)
    rows, found = _rows(layers, layouts, plan, hardware, costs, batch)
    return _report(rows, found, plan, hardware, costs, mapped, batch, generic)


def _plan(
    mapped: list[tuple[LayerShape, Layout]],
    costs: Costs,
    when_too_large: TooLarge,
    chips: int | None,
    replicate: bool,
    batch: int,
) -> _Plan:
    tile = costs.tile
    jobs = [
        allocate.Job(
            where.placement.arrays,
            shape.vectors,
            vector_time(where.hardware, costs, where.cycles, where.serial),
            shape.sequential,
        )
        for shape, where in mapped
    ]
    need = sum(job.arrays for job in jobs)
    tiles = tile.tiles or -(-need // (tile.arrays * (chips or 1)))
    capacity = tiles * tile.arrays
    if when_too_large == "reload" and need > capacity * (chips or 1):
        costs = _with_reloads(costs, mapped[0][1].hardware)
        return _reload(mapped, jobs, costs, capacity * (chips or 1), chips or 1, tiles, batch)
    chips = chips or -(-need // capacity)
    ones = (1,) * len(jobs)
    copies = allocate.replicate(jobs, chips * capacity)
    copies = copies if replicate else ones
    times = [job.time(number) for job, number in zip(jobs, copies, strict=True)]
    return _Plan("pipelined", copies, (), chips, tiles, max(times), _latency(mapped, times, costs))


def _latency(mapped: list[tuple[LayerShape, Layout]], times: Sequence[float], costs: Costs) -> float:
    fills = [
        vector_time(where.hardware, costs, where.cycles, where.serial)
        + costs.tile.pipeline_cycles * cycle_time(where.hardware, costs)
        for _, where in mapped
    ]
    windows = [0.0 if i == 0 else shape.window for i, (shape, _) in enumerate(mapped)]
    return allocate.pipeline_latency(times, fills, windows)


def _reload(
    mapped: list[tuple[LayerShape, Layout]],
    jobs: list[allocate.Job],
    costs: Costs,
    capacity: int,
    chips: int,
    tiles: int,
    batch: int,
) -> _Plan:
    passes = allocate.pack([job.arrays for job in jobs], capacity)
    total = 0.0
    for parts in passes:
        chain = [mapped[layer] for layer, _ in parts]
        times = [jobs[layer].time(1) for layer, _ in parts]
        lines = max(where.hardware.array.rows for _, where in chain)
        weight_bytes = sum(_weight_bytes(mapped[i]) * n / jobs[i].arrays for i, n in parts)
        total += max(lines * _row_s(costs, chain[0][1].hardware, tiles), weight_bytes / _dram_rate(costs))
        total += _latency(chain, times, costs) + (batch - 1) * max(times)
    return _Plan("reload", (1,) * len(jobs), passes, chips, tiles, total / batch, total)


def _with_reloads(costs: Costs, hardware: Hardware) -> Costs:
    """The same with the library's memory and cell writes, where the tables have none."""
    has = {part.event for part in costs.components.values()}
    name = writing(hardware)
    more = {"dram": DRAM, name: WRITES[name]}
    return Costs(
        tile=costs.tile,
        components={
            **costs.components,
            **{
                f"{name} (library)": Component.model_validate(part)
                for name, part in more.items()
                if part["event"] not in has
            },
        },
    )


def _writers(costs: Costs, hardware: Hardware, tiles: int) -> list[Costed]:
    """What writes cells: components of the tables, else the library's."""
    writers = {name: part for name, part in costs.components.items() if part.event == "cell_write"}
    if not writers:
        name = writing(hardware)
        writers = {f"{name} (library)": Component.model_validate(WRITES[name])}
    return [evaluate(name, part, hardware, costs, tiles) for name, part in writers.items()]


def _row_s(costs: Costs, hardware: Hardware, tiles: int) -> float:
    """Seconds of writing one word line: the tile's, else those of its cells, written together."""
    if costs.tile.write_row_s is not None:
        return costs.tile.write_row_s
    return max(part.latency_s for part in _writers(costs, hardware, tiles))


def _weight_bytes(item: tuple[LayerShape, Layout]) -> float:
    shape, where = item
    words = shape.groups * shape.outputs * shape.terms * shape.inputs
    return words * where.hardware.weights.bits / 8


def _dram_rate(costs: Costs) -> float:
    rates = [c.events_per_s for c in costs.components.values() if c.event == "dram_byte" and c.events_per_s]
    return min(rates) if rates else float("inf")


class _Prices:
    """Components in numbers, once a chip."""

    def __init__(self, costs: Costs, tiles: int) -> None:
        self._costs, self._tiles = costs, tiles
        self._known: list[tuple[Hardware, dict[str, Costed]]] = []

    def of(self, hardware: Hardware) -> dict[str, Costed]:
        for chip, parts in self._known:
            if chip is hardware or chip == hardware:
                return parts
        parts = {
            name: evaluate(name, c, hardware, self._costs, self._tiles)
            for name, c in self._costs.components.items()
        }
        self._known.append((hardware, parts))
        return parts


def _rows(
    layers: Sequence[LayerShape],
    layouts: list[Layout | None],
    plan: _Plan,
    hardware: Hardware,
    costs: Costs,
    batch: int,
) -> tuple[list[LayerRow], dict[str, Costed]]:
    prices = _Prices(costs, plan.tiles)
    indices = [i for i, where in enumerate(layouts) if where is not None]
    located = _located(layouts, indices, plan, costs)
    rows = []
    for i, (shape, where) in enumerate(zip(layers, layouts, strict=True)):
        chip_of = hardware if where is None else where.hardware
        events = count(shape, where, costs.tile, cycle_time(chip_of, costs))
        copies, chip, time = 0, 0, 0.0
        if where is not None:
            at = indices.index(i)
            after = None
            if at + 1 < len(indices):
                beyond = layouts[indices[at + 1]]
                after = None if beyond is None else (beyond, located[at + 1])
            events.update(travel(shape, where, located[at], after, costs.tile, first=at == 0))
            if plan.passes:
                events.update(_reloaded(at, shape, where, plan, batch))
            copies, chip = plan.copies[at], located[at].chip
            job = allocate.Job(
                0, shape.vectors, vector_time(where.hardware, costs, where.cycles, where.serial), False
            )
            time = job.time(copies) * max(1, sum(any(n == at for n, _ in p) for p in plan.passes))
        events = {event: number for event, number in events.items() if number}
        energy = {
            name: round(
                events[part.component.event] * _busy(part, shape, chip_of, costs) * part.energy_J / aJ
            )
            for name, part in prices.of(chip_of).items()
            if part.component.event in events
        }
        rows.append(
            LayerRow(
                name=shape.name,
                kind=shape.kind if where is not None else f"{shape.kind}, digital",
                matrix=f"{shape.groups} x {shape.inputs} x {shape.outputs}",
                vectors=shape.vectors,
                macs=shape.macs,
                arrays=0 if where is None else where.placement.arrays,
                copies=copies,
                chip=chip,
                utilisation=0.0 if where is None else where.placement.utilisation,
                idle_columns=0 if where is None else where.placement.idle_columns,
                time_s=time,
                events=events,
                energy_aJ=energy,
                weight_bits=0 if where is None else chip_of.weights.bits,
                input_bits=0 if where is None or chip_of.inputs.analog else chip_of.inputs.bits,
                activity=0.0 if where is None else _pulse(shape, chip_of, costs),
            )
        )
    found = prices.of(hardware)
    used = -(-sum(row.arrays * row.copies for row in rows) // costs.tile.arrays)
    rows.append(_always_on(found, plan, min(used, plan.tiles * plan.chips)))
    return rows, found


def _located(
    layouts: list[Layout | None], indices: list[int], plan: _Plan, costs: Costs
) -> tuple[Place, ...]:
    arrays = [
        where.placement.arrays * copies
        for where, copies in zip((layouts[i] for i in indices), plan.copies, strict=True)
        if where is not None
    ]
    if not plan.passes:
        return places(arrays, costs.tile, plan.tiles)
    capacity = plan.tiles * costs.tile.arrays * plan.chips
    return tuple(places([min(n, capacity)], costs.tile, plan.tiles)[0] for n in arrays)


def _reloaded(at: int, shape: LayerShape, where: Layout, plan: _Plan, batch: int) -> dict[Event, float]:
    """Weights from memory into cells, and results that wait in memory for the next pass."""
    bytes_ = _weight_bytes((shape, where)) / batch
    last = [parts[-1][0] for parts in plan.passes]
    if at in last[:-1] and at != last[-1]:
        bytes_ += 2 * shape.output_elements * where.hardware.inputs.bits / 8
    return {"dram_byte": bytes_, "cell_write": where.placement.cells / batch}


def _busy(part: Costed, shape: LayerShape, hardware: Hardware, costs: Costs) -> float:
    """How large a pulse is on the mean, for what is paid by the pulse."""
    return _pulse(shape, hardware, costs) if part.component.event in ("dac", "cell_read") else 1.0


def _pulse(shape: LayerShape, hardware: Hardware, costs: Costs) -> float:
    return activity(hardware, costs) if shape.activity is None else shape.activity


def _always_on(found: dict[str, Costed], plan: _Plan, tiles_used: int) -> LayerRow:
    """Power that does not depend on events, over one period; tiles not in use are off."""
    energy = {}
    for name, part in found.items():
        if part.component.event == "static":
            share = plan.chips if part.component.per == "chip" else tiles_used / plan.tiles
            energy[name] = round(part.power_W * part.instances * share * plan.period_s / aJ)
    return LayerRow("(always on)", "", "", 0, 0, 0, 0, 0, 0.0, 0, 0.0, {}, energy)


def _report(
    rows: list[LayerRow],
    found: dict[str, Costed],
    plan: _Plan,
    hardware: Hardware,
    costs: Costs,
    mapped: list[tuple[LayerShape, Layout]],
    batch: int,
    generic: bool,
) -> Estimate:
    tile = costs.tile
    happened: dict[Event, float] = {}
    for row in rows:
        for event, number in row.events.items():
            happened[event] = happened.get(event, 0) + number
    covered: set[Event] = {"busy"}
    for part in found.values():
        covered |= {part.component.event, *part.component.includes}
    if covered & {"array_read", "cell_read"}:
        covered |= {"array_read", "cell_read"}  # two ways of counting the same reads
    programming_J, programming_s, how = _programming(mapped, plan, costs, hardware)
    parts = tuple(
        ComponentRow(
            name=name,
            event=part.component.event,
            events=happened.get(part.component.event, 0),
            energy_aJ=sum(row.energy_aJ.get(name, 0) for row in rows),
            area_mm2=part.instances * part.area_um2 * 1e-6 * plan.chips,
            source=part.source,
            confidence=part.confidence,
            calibrated=part.component.calibrated,
        )
        for name, part in found.items()
    )
    apart = sum(part.area_mm2 for part in parts if found[part.name].component.per == "chip")
    if tile.subtotal_mm2 is not None:
        rest = plan.chips * plan.tiles * tile.subtotal_mm2 + apart - sum(part.area_mm2 for part in parts)
        parts = (*parts, ComponentRow(SUBTOTAL, "static", 0, 0, rest, "the paper's rounding", "C", False))
    area = sum(part.area_mm2 for part in parts)
    rows = _with_areas(rows, area - apart, area, plan.chips * plan.tiles * tile.arrays)
    chips = {where.hardware for _, where in mapped}
    chip = {(c.weights.bits, f"{c.inputs.bits} bits" if not c.inputs.analog else "analog") for c in chips}
    widths = ", ".join(f"{w} x {i}" for w, i in sorted(chip))
    return Estimate(
        hardware=hardware.name,
        mode=plan.mode,
        level=plan.level,
        rows=tuple(rows),
        components=parts,
        latency_s=plan.latency_s,
        period_s=plan.period_s,
        area_mm2=area,
        chips=plan.chips,
        tiles=plan.tiles,
        arrays=sum(row.arrays * row.copies for row in rows),
        arrays_available=plan.chips * plan.tiles * tile.arrays,
        passes=max(1, len(plan.passes)),
        batch=batch if plan.passes else 1,
        programming_J=programming_J,
        programming_s=programming_s,
        convention=f"1 MAC = 2 operations of {widths}",
        uncosted={event: number for event, number in happened.items() if event not in covered},
        notes=(*_notes(plan, generic, tile.rest == "library"), how),
    )


def _with_areas(rows: list[LayerRow], tiles_mm2: float, total_mm2: float, arrays: int) -> list[LayerRow]:
    """The rows with their share of the tiles; the last, what is always on, takes what is left."""
    *layers, rest = rows
    layers = [replace(row, area_mm2=tiles_mm2 * min(1.0, row.arrays * row.copies / arrays)) for row in layers]
    left = max(0.0, total_mm2 - sum(row.area_mm2 for row in layers))
    return [*layers, replace(rest, area_mm2=left)]


def _programming(
    mapped: list[tuple[LayerShape, Layout]],
    plan: _Plan,
    costs: Costs,
    hardware: Hardware,
) -> tuple[float, float, str]:
    """Joules and seconds of writing every copy once, and a line that says how they are known.

    Tables: a cost a cell, a word line after the other. Measured: what write-verify of one copy took, cell
    after cell. All arrays are written at the same time; in passes, one pass after the other.
    """
    writes = _writers(costs, hardware, plan.tiles)
    each, row_s = sum(part.energy_J for part in writes), _row_s(costs, hardware, plan.tiles)
    energy, slowest, measured = 0.0, 0.0, 0
    for (shape, where), copies in zip(mapped, plan.copies, strict=True):
        if shape.write_J is None or shape.write_s is None:
            energy += where.placement.cells * copies * each
            slowest = max(slowest, where.hardware.array.rows * row_s)
        else:
            measured += 1
            energy += shape.write_J * copies
            slowest = max(slowest, shape.write_s / where.placement.arrays)
    time = slowest * max(1, len(plan.passes))
    if measured == len(mapped):
        return (
            energy,
            time,
            "programming: as write-verify measured it, cell after cell, arrays at the same time",
        )
    names = ", ".join(part.name for part in writes)
    some = f"of {measured} layers as write-verify measured it, else " if measured else ""
    return energy, time, f"programming: {some}by {names}, a word line each {row_s:.3g} s"


def _notes(plan: _Plan, generic: bool, rest: bool) -> tuple[str, ...]:
    notes = []
    if generic:
        notes.append("the chip states no costs: these are a generic tile's, from the component library")
    elif rest:
        notes.append("components called (library) are a generic tile's: the published design leaves them out")
    if plan.chips > 1 and plan.mode == "pipelined":
        notes.append(f"the network is spread over {plan.chips} chips")
    if plan.mode == "reload":
        passes = f"{len(plan.passes)} passes, each written from memory"
        notes.append(f"weights do not fit: {passes} ({plan.level}-level acceleration)")
    return tuple(notes)
