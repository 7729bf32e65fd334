"""Chips of these tests: the shipped presets with cost tables beside them, and a small network."""

from __future__ import annotations

from functools import cache

from torch import nn

import imcsim
from imcsim import Hardware
from imcsim.ppa import Costs, costs_of


@cache
def costs(name: str) -> Costs:
    """Of a preset."""
    return costs_of(chip(name))


@cache
def chip(name: str) -> Hardware:
    return imcsim.load_hardware(name)


def changed(tables: Costs, **tile: object) -> Costs:
    """The tables with another tile."""
    return Costs(tile=tables.tile.model_copy(update=tile), components=tables.components)


def small_net() -> nn.Module:
    """64 windows of 27 inputs to 20 outputs on 8 x 8 images; then 320 inputs to 10 outputs."""
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(320, 10)
    )


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for stage, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, stage, 3, padding=1), nn.ReLU()]
            channels = stage
        layers.append(nn.MaxPool2d(2))
    head = [nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *head)
