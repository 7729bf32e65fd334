"""Power, performance, area: what a chip can do at most, and what a network costs on it."""

from __future__ import annotations

from imcsim.costs import Component, Costs, Tile, costs_from
from imcsim.ppa.costing import costs_of, lossless_bits
from imcsim.ppa.defaults import default_costs
from imcsim.ppa.describe import describe
from imcsim.ppa.estimate import estimate, estimate_layers
from imcsim.ppa.peak import Peak, peak
from imcsim.ppa.registry import Cost, available, cost, model, register
from imcsim.ppa.report import Estimate
from imcsim.ppa.shapes import LayerShape

__all__ = [
    "Component",
    "Cost",
    "Costs",
    "Estimate",
    "LayerShape",
    "Peak",
    "Tile",
    "available",
    "cost",
    "costs_from",
    "costs_of",
    "default_costs",
    "describe",
    "estimate",
    "estimate_layers",
    "lossless_bits",
    "model",
    "peak",
    "register",
]
