"""A report as one HTML file: nothing in it is fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import math
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imcsim import plot
from imcsim.evaluate import Evaluation
from imcsim.hardware import Hardware, write_atomically
from imcsim.report.collect import Report


def save(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report as one HTML file, under a temporary name first.

    Args:
        report: from `collect`.
        path: the file.

    Raises:
        FileMissingError: its folder does not exist.
    """
    write_atomically(Path(path), render(report).encode())


def render(report: Report) -> str:
    """A report as HTML.

    Args:
        report: from `collect`.

    Returns:
        The page; figures are inside it.
    """
    pages = Environment(
        loader=PackageLoader("imcsim.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("page.html").render(
        report=report,
        accuracy=[_accuracy(f"chip, seed {chip.seed}", chip.found) for chip in report.chips],
        baseline=_accuracy("float network", report.baseline) if report.baseline else None,
        headline=_headline(report),
        diagnosis=_diagnosis(report),
        descriptions=[(_toml(hardware), names) for hardware, names in report.hardware],
        figures=_figures(report),
    )


def _accuracy(name: str, found: Evaluation) -> dict[str, Any]:
    low, high = found.ci95
    return {
        "name": name,
        "top1": f"{100 * found.top1:.2f}",
        "interval": f"{100 * low:.2f} to {100 * high:.2f}",
        "n": found.n,
        "sqnr": "" if found.sqnr_db is None else f"{found.sqnr_db:.1f}",
    }


def _diagnosis(report: Report) -> dict[str, Any]:
    """The layers' table: SQNR on the chip and of each cause alone."""
    found = report.diagnosis

    def db(value: float) -> str:
        return "" if math.isinf(value) else f"{value:.1f}"

    rows = [
        [layer.name or "(model)", db(layer.sqnr_db)]
        + [db(layer.alone_db.get(cause, math.inf)) for cause in found.causes]
        for layer in found.layers
    ]
    return {"columns": ["layer", "chip", *found.causes], "rows": rows}


def _headline(report: Report) -> list[tuple[str, str]]:
    """The figures that people look for first."""
    costs, first = report.costs, report.chips[0].found
    found = [("accuracy on the chip", f"{100 * first.top1:.2f} %")]
    if report.baseline is not None:
        found.append(("as float", f"{100 * report.baseline.top1:.2f} %"))
    if first.sqnr_db is not None:
        found.append(("SQNR of the logits", f"{first.sqnr_db:.1f} dB"))
    return [
        *found,
        ("energy a sample", f"{costs.energy_J:.3g} J"),
        ("latency", f"{costs.latency_s:.3g} s"),
        ("samples a second", f"{costs.throughput_per_s:.3g}"),
        ("area", f"{costs.area_mm2:.3g} mm²"),
        ("efficiency", f"{costs.tops_per_watt:.3g} TOPS/W"),
    ]


def _toml(hardware: Hardware) -> str:
    data = hardware.model_dump(by_alias=True, exclude_none=True)
    data.pop("components", None)  # costs have a table of their own
    return tomli_w.dumps(data)


def _figures(report: Report) -> dict[str, str]:
    axes: dict[str, Axes] = {
        "tiles": plot.tile_map(report.summary),
        "sqnr": plot.layer_sqnr(report.diagnosis.layer_sqnr_db()),
        "energy": plot.breakdown(report.costs),
        "area": plot.breakdown(report.costs, of="area"),
    }
    return {name: _svg(ax.figure) for name, ax in axes.items() if isinstance(ax.figure, Figure)}


def _svg(figure: Figure) -> str:
    """A figure as a data URI, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "imcsim"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
