"""What the circuits of converters and their mismatch cost ResNet-20 on CIFAR-10."""

from __future__ import annotations

from typing import Any

from common import BASE, Bench, Point, Row, Study, axes, finish, line, percent, select
from matplotlib.figure import Figure

from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

CHIP = BASE.replace(
    {
        "weights.cell_bits": 4,
        "adc.bits": 8,
        "adc.range": "calibrated",
        "adc.per": "vector",
        "adc.columns_per_adc": 8,
    }
)
"""Two 4-bit slices, the input cycles accumulated in analog, an 8-bit converter for 8 columns."""

SWEEPS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "SAR, capacitor mismatch": ("sar", "capacitor_mismatch", (0.03, 0.1, 0.3)),
    "flash, comparator offset (LSB)": ("flash", "comparator_offset_lsb", (0.5, 2.0, 8.0)),
    "ramp, slope error": ("ramp", "slope_error", (0.01, 0.03, 0.1)),
    "pipeline, stage gain error": ("pipeline", "stage_gain_error", (0.01, 0.03, 0.1)),
    "integrate and fire, threshold mismatch": ("integrate_fire", "threshold_mismatch", (0.01, 0.03, 0.1)),
    "any, offset (LSB)": ("auto", "offset_lsb", (0.5, 2.0, 8.0)),
    "any, noise (LSB rms)": ("auto", "noise_lsb", (0.5, 2.0, 8.0)),
}
"""What is drawn: the kind, the field, its values."""

BITS = (3, 4)
SPACINGS = ("uniform", "logarithmic", "kmeans")


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """The ideal converter, every error at every size, and codes that are not evenly spaced."""
    points = [Point({"circuit": "none", "size": 0.0}, drawn=False)]
    for name, (kind, field, sizes) in SWEEPS.items():
        for size in sizes:
            changes = {"adc.kind": kind, f"adc.{field}": size}
            points.append(Point({"circuit": name, "size": size}, changes))
    for bits in BITS:
        for spacing in SPACINGS:
            changes: dict[str, Any] = {"adc.kind": "flash", "adc.bits": bits, "adc.spacing": spacing}
            points.append(Point({"circuit": f"{spacing} codes", "size": float(bits)}, changes, drawn=False))
    return CHIP, bench.measure(CHIP, points, "converters")


def tables(record: Record) -> dict[str, str]:
    """A table of errors, and one of spacings."""
    ideal = select(record.rows, circuit="none")[0]
    errors = [["none (ideal 8-bit converter)", "", percent(ideal), f"{ideal['sqnr_db']:.1f}"]]
    for name, (_, _, sizes) in SWEEPS.items():
        for size in sizes:
            row = select(record.rows, circuit=name, size=size)[0]
            errors.append([name, f"{size:g}", percent(row), f"{row['sqnr_db']:.1f}"])
    spacings = []
    for bits in BITS:
        rows = [select(record.rows, circuit=f"{spacing} codes", size=float(bits))[0] for spacing in SPACINGS]
        spacings.append([str(bits), *(f"{percent(row)}; {row['sqnr_db']:.1f} dB" for row in rows)])
    return {
        "errors": markdown_table(["error", "size", "top-1, % (95 %)", "SQNR, dB"], errors),
        "spacing": markdown_table(["bits", *SPACINGS], spacings),
    }


def figure(record: Record) -> Figure:
    """Accuracy over relative errors, and over errors in LSB."""
    drawing, panels = axes(2)
    relative = {name: sweep for name, sweep in SWEEPS.items() if not sweep[1].endswith("_lsb")}
    in_lsb = {name: sweep for name, sweep in SWEEPS.items() if name not in relative}
    for ax, sweeps, label in zip(
        panels, (relative, in_lsb), ("relative standard deviation", "LSB"), strict=True
    ):
        for i, (name, (_, _, sizes)) in enumerate(sweeps.items()):
            rows = [select(record.rows, circuit=name, size=size)[0] for size in sizes]
            line(ax, sizes, rows, i, name)
        ax.set_xscale("log")
        shown = sorted({size for _, _, sizes in sweeps.values() for size in sizes})
        ax.set_xticks(shown, [f"{size:g}" for size in shown])
        ax.minorticks_off()
        finish(ax, label, record.facts["float_top1"])
    return drawing


STUDY = Study("converters", "converters", __doc__, 200, 3, measure, tables, figure)

if __name__ == "__main__":
    STUDY.run()
