"""What a report says: measured once, before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.batches import batch_pair
from imcsim.convert import named_layers
from imcsim.diagnose import Diagnosis, diagnose
from imcsim.errors import InputError
from imcsim.evaluate import Evaluation, evaluate
from imcsim.hardware import Hardware
from imcsim.ppa import Estimate, estimate
from imcsim.program import age, program, seed_reads
from imcsim.results import CodeState, code_state
from imcsim.summary import Summary, summary

DIAGNOSED = 16
"""Samples that the diagnosis looks at: it computes every layer once a cause."""


@dataclass(frozen=True)
class Chip:
    """One programmed chip.

    Attributes:
        seed: of programming and read noise.
        found: its accuracy.
    """

    seed: int
    found: Evaluation


@dataclass(frozen=True)
class Report:
    """A network on a chip.

    Attributes:
        title: what stands on top.
        hardware: the chips by the layers that run on them, first the one of most layers.
        seconds: age of the arrays.
        summary: what each layer became.
        baseline: the float network's accuracy; None without one.
        chips: accuracy of each programmed chip.
        diagnosis: what each cause costs each layer, on the first chip.
        costs: energy, latency and area.
        code: the source that ran.
    """

    title: str
    hardware: tuple[tuple[Hardware, tuple[str, ...]], ...]
    seconds: float
    summary: Summary
    baseline: Evaluation | None
    chips: tuple[Chip, ...]
    diagnosis: Diagnosis
    costs: Estimate
    code: CodeState


def collect(
    sim: nn.Module,
    batches: Iterable[Any],
    *,
    reference: nn.Module | None = None,
    seeds: Sequence[int] = (0,),
    seconds: float = 0.0,
    title: str = "A network on a chip",
) -> Report:
    """Measure everything that a report says of a calibrated model.

    The model is programmed with each seed in turn, aged and evaluated; it is left as the first one's chip.

    Units: seconds since the verify read.

    Args:
        sim: a converted and calibrated model.
        batches: (input, label) pairs; kept, so that every chip sees the same.
        reference: the float network.
        seeds: one chip each.
        seconds: age of the chips.
        title: what stands on top.

    Returns:
        The measurements.

    Raises:
        InputError: no seeds or no batches.
        CalibrationError: the model was not calibrated.
        ConversionError: the model was not converted.
    """
    held = [batch_pair(batch) for batch in batches]
    if not held:
        raise InputError("a report needs at least one (input, label) batch, but got none")
    if not seeds:
        raise InputError("a report needs at least one seed; give seeds=(0,) for one chip")
    baseline = None if reference is None else evaluate(reference, held)
    chips = []
    for seed in (*seeds[1:], seeds[0]):  # the first one last: the diagnosis is of its chip
        program(sim, seed=seed)
        age(sim, seconds)
        seed_reads(sim, seed)
        chips.append(Chip(seed, evaluate(sim, held, reference)))
    images = held[0][0][:DIAGNOSED]
    return Report(
        title=title,
        hardware=_chips_of(sim),
        seconds=seconds,
        summary=summary(sim),
        baseline=baseline,
        chips=(chips[-1], *chips[:-1]),
        diagnosis=diagnose(sim, images),
        costs=_costs(sim, images[:1]),
        code=code_state(),
    )


def _chips_of(sim: nn.Module) -> tuple[tuple[Hardware, tuple[str, ...]], ...]:
    layers: dict[Hardware, list[str]] = {}
    for name, layer in named_layers(sim).items():
        layers.setdefault(layer.array.hardware, []).append(name)
    found = sorted(layers.items(), key=lambda item: -len(item[1]))
    return tuple((hardware, tuple(names)) for hardware, names in found)


def _costs(sim: nn.Module, sample: Tensor) -> Estimate:
    with torch.no_grad():
        return estimate(sim, sample)
