"""A device in an array: one card with the numbers of one hardware description."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from imcsim.devices.base import Window
from imcsim.devices.card import DeviceCard
from imcsim.devices.faults import apply_stuck, check_fraction, dead_mask, stuck_masks
from imcsim.devices.iv import IVEquation
from imcsim.devices.noise import ReadNoise, flicker_offset, telegraph_offset
from imcsim.devices.programming import (
    NoProgramming,
    ProgrammingEquation,
    ProportionalProgramming,
    RangeProgramming,
    snap_to_levels,
)
from imcsim.devices.verifying import WriteReport, WriteVerify
from imcsim.errors import DeviceError

ProgrammingSpec = ProgrammingEquation
"""What `[device] programming` of a hardware description becomes; see `programming_spec`."""

RngFor = Callable[[str], np.random.Generator]
Log = Callable[[WriteReport], None]


class DeviceValidityWarning(UserWarning):
    """A device is used outside the range its numbers were measured in."""


def programming_spec(kind: str, sigma: float | None = None) -> ProgrammingSpec | None:
    """The override that a hardware description asks for.

    Args:
        kind: card (no override) | none | range | proportional.
        sigma: fraction of g_max - g_min (range) or of g (proportional).

    Returns:
        the equation, or None for the card's own.

    Raises:
        DeviceError: an unknown kind, a sigma that is missing, negative, or given where none is used.
    """
    if kind in ("card", "none"):
        if sigma is not None:
            raise DeviceError(f"programming kind = {kind!r} takes no sigma, given {sigma!r}")
        return None if kind == "card" else NoProgramming()
    if kind not in ("range", "proportional"):
        raise DeviceError(f"programming kind = {kind!r}: card, none, range or proportional")
    if sigma is None or not (math.isfinite(sigma) and sigma >= 0):
        raise DeviceError(
            f"programming kind = {kind!r} needs sigma >= 0, a fraction (0.02 is 2 %), given {sigma!r}"
        )
    return (
        RangeProgramming(sigma_norm=sigma) if kind == "range" else ProportionalProgramming(sigma_norm=sigma)
    )


class DeviceModel:
    """A card bound to a conductance window, a temperature and fault rates.

    It holds no tensors: `program` returns the buffers, `aged` and `read_sigma_S` take them.

    Args:
        card: the device.
        g_max_S: conductance of the top level; 1.0 with a card that has none means normalised conductances.
        g_min_S: conductance of level 0.
        programming_override: replaces what the card says about writing (its error and its device-to-device
            spread).
        temperature_K: speeds up drift where the card has an activation energy.
        stuck_on: fraction of cells stuck at g_max; the card's own rate is used where that is higher.
        stuck_off: fraction stuck at g_min, likewise.
        normalised: says that g_max_S is not in siemens; None: decided as above.

    Raises:
        DeviceError: a window, rate or temperature that makes no sense; an equation that needs siemens without
            them; a
            g_max above what the card's numbers reach.
    """

    def __init__(
        self,
        card: DeviceCard,
        *,
        g_max_S: float,
        g_min_S: float,
        programming_override: ProgrammingSpec | None = None,
        temperature_K: float = 300.0,
        stuck_on: float = 0.0,
        stuck_off: float = 0.0,
        normalised: bool | None = None,
    ) -> None:
        if normalised is None:
            normalised = card.conductance.g_max_S is None and g_max_S == 1.0
        self.card = card
        self.window = Window(float(g_max_S), float(g_min_S), normalised)
        if not (math.isfinite(temperature_K) and temperature_K > 0):
            raise DeviceError(
                f"temperature_K = {temperature_K!r}: a positive temperature in kelvin is needed"
            )
        self.temperature_K = float(temperature_K)
        self.programming = card.programming if programming_override is None else programming_override
        self.spread = card.spread if programming_override is None else None
        if self.spread is not None and self.spread.silent:
            self.spread = None
        self.drift = card.drift
        self.read_noise: ReadNoise = card.read_noise or ReadNoise()
        self.stuck_on = max(check_fraction("stuck_on", stuck_on), card.faults.stuck_on)
        self.stuck_off = max(check_fraction("stuck_off", stuck_off), card.faults.stuck_off)
        if self.stuck_on + self.stuck_off > 1:
            raise DeviceError(f"stuck_on + stuck_off = {self.stuck_on + self.stuck_off:g} is above 1")
        self.dead_rows, self.dead_cols = card.faults.dead_rows, card.faults.dead_cols
        self._states_S = card.conductance.states_S(self.window)
        self._check_reach()

    def _check_reach(self) -> None:
        used = {n: e for n, e in self.card.equations().items() if n not in ("programming", "spread")}
        used["programming"] = self.programming
        if self.window.normalised and self.card.conductance.levels_S is not None:
            raise DeviceError(f"card {self.card.name!r}: levels_S are in siemens, so g_max_S is needed")
        for name, equation in used.items():
            if self.window.normalised and equation.absolute():
                raise DeviceError(
                    f"card {self.card.name!r}: [{name}] equation {equation.equation!r} works in siemens, so "
                    "g_max_S is needed; the card gives none: set [device] g_max_S"
                )
            reach = equation.reach_S
            if reach is not None and self.window.g_max_S > reach * (1 + 1e-9):
                raise DeviceError(
                    f"card {self.card.name!r}: [{name}] holds up to {reach:g} S, but g_max_S = "
                    f"{self.window.g_max_S:g}; leave g_max_S out or set it to at most {reach:g}"
                )
        if isinstance(self.programming, WriteVerify):
            self.programming.switching.check(self.window)

    # ---- what is on ----------------------------------------------------------------------------------------

    @property
    def iv(self) -> IVEquation:
        """The cell's current-voltage curve."""
        return self.card.iv

    @property
    def is_deterministic(self) -> bool:
        """True when `program` returns the targets as they are, so that integer levels can be used."""
        lines = self.dead_rows or self.dead_cols
        written = self._states_S or self.spread or not self.programming.silent
        return not (self.stuck_on or self.stuck_off or lines or written)

    @property
    def has_slow_noise(self) -> bool:
        """True when `aged` draws 1/f or telegraph noise."""
        return self.read_noise.flicker is not None or self.read_noise.telegraph is not None

    @property
    def has_drift(self) -> bool:
        """True when the conductance changes with age, slow noise included."""
        return self.drift is not None or self.has_slow_noise

    @property
    def has_read_noise(self) -> bool:
        """True when every read draws white noise."""
        return self.read_noise.white is not None

    def effects(self) -> list[str]:
        """Names of the effects that are on, for a summary."""
        names = []
        if self._states_S:
            names.append(f"{len(self._states_S)} discrete states")
        if self.spread is not None:
            names.append(f"spread ({self.spread.equation})")
        if not self.programming.silent:
            names.append(f"programming error ({self.programming.equation})")
        rates = {n: getattr(self, n) for n in ("stuck_on", "stuck_off", "dead_rows", "dead_cols")}
        names += [f"{n} {rate:.3g}" for n, rate in rates.items() if rate]
        if self.drift is not None:
            names.append(f"drift ({self.drift.equation})")
        for kind in ("white", "flicker", "telegraph"):
            part = getattr(self.read_noise, kind)
            if part is not None:
                names.append(f"{kind} noise ({part.amplitude.equation})")
        if not self.iv.linear:
            names.append(f"I-V ({self.iv.equation})")
        return names

    def notes(self) -> list[str]:
        """What a user should know about how this card is used, for a summary."""
        notes = []
        drift = self.drift
        if drift is not None and drift.activation_energy_eV is None:
            if self.temperature_K != drift.reference_temperature_K:
                notes.append(
                    f"temperature_K = {self.temperature_K:g} does not change the drift: card "
                    f"{self.card.name!r} gives no activation energy"
                )
        low = self.card.conductance.g_min_S
        if low is not None and self.window.g_min_S < low * (1 - 1e-9):
            notes.append(f"g_min_S = {self.window.g_min_S:g} is below the card's {low:g} S")
        if self.card.switching is not None and self.programming.silent and self.spread is None:
            notes.append(
                f"cells are written exactly: card {self.card.name!r} says how pulses move them; set "
                "device.programming = { kind = 'write_verify', ... }"
            )
        return notes

    def check_levels(self, n_levels: int) -> None:
        """Raise DeviceError if a cell of this device cannot hold `n_levels` levels."""
        have = self.card.conductance.n_levels
        if have is not None and n_levels > have:
            raise DeviceError(
                f"card {self.card.name!r} has {have} states, but cells of {n_levels} levels are asked for; "
                f"use cell_bits <= {int(math.log2(have))}"
            )

    # ---- physics -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program(
        self,
        target_S: Tensor,
        rng_for: RngFor,
        *,
        array_rows: int | None = None,
        array_cols: int | None = None,
        log: Log | None = None,
    ) -> dict[str, Tensor]:
        """Write the arrays: states, spread, programming error, faults; and draw what drift will need.

        Shapes: target_S (..., rows, cols); every buffer has its shape.
        Units: siemens (or fractions of g_max where the window is normalised).

        Args:
            target_S: conductance aimed at.
            rng_for: purpose -> a fresh generator; purposes: spread, programming, faults, dead_lines, drift.
            array_rows: rows of one array, where target_S spans several (dead columns end with their array).
            array_cols: columns of one array, likewise.
            log: gets the report of write-verify, where cells are written so.

        Returns:
            `conductance_S` (float32) and, only where needed, `drift_nu`, `drift_z`, `drift_up`, `target_S`,
            `frozen` (bool: cells that do not change with age).
        """
        g = target_S.to(torch.float32)
        if self._states_S is not None:
            g = snap_to_levels(g, self._states_S)
        state = {} if self.drift is None else self.drift.draw(g, self.window, rng_for("drift"))
        if self.spread is not None:
            g = self.spread.write(g, self.window, rng_for("spread"))
        if isinstance(self.programming, WriteVerify) and log is not None:
            g = self.programming.write_and_log(g, self.window, rng_for("programming"), log)
        elif not self.programming.silent:
            g = self.programming.write(g, self.window, rng_for("programming"))
        frozen: Tensor | None = None
        if self.stuck_on or self.stuck_off:
            masks = stuck_masks(g.shape, self.stuck_on, self.stuck_off, rng_for("faults"), g.device)
            g = apply_stuck(g, masks, self.window.g_max_S, self.window.g_min_S)
            frozen = masks[0] | masks[1]
        if self.dead_rows or self.dead_cols:
            rng = rng_for("dead_lines")
            dead = dead_mask(g.shape, self.dead_rows, self.dead_cols, rng, g.device, array_rows, array_cols)
            g = g.masked_fill(dead, 0.0)
            frozen = dead if frozen is None else frozen | dead
        if frozen is not None and self.has_drift:
            state["frozen"] = frozen
        return {"conductance_S": g.clone() if g is target_S else g, **state}

    @torch.no_grad()
    def aged(self, state: dict[str, Tensor], seconds: float, rng_for: RngFor) -> Tensor:
        """The conductance at a time since the verify read.

        Shapes: those of the programmed conductance. Units: siemens, seconds.

        Args:
            state: what `program` returned.
            seconds: absolute time since the verify read, not since the last call; 0 gives exactly the
                programmed one.
            rng_for: purpose -> a fresh generator; purposes: slow_noise, telegraph.

        Returns:
            the conductance, float32.

        Raises:
            DeviceError: a time that is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise DeviceError(
                f"age: seconds = {seconds!r}; a time since the verify read, 0 or more, is needed"
            )
        programmed = state["conductance_S"]
        if seconds == 0 or not self.has_drift:
            return programmed
        g = programmed
        if self.drift is not None:
            effective = seconds * self.drift.acceleration(self.temperature_K)
            limit = self.drift.valid_until_s
            if limit is not None and effective > limit * (1 + 1e-9):
                warnings.warn(
                    f"card {self.card.name!r}: drift is known up to {limit:g} s; at {effective:g} s its last "
                    "table is held",
                    DeviceValidityWarning,
                    stacklevel=2,
                )
            g = self.drift.at(programmed, state, effective, self.window)
        noise, base = self.read_noise, g
        if noise.flicker is not None:
            amplitude = noise.flicker.amplitude.amplitude_S(base, self.window)
            g = g + flicker_offset(amplitude, seconds, noise.flicker.window_s, rng_for("slow_noise"))
        if noise.telegraph is not None:
            t = noise.telegraph
            amplitude = t.amplitude.amplitude_S(base, self.window)
            rng = rng_for("telegraph")
            g = g + telegraph_offset(amplitude, seconds, t.probability, t.fraction, t.switch_time_s, rng)
        g = g.clamp(min=0.0)
        frozen = state.get("frozen")
        return g if frozen is None else torch.where(frozen, programmed, g)

    def read_sigma_S(self, conductance_S: Tensor, seconds: float) -> Tensor | None:
        """Standard deviation of one read of each cell, or None without white noise.

        Shapes: those of conductance_S. Units: siemens, seconds.
        """
        white = self.read_noise.white
        return None if white is None else white.sigma_of(conductance_S, seconds, self.window)
