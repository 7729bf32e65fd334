"""What an estimate says: by layer and by component, with totals that add up exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from rich.console import Console
from rich.table import Table

from imcsim.costs import Confidence, Event

aJ = 1e-18
"""Energies are kept in whole attojoules, so that sums over layers and over components are the same number."""


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: module name; "(always on)" for what draws power whatever the layers do.
        kind: class of the layer.
        matrix: groups x inputs x outputs.
        vectors: input vectors a sample.
        macs: multiply-accumulates on arrays a sample.
        arrays: of one copy.
        copies: of the layer.
        chip: index of the chip it starts on.
        utilisation: fraction of its cells in use.
        idle_columns: bit lines of one copy that hold nothing.
        time_s: of the layer for a sample.
        events: what happens a sample.
        energy_aJ: by component, attojoules a sample.
        weight_bits: of its chip; 0 where nothing is on arrays.
        input_bits: likewise; 0 too where inputs are analog.
        activity: mean pulse over full scale of its word lines, measured or the chip's; 0 likewise.
        area_mm2: its share of the tiles, by arrays. Of "(always on)": what is one a chip, and arrays not in
            use.
    """

    name: str
    kind: str
    matrix: str
    vectors: int
    macs: int
    arrays: int
    copies: int
    chip: int
    utilisation: float
    idle_columns: int
    time_s: float
    events: Mapping[Event, float]
    energy_aJ: Mapping[str, int]
    weight_bits: int = 0
    input_bits: int = 0
    activity: float = 0.0
    area_mm2: float = 0.0

    @property
    def total_aJ(self) -> int:
        """Energy a sample in attojoules."""
        return sum(self.energy_aJ.values())

    @property
    def energy_J(self) -> float:
        """Energy a sample."""
        return self.total_aJ * aJ

    @property
    def edp_Js(self) -> float:
        """Energy times the layer's own time."""
        return self.energy_J * self.time_s


@dataclass(frozen=True)
class ComponentRow:
    """One kind of component.

    Attributes:
        name: its key under `[components]`.
        event: what it does; "static" if it is always on.
        events: how often a sample.
        energy_aJ: a sample, attojoules.
        area_mm2: of all of them.
        source: who says what it costs.
        confidence: A, B or C.
        calibrated: fitted to the figure it is compared with.
    """

    name: str
    event: Event
    events: float
    energy_aJ: int
    area_mm2: float
    source: str
    confidence: Confidence
    calibrated: bool

    @property
    def energy_J(self) -> float:
        """Energy a sample."""
        return self.energy_aJ * aJ


