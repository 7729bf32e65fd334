"""Read noise: white (drawn at each read), 1/f and random telegraph (quasi-static: drawn at an age)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from imcsim.devices.base import Block, Equation, Window, choose, standard_normal, uniform


def pcm_amplitude(g_S: Tensor, g_ref_S: float, q: float, power: float, q_max: float) -> Tensor:
    """Amplitude of the 1/f noise of a phase-change cell, before the factor sqrt(ln time).

    a(g) = g min(q / (g / g_ref)^power, q_max).

    Shapes: any; returns the shape of g_S.
    Units: siemens; q, power, q_max are pure numbers.

    Args:
        g_S: conductance.
        g_ref_S: conductance that normalises the published fit.
        q: relative noise at g_ref.
        power: exponent.
        q_max: largest relative noise.

    Returns:
        the amplitude; 0 at g = 0.

    References: Nandakumar et al., IEEE ICECS 2019 (model); Joshi et al., Nature Communications 2020, DOI
        10.1038/s41467-020-16108-9 (same form).
    """
    r = g_S.clamp(min=0.0) / g_ref_S
    return g_S.clamp(min=0.0) * (q * r.pow(-power)).clamp(max=q_max)


def cmo_amplitude(g_S: Tensor, k_S: float) -> Tensor:
    """Amplitude of the 1/f noise of a CMO/HfOx cell, before the factor sqrt(ln time).

    a(g) = k log10(g / 1 uS), not below 0.

    Shapes: any; returns the shape of g_S.
    Units: siemens.

    Args:
        g_S: conductance; the fit holds from 9 to 88.2 uS.
        k_S: slope a decade.

    Returns:
        the amplitude; 0 at and below 1 uS, where the fit turns negative.

    References: as carried by IBM's analog hardware kit for Falcone et al., arXiv 2502.04524.
    """
    return k_S * torch.log10(g_S.clamp(min=1e-6) / 1e-6)


def log_time_growth(time_s: float, read_time_s: float) -> float:
    """Growth of integrated 1/f noise.

    sqrt(ln((t + t_read) / (2 t_read))), 0 where the logarithm is not positive (t <= t_read).

    Units: seconds; returns a pure number. `time_s = 0` gives 0, not an error.
    """
    return math.sqrt(max(0.0, math.log((time_s + read_time_s) / (2 * read_time_s))))


def flicker_offset(amplitude_S: Tensor, seconds: float, window_s: float, rng: np.random.Generator) -> Tensor:
    """1/f noise slower than `window_s`, held: its variance grows with the logarithm of time.

    dg = a z sqrt(ln((seconds + window) / window)), z ~ N(0, 1) a cell.

    Shapes: amplitude_S any; returns its shape.
    Units: siemens, seconds.

    Args:
        amplitude_S: a(g) of each cell.
        seconds: time since the verify read; 0 gives exactly 0.
        window_s: fluctuations faster than this are white noise of a read, not this.
        rng: generator.

    Returns:
        what to add to the conductance.

    Notes:
        A cell keeps its z: noise at two ages of one chip is fully correlated, while its distribution at each
            is right.
    """
    return amplitude_S * standard_normal(amplitude_S, rng) * math.sqrt(math.log1p(seconds / window_s))


def telegraph_offset(
    amplitude_S: Tensor,
    seconds: float,
    probability: float,
    fraction: float,
    switch_time_s: float,
    rng: np.random.Generator,
) -> Tensor:
    """Random telegraph noise: a trap that has changed since the verify read moves the conductance.

    s0 ~ Bernoulli(p) at the verify read; P(s = 1 | s0) = p + (s0 - p) exp(-seconds / tau); dg = -a (s - s0)
    in the fraction of cells that have a trap, 0 in the others.

    Shapes: amplitude_S any; returns its shape.
    Units: siemens, seconds.

    Args:
        amplitude_S: step of each cell; a filled trap lowers the conductance by it.
        seconds: time since the verify read; 0 gives exactly 0.
        probability: p, of the trap being filled.
        fraction: of cells that have a trap.
        switch_time_s: tau.
        rng: generator; trap, s0 and s in this order.

    Returns:
        what to add to the conductance: variance 2 a^2 p (1 - p) (1 - exp(-seconds / tau)) where there is a
            trap.
    """
    shape, device = amplitude_S.shape, amplitude_S.device
    trap = uniform(shape, rng, device) < fraction
    before = uniform(shape, rng, device) < probability
    stays = math.exp(-seconds / switch_time_s)
    chance = probability + (before.to(torch.float32) - probability) * stays
    after = uniform(shape, rng, device) < chance
    return -amplitude_S * (trap * (after.to(torch.float32) - before.to(torch.float32)))


# ---- equations a card can name -----------------------------------------------------------------------------


class NoiseAmplitude(Equation):
    """How large the noise of a cell is, as a function of its conductance."""

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:
        """Standard deviation before growth with time. Shapes: that of g_S. Units: siemens."""
        raise NotImplementedError


class ProportionalNoise(NoiseAmplitude):
    """sigma g."""

    equation: Literal["proportional"] = "proportional"
    sigma_norm: float = Field(ge=0)

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return self.sigma_norm * g_S.abs()


class RangeNoise(NoiseAmplitude):
    """sigma (g_max - g_min), the same for every cell."""

    equation: Literal["range"] = "range"
    sigma_norm: float = Field(ge=0)

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return torch.full_like(g_S, self.sigma_norm * window.span_S)


class ConstantNoise(NoiseAmplitude):
    """The same sigma in siemens for every cell."""

    needs_siemens: ClassVar[bool] = True
    equation: Literal["constant"] = "constant"
    sigma_S: float = Field(ge=0)

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return torch.full_like(g_S, self.sigma_S)


class PCMNoise(NoiseAmplitude):
    """See `pcm_amplitude`."""

    needs_siemens: ClassVar[bool] = True
    equation: Literal["pcm"] = "pcm"
    g_ref_S: float = Field(gt=0)
    q: float = Field(ge=0)
    power: float = Field(ge=0)
    q_max: float = Field(ge=0)

    @property
    def reach_S(self) -> float | None:  # noqa: D102
        return self.g_ref_S

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return pcm_amplitude(g_S, self.g_ref_S, self.q, self.power, self.q_max)


class CMONoise(NoiseAmplitude):
    """See `cmo_amplitude`."""

    needs_siemens: ClassVar[bool] = True
    equation: Literal["cmo"] = "cmo"
    k_S: float = Field(ge=0)

    def amplitude_S(self, g_S: Tensor, window: Window) -> Tensor:  # noqa: D102
        return cmo_amplitude(g_S, self.k_S)


NOISE: dict[str, type[NoiseAmplitude]] = {
    "proportional": ProportionalNoise,
    "range": RangeNoise,
    "constant": ConstantNoise,
    "pcm": PCMNoise,
    "cmo": CMONoise,
}

Amplitude = Annotated[NoiseAmplitude, BeforeValidator(lambda v: choose(v, NOISE, "noise"))]


class WhiteNoise(Block):
    """Noise drawn anew at every read.

    sigma(g, t) = a(g), or a(g) sqrt(ln((t' + t_read) / (2 t_read))) where `read_time_s` is given, with
    t' = min(t0 + seconds, window_s): noise slower than `window_s` belongs to `flicker`.
    """

    amplitude: Amplitude
    read_time_s: float | None = Field(default=None, gt=0)
    t0_s: float = Field(default=0.0, ge=0)
    window_s: float | None = Field(default=None, gt=0)

    def sigma_of(self, g_S: Tensor, seconds: float, window: Window) -> Tensor:
        """Standard deviation of one read of each cell. Shapes: that of g_S. Units: siemens."""
        sigma = self.amplitude.amplitude_S(g_S, window)
        if self.read_time_s is None:
            return sigma
        t = self.t0_s + seconds
        return sigma * log_time_growth(
            t if self.window_s is None else min(t, self.window_s), self.read_time_s
        )


class FlickerNoise(Block):
    """1/f noise slower than `window_s`: see `flicker_offset`."""

    amplitude: Amplitude
    window_s: float = Field(gt=0)


class TelegraphNoise(Block):
    """Random telegraph noise: see `telegraph_offset`."""

    amplitude: Amplitude
    probability: float = Field(ge=0, le=1)
    fraction: float = Field(default=1.0, ge=0, le=1)
    switch_time_s: float = Field(gt=0)


class ReadNoise(Block):
    """The read noise of a card: any of the three kinds."""

    white: WhiteNoise | None = None
    flicker: FlickerNoise | None = None
    telegraph: TelegraphNoise | None = None
