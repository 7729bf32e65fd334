"""Pulse curves of the seven devices of NeuroSim's table, and what write-verify makes of three of them."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import DOCS, Row, axes, select
from matplotlib.figure import Figure

from imcsim import devices
from imcsim.functional.noise import keyed_generator
from imcsim.hardware import write_atomically
from imcsim.plot import MARKERS, PALETTE
from imcsim.results import (
    Record,
    code_state,
    markdown_table,
    mean_interval,
    put_between_markers,
    read_record,
    write_record,
)

NAME = "switching"
SEVEN = ("ag_asi", "taox_hfox", "pcmo", "alox_hfo2", "gst_pulsed", "epiram", "hzo_fefet")
THREE = ("ag_asi", "taox_hfox", "hzo_fefet")
TOLERANCES = (0.05, 0.02, 0.01, 0.005, 0.002)
MAX_PULSES = 300
SEEDS = (0, 1, 2)
CELLS = 10_000
TRAIN_CELLS = 200


def curve_row(name: str) -> Row:
    """State over a train of each polarity: its mean at quarters, its spread at the middle."""
    card = devices.load(name)
    window, switching = card.conductance.window(), card.switching
    if switching is None:
        raise ValueError(f"card {name} has no switching model")
    row: Row = {"what": "curve", "device": name, "g_max_S": window.g_max_S, "g_min_S": window.g_min_S}
    for way, count in zip(("up", "down"), switching.full_pulses, strict=True):
        rng = keyed_generator(0, name, f"pulse curve {way}")
        g = switching.trace(window, way, cells=TRAIN_CELLS, rng=rng).numpy()
        x = (g - window.g_min_S) / window.span_S
        quarters = [x[round(count * q)].mean() for q in (0.25, 0.5, 0.75, 1.0)]
        row[way] = {
            "pulses": count,
            "quarters": [float(v) for v in quarters],
            "middle_sigma": float(x[count // 2].std(ddof=1)),
        }
    return row


def verify_row(name: str, tolerance: float) -> Row:
    """Errors, pulses, energy and time of a cell over the seeds."""
    window = devices.load(name).conductance.window()
    seen = [
        devices.write_verify(
            name, tolerance=tolerance, max_pulses=MAX_PULSES, cells=CELLS, seed=seed
        ).report()
        for seed in SEEDS
    ]
    values = {
        "sigma_norm": [r.error_sigma_S / window.span_S for r in seen],
        "failed": [r.failed_fraction for r in seen],
        "pulses": [r.pulses_mean for r in seen],
        "energy_J": [r.energy_J / r.cells for r in seen],
        "time_s": [r.time_s / r.cells for r in seen],
    }
    row: Row = {"what": "write-verify", "device": name, "tolerance": tolerance}
    for key, each in values.items():
        interval = mean_interval(each)
        row[key] = {"mean": interval.mean, "ci95": [interval.low, interval.high]}
    return row


def tables(record: Record) -> dict[str, str]:
    """The curves' shape, and write-verify's outcome by tolerance."""
    curves = [
        [
            row["device"],
            *(f"{100 * v:.0f}" for v in row["up"]["quarters"]),
            f"{100 * row['up']['middle_sigma']:.1f}",
            *(f"{100 * v:.0f}" for v in row["down"]["quarters"]),
            f"{100 * row['down']['middle_sigma']:.1f}",
        ]
        for row in select(record.rows, what="curve")
    ]
    head = ["device", *(f"up {q}" for q in ("1/4", "1/2", "3/4", "1")), "spread"]
    head += [*(f"down {q}" for q in ("1/4", "1/2", "3/4", "1")), "spread"]
    outcome = [
        [
            row["device"],
            f"{100 * row['tolerance']:g} %",
            _shown(row["sigma_norm"], 100, 2),
            _shown(row["failed"], 100, 2),
            _shown(row["pulses"], 1, 1),
            f"{row['energy_J']['mean']:.3g}",
            f"{row['time_s']['mean']:.3g}",
        ]
        for row in select(record.rows, what="write-verify")
    ]
    columns = ["device", "tolerance", "error (% of range)", "not within (%)", "pulses", "J", "s"]
    return {"curves": markdown_table(head, curves), "write-verify": markdown_table(columns, outcome)}


def _shown(value: Row, factor: float, digits: int) -> str:
    low, high = (factor * v for v in value["ci95"])
    return f"{factor * value['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def curves_figure() -> Figure:
    """Mean curve and three cells of each device."""
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for ax, name in zip(panels, SEVEN, strict=False):
        card = devices.load(name)
        window, switching = card.conductance.window(), card.switching
        if switching is None:
            raise ValueError(f"card {name} has no switching model")
        start = 0
        for i, way in enumerate(("up", "down")):
            rng = keyed_generator(0, name, f"pulse curve {way}")
            g = 1e6 * switching.trace(window, way, cells=TRAIN_CELLS, rng=rng).numpy()
            pulse = start + np.arange(len(g))
            ax.plot(pulse, g[:, :3], color=PALETTE[i], alpha=0.35, linewidth=0.7)
            ax.plot(pulse, 1e6 * switching.trace(window, way).numpy(), color=PALETTE[i], linewidth=1.6)
            start += len(g) - 1
        ax.set(title=name, xlabel="pulse", ylabel="conductance (µS)")
        ax.grid(alpha=0.25)
    panels[-1].axis("off")
    return figure


def verify_figure(record: Record) -> Figure:
    """Errors at 2 %, pulses and error over the tolerance."""
    figure, (errors, pulses, sigma) = axes(3)
    for i, name in enumerate(THREE):
        window = devices.load(name).conductance.window()
        found = devices.write_verify(name, tolerance=0.02, max_pulses=MAX_PULSES, cells=CELLS, seed=0)
        off = 100 * found.error_S.numpy() / window.span_S
        errors.hist(off, bins=np.linspace(-4, 4, 81), histtype="step", color=PALETTE[i], label=name)
        rows = select(record.rows, what="write-verify", device=name)
        x = [100 * row["tolerance"] for row in rows]
        style = {"color": PALETTE[i], "marker": MARKERS[i], "markersize": 4, "label": name}
        pulses.plot(x, [row["pulses"]["mean"] for row in rows], **style)
        sigma.plot(x, [100 * row["sigma_norm"]["mean"] for row in rows], **style)
    errors.set(title="tolerance 2 %", xlabel="error (% of range)", ylabel="cells")
    pulses.set(xscale="log", xlabel="tolerance (% of range)", ylabel="pulses a cell")
    sigma.set(xscale="log", yscale="log", xlabel="tolerance (% of range)", ylabel="error (% of range)")
    for ax in (errors, pulses, sigma):
        ax.grid(alpha=0.25)
        ax.legend(frameon=False, fontsize=7)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the record, draw, fill the page's tables and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of results/ and studies/")
    folder = parser.parse_args(argv).out
    code = code_state()
    results, pages = folder / "results", folder / "studies"
    for place in (results, pages):
        place.mkdir(parents=True, exist_ok=True)
    rows = [curve_row(name) for name in SEVEN]
    rows += [verify_row(name, tolerance) for name in THREE for tolerance in TOLERANCES]
    write_record(
        NAME,
        rows,
        folder=results,
        command=f"python scripts/studies/{NAME}.py",
        seeds=SEEDS,
        n=CELLS,
        hardware={},
        facts={"max_pulses": MAX_PULSES, "read_s": 1e-7, "cells_of_a_curve": TRAIN_CELLS},
        code=code,
    )
    record = read_record(results / f"{NAME}.json")
    for name, figure in (("curves", curves_figure()), ("write_verify", verify_figure(record))):
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=60)
        write_atomically(pages / f"{NAME}_{name}.png", picture.getvalue())
    page = pages / f"{NAME}.md"
    for marker, table in tables(record).items():
        print(f"{marker}\n\n{table}\n")
        if page.is_file():
            text = put_between_markers(page.read_text(encoding="utf-8"), marker, table)
            write_atomically(page, text.encode())


if __name__ == "__main__":
    main()
