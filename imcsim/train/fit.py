"""A training loop against simulated chips."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from imcsim import quant
from imcsim.batches import Forward, batch_input, iterate, to_model
from imcsim.calibrate import calibrate, measure_conversions
from imcsim.convert import arrays
from imcsim.errors import InputError
from imcsim.progress import progress as bar
from imcsim.train.checkpoint import (
    Progress,
    State,
    model_state,
    ranges_of,
    read_checkpoint,
    restore_model,
    restore_ranges,
    write_checkpoint,
)
from imcsim.train.chips import evaluate_on_chips
from imcsim.train.data import Batches, Epochs
from imcsim.train.injection import Fidelity, Injection, Learned, inject
from imcsim.train.randomness import forked, seed_torch, with_own_state
from imcsim.train.ranges import CONVERTERS, INPUT
from imcsim.train.schedule import Schedule, cosine
from imcsim.train.weights import clip_weights

CALIBRATION_SAMPLES = 256
SELECTION_SEEDS = tuple(range(1_000_000, 1_000_003))
"""Chips that the best epoch is chosen on: not those that one would report."""

Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        loss: mean over its batches, as training saw it.
        score: mean over the selection's chips; None without validation batches.
        scores: of each chip.
    """

    loss: float
    score: float | None
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """What `fit` did.

    Attributes:
        epochs: one entry each.
        best: index of the epoch whose weights the model has now.
    """

    epochs: tuple[Epoch, ...]
    best: int

    def __str__(self) -> str:
        lines = []
        for i, epoch in enumerate(self.epochs):
            score = "" if epoch.score is None else f", top-1 on chips {100 * epoch.score:.2f} %"
            lines.append(f"epoch {i + 1}: loss {epoch.loss:.4f}{score}{' *' if i == self.best else ''}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Options:
    """Everything that `fit` was told; see there."""

    epochs: int
    fidelity: Fidelity
    lr: float
    lr_schedule: Schedule
    strength: float | Schedule
    chips: int
    seed: int
    clip_sigmas: float | None
    learn: tuple[Learned, ...]
    recalibrate: bool
    loss: Loss
    forward: Forward | None
    selection: tuple[int, ...]

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        return {
            "epochs": self.epochs,
            "fidelity": self.fidelity,
            "lr": self.lr,
            "chips": self.chips,
            "seed": self.seed,
            "clip_sigmas": self.clip_sigmas,
            "learn": list(self.learn),
            "recalibrate": self.recalibrate,
            "selection": list(self.selection),
            "processes": dist.get_world_size() if _distributed() else 1,
        }


def fit(
    sim: nn.Module,
    train_batches: Batches,
    epochs: int,
    fidelity: Fidelity = "statistical",
    *,
    lr: float = 0.01,
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
    lr_schedule: Schedule = cosine,
    loss: Loss = F.cross_entropy,
    forward: Forward | None = None,
    strength: float | Schedule = 1.0,
    chips: int = 1,
    clip_sigmas: float | None = None,
    learn: tuple[Learned, ...] = (),
    recalibrate: bool = False,
    calibration: Iterable[Any] | None = None,
    validation: Iterable[Any] | None = None,
    selection_seeds: Sequence[int] = SELECTION_SEEDS,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_batches: int | None = None,
    resume: bool = True,
) -> Fit:
    """Train a converted network against its chip; each step sees another one.

    Under a process group (``torchrun``) gradients are averaged with DistributedDataParallel, every process
    draws its own chips, and the first writes checkpoints.

    Args:
        sim: a converted model; trained in place. Its arrays' age (`imcsim.age`) is the one trained for.
        train_batches: (input, target) pairs, gone through once an epoch: a list, a DataLoader, or a function
            that returns the batches of an epoch (given its number if it takes one).
        epochs: how many.
        fidelity: statistical or exact; see `inject`.
        lr: learning rate at the start.
        optimizer: from parameter groups to an optimizer; None: SGD with Nesterov momentum 0.9 and weight
            decay 1e-4. The groups have their "lr", and "weight_decay" 0 for learned ranges.
        lr_schedule: factor of the learning rate by the part of the training that is done.
        loss: of outputs and targets.
        forward: for batches that are not pairs: ``forward(net, batch)`` returns the loss.
        strength: factor of the written cells' errors, or a schedule such as ``ramp(0, 1, until=0.5)``.
        chips: parts of a batch that each see a chip of their own.
        clip_sigmas: clip weights after every step; see `clip_weights`.
        learn: "inputs", "converters": ranges learned by gradient.
        recalibrate: choose calibrated ranges anew before each epoch, from `calibration`.
        calibration: batches for ranges and for what converters lose; None: the first 256 training samples.
        validation: (input, label) pairs; the epoch of the best mean accuracy on the selection's chips is
            kept. None: the last epoch.
        selection_seeds: program seeds of these chips.
        seed: of chips, noise, shuffling and dropout.
        checkpoint: a file to write after every epoch, and to go on from.
        checkpoint_batches: write it also each so many batches.
        resume: go on from the checkpoint if it exists; False: start anew.

    Returns:
        Losses and scores; the model has the weights and ranges of the best epoch, and its own program seed.

    Raises:
        InputError: an option or a batch is wrong; an iterator for more than one epoch; a loss that is not
            finite.
        CalibrationError: a layer that the batches do not reach.
        DataError: the checkpoint is damaged or belongs to another training.

    Notes:
        A training that was stopped and goes on gives the same weights, bit for bit on the same machine, if
        the batches of an epoch are the same again. Shuffling and augmentation that draw from torch's global
        generator are: inside, that generator is seeded for each epoch, and outside it is as it was.
    """
    options = _Options(
        _whole("epochs", epochs),
        fidelity,
        lr,
        lr_schedule,
        strength,
        chips,
        seed,
        clip_sigmas,
        tuple(learn),
        recalibrate,
        loss,
        forward,
        tuple(selection_seeds),
    )
    if not 0 < lr < math.inf:
        raise InputError(f"fit: lr = {lr!r} is not a learning rate; give a positive number such as 0.01")
    if checkpoint_batches is not None:
        _whole("checkpoint_batches", checkpoint_batches)
    if recalibrate and learn:
        raise InputError(
            f"fit: learn = {learn!r} and recalibrate = True both set ranges; leave one of them out"
        )
    data = Epochs(train_batches, epochs)
    trainer = _Trainer(sim, options)
    trainer.prepare(data, calibration, validation)
    path = None if checkpoint is None else Path(checkpoint)
    training = sim.training
    with ExitStack() as inside:
        inside.enter_context(forked(sim))
        injection = inject(
            sim, fidelity, seed=seed, chips=chips, strength=trainer.strength(0.0), learn=tuple(learn)
        )
        inside.enter_context(injection)
        inside.callback(sim.train, training)
        return trainer.run(injection, data, optimizer or _sgd, path, checkpoint_batches, resume=resume)


class _Trainer:
    def __init__(self, sim: nn.Module, options: _Options) -> None:
        self.sim, self.options = sim, options
        self.calibration: list[Any] = []
        self.validation: list[Any] | None = None
        self.progress = Progress()
        self.best: State | None = None

    def prepare(
        self, data: Epochs, calibration: Iterable[Any] | None, validation: Iterable[Any] | None
    ) -> None:
        """Batches for ranges and selection, and ranges where there are none yet."""
        if calibration is None:
            self.calibration = data.head(CALIBRATION_SAMPLES, self._samples)
        else:
            self.calibration = iterate(calibration, "fit")
        if not self.calibration:
            raise InputError(
                "fit got no training batches; give at least one (an iterator can be used only once)"
            )
        self.validation = None if validation is None else iterate(validation, "fit")
        if any(_uncalibrated(array) for _, array in arrays(self.sim)):
            calibrate(self.sim, self.calibration, self.options.forward)

    def _samples(self, batch: Any) -> int:
        return CALIBRATION_SAMPLES if self.options.forward is not None else len(batch_input(batch))

    def strength(self, done: float) -> float:
        """The errors' strength at a part of the training."""
        strength = self.options.strength
        return strength(done) if callable(strength) else strength

    def run(
        self,
        injection: Injection,
        data: Epochs,
        make: Callable[[list[dict[str, Any]]], Optimizer],
        path: Path | None,
        every: int | None,
        *,
        resume: bool,
    ) -> Fit:
        """Train, from where a checkpoint left off if there is one."""
        sim, options = self.sim, self.options
        optimizer = make(_groups(sim, options.lr))
        net: nn.Module = sim
        if _distributed() and dist.get_world_size() > 1:
            net = nn.parallel.DistributedDataParallel(sim)
        if path is not None and resume and path.is_file():
            self.progress, self.best = read_checkpoint(path, options.settings(), sim, optimizer)
            injection.step = self.progress.step
        now = self.progress
        save = None if path is None else lambda: self._save(path, injection, optimizer)
        while now.epoch < options.epochs:
            if now.batch == 0:
                self._measure()
            batches = self._epoch(net, injection, data, optimizer, save, every)
            if batches == 0:
                raise InputError(f"fit: epoch {now.epoch + 1} has no batches; give at least one")
            self._finish_epoch(batches)
            if save is not None:
                save()
        if self.best is not None:
            restore_model(sim, self.best)
            restore_ranges(sim, now.best_ranges)
        history = tuple(Epoch(h["loss"], h["score"], tuple(h["scores"])) for h in now.history)
        return Fit(history, options.epochs - 1 if now.best is None else now.best)

    def _measure(self) -> None:
        """Ranges or converters' errors for the weights as they are; the same in every process."""
        if not any(array.hardware.adc is not None for _, array in arrays(self.sim)):
            return
        if self.options.recalibrate:
            calibrate(self.sim, self.calibration, self.options.forward)
        elif self.options.fidelity == "statistical":
            measure_conversions(self.sim, self.calibration, self.options.forward)
        if _distributed():
            shared = [ranges_of(self.sim)]
            dist.broadcast_object_list(shared, src=0)
            restore_ranges(self.sim, shared[0])

    def _epoch(
        self,
        net: nn.Module,
        injection: Injection,
        data: Epochs,
        optimizer: Optimizer,
        save: Callable[[], None] | None,
        every: int | None,
    ) -> int:
        """Go through an epoch's batches; those that a checkpoint counts as done are passed over."""
        now, options = self.progress, self.options
        source = data.of(now.epoch)
        total = len(source) if isinstance(source, Sized) else None
        skip, count = now.batch, 0
        batches = with_own_state(source, options.seed, f"batches of epoch {now.epoch}")
        net.train()
        for batch in bar(_Counted(batches, total), f"epoch {now.epoch + 1} of {options.epochs}"):
            count += 1
            if count <= skip:
                continue
            done = (now.epoch + (0.0 if not total else (count - 1) / total)) / options.epochs
            now.loss_sum += self._step(net, injection, batch, optimizer, done)
            now.batch = count
            if save is not None and every is not None and count % every == 0:
                save()
        return count

    def _step(
        self, net: nn.Module, injection: Injection, batch: Any, optimizer: Optimizer, done: float
    ) -> float:
        options = self.options
        injection.strength = self.strength(done)
        quant.set_progress(self.sim, done)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * options.lr_schedule(done)
        seed_torch(options.seed, f"step {injection.step + 1}, process {injection.rank}")
        optimizer.zero_grad()
        if options.forward is not None:
            loss = options.forward(net, batch)
        else:
            x, target = _pair(batch)
            out = net(to_model(self.sim, x))
            loss = options.loss(out, target.to(out.device))
        loss = loss + quant.penalty(self.sim)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"fit: the loss is {value} at step {injection.step}; use a smaller lr, or check the data"
            )
        loss.backward()
        optimizer.step()
        quant.after_step(self.sim)
        if options.clip_sigmas is not None:
            clip_weights(self.sim, options.clip_sigmas)
        return value

    def _finish_epoch(self, batches: int) -> None:
        """Note the epoch, and keep its weights if it is the best so far."""
        now, sim = self.progress, self.sim
        loss = now.loss_sum / batches
        if _distributed():
            loss = _mean_over_processes(loss)
            for buffer in sim.buffers():
                dist.broadcast(buffer, src=0)
        scores: list[float] = []
        if self.validation is not None:
            scores = [e.top1 for e in evaluate_on_chips(sim, self.validation, self.options.selection)]
        score = sum(scores) / len(scores) if scores else None
        now.history.append({"loss": loss, "score": score, "scores": scores})
        before = None if now.best is None else now.history[now.best]["score"]
        if score is not None and (before is None or score > before):
            now.best, self.best, now.best_ranges = now.epoch, model_state(sim), ranges_of(sim)
        now.epoch, now.batch, now.loss_sum = now.epoch + 1, 0, 0.0

    def _save(self, path: Path, injection: Injection, optimizer: Optimizer) -> None:
        if injection.rank == 0:
            self.progress.step, self.progress.ranges = injection.step, ranges_of(self.sim)
            write_checkpoint(path, self.options.settings(), self.progress, self.sim, optimizer, self.best)
        if _distributed():
            dist.barrier()


