"""Code density and sine tests: they find what was put in; ENOB follows theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import imcsim
from imcsim.circuits import code_density, sine_test
from imcsim.circuits.converters.sar import capacitor_deviations, sar_levels
from imcsim.errors import HardwareError, InputError
from tests.tolerances import Z


def chip(**adc: object) -> imcsim.Hardware:
    return imcsim.Hardware(adc=adc)


def test_code_density_finds_the_table_that_was_put_in() -> None:
    bow = tuple(np.sin(np.linspace(0, np.pi, 33)).tolist())
    found = code_density(chip(bits=8, inl_table=bow), samples_per_code=256)
    want = np.interp(np.arange(1, 256), np.linspace(1, 255, 33), bow)
    assert np.abs(found.inl_lsb[0] - want).max() <= 1 / 128  # the ramp's step, at both ends
    assert np.abs(found.dnl_lsb[0] - np.diff(want)).max() <= 1 / 64
    assert found.missing.tolist() == [0]


def test_code_density_finds_gain_and_offset() -> None:
    found = code_density(chip(bits=10, gain_error=0.01, offset_lsb=0.5), seed=3, converters=400)
    assert found.gain_error.std() == pytest.approx(0.01, rel=Z / math.sqrt(2 * 400))
    assert found.offset_lsb.std() == pytest.approx(0.5, rel=Z / math.sqrt(2 * 400))
    assert np.abs(found.inl_lsb).max() <= 2 / 64


def test_missing_codes_are_counted() -> None:
    found = code_density(chip(bits=8, kind="sar", capacitor_mismatch=0.3), converters=50)
    assert found.missing.mean() > 5
    assert found.dnl_lsb.min() == pytest.approx(-1, abs=1e-9)


def test_ideal_converters_gain_6_02_dB_a_bit() -> None:
    bits = np.arange(6, 15)
    sinad = [float(sine_test(chip(bits=int(b), kind="sar")).sinad_db[0]) for b in bits]
    slope = np.polyfit(bits, sinad, 1)[0]
    assert slope == pytest.approx(20 * math.log10(2), abs=0.02)
    enob = [float(sine_test(chip(bits=int(b), kind="sar")).enob[0]) for b in bits]
    assert np.abs(np.array(enob) - bits).max() <= 0.04


def test_noise_lowers_enob_as_its_power_adds() -> None:
    """``ENOB = bits - log2(1 + 12 noise^2) / 2``; a power over n samples has a standard error of 4.34
    sqrt(2 / n) dB."""
    noise = 0.8
    found = sine_test(chip(bits=10, noise_lsb=noise), converters=20, samples=16384)
    want = 10 - 0.5 * math.log2(1 + 12 * noise**2)
    error = Z * 4.343 * math.sqrt(2 / (20 * 16384)) / 6.02
    assert abs(found.enob.mean() - want) <= error + 0.015  # what an ideal converter lacks to its bits


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("split", [None, 4])
def test_enob_of_a_sar_follows_its_capacitor_mismatch(sigma: float, split: int | None) -> None:
    """Mean power of the error of 400 converters, within Z standard errors of theory.

    To first order a code's error is ``sum_i e_i s_i`` over capacitors, with the slopes s_i of the levels; the
    sine's fit takes its part along 1 and the sine out. Rounding adds what it adds to an ideal converter.
    """
    bits, count = 8, 400
    table = {"bits": bits, "kind": "sar"} | ({} if split is None else {"split_bits": split})
    found = sine_test(chip(**table, capacitor_mismatch=sigma), converters=count, seed=7)
    ideal = sine_test(chip(**table))
    full = 10 * math.log10((256 / 2) ** 2 / 2)
    power = 10 ** ((full - found.sinad_db) / 10)
    want = 10 ** ((full - ideal.sinad_db[0]) / 10) + sigma**2 * unit_mismatch_power(bits, split)
    second_order = 0.03 * want  # gains of the sine itself, and levels cut by the search
    assert abs(power.mean() - want) <= Z * power.std() / math.sqrt(count) + second_order
    enob = bits - 0.5 * math.log2(want * 12)
    assert found.enob.mean() >= enob - 0.05  # Jensen: the mean of logarithms is the better one


def unit_mismatch_power(bits: int, split: int | None) -> float:
    """Mean square error over a full-scale sine where units deviate by 1, less what the sine's fit takes."""
    phase = 2 * np.pi * (np.arange(100_000) + 0.5) / 100_000
    codes = np.rint(127.5 + 128 * np.sin(phase)).clip(0, 255).astype(int)
    basis = np.stack([np.ones_like(phase), math.sqrt(2) * np.sin(phase)]) / math.sqrt(len(phase))
    units = capacitor_deviations(bits, 1.0, torch.ones(1, bits + 1, dtype=torch.float64), split)[0].numpy()
    nominal = sar_levels(bits, torch.zeros(1, bits + 1, dtype=torch.float64), split_bits=split)[0]
    total = 0.0
    for i in range(bits + 1):
        step = torch.zeros(1, bits + 1, dtype=torch.float64)
        step[0, i] = 1e-7
        slope = ((sar_levels(bits, step, split_bits=split)[0] - nominal) / 1e-7).numpy()
        error = units[i] * np.concatenate([[0.0], slope])[codes]
        total += (error @ error - ((basis @ error) ** 2).sum()) / len(phase)
    return total


def test_a_layers_converters_are_the_chips() -> None:
    """The bench draws what `program` draws for a layer of that name: the same seed, the same converters."""
    hardware = chip(bits=8, kind="sar", capacitor_mismatch=0.05)
    first = code_density(hardware, seed=4, name="fc", converters=2)
    assert np.array_equal(first.inl_lsb[:1], code_density(hardware, seed=4, name="fc").inl_lsb)
    assert not np.array_equal(first.inl_lsb[0], first.inl_lsb[1])
    assert not np.array_equal(first.inl_lsb, code_density(hardware, seed=4, name="x", converters=2).inl_lsb)


def test_bad_arguments() -> None:
    with pytest.raises(HardwareError, match=r"code_density: the chip has ideal converters; .* \[adc\]"):
        code_density(imcsim.Hardware())
    with pytest.raises(HardwareError, match="code_density: the converter's codes are not evenly spaced"):
        code_density(chip(kind="flash", bits=3, spacing="logarithmic"))
    with pytest.raises(HardwareError, match="code_density needs three codes or more"):
        code_density(chip(kind="sense_amp", bits=1))
    with pytest.raises(InputError, match="code_density: converters = 0 is not a positive whole number"):
        code_density(chip(), converters=0)
    with pytest.raises(InputError, match=r"sine_test: amplitude = 2\.0 is not above 0 and at most 1"):
        sine_test(chip(), amplitude=2.0)
    with pytest.raises(InputError, match="sine_test: samples = 100 is not a power of two"):
        sine_test(chip(), samples=100)
