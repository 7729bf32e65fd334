"""Chips in the training loop: a converted model in training mode sees a new one each step."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from imcsim.convert import arrays
from imcsim.errors import InputError, did_you_mean
from imcsim.functional.noise import keyed_generator
from imcsim.nn.array import CrossbarArray
from imcsim.train.exact import ExactForward
from imcsim.train.ranges import LearnedRanges
from imcsim.train.statistical import StatisticalForward
from imcsim.train.written import WrittenCodes, written_codes

Fidelity = Literal["statistical", "exact"]
Learned = Literal["inputs", "converters"]


class Injection:
    """What `inject` returns: a context manager, and the knobs of what training sees.

    Attributes:
        step: counts the forward passes of the model in training mode; every one is another chip. Set it to
            continue where a loop was interrupted.
        strength: factor of what separates written cells from their targets, from 0 (as if written exactly) to
            1 (the device), or above.
        chips: parts of a batch that each see a chip of their own.
        seed: of all draws.
    """

    def __init__(
        self,
        sim: nn.Module,
        fidelity: Fidelity,
        *,
        seed: int,
        chips: int,
        strength: float,
        learn: tuple[Learned, ...],
    ) -> None:
        self._layers = arrays(sim)
        self.seed, self.chips, self.strength, self.step = seed, chips, strength, -1
        self.rank = torch.distributed.get_rank() if _distributed() else 0
        self._codes: dict[tuple[Any, ...], WrittenCodes] = {}
        self._calls: dict[str, int] = {}
        self._learned = LearnedRanges(
            [array for _, array in self._layers], inputs="inputs" in learn, converters="converters" in learn
        )
        kind = StatisticalForward if fidelity == "statistical" else ExactForward
        self._forwards = [kind(layer, self) for layer, _ in self._layers]
        for (layer, _), forward in zip(self._layers, self._forwards, strict=True):
            layer.injection = forward
        self._hook = sim.register_forward_pre_hook(self._advance)

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the chips out again; learned ranges stay as they are."""
        self._hook.remove()
        self._learned.close()
        for layer, _ in self._layers:
            layer.injection = None

    def refresh(self) -> None:
        """Look at the arrays anew: wires in the statistical fidelity, which are held otherwise."""
        for forward in self._forwards:
            forward.forget()

    def _advance(self, sim: nn.Module, _: Any) -> None:
        self._learned.write_back()
        if sim.training:
            self.step += 1
            self._calls.clear()

    # What the layers ask

    def rng(self, name: str, purpose: str, chip: int) -> np.random.Generator:
        """Random numbers of one layer at this step; reads differ from call to call within it."""
        what = f"training {purpose}, step {self.step}, process {self.rank}, chip {chip}"
        if purpose == "reads":
            key = f"{name} {chip}"
            call = self._calls[key] = self._calls.get(key, -1) + 1
            what = f"{what}, call {call}"
        return keyed_generator(self.seed, name, what)

    def chip_seed(self, chip: int) -> int:
        """The program seed of a chip at this step."""
        return int(self.rng("", "chip", chip).integers(1 << 62))

    def input_range(self, array: CrossbarArray, x: Tensor, sample_dims: int) -> Tensor | float:
        """The input magnitude that maps to the top code: a parameter where it is learned."""
        learned = self._learned.input_of(array)
        return array.full_scale(x, sample_dims) if learned is None else learned

    def learned_input(self, array: CrossbarArray) -> Tensor | None:
        """The parameter of a learned input range."""
        return self._learned.input_of(array)

    def converter_range(self, array: CrossbarArray) -> Tensor | None:
        """The parameter of learned converter ranges, (streams,)."""
        return self._learned.converters_of(array)

    def codes(self, array: CrossbarArray) -> WrittenCodes:
        """Written copies of a layer's codes, shared by layers whose chips and ages are alike."""
        factor = None
        if array.compensation is not None:
            job_factor = array.job().compensation
            factor = None if job_factor is None else job_factor.mean()
        number = None if factor is None else float(factor)
        key = (array.hardware, array.pulses, array.seconds, number)
        if key not in self._codes:
            self._codes[key] = written_codes(array, factor)
        return self._codes[key]


def inject(
    sim: nn.Module,
    fidelity: Fidelity = "statistical",
    *,
    seed: int = 0,
    chips: int = 1,
    strength: float = 1.0,
    learn: tuple[Learned, ...] = (),
) -> Injection:
    """Let a model see simulated chips in training mode, each forward pass another one.

    In eval mode the model runs on its own chip as always. What training sees is what the hardware describes:
    programming error, device-to-device spread, stuck cells, drift at the arrays' age (`imcsim.age`), wires,
    read noise, converters. Parameters of learned ranges are the arrays', so that ``sim.parameters()`` has
    them: make the optimizer, and DistributedDataParallel, inside the context.

    Args:
        sim: a converted model, calibrated where its chip needs that.
        fidelity: statistical (one product plus noise; about 2.5 times plain torch) or exact (the forward of
            evaluation, straight-through gradients).
        seed: of the chips and the noise; another process of a distributed job draws its own.
        chips: cut each batch into so many parts, each on a chip of its own.
        strength: factor of the difference of written cells from their targets; `Injection.strength` can be
            changed at any time (`imcsim.train.ramp`).
        learn: ranges to learn: "inputs", "converters", both, or none.

    Returns:
        The injection, a context manager; without ``with``, call `close` at the end.

    Raises:
        ConversionError: the model was not converted.
        InputError: an option is wrong, the model is injected already, or no range can be learned.

    Examples:
        >>> with imcsim.train.inject(sim, chips=4) as injection:
        ...     optimizer = torch.optim.SGD(sim.parameters(), lr=0.01)
        ...     for x, y in batches:
        ...         optimizer.zero_grad()
        ...         cross_entropy(sim(x), y).backward()
        ...         optimizer.step()
    """
    if fidelity not in get_args(Fidelity):
        raise InputError(
            f"fidelity = {fidelity!r} is not one of 'statistical', 'exact'."
            f"{did_you_mean(str(fidelity), get_args(Fidelity))}"
        )
    if isinstance(chips, bool) or not isinstance(chips, int) or chips < 1:
        raise InputError(f"chips = {chips!r}: parts of a batch with a chip each, a whole number from 1")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"inject: seed = {seed!r} is not an integer; give one such as 0")
    if not 0 <= strength < float("inf"):
        raise InputError(f"strength = {strength!r}: a factor of the device's errors, 0 or more, is needed")
    unknown = [what for what in learn if what not in get_args(Learned)]
    if isinstance(learn, str) or unknown:
        raise InputError(f"learn = {learn!r}: a tuple of 'inputs', 'converters', or () is needed")
    if any(layer.injection is not None for layer, _ in arrays(sim)):
        raise InputError("the model is injected already; close that injection first")
    return Injection(sim, fidelity, seed=seed, chips=chips, strength=strength, learn=tuple(learn))


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
