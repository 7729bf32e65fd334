"""What each mitigation gives ResNet-20 on CIFAR-10 back, at 1 % stuck cells and at 1 ohm wires, and its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import BASE, Bench, Point, Row, Study, percent, select
from torch import nn

import imcsim
from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

CHIP = BASE.replace({"adc.bits": 8, "adc.range": "calibrated"})
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
AGAIN = ("ranges", "BatchNorm", "ranges and BatchNorm")
"""What is done to the programmed chip, without a new cell."""


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
    """Each mitigation by itself and some together; then what needs no cells, on plain chips."""
    points = [Point({"fault": "no", "how": "none"}, drawn=False, inspect=cost)]
    for fault, changes, measures in (("stuck", STUCK, MEASURES), ("wires", WIRES, ORDERS)):
        drawn = fault == "stuck"
        for how, table in measures.items():
            keys = {"fault": fault, "how": how}
            points.append(Point(keys, {**changes, "mitigation": table}, drawn=drawn, inspect=cost))
        for what in AGAIN:
            keys = {"fault": fault, "how": f"recalibrated {what}"}
            again = recalibrated(bench, what)
            points.append(Point(keys, changes, drawn=drawn, prepare=again, inspect=cost))
    return CHIP, bench.measure(CHIP, points, "mitigation")


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
