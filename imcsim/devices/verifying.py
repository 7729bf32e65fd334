"""Write-verify as a process: pulse, read, compare, until a cell is within tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor

from imcsim.devices.base import Window
from imcsim.devices.card import DeviceCard
from imcsim.devices.library import load
from imcsim.devices.noise import WhiteNoise
from imcsim.devices.programming import ProgrammingEquation
from imcsim.devices.switching import SwitchingEquation
from imcsim.errors import DeviceError
from imcsim.functional.noise import keyed_generator

BLOCK = 1 << 18
"""Cells that are written at a time: what bounds memory. Part of the draws' order, so a constant."""


@dataclass(frozen=True)
class WriteReport:
    """What writing some cells took, and how close they came; reports add up.

    Attributes:
        cells: how many.
        failed: those not within tolerance when their pulses were spent.
        error_sum_S: sum of conductance less target, siemens.
        error_square_sum_S2: sum of its square.
        error_max_S: largest magnitude.
        pulses: all of them, both polarities, erasing before a retry included.
        pulses_max: most pulses of one cell.
        energy_J: sum over pulses of V^2 g t, reads not included.
        time_s: pulses and reads one after the other, cell by cell.
    """

    cells: int = 0
    failed: int = 0
    error_sum_S: float = 0.0
    error_square_sum_S2: float = 0.0
    error_max_S: float = 0.0
    pulses: int = 0
    pulses_max: int = 0
    energy_J: float = 0.0
    time_s: float = 0.0

    def __add__(self, other: WriteReport) -> WriteReport:
        return WriteReport(
            self.cells + other.cells,
            self.failed + other.failed,
            self.error_sum_S + other.error_sum_S,
            self.error_square_sum_S2 + other.error_square_sum_S2,
            max(self.error_max_S, other.error_max_S),
            self.pulses + other.pulses,
            max(self.pulses_max, other.pulses_max),
            self.energy_J + other.energy_J,
            self.time_s + other.time_s,
        )

    @property
    def error_mean_S(self) -> float:
        """Mean of conductance less target."""
        return self.error_sum_S / max(self.cells, 1)

    @property
    def error_sigma_S(self) -> float:
        """Its standard deviation."""
        return math.sqrt(max(0.0, self.error_square_sum_S2 / max(self.cells, 1) - self.error_mean_S**2))

    @property
    def failed_fraction(self) -> float:
        """Fraction of the cells not within tolerance."""
        return self.failed / max(self.cells, 1)

    @property
    def pulses_mean(self) -> float:
        """Pulses a cell."""
        return self.pulses / max(self.cells, 1)


@dataclass(frozen=True)
class WriteResult:
    """What writing made of each cell.

    Attributes:
        target_S: what was aimed at.
        conductance_S: what the cell conducts, float32; not what the last read showed.
        pulses: how many it got, int64.
        reads: how often it was read, int64.
        energy_J: of its pulses, float64.
        time_s: its pulses and reads, float64.
        converged: whether its last read was within tolerance.
    """

    target_S: Tensor
    conductance_S: Tensor
    pulses: Tensor
    reads: Tensor
    energy_J: Tensor
    time_s: Tensor
    converged: Tensor

    @property
    def error_S(self) -> Tensor:
        """Conductance less target, float64."""
        return self.conductance_S.double() - self.target_S.double()

    def report(self) -> WriteReport:
        """The sums of it."""
        if not self.pulses.numel():
            return WriteReport()
        error = self.error_S
        return WriteReport(
            cells=error.numel(),
            failed=int((~self.converged).sum()),
            error_sum_S=float(error.sum()),
            error_square_sum_S2=float(error.square().sum()),
            error_max_S=float(error.abs().max()),
            pulses=int(self.pulses.sum()),
            pulses_max=int(self.pulses.max()),
            energy_J=float(self.energy_J.sum()),
            time_s=float(self.time_s.sum()),
        )