class _Counted:
    """An iterator that knows its length, for the progress bar."""

    def __init__(self, items: Iterable[Any], length: int | None) -> None:
        self.items, self.length = items, length

    def __iter__(self) -> Any:
        return iter(self.items)

    def __len__(self) -> int:
        return self.length or 0


def _groups(sim: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Parameter groups: weights, and learned ranges, which do not decay."""
    weights: list[Tensor] = []
    ranges: list[Tensor] = []
    for name, parameter in sim.named_parameters():
        (ranges if name.endswith((INPUT, CONVERTERS)) else weights).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights, "lr": lr, "initial_lr": lr}]
    if ranges:
        groups.append({"params": ranges, "lr": lr, "initial_lr": lr, "weight_decay": 0.0})
    return groups


def _sgd(groups: list[dict[str, Any]]) -> Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=1e-4)


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch):
        return batch[0], batch[1]
    raise InputError(
        f"fit takes (input, target) pairs of tensors, but got a {type(batch).__name__}; pass "
        "forward=lambda net, batch: ... that returns the loss for anything else"
    )


def _uncalibrated(array: Any) -> bool:
    inputs = array.hardware.inputs.range == "calibrated" and array.input_range is None
    adc = array.hardware.adc
    return inputs or (adc is not None and adc.range == "calibrated" and array.adc_high is None)


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"fit: {name} = {value!r} is not a whole number from 1")
    return value


def _mean_over_processes(value: float) -> float:
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
