"""Points that cost next to nothing, for studies that test the study; importable by worker processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from imcsim.functional.noise import keyed_generator
from imcsim.sweep import Point


def metric(point: Point) -> dict[str, float]:
    """A number that depends on the chip and the seed alone."""
    draw = float(keyed_generator(point.get("seed"), str(point.hardware.adc), "toy").standard_normal())
    return {"value": draw, "rows": point.hardware.array.rows}


def slow_metric(point: Point) -> dict[str, float]:
    """The same in ten milliseconds."""
    time.sleep(0.01)
    return metric(point)


def broken(point: Point) -> dict[str, float]:
    """Fails on two of four points, unless a file says that it is mended."""
    if point.get("seed") >= 2 and not Path(os.environ["MENDED"]).is_file():
        raise RuntimeError(f"no luck with seed {point.get('seed')}")
    return metric(point)


def counted(point: Point) -> dict[str, float]:
    """Leaves a mark for each time that it is measured."""
    with Path(os.environ["MARKS"]).open("a") as marks:
        marks.write(f"{point.key}\n")
    return slow_metric(point)


def trade_off(point: Point) -> dict[str, float]:
    """More bits: more value, more cost; more rows: more cost only."""
    bits, rows = point.hardware.adc.bits, point.hardware.array.rows
    return {"value": float(bits), "cost": float(bits * rows)}


def die(point: Point) -> dict[str, float]:
    """Takes its process with it."""
    os._exit(1)
