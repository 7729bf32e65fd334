"""Progress bars: on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], label: str) -> Iterator[T]:
    """Iterate with a progress bar on a terminal, plainly elsewhere.

    Args:
        items: what to iterate over.
        label: shown before the bar.

    Yields:
        The items.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    total = len(items) if isinstance(items, Sized) else None
    yield from track(items, label, total=total, console=Console(stderr=True), transient=True)
