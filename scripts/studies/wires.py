"""What wire resistance costs ResNet-20 on CIFAR-10: differential or offset, voltage or gate inputs."""

from __future__ import annotations

from typing import Any

from common import BASE, Bench, Point, Row, Study, axes, finish, line, percent, select
from matplotlib.figure import Figure

from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

OHM = (0.5, 1.0, 2.5)
SIZES = (64, 128)
G_MAX_S = (1e-5, 1e-4)
ON_OFF = 50.0
SIGMA = 0.01
"""Of the range: the programming error of the rows that have one."""
ENCODINGS = ("differential", "offset")
CHIP = BASE.replace({"device.on_off_ratio": ON_OFF})


def chip(encoding: str, size: int, g_max_S: float, ohm: float, mode: str, *, error: bool) -> dict[str, Any]:
    """Changes to the base: square arrays, the same resistance a segment of both lines."""
    changes: dict[str, Any] = {
        "device.g_max_S": g_max_S,
        "weights.encoding": encoding,
        "array.rows": size,
        "array.cols": size,
        "array.input_mode": mode,
        "array.word_line_ohm": ohm,
        "array.bit_line_ohm": ohm,
    }
    if error:
        changes["device.programming"] = {"kind": "range", "sigma": SIGMA}
    return changes


def point(
    encoding: str, size: int, g_max_S: float, ohm: float, mode: str = "voltage", *, error: bool = False
) -> Point:
    """One row."""
    keys = {"encoding": encoding, "size": size, "g_max_S": g_max_S, "ohm": ohm, "mode": mode, "error": error}
    return Point(keys, chip(encoding, size, g_max_S, ohm, mode, error=error), drawn=error)


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """The grid without error; the smaller conductance with error, most ohm; inputs on the gates."""
    points = []
    for encoding in ENCODINGS:
        points.append(point(encoding, 128, G_MAX_S[0], 0.0))
        points.append(point(encoding, 128, G_MAX_S[0], 0.0, error=True))
        points += [point(encoding, size, g, ohm) for size in SIZES for g in G_MAX_S for ohm in OHM]
        points += [point(encoding, 128, G_MAX_S[0], ohm, error=True) for ohm in OHM[-1:]]
    points += [point("differential", 128, g, ohm, "gate") for g in G_MAX_S for ohm in OHM[1:]]
    return CHIP, bench.measure(CHIP, points, "wires")


def tables(record: Record) -> dict[str, str]:
    """The grid, the rows with error, and the input modes."""

    def one(**keys: Any) -> Row:
        return select(record.rows, **keys)[0]

    grid = []
    for g in G_MAX_S:
        for size in SIZES:
            for ohm in OHM:
                cells = [
                    percent(one(encoding=e, size=size, g_max_S=g, ohm=ohm, mode="voltage", error=False))
                    for e in ENCODINGS
                ]
                grid.append([f"{1e6 * g:g} uS", f"{size} x {size}", f"{ohm:g}", *cells])
    errors = []
    for ohm in (0.0, OHM[-1]):
        for encoding in ENCODINGS:
            keys = {"encoding": encoding, "size": 128, "g_max_S": G_MAX_S[0], "ohm": ohm, "mode": "voltage"}
            errors.append(
                [f"{ohm:g}", encoding, percent(one(**keys, error=False)), percent(one(**keys, error=True))]
            )
    gates = []
    for g in G_MAX_S:
        for ohm in OHM[1:]:
            keys = {"encoding": "differential", "size": 128, "g_max_S": g, "ohm": ohm, "error": False}
            gates.append(
                [
                    f"{1e6 * g:g} uS",
                    f"{ohm:g}",
                    *(percent(one(**keys, mode=mode)) for mode in ("voltage", "gate")),
                ]
            )
    return {
        "grid": markdown_table(["g_max", "array", "ohm a segment", *ENCODINGS], grid),
        "error": markdown_table(
            ["ohm a segment", "encoding", "no error", f"{100 * SIGMA:g} % of range"], errors
        ),
        "gate": markdown_table(["g_max", "ohm a segment", "voltage", "gate"], gates),
    }


def figure(record: Record) -> Figure:
    """Accuracy over resistance, a panel a conductance."""
    drawing, panels = axes(len(G_MAX_S))
    for ax, g in zip(panels, G_MAX_S, strict=True):
        i = 0
        for size, style in zip(SIZES, ("-", "--"), strict=True):
            for encoding in ENCODINGS:
                keys = {"encoding": encoding, "size": size, "g_max_S": g, "mode": "voltage", "error": False}
                rows = [select(record.rows, **keys, ohm=ohm)[0] for ohm in OHM]
                line(ax, OHM, rows, i, f"{encoding}, {size} x {size}", style)
                i += 1
        keys = {"encoding": "differential", "size": 128, "g_max_S": g, "mode": "gate", "error": False}
        rows = [select(record.rows, **keys, ohm=ohm)[0] for ohm in OHM[1:]]
        line(ax, OHM[1:], rows, i, "differential, 128 x 128, gate", ":")
        finish(ax, "ohm a segment", record.facts["float_top1"], f"g_max = {1e6 * g:g} uS, on/off {ON_OFF:g}")
    return drawing


STUDY = Study("wires", "wires", __doc__, 300, 3, measure, tables, figure)

if __name__ == "__main__":
    STUDY.run()
