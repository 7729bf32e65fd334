"""Plans of layers (tables, single products, cells in levels) held within a bounded memory."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Protocol

from imcsim.errors import EngineError

DEFAULT_BYTES = 1 << 30
"""What all plans together may take unless `set_plan_memory` says otherwise."""


class Forgetful(Protocol):
    """Who owns a plan and can make it again."""

    def forget_plans(self) -> None:
        """Drop the plans that are held."""


class PlanMemory:
    """Accounts for the plans of all layers and drops those used longest ago.

    A dropped plan is made again when its layer next runs; results do not change. The newest plan stays even
    if it alone
    is over the limit.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[int, tuple[Callable[[], Forgetful | None], int]] = OrderedDict()
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes that the plans of living layers take."""
        with self._lock:
            return sum(size for owner, size in self._held.values() if owner() is not None)

    def touch(self, owner: Forgetful) -> None:
        """Mark a layer's plans as just used."""
        with self._lock:
            if id(owner) in self._held:
                self._held.move_to_end(id(owner))

    def hold(self, owner: Forgetful, size: int) -> None:
        """Account for the plans of a layer and make room for them.

        Args:
            owner: the layer's arrays.
            size: bytes of all their plans.
        """
        with self._lock:
            self._held[id(owner)] = (weakref.ref(owner), size)
            self._held.move_to_end(id(owner))
            dropped = self._over_limit()
        for other in dropped:
            other.forget_plans()

    def release(self, owner: Forgetful) -> None:
        """A layer dropped its plans."""
        with self._lock:
            self._held.pop(id(owner), None)

    def _over_limit(self) -> list[Forgetful]:
        for key in [key for key, (owner, _) in self._held.items() if owner() is None]:
            del self._held[key]
        total = sum(size for _, size in self._held.values())
        dropped: list[Forgetful] = []
        while total > self.limit and len(self._held) > 1:
            _, (owner, size) = self._held.popitem(last=False)
            total -= size
            found = owner()
            if found is not None:
                dropped.append(found)
        return dropped


PLANS = PlanMemory(DEFAULT_BYTES)
"""The plans of this process."""


def set_plan_memory(limit_bytes: int) -> None:
    """Bound the memory that tables and other plans of all layers take together; 1 GiB unless set.

    Results do not depend on it: what is dropped is made again.

    Args:
        limit_bytes: the bound, 0 or more; the plan in use stays even if it alone is larger.

    Raises:
        EngineError: not a whole number of bytes.
    """
    if isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int) or limit_bytes < 0:
        raise EngineError(
            f"set_plan_memory: {limit_bytes!r} is not a number of bytes; give 0 or a positive integer"
        )
    PLANS.limit = limit_bytes
