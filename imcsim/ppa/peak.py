"""What a chip can do at most: the accounting of the papers, from component counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pandas as pd
from rich.console import Console
from rich.table import Table

from imcsim.costs import Confidence, Costs
from imcsim.hardware import Hardware
from imcsim.ppa.costing import SUBTOTAL, Costed, costs_of, evaluate, macs_per_array, vector_time
from imcsim.ppa.events import input_cycles, is_signed


@dataclass(frozen=True)
class PeakRow:
    """One kind of component.

    Attributes:
        component: its name.
        count: instances on the chip.
        power_mW: of all of them.
        area_mm2: of all of them.
        power_share: of the chip's power.
        area_share: of the chip's area.
        source: who says so.
        confidence: A, B or C.
        calibrated: fitted to the figure it is compared with.
    """

    component: str
    count: float
    power_mW: float
    area_mm2: float
    power_share: float
    area_share: float
    source: str
    confidence: Confidence
    calibrated: bool


@dataclass(frozen=True)
class Reading:
    """Throughput under one convention.

    Attributes:
        convention: which.
        gops: 1e9 operations a second.
        gops_per_watt: over the chip's power.
        gops_per_mm2: over its area.
        calibrated: the convention's interval was derived from the published headline.
    """

    convention: str
    gops: float
    gops_per_watt: float
    gops_per_mm2: float
    calibrated: bool


@dataclass(frozen=True)
class Peak:
    """A chip with every array busy.

    Attributes:
        name: of the chip.
        power_w: of the chip.
        area_mm2: of the chip.
        gops: 1e9 operations a second, under the first reading.
        gops_per_watt: likewise.
        gops_per_mm2: likewise.
        calibrated: something in it was fitted to its own target: no proof of anything.
        calibrated_parts: what.
        tiles: on the chip.
        tile_mw: power of a tile, without what is one a chip.
        tile_mm2: area of a tile, likewise.
        tile_rows_mw: what the tile's components add up to, where a published subtotal stands in its place.
        tile_rows_mm2: likewise.
        rows: the components.
        readings: throughput under each convention; the first is the headline's.
    """

    name: str
    power_w: float
    area_mm2: float
    gops: float
    gops_per_watt: float
    gops_per_mm2: float
    calibrated: bool
    calibrated_parts: tuple[str, ...]
    tiles: int
    tile_mw: float
    tile_mm2: float
    tile_rows_mw: float
    tile_rows_mm2: float
    rows: tuple[PeakRow, ...]
    readings: tuple[Reading, ...]

    def frame(self) -> pd.DataFrame:
        """The components as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        table = Table(
            title=f"{self.name}: {self.power_w:.4g} W, {self.area_mm2:.4g} mm2, {self.tiles} tile(s)",
            title_justify="left",
        )
        for column in ("component", "count", "mW", "share", "mm2", "share", "confidence"):
            table.add_column(column, justify="left" if column == "component" else "right")
        for row in self.rows:
            table.add_row(
                row.component,
                f"{row.count:g}",
                f"{row.power_mW:.4g}",
                f"{100 * row.power_share:.1f} %",
                f"{row.area_mm2:.4g}",
                f"{100 * row.area_share:.1f} %",
                row.confidence + (" calibrated" if row.calibrated else ""),
            )
        lines = [
            f"{_short(r.gops)} GOPS, {_short(r.gops_per_watt)} GOPS/W, {_short(r.gops_per_mm2)} GOPS/mm2: "
            f"{r.convention}" + (" (calibrated)" if r.calibrated else "")
            for r in self.readings
        ]
        console = Console(width=120, no_color=True)
        with console.capture() as capture:
            console.print(table)
        return capture.get() + "\n".join(lines) + "\n"


