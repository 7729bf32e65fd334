"""Numbers that change while training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable

from imcsim.errors import InputError

Schedule = Callable[[float], float]
"""From the part of training that is done, 0 to 1, to a number."""


def ramp(start: float, stop: float, until: float = 1.0) -> Schedule:
    """A straight line from one number to another, held after that.

    Args:
        start: at the beginning.
        stop: at `until` and later.
        until: part of the training, above 0 up to 1.

    Returns:
        The schedule, for `fit` or for ``injection.strength = schedule(done)`` in a loop of one's own.

    Raises:
        InputError: `until` is out of range.
    """
    if not 0 < until <= 1:
        raise InputError(f"ramp: until = {until!r} is a part of the training, above 0 up to 1")
    return lambda done: start + (stop - start) * min(1.0, done / until)


def cosine(done: float) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
