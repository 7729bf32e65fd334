"""Progress bars: on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


_shown = False
"""A bar is on the terminal: bars inside it would fight for the same line."""


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar and the time left on a terminal, plainly elsewhere and inside another bar.

    Args:
        items: what to iterate over.
        label: shown before the bar.
        total: how many items there are, where `items` cannot tell.

    Yields:
        The items.
    """
    global _shown
    if _shown or not sys.stderr.isatty():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    _shown = True
    try:
        yield from track(items, label, total=total, console=Console(stderr=True), transient=True)
    finally:
        _shown = False
