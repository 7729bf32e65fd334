"""A network's score on several simulated chips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from imcsim.convert import arrays
from imcsim.evaluate import Evaluation, evaluate
from imcsim.nn.norm import analog_norms


def evaluate_on_chips(
    sim: nn.Module, batches: Sequence[Any], seeds: Sequence[int], reference: nn.Module | None = None
) -> list[Evaluation]:
    """Accuracy on chips of several program seeds, at the arrays' age; then the model's own chip is back.

    Args:
        sim: a converted model.
        batches: (input, label) pairs, iterated once a chip.
        seeds: of the chips.
        reference: for the SQNR, as in `imcsim.evaluate`.

    Returns:
        One evaluation a chip.
    """
    found = []
    for seed in seeds:
        with another_chip(sim, seed):
            found.append(evaluate(sim, batches, reference))
    return found


@contextmanager
def another_chip(sim: nn.Module, seed: int) -> Iterator[None]:
    """Inside, arrays are as another program seed writes them, and reads are seeded alike."""
    held = [(array, array.other_seed, array.read_seed, array.samples_read) for _, array in arrays(sim)]
    norms = [(norm, norm.seed, norm.read_seed, norm.samples_read) for norm in analog_norms(sim)]
    for array, *_ in held:
        array.other_seed = seed
        array.seed_reads(seed)
    for norm, *_ in norms:
        norm.program(seed)
        norm.seed_reads(seed)
    try:
        yield
    finally:
        for array, own, read_seed, samples in held:
            array.other_seed, array.read_seed, array.samples_read = own, read_seed, samples
        for norm, program_seed, read_seed, samples in norms:
            norm.seed, norm.read_seed, norm.samples_read = program_seed, read_seed, samples