@dataclass(frozen=True)
class Estimate:
    """A network on a chip, for one sample.

    Attributes:
        hardware: name of the chip.
        mode: "pipelined" (all weights stay) or "reload" (weights are written in passes).
        level: what is accelerated at a time: "network", or in passes "layer" (whole layers) or "tensor" (some
            layer is cut over passes).
        rows: layers, in the order they run.
        components: the chip's components.
        latency_s: from a sample's entry to its result (reload: of the whole batch).
        period_s: between samples.
        area_mm2: of all chips.
        chips: how many.
        tiles: on a chip.
        arrays: in use, copies included.
        arrays_available: on all chips.
        passes: times that the chip is written for a batch; 1 if weights stay.
        batch: samples a pass; 1 if weights stay.
        programming_J: writing all weights once, copies included; measured where write-verify wrote them, else
            by the chip's component for it, else the library's (the notes say which).
        programming_s: likewise; arrays are written in parallel.
        convention: how operations are counted.
        uncosted: events that happen and that no component of the chip accounts for.
        notes: what a reader should know.
    """

    hardware: str
    mode: str
    level: str
    rows: tuple[LayerRow, ...]
    components: tuple[ComponentRow, ...]
    latency_s: float
    period_s: float
    area_mm2: float
    chips: int
    tiles: int
    arrays: int
    arrays_available: int
    passes: int
    batch: int
    programming_J: float
    programming_s: float
    convention: str
    uncosted: Mapping[Event, float]
    notes: tuple[str, ...]

    @property
    def energy_aJ(self) -> int:
        """Energy a sample in attojoules: the sum over layers, and over components."""
        return sum(row.total_aJ for row in self.rows)

    @property
    def energy_J(self) -> float:
        """Energy a sample."""
        return self.energy_aJ * aJ

    @property
    def macs(self) -> int:
        """Multiply-accumulates on arrays a sample."""
        return sum(row.macs for row in self.rows)

    @property
    def throughput_per_s(self) -> float:
        """Samples a second."""
        return 1 / self.period_s

    @property
    def power_W(self) -> float:
        """Mean power at full throughput."""
        return self.energy_J / self.period_s

    @property
    def edp_Js(self) -> float:
        """Energy times latency."""
        return self.energy_J * self.latency_s

    @property
    def tops_per_watt(self) -> float:
        """1e12 operations a joule, 2 a multiply-accumulate on arrays."""
        return 2e-12 * self.macs / self.energy_J if self.energy_aJ else 0.0

    @property
    def conventions(self) -> dict[str, float]:
        """1e12 operations a joule as others count: the same energy, multiply-accumulates on arrays alone."""
        if not self.energy_aJ:
            return {}
        ones = sum(row.macs * row.weight_bits * row.input_bits for row in self.rows)
        return {
            "1 MAC = 2 operations (imcsim, ISAAC, PUMA, NeuroSim)": self.tops_per_watt,
            "1 MAC = 1 operation (tools that count MACs: CiMLoop)": self.tops_per_watt / 2,
            "1 MAC = 2 x weight bits x input bits operations of 1 bit (macros)": 2e-12 * ones / self.energy_J,
        }

    @property
    def gops(self) -> float:
        """1e9 operations a second on this network."""
        return 2e-9 * self.macs / self.period_s

    @property
    def utilisation(self) -> float:
        """Cells in use over the cells of the arrays in use."""
        used = sum(row.utilisation * row.arrays * row.copies for row in self.rows)
        return used / self.arrays if self.arrays else 0.0

    @property
    def calibrated(self) -> bool:
        """Whether a component was fitted to the figure it is compared with."""
        return any(part.calibrated for part in self.components)

    def dominant(self) -> str:
        """One line: which component and which layer take most of the energy, why, and what sets the pace."""
        if not self.energy_aJ:
            return "no component accounts for what happens"
        part = max(self.components, key=lambda c: c.energy_aJ)
        layer = max(self.rows, key=lambda r: r.total_aJ)
        slow = max(self.rows, key=lambda r: r.time_s)
        total = self.energy_aJ
        return (
            f"{part.name} takes {100 * part.energy_aJ / total:.0f} % of the energy "
            f"({_why(part, self.macs)}); "
            f"{_called(layer)} takes {100 * layer.total_aJ / total:.0f} % of it; "
            f"{_called(slow)} sets the pace ({slow.time_s:.3g} s)"
        )

    def frame(self) -> pd.DataFrame:
        """One row a layer, its energy by component in joules."""
        return pd.DataFrame(
            [
                {
                    "layer": row.name,
                    "kind": row.kind,
                    "matrix": row.matrix,
                    "vectors": row.vectors,
                    "macs": row.macs,
                    "arrays": row.arrays,
                    "copies": row.copies,
                    "chip": row.chip,
                    "weight_bits": row.weight_bits,
                    "input_bits": row.input_bits,
                    "utilisation": row.utilisation,
                    "idle_columns": row.idle_columns,
                    "activity": row.activity,
                    "time_s": row.time_s,
                    "area_mm2": row.area_mm2,
                    "energy_J": row.energy_J,
                    "edp_Js": row.edp_Js,
                    **{f"{part.name}_J": row.energy_aJ.get(part.name, 0) * aJ for part in self.components},
                }
                for row in self.rows
            ]
        )

    def parts(self) -> pd.DataFrame:
        """One row a component; its energy-delay product is its energy times the network's latency."""
        return pd.DataFrame(
            [
                {
                    "component": part.name,
                    "event": part.event,
                    "events": part.events,
                    "energy_J": part.energy_J,
                    "share": part.energy_aJ / (self.energy_aJ or 1),
                    "edp_Js": part.energy_J * self.latency_s,
                    "area_mm2": part.area_mm2,
                    "source": part.source,
                    "confidence": part.confidence,
                    "calibrated": part.calibrated,
                }
                for part in self.components
            ]
        )

    def __str__(self) -> str:
        console = Console(width=120, no_color=True)
        with console.capture() as capture:
            console.print(self._layers())
            console.print(self._parts())
        lines = [
            self.dominant(),
            f"energy-delay product {self.edp_Js:.4g} Js; programming {self.programming_J:.4g} J, "
            f"{self.programming_s:.4g} s",
            "TOPS/W by convention: "
            + "; ".join(f"{value:.4g} at {what}" for what, value in self.conventions.items()),
            *self.notes,
        ]
        if self.uncosted:
            missing = ", ".join(f"{number:.3g} {event}" for event, number in self.uncosted.items())
            lines.append(f"counted, but no component accounts for it: {missing}")
        return capture.get() + "\n".join(lines) + "\n"

    def _layers(self) -> Table:
        passes = f" in {self.passes} passes" if self.passes > 1 else ""
        title = (
            f"{self.hardware}: {self.energy_J:.4g} J, {self.latency_s:.4g} s latency, "
            f"{self.throughput_per_s:.4g} samples/s, {self.area_mm2:.4g} mm2, "
            f"{self.tops_per_watt:.4g} TOPS/W ({self.convention}); "
            f"{self.level} level, {self.mode}, {self.chips} chip(s), "
            f"{self.arrays} of {self.arrays_available} arrays{passes}, {100 * self.utilisation:.0f} % used"
        )
        table = Table(title=title, title_justify="left")
        for column in (
            "layer",
            "groups x in x out",
            "vectors",
            "arrays",
            "copies",
            "bits",
            "used",
            "idle columns",
            "pulse",
            "time s",
            "energy J",
            "mm2",
        ):
            table.add_column(column, justify="left" if column == "layer" else "right", overflow="fold")
        for row in self.rows:
            table.add_row(
                row.name or "(model)",
                row.matrix,
                str(row.vectors or ""),
                str(row.arrays or ""),
                str(row.copies or ""),
                f"{row.weight_bits} x {row.input_bits or 'analog'}" if row.arrays else "",
                f"{100 * row.utilisation:.0f} %" if row.arrays else "",
                str(row.idle_columns) if row.arrays else "",
                f"{row.activity:.2g}" if row.arrays else "",
                f"{row.time_s:.3g}" if row.time_s else "",
                f"{row.energy_J:.3g}",
                f"{row.area_mm2:.3g}",
            )
        table.add_section()
        blanks = ("",) * 6
        table.add_row(
            "total", "", "", str(self.arrays), *blanks, f"{self.energy_J:.3g}", f"{self.area_mm2:.3g}"
        )
        return table

    def _parts(self) -> Table:
        table = Table()
        for column in ("component", "event", "a sample", "energy J", "share", "mm2", "confidence"):
            table.add_column(column, justify="left" if column in ("component", "event") else "right")
        total = self.energy_aJ or 1
        for part in self.components:
            table.add_row(
                part.name,
                part.event,
                f"{part.events:.4g}",
                f"{part.energy_J:.4g}",
                f"{100 * part.energy_aJ / total:.1f} %",
                f"{part.area_mm2:.4g}",
                part.confidence + (" calibrated" if part.calibrated else ""),
            )
        table.add_section()
        table.add_row("total", "", "", f"{self.energy_J:.4g}", "", f"{self.area_mm2:.4g}", "")
        return table


def _called(row: LayerRow) -> str:
    """A layer in a sentence; what is always on has brackets of its own."""
    return f"layer {row.name}" if row.name and row.kind else row.name or "the model"


def _why(part: ComponentRow, macs: int) -> str:
    """What a component's energy is made of."""
    if not part.events:
        return "on all the time"
    each = part.energy_J / part.events
    rate = part.events / macs
    return f"{part.events:.3g} x {part.event} of {each * 1e12:.3g} pJ, {rate:.3g} a multiply-accumulate"
