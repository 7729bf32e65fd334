"""The tables and figures of docs/performance.md, all drawn from the record."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from imcsim.plot import MARKERS, PALETTE
from imcsim.results import Record, markdown_table

Row = dict[str, Any]
WORKS = {"conv": "conv", "resnet20": "ResNet-20", "linear": "linear", "lstm": "LSTM"}
MEMORY_TITLES = {
    "torch": "plain torch",
    "collapsed": "nothing lost",
    "levels": "8 x 4, 8-bit ADC, ideal levels",
    "currents": "8 x 4, 8-bit ADC, programmed",
    "matmul": "8 x 4, 8-bit ADC, engine matmul",
}


def select(record: Record, **keys: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in record.rows if all(row.get(key) == value for key, value in keys.items())]


def ratio(value: float | None) -> str:
    """2.53x, 31x."""
    if value is None:
        return ""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}x"


def seconds(value: float) -> str:
    """Two or three digits with a unit."""
    if value >= 1:
        return f"{value:.1f} s"
    return f"{1e3 * value:.{0 if value >= 0.01 else 1}f} ms"


def megabytes(value: float) -> str:
    """MB of a million bytes."""
    return f"{value / 1e6:.0f}" if value >= 9.95e6 else f"{value / 1e6:.1f}"


def tables(record: Record) -> dict[str, str]:
    """Marker -> Markdown; parts that were not measured are left out."""
    makers = {
        "machine": _machine,
        "bounds": _bounds,
        "missed": _missed,
        "others": _others,
        "avx2": _avx2,
        "build": _build,
        "first use": _first_use,
        "memory": _memory,
        "conversion": _conversion,
        "test set": _test_set,
    }
    found = {name: make(record) for name, make in makers.items()}
    return {name: text for name, text in found.items() if text is not None}


def _machine(record: Record) -> str:
    machine, facts = record.machine, record.facts
    rows = [
        ["processor", f"{machine['cpu']}, {facts['cores']} cores ({facts['processor']})"],
        ["instruction set used", ", ".join(facts["instruction_sets"][:1]) or "none: no table engine"],
        ["threads", str(machine["threads"])],
        [
            "software",
            f"Python {machine['python']}, torch {machine['torch']}, numba {facts['numba']}, "
            f"imcsim {machine['imcsim']}",
        ],
        ["commit", f"{record.commit or 'unknown'}{' with changes' if record.dirty else ''}"],
        ["date", record.date],
        ["load average at the start", ", ".join(f"{load:.1f}" for load in facts["load"])],
    ]
    return markdown_table(["", "measured on"], rows)


def _verdict(row: Row) -> str:
    return "" if row["bound"] is None else "met" if row["met"] else "**missed**"


def _timed(row: Row) -> list[str]:
    low, high = row["ratio_quartiles"]
    return [ratio(row["ratio"]), f"{low:.2f} to {high:.2f}", ratio(row["cpu_ratio"])]


def _bounds(record: Record) -> str:
    rows = [
        [
            row["title"],
            WORKS[row["work"]],
            *_timed(row),
            f"{row['bound']:g}x",
            _verdict(row),
            ratio(row["others"]),
        ]
        for row in select(record, part="bounds")
        if row["bound"] is not None
    ]
    head = ["chip", "work", "ratio", "quartiles", "CPU ratio", "bound", "", "CrossSim, elsewhere"]
    return markdown_table(head, rows)


def _missed(record: Record) -> str:
    missed = [row for row in select(record, part="bounds") if row.get("met") is False]
    if not missed:
        return "Every bound is met."
    rows = []
    for row in missed:
        top = ", ".join(
            f"{_plain_name(line['function'])} {100 * line['part_of_time']:.0f} %"
            for line in row.get("profile", [])
            if line["part_of_time"] >= 0.02
        )
        rows.append([row["title"], WORKS[row["work"]], f"{ratio(row['ratio'])} of {row['bound']:g}x", top])
    return markdown_table(["chip", "work", "ratio", "where the time goes"], rows)


def _plain_name(function: str) -> str:
    """`torch.conv2d` of "<built-in method torch.conv2d>", `Tensor.to` of "<method 'to' of 'torch...'>"."""
    method = re.fullmatch(r"<method '(.+)' of '(?:.+\.)?(.+)' objects>", function)
    if method:
        return f"`{method[2].removesuffix('Base')}.{method[1]}`"
    return f"`{function.removeprefix('<built-in method ').rstrip('>')}`"


def _others(record: Record) -> str:
    rows = [
        [
            row["title"],
            WORKS[row["work"]],
            "/".join(row["engines"]),
            f"{row['plain_cpu_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            ratio(row["ratio"]),
            ratio(row["cpu_ratio"]),
        ]
        for row in select(record, part="bounds")
        if row["bound"] is None
    ]
    head = ["chip", "work", "engine", "compared with, CPU ms", "CPU ms", "ratio", "CPU ratio"]
    return markdown_table(head, rows)


def _avx2(record: Record) -> str | None:
    rows = [
        [
            row["title"],
            WORKS[row["work"]],
            f"{row['plain_cpu_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            *_timed(row),
            f"{row['bound']:g}x",
            _verdict(row),
        ]
        for row in select(record, part="AVX2")
    ]
    head = ["chip", "work", "torch, CPU ms", "CPU ms", "ratio", "quartiles", "CPU ratio", "bound", ""]
    return markdown_table(head, rows) if rows else None


def _build(record: Record) -> str:
    rows = [
        [
            row["title"],
            row["work_title"],
            seconds(row["program_cpu_s"]),
            seconds(row["first_cpu_s"] - row["later_cpu_s"]),
            seconds(row["later_cpu_s"]),
            megabytes(row["plan_bytes"]),
            megabytes(row["cell_bytes"]),
            f"{row['plan_bytes'] / row['weights']:.0f}",
        ]
        for row in select(record, part="build")
    ]
    head = [
        "chip",
        "work",
        "programming",
        "first call, extra",
        "a later call",
        "tables MB",
        "cells MB",
        "table bytes a weight",
    ]
    return markdown_table(head, rows)


def _first_use(record: Record) -> str | None:
    rows = [
        [
            "programmed" if row["case"] == "currents" else "ideal levels",
            "found on disk" if row["compiled"] else "compiled",
            seconds(row["first_s"]),
            seconds(row["again_s"]),
        ]
        for row in select(record, part="first use")
    ]
    head = [
        "conv, 8 x 4, 8-bit ADC",
        "kernels",
        "first call of a process",
        "first call after programming anew",
    ]
    return markdown_table(head, rows) if rows else None


def _memory(record: Record) -> str | None:
    found = select(record, part="memory")
    if not found:
        return None
    batches = sorted({row["batch"] for row in found})
    rows = []
    for case, work in dict.fromkeys((row["case"], row["work"]) for row in found):
        own = {row["batch"]: row for row in found if (row["case"], row["work"]) == (case, work)}
        rows.append([MEMORY_TITLES[case], WORKS[work], *(megabytes(own[b]["peak_bytes"]) for b in batches)])
    return markdown_table(["", "work", *(f"batch {b}, MB" for b in batches)], rows)


def _conversion(record: Record) -> str | None:
    rows = [
        [f"{row['weights'] / 1e6:.1f} M", seconds(row["s"]), f"{row['peak_bytes'] / 1e9:.1f} GB"]
        for row in select(record, part="conversion")
    ]
    return (
        markdown_table(["weights", "convert and program", "peak memory of the process"], rows)
        if rows
        else None
    )


def _test_set(record: Record) -> str:
    rows = [
        [
            str(row["threads"]),
            str(row["n"]),
            seconds(row["torch_s"]),
            seconds(row["s"]),
            f"{100 * row['top1']:.2f} % ({100 * row['ci95'][0]:.1f} to {100 * row['ci95'][1]:.1f})",
        ]
        for row in select(record, part="test set")
    ]
    return markdown_table(["threads", "images", "plain torch", "on the chip", "top-1 (95 %)"], rows)


# ---- figures ---------------------------------------------------------------------------------------------


def bounds_figure(record: Record) -> Figure:
    """Ratio, bound and the other simulator's ratio of each row."""
    rows = [row for row in select(record, part="bounds") if row["bound"] is not None][::-1]
    drawing = Figure(figsize=(8, 0.26 * len(rows) + 1.2), layout="constrained")
    ax = drawing.subplots()
    for y, row in enumerate(rows):
        ax.plot([1, row["ratio"]], [y, y], color=PALETTE[0], linewidth=5, solid_capstyle="butt")
        ax.plot([row["bound"]] * 2, [y - 0.4, y + 0.4], color="black", linewidth=2)
        if row["others"]:
            ax.plot(row["others"], y, marker="D", color=PALETTE[1], linestyle="none", markersize=5)
    ax.set_yticks(range(len(rows)), [f"{row['title']}, {WORKS[row['work']]}" for row in rows], fontsize=8)
    ax.set_xscale("log")
    ax.set_xlim(left=1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    ax.set_xlabel("time over plain torch")
    ax.grid(axis="x", alpha=0.3)
    names = [
        Line2D([], [], color=PALETTE[0], linewidth=5, label="imcsim"),
        Line2D([], [], color="black", marker="|", markersize=9, linestyle="none", label="bound"),
        Line2D([], [], color=PALETTE[1], marker="D", linestyle="none", label="CrossSim 3.2, another machine"),
    ]
    drawing.legend(handles=names, loc="outside upper center", ncols=3, fontsize=8)
    return drawing


def scaling_figure(record: Record) -> Figure:
    """Thread time over each axis, both logarithmic."""
    found = [row for row in select(record, part="scaling") if "cannot" not in row]
    axes = list(dict.fromkeys(row["axis"] for row in found))
    lines = list(dict.fromkeys(row["line"] for row in found))
    drawing = Figure(figsize=(9, 5.6), layout="constrained")
    panels = drawing.subplots(2, 3).flatten()
    for ax, axis in zip(panels, axes, strict=False):
        for i, line in enumerate(lines):
            rows = [row for row in found if row["axis"] == axis and row["line"] == line]
            ax.plot(
                [r["value"] for r in rows],
                [r["cpu_ms"] for r in rows],
                color=PALETTE[i],
                marker=MARKERS[i],
                markersize=4,
                label=line,
            )
        plain = {row["value"]: row["plain_cpu_ms"] for row in found if row["axis"] == axis}
        ax.plot(list(plain), list(plain.values()), color="black", linestyle="--", label="plain torch")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(list(plain), [str(value) for value in plain])
        ax.minorticks_off()
        ax.set_xlabel(axis)
        ax.grid(alpha=0.3)
    for ax in panels[::3]:
        ax.set_ylabel("CPU time of a call (ms)")
    handles, names = panels[0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8)
    return drawing


FIGURES = {"performance_bounds": bounds_figure, "performance_scaling": scaling_figure}
