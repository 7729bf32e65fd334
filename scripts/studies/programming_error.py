"""What programming error costs ResNet-20 on CIFAR-10 without converters, and which slicings bear it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from common import BASE, Bench, Point, Row, Study, axes, finish, line, percent, select
from matplotlib.figure import Figure
from torch import Tensor, nn

from imcsim.convert import arrays
from imcsim.evaluate import sqnr_db
from imcsim.hardware import Hardware
from imcsim.kernels.collapsed import effective_weight
from imcsim.nn.array import CrossbarArray
from imcsim.plot import MARKERS, PALETTE
from imcsim.results import Record, markdown_table

RANGE = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.10)
PROPORTIONAL = (0.0, 0.02, 0.05, 0.10, 0.20, 0.30)
CELLS: dict[str, tuple[float, bool]] = {
    "g_min = 0": (inf, False),
    "on/off 10": (10.0, False),
    "on/off 10, folded": (10.0, True),
}
"""On/off ratio, and whether BatchNorm is folded into the weights first."""

OPEN = {"device.on_off_ratio": 10.0}
STRESS = (0.02, 0.05)
MAPPINGS: dict[str, dict[str, Any]] = {
    "differential, cell_bits = 2": {},
    "differential, two-sided": {"weights.sided": "two"},
    "differential, a scale a channel": {"weights.scale": "per_channel"},
    "offset, cell_bits = 2": {"weights.encoding": "offset"},
    "differential, [2, 2, 2, 1]": {"weights.cell_bits": [2, 2, 2, 1]},
    "differential, [2, 2, 3]": {"weights.cell_bits": [2, 2, 3]},
    "differential, [1, 2, 4]": {"weights.cell_bits": [1, 2, 4]},
    "differential, [3, 4]": {"weights.cell_bits": [3, 4]},
    "differential, one 7-bit cell": {"weights.cell_bits": 7},
    "differential, 1-bit cells": {"weights.cell_bits": 1},
}
SLICES = 4


def error(kind: str, sigma: float) -> dict[str, Any]:
    """The change that gives cells this programming error."""
    return {"device.programming": {"kind": kind, "sigma": sigma}}


# ---- which cells do the harm -------------------------------------------------------------------------


def only(which: Callable[[CrossbarArray, Tensor], Tensor]) -> Callable[[nn.Module], None]:
    """Keep the programming error of some cells; the others go to their targets."""

    def prepare(sim: nn.Module) -> None:
        for _, array in arrays(sim):
            target = array.target_conductance()
            written = array.cells["conductance_S"]
            array.cells["conductance_S"] = torch.where(which(array, target), written, target)
            array.forget_plans()

    return prepare


def top_slice(_: CrossbarArray, target: Tensor) -> Tensor:
    """Cells of the slice with the largest gain. Shapes: target (groups, planes, slices, rows, outputs)."""
    mask = torch.zeros_like(target, dtype=torch.bool)
    mask[:, :, -1] = True
    return mask


def at_rest(array: CrossbarArray, target: Tensor) -> Tensor:
    """Cells at g_min."""
    return target <= array.device_model.window.g_min_S * (1 + 1e-6)


HARM: dict[str, Callable[[CrossbarArray, Tensor], Tensor]] = {
    "all cells": lambda array, target: torch.ones_like(target, dtype=torch.bool),
    "the top slice alone": top_slice,
    "all but the top slice": lambda array, target: ~top_slice(array, target),
    "cells at g_min alone": at_rest,
    "cells above g_min alone": lambda array, target: ~at_rest(array, target),
    "top slice, cells at g_min alone": lambda array, target: (
        top_slice(array, target) & at_rest(array, target)
    ),
}


def weight_sqnr(sim: nn.Module) -> Row:
    """How far the weights that the cells stand for are from those asked for: dB, mean over layers."""
    found = []
    for _, array in arrays(sim):
        wanted = array.written.w_int.double()
        scale = array.written.scale
        found.append(sqnr_db(wanted * scale, effective_weight(array.job()) * scale))
    return {"weight_sqnr_db": sum(found) / len(found)}


def occupancy(sim: nn.Module) -> Row:
    """Share of cells above g_min, by slice from the least significant."""
    used, total = torch.zeros(SLICES), 0
    for _, array in arrays(sim):
        above = ~at_rest(array, array.target_conductance())
        used += above.sum((0, 1, 3, 4))
        total += above[:, :, 0].numel()
    return {"cells_in_use": (used / total).tolist()}


# ---- the study ---------------------------------------------------------------------------------------


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """Error by kind and size, by mapping, and by which cells have it."""
    points = []
    for cells, (ratio, fold) in CELLS.items():
        kinds = {"range": RANGE} if fold else {"range": RANGE, "proportional": PROPORTIONAL}
        for kind, sigmas in kinds.items():
            for sigma in sigmas:
                keys = {"part": "error", "cells": cells, "kind": kind, "sigma": sigma}
                changes = {"device.on_off_ratio": ratio, **error(kind, sigma)}
                points.append(Point(keys, changes, drawn=sigma > 0, fold=fold))
    for mapping, how in MAPPINGS.items():
        for sigma in STRESS:
            keys = {"part": "mapping", "mapping": mapping, "sigma": sigma}
            points.append(Point(keys, {**OPEN, **how, **error("range", sigma)}, inspect=weight_sqnr))
    for which, mask in HARM.items():
        keys = {"part": "harm", "which": which, "sigma": STRESS[-1]}
        points.append(
            Point(keys, {**OPEN, **error("range", STRESS[-1])}, prepare=only(mask), inspect=weight_sqnr)
        )
    points.append(Point({"part": "occupancy"}, OPEN, drawn=False, inspect=occupancy))
    return BASE, bench.measure(BASE, points, "programming error")


# ---- what it shows -----------------------------------------------------------------------------------


def tables(record: Record) -> dict[str, str]:
    """Both kinds of error, the mappings, the harm, and how full the slices are."""
    found = {}
    for kind, sigmas in (("range", RANGE), ("proportional", PROPORTIONAL)):
        names = [name for name in CELLS if select(record.rows, part="error", cells=name, kind=kind)]
        rows = [
            [f"{100 * sigma:g} %", *(percent(_error(record, name, kind, sigma)) for name in names)]
            for sigma in sigmas
        ]
        found[kind] = markdown_table([f"{kind} error", *names], rows)
    rows = []
    for mapping in MAPPINGS:
        mild, hard = (
            select(record.rows, part="mapping", mapping=mapping, sigma=sigma)[0] for sigma in STRESS
        )
        rows.append([mapping, percent(mild), percent(hard), f"{hard['weight_sqnr_db']:.1f}"])
    header = ["mapping", *(f"{100 * sigma:g} % of range" for sigma in STRESS)]
    found["mapping"] = markdown_table([*header, f"weights, dB at {100 * STRESS[-1]:g} %"], rows)
    rows = [
        [row["which"], percent(row), f"{row['weight_sqnr_db']:.1f}"]
        for row in select(record.rows, part="harm")
    ]
    found["harm"] = markdown_table(["cells with the error", "top-1 (%)", "weights, dB"], rows)
    shares = select(record.rows, part="occupancy")[0]["cells_in_use"]
    cells = [[f"{i + 1}", f"{4**i}", f"{100 * share:.2f} %"] for i, share in enumerate(shares)]
    found["occupancy"] = markdown_table(["slice", "gain", "cells above g_min"], cells)
    return found


def _error(record: Record, cells: str, kind: str, sigma: float) -> Row:
    return select(record.rows, part="error", cells=cells, kind=kind, sigma=sigma)[0]


def figure(record: Record) -> Figure:
    """Accuracy over both kinds of error, and over the error of the weights for all mappings."""
    drawing, panels = axes(3)
    for ax, (kind, sigmas) in zip(panels, (("range", RANGE), ("proportional", PROPORTIONAL)), strict=False):
        for i, cells in enumerate(CELLS):
            if select(record.rows, part="error", cells=cells, kind=kind):
                rows = [_error(record, cells, kind, sigma) for sigma in sigmas]
                line(ax, [100 * sigma for sigma in sigmas], rows, i, cells)
        of = "g_max - g_min" if kind == "range" else "the cell's conductance"
        finish(ax, f"standard deviation (% of {of})", record.facts["float_top1"], f"{kind} error")
    for i, mapping in enumerate(MAPPINGS):
        rows = select(record.rows, part="mapping", mapping=mapping)
        panels[2].plot(
            [row["weight_sqnr_db"] for row in rows],
            [100 * row["mean"] for row in rows],
            linestyle="none",
            marker=MARKERS[i % len(MARKERS)],
            color=PALETTE[i % len(PALETTE)],
            markerfacecolor="none" if i >= len(MARKERS) else None,
            label=mapping.removeprefix("differential, "),
        )
    finish(
        panels[2], "SQNR of the weights (dB)", record.facts["float_top1"], "mappings at 2 and 5 % of range"
    )
    panels[2].legend(fontsize=6, loc="lower right")
    return drawing


STUDY = Study("programming_error", "programming_error", __doc__, 1000, 5, measure, tables, figure)

if __name__ == "__main__":
    STUDY.run()
