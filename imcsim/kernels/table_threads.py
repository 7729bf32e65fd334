"""Split work over threads: torch's thread count, one pool, and no threads inside threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_inside = threading.local()
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(workers: int) -> ThreadPoolExecutor:
    """The pool of this process (a forked child has none of its parent's threads)."""
    key = (os.getpid(), workers)
    with _lock:
        if key not in _pools:
            _pools.clear()
            _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix="imcsim-table")
        return _pools[key]


def _work(function: Callable[[int, int], None], first: int, last: int) -> None:
    _inside.worker = True
    function(first, last)


def spread(items: int, function: Callable[[int, int], None]) -> None:
    """Call ``function(first, last)`` on ranges that cover `items`, on as many threads as torch uses.

    Args:
        items: pieces of work.
        function: does pieces `first` to `last`; must release the GIL for threads to help.
    """
    workers = min(torch.get_num_threads(), items)
    if workers <= 1 or getattr(_inside, "worker", False):
        function(0, items)
        return
    cuts = [items * i // workers for i in range(workers + 1)]
    pool = _pool(torch.get_num_threads())
    jobs = [pool.submit(_work, function, a, b) for a, b in pairwise(cuts)]
    for job in jobs:
        job.result()
