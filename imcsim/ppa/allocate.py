"""Arrays for layers: copies for balanced throughput, chips, passes; and the time that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imcsim.errors import MappingError


@dataclass(frozen=True)
class Job:
    """A layer to be given arrays.

    Attributes:
        arrays: of one copy.
        vectors: a sample.
        vector_s: seconds of a vector on one copy.
        sequential: copies do not help.
    """

    arrays: int
    vectors: int
    vector_s: float
    sequential: bool

    def time(self, copies: int) -> float:
        """Seconds a sample with so many copies."""
        return -(-self.vectors // copies) * self.vector_s


def replicate(jobs: Sequence[Job], arrays: int) -> tuple[int, ...]:
    """Copies of each layer so that the slowest layer is as fast as the arrays allow.

    The shortest period T for which ``sum_l arrays_l r_l(T)`` fits, ``r_l`` the fewest copies that take
    layer l at most T. Sequential layers have one copy; a layer has no more copies than vectors.

    Args:
        jobs: the layers.
        arrays: what there is.

    Returns:
        The copies.

    Raises:
        MappingError: not even one copy of each fits.
    """
    need = sum(job.arrays for job in jobs)
    if need > arrays:
        raise MappingError(
            f"the layers need {need} arrays, but there are {arrays}; use more chips or reload weights"
        )
    floor = max((job.time(1 if job.sequential else job.vectors) for job in jobs), default=0.0)
    slow = max((job.time(1) for job in jobs), default=0.0)
    if _used(jobs, floor) <= arrays:
        return _copies(jobs, floor)
    for _ in range(64):
        middle = (floor + slow) / 2
        if _used(jobs, middle) <= arrays:
            slow = middle
        else:
            floor = middle
    return _copies(jobs, slow)


def _copies(jobs: Sequence[Job], period: float) -> tuple[int, ...]:
    out = []
    for job in jobs:
        runs = max(1, int(period / job.vector_s * (1 + 1e-12)))
        out.append(1 if job.sequential else -(-job.vectors // runs))
    return tuple(out)


def _used(jobs: Sequence[Job], period: float) -> int:
    return sum(job.arrays * copies for job, copies in zip(jobs, _copies(jobs, period), strict=True))


def pack(arrays: Sequence[int], capacity: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Layers in order onto a chip that cannot hold them all, in passes.

    A pass takes whole layers while they fit; a layer larger than the chip is cut over passes of its own.

    Args:
        arrays: of each layer.
        capacity: of the chip.

    Returns:
        Passes, each ((layer, arrays), ...).
    """
    passes: list[tuple[tuple[int, int], ...]] = []
    now: list[tuple[int, int]] = []
    room = capacity
    for layer, need in enumerate(arrays):
        if need > room and now:
            passes.append(tuple(now))
            now, room = [], capacity
        while need > capacity:
            passes.append(((layer, capacity),))
            need -= capacity
        now.append((layer, need))
        room -= need
    if now:
        passes.append(tuple(now))
    return tuple(passes)


def pipeline_latency(times: Sequence[float], fills: Sequence[float], windows: Sequence[float]) -> float:
    """Seconds from a sample's entry to its last result in a pipeline of layers.

    A layer starts when the fraction `windows` of the layer before it is there; it ends no sooner than its
    own time after its start, nor than its last vectors after the end of the layer before.

    Args:
        times: of each layer for the sample.
        fills: a vector's way through each layer.
        windows: fraction of its input that each layer waits for.

    Returns:
        The latency; layers count as a chain in the order they run.
    """
    start = end = before = 0.0
    for time, fill, window in zip(times, fills, windows, strict=True):
        start = start + window * before + fill
        end = max(start + time, end + fill)
        before = time
    return end
