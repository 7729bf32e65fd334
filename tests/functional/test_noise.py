"""Keyed draws."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from imcsim.functional.noise import ReadStream, keyed_generator


def test_the_key_is_sha256_of_seed_name_and_purpose() -> None:
    digest = hashlib.sha256(b"7\x00layer1.conv\x00programming").digest()[:16]
    want = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).standard_normal(5)
    assert (keyed_generator(7, "layer1.conv", "programming").standard_normal(5) == want).all()


def test_other_keys_give_other_draws() -> None:
    draws = {
        tuple(keyed_generator(*key).standard_normal(3))
        for key in [(0, "a", "x"), (1, "a", "x"), (0, "b", "x"), (0, "a", "y"), (-1, "a", "x")]
    }
    assert len(draws) == 5


def test_global_random_states_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = keyed_generator(0, "a", "x").standard_normal(3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert (keyed_generator(0, "a", "x").standard_normal(3) == first).all()


def test_a_vectors_draws_do_not_depend_on_its_batch() -> None:
    stream = ReadStream(0, "layer", 3, 4)
    whole = stream.of_vectors(0, 0, 12, 6)
    assert (whole[5:9] == stream.of_vectors(0, 5, 4, 6)).all()
    later = stream.skip(2)
    assert (whole[8:] == later.of_vectors(0, 0, 4, 6)).all()
    assert not (whole == stream.of_vectors(1, 0, 12, 6)).any()
    assert (stream.of_samples(3, 5)[1:] == stream.skip(1).of_samples(2, 5)).all()
    # Draws of samples and of vectors never coincide.
    assert not np.isin(stream.of_samples(3, 6), whole).any()
