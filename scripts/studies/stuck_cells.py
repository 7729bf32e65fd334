"""What cells that are stuck on or off cost ResNet-20 on CIFAR-10, offset against differential."""

from __future__ import annotations

from typing import Any

from common import BASE, Bench, Point, Row, Study, axes, finish, line, percent, select
from matplotlib.figure import Figure

from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.05)
FAULTS: dict[str, tuple[str, ...]] = {
    "stuck on": ("stuck_on",),
    "stuck off": ("stuck_off",),
    "half and half": ("stuck_on", "stuck_off"),
}
MAPPINGS: dict[str, dict[str, Any]] = {
    "differential, 4 x 2 bit": {},
    "differential, [2, 2, 2, 1]": {"weights.cell_bits": [2, 2, 2, 1]},
    "offset, 4 x 2 bit": {"weights.encoding": "offset"},
}


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """Every mapping, kind of fault and rate."""
    points = [
        Point({"mapping": name, "fault": "none", "rate": 0.0}, how, drawn=False)
        for name, how in MAPPINGS.items()
    ]
    for name, how in MAPPINGS.items():
        for fault, fields in FAULTS.items():
            for rate in RATES:
                faults = {f"device.{key}": rate / len(fields) for key in fields}
                points.append(Point({"mapping": name, "fault": fault, "rate": rate}, {**how, **faults}))
    return BASE, bench.measure(BASE, points, "stuck cells")


def tables(record: Record) -> dict[str, str]:
    """A table a kind of fault."""
    found = {}
    for fault in FAULTS:
        cells = [
            [f"{100 * rate:g} %", *(percent(_one(record, name, fault, rate)) for name in MAPPINGS)]
            for rate in (0.0, *RATES)
        ]
        found[fault] = markdown_table(["cells stuck", *MAPPINGS], cells)
    return found


def _one(record: Record, mapping: str, fault: str, rate: float) -> Row:
    return select(record.rows, mapping=mapping, fault=fault if rate else "none", rate=rate)[0]


def figure(record: Record) -> Figure:
    """Accuracy over the rate, a panel a kind of fault."""
    drawing, panels = axes(len(FAULTS))
    for ax, fault in zip(panels, FAULTS, strict=True):
        for i, name in enumerate(MAPPINGS):
            line(
                ax,
                [100 * rate for rate in RATES],
                [_one(record, name, fault, rate) for rate in RATES],
                i,
                name,
            )
        ax.set_xscale("log")
        finish(ax, "cells stuck (%)", record.facts["float_top1"], fault)
    return drawing


STUDY = Study("stuck_cells", "stuck_cells", __doc__, 500, 5, measure, tables, figure)

if __name__ == "__main__":
    STUDY.run()
