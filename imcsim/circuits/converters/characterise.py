"""Converters on the test bench: code density for INL and DNL, a sine for ENOB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from imcsim.circuits.converters.build import converter_bank
from imcsim.errors import HardwareError, InputError
from imcsim.functional.adc import Converter, convert, ranged_converter
from imcsim.functional.bank import read_out
from imcsim.functional.noise import keyed_generator
from imcsim.hardware import Hardware

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CodeDensity:
    """Static linearity of some converters, a row each.

    Attributes:
        levels_lsb: (converters, codes - 1) inputs from which code c or a higher one comes out, counted from
            the middle of code 0.
        dnl_lsb: (converters, codes - 2) width of codes 1 to codes - 2 over the mean width, less 1; -1: a
            missing code.
        inl_lsb: (converters, codes - 1) distance of the levels from the line through the first and the last.
        gain_error: (converters,) relative.
        offset_lsb: (converters,) by which codes come out too high at the first level.
        missing: (converters,) codes that never come out.
    """

    levels_lsb: Floats
    dnl_lsb: Floats
    inl_lsb: Floats
    gain_error: Floats
    offset_lsb: Floats
    missing: NDArray[np.int64]


@dataclass(frozen=True)
class SineTest:
    """Dynamic figures of some converters.

    Attributes:
        sinad_db: (converters,) power of the sine over that of all else, in dB.
        enob: (converters,) effective number of bits, ``(SINAD + 20 log10(1 / amplitude) - 1.76) / 6.02``.
        sfdr_db: (converters,) power of the sine over that of the strongest other tone.
    """

    sinad_db: Floats
    enob: Floats
    sfdr_db: Floats


def code_density(
    hardware: Hardware,
    *,
    seed: int = 0,
    name: str = "",
    converters: int = 1,
    samples_per_code: int = 64,
    bipolar: bool = False,
) -> CodeDensity:
    """INL and DNL of a chip's converters from a slow ramp.

    How often a code comes out is its width. ``T_c = first + step N(code < c)``; with ``W = (T_top - T_1) /
    (top - 1)``, ``DNL_c = (T_(c+1) - T_c) / W - 1`` and ``INL_c = (T_c - T_1) / W - (c - 1)``.

    Units: LSB of the nominal converter.

    Args:
        hardware: a chip with an [adc] table of evenly spaced codes.
        seed: the chip's, as given to `imcsim.program`.
        name: the layer whose converters are tested: its name keys their draws.
        converters: how many, from the layer's first.
        samples_per_code: steps of the ramp.
        bipolar: currents have both signs (kinds that are then symmetric have a code less).

    Returns:
        The figures.

    Raises:
        HardwareError: no [adc] table, uneven codes, or fewer than three.
        InputError: an argument that is not a positive whole number.

    References: IEEE Std 1241-2010, sections 4.5 and 4.7.
    """
    _positive("code_density", converters=converters, samples_per_code=samples_per_code)
    bench = _Bench(hardware, seed, name, converters, "code_density", bipolar=bipolar)
    top = bench.nominal.top
    if top < 2:
        raise HardwareError(
            f"code_density needs three codes or more, but adc.bits = {bench.adc.bits}; raise it"
        )
    over = max(4.0, 0.1 * top) if bench.bank is not None else 1.0
    steps = int((top + 2 * over) * samples_per_code)
    ramp = torch.arange(steps, dtype=torch.float64) / samples_per_code - over + 0.5 / samples_per_code
    codes = bench.read(ramp, "code density")
    counts = np.stack([np.bincount(row, minlength=top + 1) for row in codes])
    levels = (counts.cumsum(1)[:, :-1] / samples_per_code) - over
    width = (levels[:, -1:] - levels[:, :1]) / (top - 1)
    steps_from_first = levels - levels[:, :1]
    return CodeDensity(
        levels_lsb=levels,
        dnl_lsb=np.diff(levels, axis=1) / width - 1,
        inl_lsb=steps_from_first / width - np.arange(top),
        gain_error=1 / width[:, 0] - 1,
        offset_lsb=0.5 - levels[:, 0],
        missing=(counts == 0).sum(1),
    )


def sine_test(
    hardware: Hardware,
    *,
    seed: int = 0,
    name: str = "",
    converters: int = 1,
    samples: int | None = None,
    amplitude: float = 1.0,
    bipolar: bool = False,
) -> SineTest:
    """ENOB of a chip's converters from a sine over their full scale.

    A whole, odd number of periods is sampled; offset, amplitude and phase of the sine are fitted by least
    squares, and what remains is noise and distortion.

    Args:
        hardware: a chip with an [adc] table.
        seed: the chip's.
        name: the layer whose converters are tested.
        converters: how many, from the layer's first.
        samples: a power of two; None: 16 a code, at least 4,096.
        amplitude: of the sine over half the full scale.
        bipolar: as for `code_density`.

    Returns:
        The figures.

    Raises:
        HardwareError: no [adc] table, or codes that k-means would choose.
        InputError: an argument out of range.

    Notes: static errors and noise only: sampling jitter, settling and slew are not in the converters' models.

    References: IEEE Std 1241-2010, sections 4.1.4 and 9.2 (three-parameter fit); W. Kester (ed.), "The Data
        Conversion Handbook", 2005, section 2.3 (SINAD, ENOB).
    """
    _positive("sine_test", converters=converters)
    if not 0 < amplitude <= 1:
        raise InputError(f"sine_test: amplitude = {amplitude!r} is not above 0 and at most 1")
    bench = _Bench(hardware, seed, name, converters, "sine_test", bipolar=bipolar)
    top = bench.nominal.top
    count = max(4096, 1 << (16 * (top + 1) - 1).bit_length()) if samples is None else samples
    if count < 64 or count & (count - 1):
        raise InputError(f"sine_test: samples = {samples!r} is not a power of two from 64")
    periods = count // 9 | 1
    phase = 2 * np.pi * periods * np.arange(count) / count
    signal = top / 2 + amplitude * (top + 1) / 2 * np.sin(phase)
    codes = bench.values(torch.from_numpy(signal), "sine")
    spectrum = np.abs(np.fft.rfft(codes, axis=1)) ** 2 * (2 / count**2)
    spectrum[:, 0], spectrum[:, -1] = 0, spectrum[:, -1] / 2
    tone = spectrum[:, periods].copy()
    spectrum[:, periods] = 0
    sinad = 10 * np.log10(tone / np.maximum(spectrum.sum(1), 1e-300))
    return SineTest(
        sinad_db=sinad,
        enob=(sinad - 20 * math.log10(amplitude) - 10 * math.log10(1.5)) / (20 * math.log10(2)),
        sfdr_db=10 * np.log10(tone / np.maximum(spectrum.max(1), 1e-300)),
    )


class _Bench:
    """Some converters of a layer, whose input is counted in LSB from the middle of code 0."""

    def __init__(
        self, hardware: Hardware, seed: int, name: str, converters: int, test: str, *, bipolar: bool
    ) -> None:
        adc = hardware.adc
        if adc is None:
            raise HardwareError(f"{test}: the chip has ideal converters; give it an [adc] table")
        if adc.spacing == "kmeans" or (adc.uneven and test == "code_density"):
            raise HardwareError(
                f"{test}: the converter's codes are not evenly spaced; leave adc.references and adc.spacing "
                "out"
            )
        self.adc, self.seed, self.name = adc, seed, name
        top = adc.codes - 1
        low = -(top // 2) if bipolar else 0
        self.nominal: Converter = ranged_converter(adc.kind, adc.bits, low, low + top, codes=adc.codes)
        owner = torch.arange(converters).view(1, 1, 1, -1)
        self.bank = converter_bank(adc, (self.nominal,), owner, partial(keyed_generator, seed, name))
        self.owner = torch.arange(converters).unsqueeze(1)

    def values(self, position: torch.Tensor, purpose: str) -> Floats:
        """What inputs are taken for. Shapes: position (samples,) LSB; returns (converters, samples) LSB."""
        nominal = self.nominal
        levels = (position - nominal.origin) * nominal.step
        rows = levels.expand(len(self.owner), -1)
        if self.bank is None:
            return (convert(rows, nominal) + nominal.zero).numpy()
        normals = None
        if self.bank.noise:
            generator = keyed_generator(self.seed, self.name, f"{purpose} test")
            normals = torch.from_numpy(generator.standard_normal(tuple(rows.shape)))
        return (read_out(rows, nominal, self.bank, 0, self.owner, normals) + nominal.zero).numpy()

    def read(self, position: torch.Tensor, purpose: str) -> NDArray[np.int64]:
        """The same where codes are whole numbers."""
        return self.values(position, purpose).astype(np.int64)


def _positive(test: str, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{test}: {name} = {value!r} is not a positive whole number")
