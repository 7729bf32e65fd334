"""Training against the chip: `fit`, its parts for a loop of one's own, and what it is compared with.

`inject` lets a model see simulated chips in training mode; `clip_weights`, `remap` and `ramp` go with it;
`evaluate_on_chips` scores it; `recalibrate_batchnorm` is what can be done without training. Modules of their
own hold strategies around a loop and the search for each layer's bits: see docs/training.md.
"""

from imcsim.calibrate import measure_conversions
from imcsim.train.batchnorm import recalibrate_batchnorm
from imcsim.train.chips import another_chip, evaluate_on_chips
from imcsim.train.fit import SELECTION_SEEDS, Epoch, Fit, fit
from imcsim.train.injection import Fidelity, Injection, inject
from imcsim.train.schedule import cosine, ramp
from imcsim.train.weights import clip_weights, remap

__all__ = [
    "SELECTION_SEEDS",
    "Epoch",
    "Fidelity",
    "Fit",
    "Injection",
    "another_chip",
    "clip_weights",
    "cosine",
    "evaluate_on_chips",
    "fit",
    "inject",
    "measure_conversions",
    "ramp",
    "recalibrate_batchnorm",
    "remap",
]
