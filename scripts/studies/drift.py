"""How ResNet-20 on CIFAR-10 ages from a second to a year on PCM and two RRAM cards, compensated or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from common import BASE, Bench, Point, Row, Study, axes, finish, line, percent, select
from matplotlib.figure import Figure
from torch import nn

import imcsim
from imcsim.convert import arrays
from imcsim.hardware import Hardware
from imcsim.results import Record, markdown_table

CARDS = ("pcm_gst", "neurram_wan2022", "cmo_hfox")
TIMES = {"1 s": 1.0, "1 hour": 3600.0, "1 day": 86400.0, "30 days": 2.592e6, "1 year": 3.1536e7}
Compensation = Literal["global", "column"] | None
COMPENSATIONS: dict[str, Compensation] = {"none": None, "global": "global", "column": "column"}


def aged(seconds: float, compensation: Compensation) -> Callable[[nn.Module], None]:
    """Ages a programmed network."""
    return lambda sim: imcsim.age(sim, seconds, compensation=compensation)


def factors(sim: nn.Module) -> Row:
    """Mean of the digital factors over layers (and columns)."""
    found = [array.job().compensation for _, array in arrays(sim)]
    return {"factor": float(torch.stack([f.double().mean() for f in found if f is not None]).mean())}


def measure(bench: Bench) -> tuple[Hardware, list[Row]]:
    """Every card, compensation and time; the chip as written first."""
    points = []
    for card in CARDS:
        changes = {"device.card": card}
        points.append(Point({"card": card, "time": "as written", "compensation": "none"}, changes))
        for name, compensation in COMPENSATIONS.items():
            for time, seconds in TIMES.items():
                keys = {"card": card, "time": time, "seconds": seconds, "compensation": name}
                inspect = None if compensation is None else factors
                points.append(Point(keys, changes, prepare=aged(seconds, compensation), inspect=inspect))
    return BASE, bench.measure(BASE, points, "drift")


def tables(record: Record) -> dict[str, str]:
    """A table a card."""
    found = {}
    for card in CARDS:
        written = select(record.rows, card=card, time="as written")[0]
        rows = [["as written", percent(written), "", "", ""]]
        for time in TIMES:
            row = {
                name: select(record.rows, card=card, time=time, compensation=name)[0]
                for name in COMPENSATIONS
            }
            rows.append(
                [time, *(percent(row[name]) for name in COMPENSATIONS), f"{row['global']['factor']:.3f}"]
            )
        found[card] = markdown_table([card, *(f"{c} (%)" for c in COMPENSATIONS), "mean global factor"], rows)
    return found


def figure(record: Record) -> Figure:
    """Accuracy over time, a panel a card."""
    drawing, panels = axes(len(CARDS))
    for ax, card in zip(panels, CARDS, strict=True):
        for i, name in enumerate(COMPENSATIONS):
            rows = [select(record.rows, card=card, time=time, compensation=name)[0] for time in TIMES]
            line(ax, list(TIMES.values()), rows, i, f"compensation: {name}")
        ax.set_xscale("log")
        finish(ax, "time since the verify read (s)", record.facts["float_top1"], card)
    return drawing


STUDY = Study("drift", "drift", __doc__, 400, 3, measure, tables, figure)

if __name__ == "__main__":
    STUDY.run()
