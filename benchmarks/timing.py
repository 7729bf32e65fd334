"""Two things timed by turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], object]

MIN_ROUNDS, MAX_ROUNDS = 5, 41


def once(run: Run) -> tuple[float, float]:
    """Seconds on the clock, and seconds that this thread was on a processor."""
    wall, cpu = time.perf_counter(), time.thread_time()
    run()
    return time.perf_counter() - wall, time.thread_time() - cpu


def _warm(run: Run) -> tuple[float, float]:
    run()
    return once(run)


def compare(plain: Run, ours: Run, *, seconds: float) -> dict[str, Any]:
    """Medians of times, and medians over pairs of the ratio ``ours / plain``.

    They run by turns, each first every other time, until `seconds` have gone by; at least 5 pairs (1 if
    `seconds` is 0), at most 41. An untimed call of the same thing goes before each timed one, which then
    finds its own data in the caches and not the other's. Both must run on the calling thread alone, or the
    processor times mean nothing.

    Returns:
        plain_ms and ms (clock), plain_cpu_ms and cpu_ms (thread time), ratio and cpu_ratio, the
        quartiles of the clock's ratio, and the number of pairs.
    """
    plain(), ours()  # whatever is compiled or built at first
    pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    least, stop = (MIN_ROUNDS if seconds else 1), time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        while len(pairs) < least or (time.perf_counter() < stop and len(pairs) < MAX_ROUNDS):
            if len(pairs) % 2:
                own = _warm(ours)
                pairs.append((_warm(plain), own))
            else:
                base = _warm(plain)
                pairs.append((base, _warm(ours)))
    finally:
        gc.enable()
    wall = [own[0] / base[0] for base, own in pairs]
    cpu = [own[1] / base[1] for base, own in pairs]
    low, middle, high = statistics.quantiles(wall, n=4, method="inclusive") if len(pairs) > 1 else wall * 3

    def median_ms(which: int, clock: int) -> float:
        return 1e3 * statistics.median(pair[which][clock] for pair in pairs)

    return {
        "plain_ms": median_ms(0, 0),
        "ms": median_ms(1, 0),
        "plain_cpu_ms": median_ms(0, 1),
        "cpu_ms": median_ms(1, 1),
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "cpu_ratio": statistics.median(cpu),
        "pairs": len(pairs),
    }
