"""Points that cost next to nothing, for studies that test the study; importable by worker processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from imcsim.functional.noise import keyed_generator
from imcsim.sweep import Point


def metric(point: Point) -> dict[str, float]:
    """A number that depends on the chip and the seed alone."""
    draw = float(keyed_generator(point.get("seed"), str(point.hardware.adc), "toy").standard_normal())
    return {"value": draw, "rows": point.hardware.array.rows}


def slow_metric(point: Point) -> dict[str, float]:
    """The same in twenty milliseconds."""
    time.sleep(0.02)
    return metric(point)


def broken(point: Point) -> dict[str, float]:
    """Fails on two of four points, unless a file says that it is mended."""
    if point.get("seed") >= 2 and not Path(os.environ["MENDED"]).is_file():
        raise RuntimeError(f"no luck with seed {point.get('seed')}")
    return metric(point)


def counted(point: Point) -> dict[str, float]:
    """Leaves a mark for each time that it is measured, where the environment says where."""
    if "MARKS" in os.environ:
        with Path(os.environ["MARKS"]).open("a") as marks:
            marks.write(f"{point.key}\n")
    return slow_metric(point)


def trade_off(point: Point) -> dict[str, float]:
    """More bits: more value, more cost; more rows: more cost only."""
    bits, rows = point.hardware.adc.bits, point.hardware.array.rows
    return {"value": float(bits), "cost": float(bits * rows)}


def net() -> nn.Module:
    """A small convolutional network."""
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    for i, weight in enumerate(made.parameters()):
        draws = keyed_generator(i, "toy", "weight").standard_normal(tuple(weight.shape))
        weight.data = torch.from_numpy(draws).float() / 10
    return made


def images() -> tuple[Tensor, Tensor]:
    """Images and labels of nothing."""
    draws = keyed_generator(0, "toy", "images").random((40, 1, 8, 8))
    return torch.from_numpy(draws).float(), torch.arange(40) % 10


def die(point: Point) -> dict[str, float]:
    """Takes its process with it."""
    os._exit(1)
