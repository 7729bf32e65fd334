"""The survey's Table 3 as a figure: power and area efficiency over the bits of weights, published and
simulated.

Writes docs/images/survey.png, docs/results/survey.json and the tables of docs/survey.md.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pandas as pd

import imcsim
from imcsim import presets
from imcsim.hardware import write_atomically
from imcsim.plot import survey_efficiency
from imcsim.results import markdown_table, put_between_markers, write_record
from imcsim.survey import survey_chip, survey_chips, survey_points
from imcsim.survey.table import NUMBERS

DOCS = Path(__file__).resolve().parents[1] / "docs"


def simulated() -> list[dict[str, Any]]:
    """The peak of every preset."""
    rows = []
    for name in presets.available():
        chip = imcsim.load_hardware(name)
        peak = chip.peak()
        rows.append(
            {
                "key": name,
                "weight_bits": chip.weights.bits,
                "gops_per_watt": peak.gops_per_watt,
                "gops_per_mm2": peak.gops_per_mm2,
                "calibrated": list(peak.calibrated_parts),
            }
        )
    return rows


def corrections() -> str:
    """The rows that are not as printed, or have a note."""
    frame = imcsim.survey()
    cells = []
    for key, row in frame[frame["notes"] != ""].iterrows():
        names = [name for name in str(row["corrected"]).split(", ") if name]
        changes = "; ".join(
            f"{name} {_printed(row[name])}{row[f'{name}_corrected']:g}"
            if name in NUMBERS
            else f"{name}: {row[f'{name}_corrected']}"
            for name in names
        )
        cells.append([str(key), str(row["work"]), changes, str(row["notes"])])
    return markdown_table(["key", "printed under", "corrected", "why (A, B, C: how sure)"], cells)


def _printed(value: float) -> str:
    return f"{value:g} -> " if value == value else ""


def designs() -> str:
    """The digital designs that `survey_chip` knows."""
    cells = []
    for key in survey_chips():
        chip = survey_chip(key)
        weights, inputs = chip.hardware.weights.bits, chip.hardware.inputs.bits
        method = "uniform integers" if chip.qat is None else f"`{chip.qat}`".replace("|", "\\|")
        cells.append([key, f"{weights} x {inputs}", method, chip.departs])
    return markdown_table(["key", "weights x inputs on the arrays", "quantizer", "what departs"], cells)


def main() -> None:
    """Draw, write the record, fill the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of images/, results/ and survey.md")
    args = parser.parse_args()
    for folder in ("images", "results"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    rows = simulated()
    figure = survey_efficiency(survey_points(), pd.DataFrame(rows))[0].get_figure(root=True)
    if figure is None:
        raise RuntimeError("axes without a figure")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(args.out / "images" / "survey.png", picture.getvalue())
    write_record(
        "survey",
        rows,
        folder=args.out / "results",
        command="python scripts/survey_plot.py",
        seeds=[],
        n=len(rows),
        hardware={name: imcsim.load_hardware(name) for name in presets.available()},
    )
    page = args.out / "survey.md"
    for marker, table in {"corrections": corrections(), "designs": designs()}.items():
        print(f"{marker}\n\n{table}\n")
        if page.is_file():
            write_atomically(
                page, put_between_markers(page.read_text(encoding="utf-8"), marker, table).encode()
            )


if __name__ == "__main__":
    main()