def peak(hardware: Hardware, costs: Costs | None = None) -> Peak:
    """Power, area and throughput of a chip with every array busy.

    Operations: a multiply-accumulate is 2, at the weights' and inputs' stated bits; every row and column of
    every array computes, unit columns come on top as the papers count them.

    Args:
        hardware: the chip.
        costs: its `[tile]` and `[components]` tables; without them the chip's own, else generic ones.

    Returns:
        The figures. Where the number of tiles is open, those of one tile.

    Raises:
        HardwareError: a table does not fit.
    """
    costs = costs_of(hardware, costs)
    tile = costs.tile
    tiles = tile.tiles or 1
    parts = [evaluate(name, c, hardware, costs, tiles) for name, c in costs.components.items()]
    inside = [part for part in parts if part.component.per != "chip"]
    rows_mw = sum(part.instances * part.power_W for part in inside) / tiles * 1e3
    rows_mm2 = sum(part.instances * part.area_um2 for part in inside) / tiles * 1e-6
    tile_mw = rows_mw if tile.subtotal_mW is None else tile.subtotal_mW
    tile_mm2 = rows_mm2 if tile.subtotal_mm2 is None else tile.subtotal_mm2
    outside = [part for part in parts if part.component.per == "chip"]
    power = tiles * tile_mw * 1e-3 + sum(part.instances * part.power_W for part in outside)
    area = tiles * tile_mm2 + sum(part.instances * part.area_um2 for part in outside) * 1e-6
    rows = [_row(part, power, area) for part in parts]
    if tile_mw != rows_mw or tile_mm2 != rows_mm2:
        rest = tiles * (tile_mw - rows_mw), tiles * (tile_mm2 - rows_mm2)
        shares = rest[0] / (power * 1e3), rest[1] / area
        rows.append(PeakRow(SUBTOTAL, tiles, *rest, *shares, "the paper's rounding", "C", False))
    readings = _readings(hardware, costs, tiles, power, area)
    readings += _other_readings(hardware, costs, tiles, power, area, parts)
    fitted = [row.component for row in rows if row.calibrated]
    if readings[0].calibrated:
        fitted.append("tile.headline_factor")
    return Peak(
        name=hardware.name,
        power_w=power,
        area_mm2=area,
        gops=readings[0].gops,
        gops_per_watt=readings[0].gops_per_watt,
        gops_per_mm2=readings[0].gops_per_mm2,
        calibrated=bool(fitted),
        calibrated_parts=tuple(fitted),
        tiles=tiles,
        tile_mw=tile_mw,
        tile_mm2=tile_mm2,
        tile_rows_mw=rows_mw,
        tile_rows_mm2=rows_mm2,
        rows=tuple(rows),
        readings=readings,
    )


def _short(value: float) -> str:
    """Four digits or more, none beyond the point from 1000."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _row(part: Costed, power: float, area: float) -> PeakRow:
    watts, mm2 = part.instances * part.power_W, part.instances * part.area_um2 * 1e-6
    return PeakRow(
        part.name,
        part.instances,
        watts * 1e3,
        mm2,
        watts / power if power else 0.0,
        mm2 / area if area else 0.0,
        part.source,
        part.confidence,
        part.component.calibrated,
    )


def _readings(hardware: Hardware, costs: Costs, tiles: int, power: float, area: float) -> tuple[Reading, ...]:
    arrays = tiles * costs.tile.arrays
    cycles, _ = input_cycles(hardware, signed=is_signed(hardware, None))
    reads = -(-hardware.array.rows // hardware.array.active)
    own = vector_time(hardware, costs, cycles, reads)
    bits = f"1 MAC = 2 operations of {hardware.weights.bits} x {hardware.inputs.bits} bits"

    def reading(seconds: float, what: str, calibrated: bool) -> Reading:
        gops = 2 * macs_per_array(hardware) * arrays / seconds * 1e-9
        per_watt, per_mm2 = (gops / x if x else 0.0 for x in (power, area))
        return Reading(f"{bits}; {what}", gops, per_watt, per_mm2, calibrated)

    plain = reading(own, f"a vector every {own * 1e9:g} ns", False)
    factor = costs.tile.headline_factor
    if factor is None:
        return (plain,)
    return (
        reading(own / factor, f"a vector every {own / factor * 1e9:.5g} ns, as the headline implies", True),
        plain,
    )


def _other_readings(
    hardware: Hardware, costs: Costs, tiles: int, power: float, area: float, parts: list[Costed]
) -> tuple[Reading, ...]:
    """The chip's own throughput with other readings of what an event of a component costs."""
    found = []
    for part in parts:
        for what, energy in part.component.alternatives.items():
            other = part.component.model_copy(update={"energy_pJ": energy})
            now = evaluate(part.name, other, hardware, costs, tiles)
            watts = power + part.instances * (now.power_W - part.power_W)
            reading = _readings(hardware, costs, tiles, watts, area)[-1]
            found.append(replace(reading, convention=f"{reading.convention}; {part.name}: {what}"))
    return tuple(found)
