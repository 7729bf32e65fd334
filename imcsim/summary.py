"""What each layer of a converted model became."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd
from rich.console import Console
from rich.table import Table
from torch import nn

from imcsim.adc_table import CIRCUITS, Adc
from imcsim.convert import arrays, digital_layers, join, named_layers
from imcsim.errors import CalibrationError
from imcsim.hardware import Hardware
from imcsim.mapping import placement_of
from imcsim.nn import CrossbarLayer, CrossbarMatrices
from imcsim.nn.array import CrossbarArray
from imcsim.nn.norm import AnalogNorm
from imcsim.nn.periphery import periphery_effects
from imcsim.nn.wiring import has_wires


@dataclass(frozen=True)
class LayerSummary:
    """One row of `summary`.

    Attributes:
        name: module name; of a layer of several matrices, module and matrix name.
        kind: class of the layer.
        became: what it runs as, or "digital".
        matrix: groups x inputs x outputs.
        arrays: physical arrays.
        utilisation: fraction of their cells in use.
        idle_columns: bit lines that hold nothing.
        engine: what computes it.
        reason: why that engine, or why the layer is digital.
        effects: device effects that are on.
        method: the training method that makes its quantizers; empty: the hardware's own.
        warnings: what a user should know.
    """

    name: str
    kind: str
    became: str
    matrix: str = ""
    arrays: int = 0
    utilisation: float = 0.0
    idle_columns: int = 0
    engine: str = ""
    reason: str = ""
    effects: str = ""
    warnings: str = ""
    method: str = ""


@dataclass(frozen=True)
class Summary:
    """All rows; `str` gives a table, `frame` a pandas one."""

    rows: tuple[LayerSummary, ...]

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        table = Table(title=f"{sum(r.arrays for r in self.rows)} arrays", title_justify="left")
        for column in (
            "layer",
            "became",
            "groups x in x out",
            "arrays",
            "used",
            "idle columns",
            "engine",
            "why / effects",
        ):
            table.add_column(column, overflow="fold")
        for row in self.rows:
            trained = f"quantized by {row.method}" if row.method else ""
            notes = "; ".join(part for part in (row.reason, trained, row.effects, row.warnings) if part)
            used = f"{100 * row.utilisation:.0f} %" if row.arrays else ""
            idle = str(row.idle_columns) if row.arrays else ""
            table.add_row(
                row.name or "(model)",
                row.became,
                row.matrix,
                str(row.arrays or ""),
                used,
                idle,
                row.engine,
                notes,
            )
        console = Console(width=160, no_color=True)
        with console.capture() as capture:
            console.print(table)
        return capture.get()


def summary(sim: nn.Module) -> Summary:
    """One row a layer: what it became (or why it stayed digital), arrays, utilisation, engine and why.

    Args:
        sim: a converted model.

    Returns:
        The rows; `print` shows them as a table.

    Raises:
        ConversionError: the model was not converted.
    """
    arrays(sim)
    layers, digital = named_layers(sim), digital_layers(sim)
    rows: dict[str, LayerSummary] = {}
    for name, module in sim.named_modules():
        if isinstance(module, AnalogNorm):
            rows[name] = _norm_row(name, module)
            continue
        keys = module.matrix_keys(module) if isinstance(module, CrossbarMatrices) else ("",)
        kind = type(module).__name__.removeprefix("Crossbar")
        for own in (join(name, key) for key in keys):
            if own in rows:  # the out_proj of an attention layer, which is a module too
                continue
            if own in digital:
                rows[own] = LayerSummary(own, kind, "digital", reason=digital[own])
            elif own in layers:
                layers[own].array.sync(layers[own].weight)
                rows[own] = _row(own, kind, layers[own])
    return Summary(tuple(rows.values()))


def _row(name: str, kind: str, layer: CrossbarLayer) -> LayerSummary:
    array = layer.array
    hardware, weight = array.hardware, array.written.w_int
    where = placement_of(array)
    try:
        plan = array.plan(layer.weight.dtype)
        engine, reason = plan.engine, plan.reason
    except CalibrationError:
        engine, reason = "", "not calibrated yet"
    slices = array.slicing
    adc = "ideal converter" if hardware.adc is None else f"{hardware.adc.bits}-bit {_kind(hardware.adc)}"
    adc = "analog sums" if hardware.array.output == "analog" else adc
    groups, outputs, inputs = weight.shape
    widths = "/".join(str(width) for width in sorted(set(slices.widths)))
    return LayerSummary(
        name=name,
        kind=kind,
        became=f"{hardware.weights.encoding}, {len(slices.widths)} x {widths} bit, {adc}",
        matrix=f"{groups} x {inputs} x {outputs}",
        arrays=where.arrays,
        utilisation=where.utilisation,
        idle_columns=where.idle_columns,
        engine=engine,
        reason=reason,
        effects=", ".join([*array.device_model.effects(), *_circuit_effects(array)]),
        warnings="; ".join([*array.device_model.notes(), *_range_warnings(hardware)]),
        method="" if array.method is None else str(array.method),
    )


def _norm_row(name: str, norm: AnalogNorm) -> LayerSummary:
    table = norm.table
    errors = {"gain errors": table.gain_error, "offsets": table.offset, "noise": table.noise}
    return LayerSummary(
        name=name,
        kind="AnalogNorm",
        became="analog normalisation"
        if table.bits is None
        else f"analog normalisation, {table.bits}-bit converter on +-{table.range:g}",
        effects=", ".join(f"{what} {value:g}" for what, value in errors.items() if value),
    )


def _kind(adc: Adc) -> str:
    """Name of a converter: its circuit, where it is one."""
    circuits = {"sar": "SAR ADC", "integrate_fire": "integrate-and-fire converter"}
    return circuits.get(adc.kind, f"{adc.kind} ADC" if adc.kind in CIRCUITS else "ADC")


def _circuit_effects(array: CrossbarArray) -> list[str]:
    """Names of the effects around the cells that are on."""
    chip = array.hardware.array
    out = ["analog inputs"] if array.hardware.inputs.analog else []
    if has_wires(array.hardware):
        out.append(
            f"wires ({chip.word_line_ohm:g} ohm word line, {chip.bit_line_ohm:g} ohm bit line a segment)"
        )
        if chip.input_mode == "gate":
            out.append("gate inputs (approximated by the map at half the word lines on)")
    if chip.readout != "current":
        out.append(f"{chip.readout} readout")
    if chip.accumulator_bits is not None:
        out.append(f"sums saturate at {chip.accumulator_bits} bits")
    out += periphery_effects(array.hardware)
    out += _mitigation_effects(array.hardware)
    if array.seconds:
        out.append(f"aged {array.seconds:g} s")
    if array.compensation is not None:
        out.append(f"{array.compensation} drift compensation")
    return out


def _range_warnings(hardware: Hardware) -> list[str]:
    adc = hardware.adc
    if adc is None or not isinstance(adc.range, tuple) or adc.kind == "sense_amp":
        return []
    lo, hi = adc.range
    codes = adc.codes - 1
    zero = -lo * codes / (hi - lo)
    if adc.kind == "uniform" or (adc.kind != "symmetric" and lo >= 0):
        if not zero.is_integer():
            return [
                f"zero lies between two codes of adc.range = [{lo:g}, {hi:g}]: every idle column reads as "
                f"{abs(round(zero) - zero):.2f} LSB"
            ]
        if not 0 <= zero <= codes:
            return [f"adc.range = [{lo:g}, {hi:g}] does not contain zero"]
    return []


def _mitigation_effects(hardware: Hardware) -> list[str]:
    """What the chip does against its faults and wires."""
    how = hardware.mitigation
    named = {
        f"{how.copies} copies averaged": how.copies > 1,
        f"{how.spare_columns} spare columns an array": how.spare_columns > 0,
        "rows remapped around stuck cells": how.remap_rows,
        "stuck cells compensated": how.compensate_faults,
        f"shuffled ({how.shuffle})": how.shuffle != "none",
    }
    return [name for name, on in named.items() if on]
