"""What each mitigation gives ResNet-20 on CIFAR-10 back, at 1 % stuck cells and 1 ohm wires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import BASE, Bench, Point, Row, Study, percent, select
from torch import nn

import imcsim
from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

ADC = {"adc.bits": 8, "adc.range": "calibrated"}
"""For the rows about ranges; all others have ideal converters."""
STUCK = {"device.stuck_on": 0.005, "device.stuck_off": 0.005}
WIRES = {
    "device.g_max_S": 1e-4,
    "device.on_off_ratio": 50.0,
    "array.word_line_ohm": 1.0,
    "array.bit_line_ohm": 1.0,
}
MEASURES: dict[str, dict[str, Any]] = {
    "none": {},
    "remapped rows": {"remap_rows": True},
    "8 spare columns": {"spare_columns": 8},
    "remapped rows, 8 spare columns": {"remap_rows": True, "spare_columns": 8},
    "3 copies": {"copies": 3},
    "compensated": {"compensate_faults": True},
    "compensated, remapped rows": {"compensate_faults": True, "remap_rows": True},
    "compensated, 3 copies": {"compensate_faults": True, "copies": 3},
}
ORDERS: dict[str, dict[str, Any]] = {
    "none": {},
    "shuffled rows": {"shuffle": "rows"},
    "shuffled columns": {"shuffle": "columns"},
    "shuffled rows and columns": {"shuffle": "both"},
    "3 copies": {"copies": 3},
}
CONVERTED: dict[str, tuple[str, dict[str, Any]]] = {
    "8-bit ADC": ("wires", {}),
    "8-bit ADC, recalibrated ranges": ("wires", {}),
    "8-bit ADC, recalibrated ranges and BatchNorm": ("wires", {}),
    "8-bit ADC, compensated": ("stuck", {"compensate_faults": True}),
    "8-bit ADC, compensated, recalibrated ranges": ("stuck", {"compensate_faults": True}),
}
"""Rows with converters, whose ranges come from target conductances unless they are recalibrated."""


def cost(sim: nn.Module) -> Row:
    """Cells over those without mitigation, and arrays."""
    found = imcsim.mitigation_cost(sim)
    return {"cell_factor": found.cell_factor, "arrays": found.arrays}


def recalibrated(bench: Bench, what: str) -> Callable[[nn.Module], None]:
    """Ranges of inputs and converters, or BatchNorm's statistics, from the chip as it was programmed."""

    def prepare(sim: nn.Module) -> None:
        if "ranges" in what:
            imcsim.calibrate(sim, bench.calibration)
        if "BatchNorm" in what:
            imcsim.train.recalibrate_batchnorm(sim, bench.calibration)

    return prepare


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """Each mitigation by itself and some together; then what needs no cells: the digital side, set anew."""
    faults = {"stuck": (STUCK, MEASURES), "wires": (WIRES, ORDERS)}
    points = [Point({"fault": "no", "how": "none"}, drawn=False, inspect=cost)]
    for fault, (changes, measures) in faults.items():
        drawn, again = fault == "stuck", recalibrated(bench, "BatchNorm")
        for how, table in measures.items():
            keys = {"fault": fault, "how": how}
            points.append(Point(keys, {**changes, "mitigation": table}, drawn=drawn, inspect=cost))
        keys = {"fault": fault, "how": "recalibrated BatchNorm"}
        points.append(Point(keys, changes, drawn=drawn, prepare=again, inspect=cost))
    best = {**STUCK, "mitigation": {"compensate_faults": True}}
    keys = {"fault": "stuck", "how": "compensated, recalibrated BatchNorm"}
    points.append(Point(keys, best, prepare=recalibrated(bench, "BatchNorm"), inspect=cost))
    for how, (fault, table) in CONVERTED.items():
        changes = {**faults[fault][0], **ADC, "mitigation": table}
        again = recalibrated(bench, how)
        keys = {"fault": fault, "how": how}
        points.append(Point(keys, changes, drawn=fault == "stuck", prepare=again, inspect=cost))
    return BASE, bench.measure(BASE, points, "mitigation")


def tables(record: Record) -> dict[str, str]:
    """A table a fault: accuracy, SQNR and cost."""
    found = {}
    whole = select(record.rows, fault="no")[0]
    for fault in ("stuck", "wires"):
        rows = [["no fault", percent(whole), f"{whole['sqnr_db']:.1f}", "1", str(whole["arrays"])]]
        rows += [
            [
                row["how"],
                percent(row),
                f"{row['sqnr_db']:.1f}",
                f"{row['cell_factor']:.3g}",
                str(row["arrays"]),
            ]
            for row in select(record.rows, fault=fault)
        ]
        found[fault] = markdown_table(["mitigation", "top-1 (%)", "SQNR (dB)", "cells", "arrays"], rows)
    return found


STUDY = Study("mitigation", "mitigation", __doc__, 1000, 3, measure, tables)

if __name__ == "__main__":
    STUDY.run()