class WriteVerify(ProgrammingEquation):
    """Programming by write-verify, bound to a card's switching and read noise.

    A cell starts erased (x = 0). It is read with the card's white noise; within ``tolerance (g_max - g_min)``
    of its target it is done, else it gets one pulse towards it and is read again. One that has spent
    `max_pulses` is erased by as many down pulses as cross the range and tried again, `retries` times; then it
    is left as it is.

    Attributes:
        tolerance_norm: half width of what is accepted, a fraction of g_max - g_min.
        max_pulses: of one try, erasing not counted.
        retries: tries after the first.
        read_s: time of one read.
        switching: of the card.
        white: of the card.

    Notes:
        The error that is left is an outcome, not a parameter. A pulse's energy takes the conductance before
        it, at the pulse's voltage and linear. A card's device-to-device spread of g_max and g_min is not
        applied: verification sees and corrects it.
    """

    needs_siemens: ClassVar[bool] = True
    equation: Literal["write_verify"] = "write_verify"
    tolerance_norm: float = Field(gt=0, le=1)
    max_pulses: int = Field(ge=1)
    retries: int = Field(default=0, ge=0)
    read_s: float = Field(default=1e-7, ge=0)
    switching: SerializeAsAny[SwitchingEquation]
    white: WhiteNoise | None = None

    def sigma_of(self, target_S: Tensor, window: Window) -> Tensor:
        """Not known before writing.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(
            "the error of write-verify comes out of the process; call imcsim.devices.write_verify and look "
            "at it"
        )

    def write(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> Tensor:  # noqa: D102
        return self.write_and_log(target_S, window, rng, lambda _: None)

    def write_and_log(
        self,
        target_S: Tensor,
        window: Window,
        rng: np.random.Generator,
        log: Callable[[WriteReport], None],
    ) -> Tensor:
        """As `write`, with a report of it.

        Shapes: that of target_S. Units: siemens.

        Args:
            target_S: conductance aimed at.
            window: g_min and g_max.
            rng: generator; blocks of cells take from it one after the other.
            log: gets the report of all cells.

        Returns:
            The conductance written.
        """
        flat = target_S.detach().to("cpu", torch.float64).flatten()
        total, parts = WriteReport(), []
        for start in range(0, flat.numel(), BLOCK):
            result = self.process(flat[start : start + BLOCK], window, rng)
            total = total + result.report()
            parts.append(result.conductance_S)
        log(total)
        out = torch.cat(parts) if parts else flat.float()
        return out.view(target_S.shape).to(target_S.device)

    def process(self, target_S: Tensor, window: Window, rng: np.random.Generator) -> WriteResult:
        """Write cells and keep what happened to each.

        Shapes: target_S (cells,) float64 on the CPU. Units: siemens.

        Args:
            target_S: conductance aimed at.
            window: g_min and g_max.
            rng: generator: device-to-device parameters, then a read and a pulse of the cells still at work,
                in turn.

        Returns:
            Every cell's outcome.
        """
        work = _Work(self, target_S, window, rng)
        for attempt in range(self.retries + 1):
            if attempt:
                work.erase()
            for pulse in range(self.max_pulses + 1):
                work.verify()
                if pulse == self.max_pulses or not work.left.numel():
                    break
                work.pulse()
            if not work.left.numel():
                break
        return work.result()


class _Work:
    """Cells being written. `left` are the indices of those still at work."""

    def __init__(self, how: WriteVerify, target_S: Tensor, window: Window, rng: np.random.Generator) -> None:
        n = target_S.numel()
        self.how, self.target_S, self.window, self.rng = how, target_S, window, rng
        self.own = how.switching.draw((n,), rng)
        self.x = torch.zeros(n, dtype=torch.float64)
        self.pulses = torch.zeros(n, dtype=torch.int64)
        self.reads = torch.zeros(n, dtype=torch.int64)
        self.energy_J = torch.zeros(n, dtype=torch.float64)
        self.time_s = torch.zeros(n, dtype=torch.float64)
        self.left = torch.arange(n)
        self.low = torch.zeros(0, dtype=torch.bool)
        self._look()

    def _look(self) -> None:
        """What the cells still at work conduct, and their parameters."""
        self.mine = {key: value[self.left] for key, value in self.own.items()}
        self.g_S = self.how.switching.conductance_S(self.x[self.left], self.window, self.mine)

    def verify(self) -> None:
        """Read; let go of the cells that are within tolerance; note which of the others are low."""
        seen = self.g_S
        if self.how.white is not None:
            sigma = self.how.white.sigma_of(seen, 0.0, self.window)
            seen = seen + sigma * torch.from_numpy(self.rng.standard_normal(len(seen)))
        self.reads[self.left] += 1
        self.time_s[self.left] += self.how.read_s
        off = seen - self.target_S[self.left]
        more = off.abs() > self.how.tolerance_norm * self.window.span_S
        self.left, self.low, self.g_S = self.left[more], off[more] < 0, self.g_S[more]
        self.mine = {key: value[more] for key, value in self.mine.items()}

    def pulse(self) -> None:
        """One pulse towards the target."""
        self._send(torch.ones_like(self.left), self.low)

    def erase(self) -> None:
        """As many down pulses as cross the range."""
        count = self.how.switching.full_pulses[1]
        self._send(torch.full_like(self.left, count), torch.zeros_like(self.low))

    def _send(self, count: Tensor, up: Tensor) -> None:
        switching = self.how.switching
        joule, second = (
            torch.where(up, a, b)
            for a, b in (
                (_energy(switching.up), _energy(switching.down)),
                (torch.tensor(switching.up.width_s).double(), torch.tensor(switching.down.width_s).double()),
            )
        )
        self.energy_J[self.left] += count * joule * self.g_S
        self.time_s[self.left] += count * second
        self.pulses[self.left] += count
        self.x[self.left] = switching.apply(self.x[self.left], count, up, self.mine, self.rng)
        self._look()

    def result(self) -> WriteResult:
        """The cells as they are now."""
        g = self.how.switching.conductance_S(self.x, self.window, self.own)
        converged = torch.ones(len(g), dtype=torch.bool)
        converged[self.left] = False
        return WriteResult(
            self.target_S, g.float(), self.pulses, self.reads, self.energy_J, self.time_s, converged
        )


def _energy(pulse: Any) -> Tensor:
    """Energy of a pulse a siemens: V^2 t."""
    return torch.tensor(pulse.voltage_V**2 * pulse.width_s, dtype=torch.float64)


def bind_write_verify(
    card: DeviceCard, tolerance: float, max_pulses: int, retries: int = 0, read_s: float = 1e-7
) -> WriteVerify:
    """Write-verify with a card's switching model.

    Args:
        card: the device.
        tolerance: half width of what is accepted, a fraction of g_max - g_min.
        max_pulses: of one try.
        retries: tries after the first.
        read_s: time of one read.

    Returns:
        The equation.

    Raises:
        DeviceError: the card has no switching model, or a number is out of range.
    """
    if card.switching is None:
        raise DeviceError(
            f"programming kind = 'write_verify' needs a switching model, but card {card.name!r} has no "
            "[switching]; "
            "use a card that has one (imcsim devices list shows it), fit one with imcsim.devices.fit, or set "
            "programming = { kind = 'card' }"
        )
    ranges = (
        ("tolerance", tolerance, 0 < tolerance <= 1, "a fraction of g_max - g_min above 0, at most 1"),
        ("max_pulses", max_pulses, max_pulses >= 1, "at least 1"),
        ("retries", retries, retries >= 0, "0 or more"),
        ("read_s", read_s, 0 <= read_s < math.inf, "a time in seconds, 0 or more"),
    )
    for name, value, good, allowed in ranges:
        if not good:
            raise DeviceError(f"write_verify: {name} = {value!r}; give {allowed}")
    white = None if card.read_noise is None else card.read_noise.white
    return WriteVerify(
        tolerance_norm=tolerance,
        max_pulses=max_pulses,
        retries=retries,
        read_s=read_s,
        switching=card.switching,
        white=white,
    )


def write_verify(
    card: DeviceCard | str,
    target_S: Tensor | None = None,
    *,
    tolerance: float,
    max_pulses: int,
    retries: int = 0,
    read_s: float = 1e-7,
    cells: int = 10_000,
    c2c_sigma_norm: float | None = None,
    seed: int = 0,
) -> WriteResult:
    """Write cells of a device by pulses that are verified, and see what comes out.

    Shapes: target_S (cells,).
    Units: siemens, seconds.

    Args:
        card: a card with a switching model, or its name.
        target_S: conductance aimed at; None: `cells` targets spread evenly from g_min to g_max.
        tolerance: half width of what is accepted, a fraction of g_max - g_min.
        max_pulses: of one try.
        retries: tries after the first, from an erased cell.
        read_s: time of one read.
        cells: how many where no targets are given.
        c2c_sigma_norm: cycle-to-cycle variation instead of the card's.
        seed: of the draws.

    Returns:
        Every cell's outcome; `.report()` has the sums.

    Raises:
        DeviceError: no switching model, a number out of range, targets that are not conductances of the
            device.
        FileMissingError: no such card.
    """
    device = load(card) if isinstance(card, str) else card
    how = bind_write_verify(device, tolerance, max_pulses, retries, read_s)
    if c2c_sigma_norm is not None:
        changed = how.switching.model_copy(update={"c2c_sigma_norm": float(c2c_sigma_norm)})
        how = how.model_copy(update={"switching": changed})
    window = device.conductance.window()
    how.switching.check(window)
    if target_S is None:
        target_S = torch.linspace(window.g_min_S, window.g_max_S, cells, dtype=torch.float64)
    goal = target_S.detach().to("cpu", torch.float64).flatten()
    if not bool((goal.isfinite() & (goal >= 0)).all()):
        raise DeviceError("write_verify: target_S holds values that are not finite conductances of 0 or more")
    rng = keyed_generator(seed, device.name, "write_verify")
    parts = [how.process(goal[k : k + BLOCK], window, rng) for k in range(0, len(goal), BLOCK)]
    if len(parts) == 1:
        return parts[0]
    names = ("target_S", "conductance_S", "pulses", "reads", "energy_J", "time_s", "converged")
    if not parts:
        raise DeviceError("write_verify: target_S is empty; give at least one conductance")
    return replace(parts[0], **{name: torch.cat([getattr(p, name) for p in parts]) for name in names})
