"""Keyed random draws: NumPy's Philox on the CPU, so that the same key gives the same numbers on any machine."""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(seed: int, name: str, purpose: str) -> np.random.Generator:
    """A fresh random generator for one purpose of one layer.

    The key is the first 128 bits of SHA-256 over ``"seed\\x00name\\x00purpose"``.

    Args:
        seed: the user's seed, any integer.
        name: the module's name.
        purpose: what is drawn, "programming" or "read" for example.

    Returns:
        A generator that shares no state with any other.
    """
    digest = hashlib.sha256(f"{seed}\x00{name}\x00{purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def sample_normals(seed: int, name: str, first: int, count: int, size: int) -> np.ndarray:
    """Standard normal draws of each sample of a batch, independent of how samples are batched.

    Sample i draws from its own block of the Philox counter: the counter's third word is the sample's index.

    Shapes: returns (count, size) float32.

    Args:
        seed: the user's seed.
        name: the module's name.
        first: index of the first sample since the stream was restarted.
        count: samples.
        size: draws a sample.

    Returns:
        The draws.
    """
    digest = hashlib.sha256(f"{seed}\x00{name}\x00read".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    out = np.empty((count, size), dtype=np.float32)
    for i in range(count):
        bits = np.random.Philox(key=key, counter=[0, 0, first + i, 0])
        np.random.Generator(bits).standard_normal(dtype=np.float32, out=out[i])
    return out
