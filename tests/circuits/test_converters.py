"""Circuits of converters: ideal parts give ideal decision levels; mismatch gives what theory says."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.adc_table import Adc
from imcsim.circuits.converters import converter_bank
from imcsim.circuits.converters.curves import inl_at_levels
from imcsim.circuits.converters.flash import logarithmic, middle_values
from imcsim.circuits.converters.sar import capacitor_deviations, capacitor_weights, sar_levels, search_levels
from imcsim.circuits.converters.spikes import spike_levels
from imcsim.circuits.converters.stages import stage_transfer
from imcsim.errors import FileMissingError, HardwareError
from imcsim.functional.adc import convert, ranged_converter
from imcsim.functional.bank import decision_levels, read_out
from imcsim.functional.noise import keyed_generator
from tests.tolerances import Z

TINY = {
    "sar": {"capacitor_mismatch": 1e-18},
    "flash": {"ladder_mismatch": 1e-18, "comparator_offset_lsb": 1e-18},
    "ramp": {"ramp_bow_lsb": 1e-300},
    "cyclic": {"stage_gain_error": 1e-18},
    "pipeline": {"stage_gain_error": 1e-18, "comparator_offset_lsb": 1e-300},
    "integrate_fire": {"leak": 1e-9},
}
"""Errors that switch a circuit's model on and are lost in float64's last bit (a leak of 1e-9: almost)."""


@given(
    st.sampled_from([kind for kind in TINY if kind != "integrate_fire"]), st.integers(2, 10), st.booleans()
)
def test_circuits_of_ideal_parts_are_the_ideal_converter(kind: str, bits: int, bipolar: bool) -> None:
    """Through the circuits' own models, ties included: every code at every eighth of an LSB."""
    adc = Adc(kind=kind, bits=bits, **TINY[kind])
    top = (1 << bits) - 1
    nominal = ranged_converter(kind, bits, -top / 2 if bipolar else 0, top / 2 if bipolar else top)
    owner = torch.zeros(1, 1, 1, 3, dtype=torch.int64) + torch.arange(3)
    bank = converter_bank(adc, (nominal,), owner, partial(keyed_generator, 0, "layer"))
    assert bank is not None
    assert bank.transfer is not None
    place = torch.arange(-16, 8 * top + 24, dtype=torch.float64) / 8
    levels = (place - nominal.origin) * nominal.step
    for converter in range(3):
        got = read_out(levels, nominal, bank, 0, torch.tensor(converter))
        assert torch.equal(got, convert(levels, nominal))


@given(st.integers(1, 10), st.data())
def test_split_arrays_weigh_like_binary_ones(bits: int, data: st.DataObject) -> None:
    split = data.draw(st.none() | st.integers(1, bits - 1)) if bits > 1 else None
    exact = torch.zeros(1, bits + 1, dtype=torch.float64)
    weights = capacitor_weights(bits, exact, split_bits=split)
    assert torch.allclose(weights[0], 2.0 ** torch.arange(bits, dtype=torch.float64), rtol=1e-14)
    assert torch.equal(sar_levels(bits, exact, split_bits=split)[0], decision_levels(1 << bits))


def test_a_bridge_parasitic_makes_the_lower_half_too_light() -> None:
    """The lower half's step falls short at every carry into the upper half: codes grow wide there."""
    exact = torch.zeros(1, 9, dtype=torch.float64)
    levels = sar_levels(8, exact, split_bits=4, parasitic=0.2)[0]
    widths = levels.diff()
    carries = torch.arange(1, 255) % 16 == 15  # width of code c, of which the last before a carry
    assert float(widths[carries].min()) > 1.5
    assert float(widths[~carries].max()) < 1.0


def by_search(trials: np.ndarray, v: float, bits: int) -> int:
    """The register of a SAR, bit by bit."""
    code = 0
    for bit in reversed(range(bits)):
        if v >= trials[(code | 1 << bit) - 1]:
            code |= 1 << bit
    return code


