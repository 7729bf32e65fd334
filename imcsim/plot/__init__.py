"""Figures, colour-blind safe.

Every function draws into the axes it is given, or into a new figure of its own, and returns the axes; a
figure made here belongs to no window and no global state (``ax.figure.savefig("sweep.png")``).
"""

from __future__ import annotations

from imcsim.plot.arrays import conductance_histogram, ir_drop_map
from imcsim.plot.costs import breakdown, pareto
from imcsim.plot.devices import device_card
from imcsim.plot.networks import layer_sqnr, tile_map
from imcsim.plot.style import MARKERS, PALETTE
from imcsim.plot.survey import survey_efficiency
from imcsim.plot.sweeps import accuracy_over, accuracy_vs_adc_bits, adc_sweep, sqnr_vs_adc_bits

__all__ = [
    "MARKERS",
    "PALETTE",
    "accuracy_over",
    "accuracy_vs_adc_bits",
    "adc_sweep",
    "breakdown",
    "conductance_histogram",
    "device_card",
    "ir_drop_map",
    "layer_sqnr",
    "pareto",
    "sqnr_vs_adc_bits",
    "survey_efficiency",
    "tile_map",
]
