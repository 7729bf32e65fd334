"""Generators keyed like the package's own: a fresh Philox stream for each purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest


def generators(seed: int) -> Callable[[str], np.random.Generator]:
    def fresh(purpose: str) -> np.random.Generator:
        key = int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=key))

    return fresh


@pytest.fixture
def rng() -> np.random.Generator:
    return generators(0)("test")


@pytest.fixture
def rng_for() -> Callable[[str], np.random.Generator]:
    return generators(1)


@pytest.fixture
def other_rng_for() -> Callable[[str], np.random.Generator]:
    return generators(2)
