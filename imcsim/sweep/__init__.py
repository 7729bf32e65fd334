"""Studies: what a network does over many chips. Rows land in one file as they finish; a killed study goes on.

See docs/sweeps.md. `Study` is the whole interface; joblib, Ray, Optuna and pandas load where they are used.
"""

from imcsim.sweep.axes import Choices, Range
from imcsim.sweep.point import Point
from imcsim.sweep.rows import Results
from imcsim.sweep.search import Found
from imcsim.sweep.study import Plan, Study

__all__ = ["Choices", "Found", "Plan", "Point", "Range", "Results", "Study"]
