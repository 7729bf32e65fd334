"""Programming error with and without 8-bit calibrated converters: ResNet-20 on CIFAR-10, differential."""

from __future__ import annotations

from typing import Any

from common import BASE, Bench, Point, Row, Study, percent, select

from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

SIGMAS = (0.0, 0.01, 0.02, 0.05)
CHIP = BASE.replace({"device.on_off_ratio": 10.0})
CONVERTERS: dict[str, dict[str, Any]] = {
    "ideal converters": {},
    "8-bit ADC, calibrated": {"adc": {"bits": 8, "range": "calibrated"}},
}


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """The same chips and images, read by both converters."""
    points = []
    for name, converter in CONVERTERS.items():
        for sigma in SIGMAS:
            changes = {**converter, "device.programming": {"kind": "range", "sigma": sigma}}
            points.append(Point({"converter": name, "sigma": sigma}, changes, drawn=sigma > 0))
    return CHIP, bench.measure(CHIP, points, "programming error with converters")


def tables(record: Record) -> dict[str, str]:
    """Accuracy and SQNR of the logits."""
    rows = []
    for sigma in SIGMAS:
        found = [select(record.rows, converter=name, sigma=sigma)[0] for name in CONVERTERS]
        rows.append(
            [
                f"{100 * sigma:g} %",
                *(text for row in found for text in (percent(row), f"{row['sqnr_db']:.1f}")),
            ]
        )
    header = [text for name in CONVERTERS for text in (f"{name} (%)", "logits, dB")]
    return {"converters": markdown_table(["range error", *header], rows)}


STUDY = Study("programming_error_adc", "programming_error", __doc__, 200, 3, measure, tables)

if __name__ == "__main__":
    STUDY.run()