@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0, 4))
def test_search_levels_are_those_of_the_register(bits: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    trials = np.arange(1, 1 << bits) - 0.5 + spread * rng.normal(size=(1 << bits) - 1)
    levels = search_levels(torch.from_numpy(trials)[None])[0].numpy()
    for v in rng.uniform(-3, (1 << bits) + 3, 50):
        assert np.searchsorted(levels, v, side="right") == by_search(trials, v, bits)


@pytest.mark.parametrize("split", [None, 4])
def test_mismatch_of_a_sar_is_that_of_its_units(split: int | None) -> None:
    """Variance of the levels over 4,000 converters against sums over units.

    Binary: code k selects k of N units, ``var = sigma^2 k (N - k) / N``; split: the same sum with each
    capacitor's weight in LSB a unit, to first order. A sample variance has standard error ``var sqrt(2 /
    n)``.
    """
    bits, sigma, count = 8, 0.002, 4000
    normals = torch.from_numpy(np.random.default_rng(5).standard_normal((count, bits + 1)))
    deviations = capacitor_deviations(bits, sigma, normals, split)
    levels = sar_levels(bits, deviations, split_bits=split)
    got = levels.var(0, correction=1)
    codes = torch.arange(1, 256, dtype=torch.float64)
    if split is None:
        want = sigma**2 * codes * (256 - codes) / 256
    else:
        want = linear_variance(bits, sigma, split)
    assert float(((got - want) / want).abs().max()) <= Z * math.sqrt(2 / count) + 0.01  # 1 %: first order


def linear_variance(bits: int, sigma: float, split: int) -> torch.Tensor:
    """Variance of each level by numerical derivatives of the nominal levels."""
    units = capacitor_deviations(bits, sigma, torch.ones(1, bits + 1, dtype=torch.float64), split)[0]
    total = torch.zeros(255, dtype=torch.float64)
    for i in range(bits + 1):
        step = torch.zeros(1, bits + 1, dtype=torch.float64)
        step[0, i] = 1e-7
        slope = (sar_levels(bits, step, split_bits=split)[0] - decision_levels(256)) / 1e-7
        total += (slope * units[i]).square()
    return total


def one_pipeline(bits: int, gains: np.ndarray, offsets: np.ndarray, x: float) -> int:
    """Stage by stage, from the input on."""
    code = 1 << (bits - 1)
    for stage in range(bits - 1):
        lower, upper = sorted((offsets[2 * stage] - 0.25, offsets[2 * stage + 1] + 0.25))
        d = int(x >= upper) - int(x < lower)
        x = (1 + gains[stage]) * (2 * x - d)
        code += d << (bits - 2 - stage)
    return code - int(x < offsets[-1])


@given(st.integers(1, 8), st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.3]), st.floats(0, 20))
def test_stages_are_those_of_the_pipeline(bits: int, seed: int, gain: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    gains = gain * rng.uniform(-1, 1, (1, bits - 1))
    offsets = offset * rng.normal(size=(1, 2 * bits - 1))
    transfer = stage_transfer(bits, torch.from_numpy(gains), torch.from_numpy(offsets))
    lsb = 2 / (1 << bits)
    for x in rng.uniform(-1.2, 1.2, 60):
        got = transfer.read(torch.tensor([(x + 1) / lsb - 0.5], dtype=torch.float64), torch.tensor(0))
        assert int(got) == one_pipeline(bits, gains[0], offsets[0] * lsb, x)


def test_redundancy_corrects_comparators_and_not_gains() -> None:
    """Offsets below a quarter of the reference (32 of 256 LSB) in all but the last comparator: nothing."""
    offsets = torch.from_numpy(np.random.default_rng(1).uniform(-30, 30, (5, 15)))
    offsets[:, 8:] = 0  # the later stages' offsets count for more
    offsets[:, 2:8] /= torch.tensor([1.0, 1.0, 2.0, 2.0, 4.0, 4.0])
    exact = torch.zeros(5, 7, dtype=torch.float64)
    transfer = stage_transfer(8, exact, offsets)
    assert torch.equal(transfer.thresholds, decision_levels(256).expand(5, -1))
    wrong = stage_transfer(8, exact + 0.05, torch.zeros(5, 15, dtype=torch.float64))
    assert wrong.thresholds.shape != transfer.thresholds.shape or not torch.equal(
        wrong.thresholds, transfer.thresholds
    )


def spikes(current: float, leak: float, initial: float) -> int:
    """A leaky integrator from spike to spike: its voltage is followed exactly between them."""
    time, level, count = 0.0, initial, 0
    while True:
        a = current / leak
        if a <= 1:
            return count
        time += math.log((a - level) / (a - 1)) / leak
        if time > 1:
            return count
        count, level = count + 1, 0.0


@given(st.floats(0.01, 5), st.floats(0, 0.99), st.floats(0.1, 30))
def test_spike_levels_count_what_the_integrator_fires(leak: float, initial: float, current: float) -> None:
    levels = spike_levels(40, leak=leak, initial_charge=initial)
    near = float((levels - current).abs().min()) < 1e-9 * current
    assert near or int((levels <= current).sum()) == spikes(current, leak, initial)


def test_spike_levels_without_leak_are_their_limit() -> None:
    assert torch.allclose(spike_levels(9, leak=1e-7), spike_levels(9), rtol=1e-6)


def test_logarithmic_codes_are_powers() -> None:
    references, values = logarithmic(5, 2.0, bipolar=False)
    assert values == (0.0, 0.125, 0.25, 0.5, 1.0)
    assert references == pytest.approx([v / math.sqrt(2) for v in values[1:]])
    references, values = logarithmic(8, 2.0, bipolar=True)  # an odd number: seven
    assert values == (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
    assert list(references) == pytest.approx([1 - r for r in reversed(references)])
    assert middle_values((0.2, 0.6)) == (0.0, 0.4, 1.0)


def test_tables_of_linearity(tmp_path: Path) -> None:
    assert inl_at_levels((0.0, 1.0, 0.0), 6).tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert inl_at_levels((0.1, -0.1), 4, dnl=True).tolist() == pytest.approx([0.0, 0.1, 0.0])
    file = tmp_path / "inl.csv"
    file.write_text("# measured\ncode,inl_lsb\n1,0\n3,0.4\n")
    assert inl_at_levels(str(file), 6).tolist() == pytest.approx([0.0, 0.2, 0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code,inl\n1,0\n", r"its header is \['code', 'inl'\]; write 'code,inl_lsb'"),
        ("", "its header is"),
        ("code,inl_lsb\n1,x\n", "give two numbers a line"),
        ("code,inl_lsb\n", "at least one line"),
        ("code,inl_lsb\n1,2\n1,3\n", "do not ascend"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "inl.csv"
    file.write_text(text)
    with pytest.raises(HardwareError, match=says):
        inl_at_levels(str(file), 6)
    with pytest.raises(FileMissingError, match=r"adc\.inl_table: 'none\.csv' does not exist"):
        inl_at_levels("none.csv", 6)
