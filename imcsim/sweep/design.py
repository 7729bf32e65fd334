"""Which points of the space of axes a study visits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, Literal, get_args

import numpy as np

from imcsim.errors import StudyError
from imcsim.functional.noise import keyed_generator
from imcsim.sweep.axes import Axis, Choices

Design = Literal["grid", "random", "latin"]


def points_of(
    axes: Mapping[str, Axis], design: Design, samples: int | None, seed: int
) -> list[dict[str, Any]]:
    """Values of every axis, a dict a point.

    Args:
        axes: what varies.
        design: grid (every combination, the last axis fastest), random (independent uniform draws) or latin
            (Latin hypercube: each axis cut into as many strata as points, one point in each).
        samples: points of a random or Latin design; None for a grid.
        seed: of the draws.

    Returns:
        The points; twice the same where draws of choices coincide.

    Raises:
        StudyError: an unknown design, a range in a grid, or a wrong number of samples.

    References: M. D. McKay, R. J. Beckman, W. J. Conover, "A comparison of three methods for selecting values
        of input variables in the analysis of output from a computer code", Technometrics 21, 1979,
        doi:10.1080/00401706.1979.10489755.
    """
    if design not in get_args(Design):
        raise StudyError(f"design = {design!r} is not one of {', '.join(get_args(Design))}")
    if design == "grid":
        if samples is not None:
            raise StudyError(f"samples = {samples!r}: a grid visits every combination; leave samples out")
        for name, axis in axes.items():
            if not isinstance(axis, Choices):
                raise StudyError(
                    f"axis {name!r} is a range, which a grid cannot visit; list its values, or set design = "
                    "'latin' or 'random' with samples"
                )
        values = product(*(axis.values for axis in axes.values() if isinstance(axis, Choices)))
        return [dict(zip(axes, chosen, strict=True)) for chosen in values]
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise StudyError(f"samples = {samples!r}: design = {design!r} needs a number of points, 1 or more")
    draw = keyed_generator(seed, "study", f"{design} design")
    if design == "random":
        fractions = draw.random((samples, len(axes)))
    else:
        from scipy.stats import qmc  # slow to import

        fractions = qmc.LatinHypercube(len(axes), seed=np.random.default_rng(draw.integers(1 << 62))).random(
            samples
        )
    return [
        {name: axis.at(float(u)) for (name, axis), u in zip(axes.items(), row, strict=True)}
        for row in fractions
    ]
