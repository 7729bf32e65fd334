"""Table 3 of the survey as data: as printed, and with our corrections beside it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

TEXT = (
    "work",
    "section",
    "kind",
    "features",
    "quantization",
    "implementation",
    "performance",
    "networks",
    "training",
)
"""Columns of text; all but `kind` are the table's own."""

NUMBERS = (
    "weight_bits",
    "input_bits",
    "node_nm",
    "clock_MHz",
    "gops",
    "gops_per_watt",
    "gops_per_mm2",
    "power_w",
    "area_mm2",
)
"""Columns of numbers, of the operating point with the highest printed efficiency."""

POINT = ("weight_bits", "gops", "gops_per_watt", "gops_per_mm2")
"""Columns that operating points of one row may differ in."""


def survey() -> pd.DataFrame:
    """The survey's Table 3: every row, FPGA, ASIC and in-memory, with our corrections beside what is printed.

    Units: gops 1e9 operations a second, as each paper counts them; power_w watts; area_mm2; node_nm;
    clock_MHz.

    Returns:
        A row a design, by its key (the name of a preset or of `imcsim.survey.survey_chip` where there is
        one). Text as printed, numbers as printed; for each of them a column ``<name>_corrected``, equal to it
        where we know no better; `corrected`, the names of the columns that differ; and `notes`, each of
        which begins with how sure we are (A the printed numbers contradict each other, B a paper says
        otherwise, C recalled). ``attrs`` has the citation, the licence and the legend.

    References: L. Zhang, O. Krestinskaya, M. E. Fouda, A. M. Eltawil, K. N. Salama, "Quantized convolutional
        neural networks: a hardware perspective", Frontiers in Electronics 6:1469802, 2025, Table 3,
        doi:10.3389/felec.2025.1469802; CC BY 4.0, changes as the notes say.
    """
    rows = []
    for row in _table()["rows"]:
        changed = row.get("corrected", {})
        found: dict[str, Any] = {"key": row["key"]}
        for name in (*TEXT, *NUMBERS):
            found[name] = row.get(name)
            found[f"{name}_corrected"] = changed.get(name, row.get(name))
        found["corrected"] = ", ".join(changed)
        found["notes"] = " ".join(row.get("notes", ()))
        rows.append(found)
    frame = pd.DataFrame(rows).set_index("key")
    numeric = [column for name in NUMBERS for column in (name, f"{name}_corrected")]
    frame[numeric] = frame[numeric].astype(float)
    frame.attrs = {name: _table()[name] for name in ("citation", "license", "legend")}
    return frame


def survey_points() -> pd.DataFrame:
    """Every printed operating point of Table 3 that has an efficiency, for plots over precision.

    Returns:
        A row a point: key, work, kind, what, and weight_bits, gops, gops_per_watt and gops_per_mm2, each as
        printed and ``_corrected``.
    """
    rows = []
    for row in _table()["rows"]:
        changed = row.get("corrected", {})
        given = row.get("points", [{name: row.get(name) for name in POINT}])
        for point in given:
            if point.get("gops_per_watt") is None and point.get("gops_per_mm2") is None:
                continue
            found = {name: row[name] for name in ("key", "work", "kind")}
            found["what"] = point.get("what", "")
            for name in POINT:
                found[name] = point.get(name)
                found[f"{name}_corrected"] = changed.get(name, point.get(name))
            rows.append(found)
    frame = pd.DataFrame(rows)
    numeric = [column for name in POINT for column in (name, f"{name}_corrected")]
    frame[numeric] = frame[numeric].astype(float)
    return frame


@cache
def _table() -> dict[str, Any]:
    file = resources.files("imcsim.survey") / "table3.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
