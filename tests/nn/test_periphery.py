"""Converters with errors, drivers with errors and column clamps, through whole layers."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import imcsim
from imcsim.adc_table import CIRCUITS
from imcsim.errors import CalibrationError, EngineError
from imcsim.kernels.job import reach
from imcsim.nn.layout import converter_owners
from tests.strategies import chips, examples, hardware_of
from tests.tolerances import BATCH_CUT, CODES_ONE_STEP_OFF, SCALED_FLOAT64, Z

BASE = imcsim.Hardware(
    array={"rows": 32, "cols": 32}, inputs={"range": "dynamic"}, adc={"bits": 6}, weights={"bits": 4}
)
X = torch.randn(40, 70, generator=torch.Generator().manual_seed(1))

ERRORS: dict[str, dict[str, Any]] = {
    "sar": {"adc.kind": "sar", "adc.capacitor_mismatch": 0.1},
    "split sar": {"adc.kind": "sar", "adc.capacitor_mismatch": 0.1, "adc.split_bits": 3},
    "sar comparator": {"adc.kind": "sar", "adc.comparator_offset_lsb": 0.5},
    "flash": {"adc.kind": "flash", "adc.ladder_mismatch": 0.1, "adc.comparator_offset_lsb": 0.3},
    "ramp": {"adc.kind": "ramp", "adc.slope_error": 0.05, "adc.comparator_offset_lsb": 0.3},
    "cyclic": {"adc.kind": "cyclic", "adc.stage_gain_error": 0.05, "adc.comparator_offset_lsb": 2.0},
    "pipeline": {"adc.kind": "pipeline", "adc.stage_gain_error": 0.1},
    "spikes": {"adc.kind": "integrate_fire", "adc.threshold_mismatch": 0.1, "adc.leak": 0.2},
    "sense amplifiers": {"adc.kind": "sense_amp", "adc.bits": 2, "adc.comparator_offset_lsb": 0.2},
    "gain and offset": {"adc.gain_error": 0.05, "adc.offset_lsb": 0.5},
    "word line offsets": {"inputs.dac_offset_lsb": 0.1},
}
"""Everything that is drawn at `program`."""

FIXED: dict[str, dict[str, Any]] = {
    "ramp bow": {"adc.kind": "ramp", "adc.ramp_bow_lsb": 2.0},
    "whole spikes": {"adc.kind": "integrate_fire", "adc.initial_charge": 0.0},
    "inl": {"adc.inl_table": [0.0, 1.5, 0.0]},
    "dnl": {"adc.dnl_table": [0.0, 0.1, -0.1, 0.0]},
    "references": {"adc.kind": "flash", "adc.bits": 2, "adc.references": [0.4, 0.5, 0.6]},
    "logarithmic": {"adc.kind": "sense_amp", "adc.bits": 4, "adc.spacing": "logarithmic"},
    "clamp": {"array.column_clamp": 3.0},
    "dac": {"inputs.bits_per_cycle": 2, "inputs.dac_inl_lsb": [0.0, 0.1, 0.2, 0.0]},
}
"""Everything that is the same on every chip."""

NOISE: dict[str, dict[str, Any]] = {
    "converter noise": {"adc.noise_lsb": 0.7},
    "comparator noise": {"adc.kind": "sar", "adc.comparator_noise_lsb": 0.7, "adc.capacitor_mismatch": 0.1},
    "word line noise": {"inputs.dac_noise_lsb": 0.1},
}
ALL = {**ERRORS, **FIXED, **NOISE}


def layer(seed: int = 0, outputs: int = 20) -> nn.Linear:
    made = nn.Linear(70, outputs, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.weight.copy_(torch.randn(made.weight.shape, generator=generator))
        made.bias.copy_(torch.linspace(-1, 1, outputs))
    return made


@torch.no_grad()
def run(change: dict[str, Any], *, engine: str = "auto", seed: int = 0, x: torch.Tensor = X) -> torch.Tensor:
    sim = imcsim.convert(layer(), BASE.replace(change), engine=engine)
    imcsim.program(sim, seed)
    return sim(x.double())


@examples(60)
@given(data=st.data())
def test_circuits_without_errors_are_auto(data: st.DataObject) -> None:
    """Over encodings, bits, ranges and engines, bit for bit."""
    chip = data.draw(chips(converters=data.draw(st.sampled_from(["any", "short", "enough"]))))
    if chip["adc"] is None or chip["adc"]["range"] == "calibrated":
        return
    chip["inputs"]["range"] = 1.0
    signed = isinstance(chip["adc"]["range"], list) and chip["adc"]["range"][0] < 0
    if signed:
        chip["adc"]["range"][0] = -chip["adc"]["range"][1]
    chip["adc"] |= {"kind": "auto", "bits": max(2, chip["adc"]["bits"])}
    made = nn.Linear(data.draw(st.integers(1, 50)), 5, dtype=torch.float64)
    x = 1.5 * torch.randn(7, made.in_features, dtype=torch.float64)
    want = imcsim.convert(made, hardware_of(chip))(x)
    chip["adc"]["kind"] = data.draw(st.sampled_from(CIRCUITS))
    assert torch.equal(imcsim.convert(made, hardware_of(chip))(x), want)


@pytest.mark.parametrize("change", ALL.values(), ids=ALL)
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_matmul_is_the_reference(change: dict[str, Any], encoding: str) -> None:
    """Whole levels and converters' errors: bit for bit, noise included. Codes that stand for values between
    whole numbers are added up in another order."""
    change = {**change, "weights.encoding": encoding}
    want, got = run(change, engine="reference"), run(change, engine="matmul")
    if any(name.startswith("inputs.dac") for name in change):  # currents are real numbers
        assert (got - want).abs().max() <= BATCH_CUT * want.abs().max()
    elif "adc.references" in change:
        assert (got - want).abs().max() <= SCALED_FLOAT64 * want.abs().max()
    else:
        assert torch.equal(got, want)


@pytest.mark.parametrize("change", ALL.values(), ids=ALL)
def test_effect_shows_and_does_not_depend_on_the_batch(change: dict[str, Any]) -> None:
    plain = {k: v for k, v in change.items() if k in ("adc.kind", "adc.bits", "inputs.bits_per_cycle")}
    whole = run(change)
    assert not torch.equal(whole, run(plain))
    sim = imcsim.convert(layer(), BASE.replace(change))
    with torch.no_grad():
        parts = torch.cat([sim(X[:7].double()), sim(X[7:8].double()), sim(X[8:].double())])
    step = whole.abs().max()
    off = (parts - whole).abs() > BATCH_CUT * step
    assert float(off.double().mean()) <= CODES_ONE_STEP_OFF


@pytest.mark.parametrize("change", ERRORS.values(), ids=ERRORS)
def test_same_seed_same_chip(change: dict[str, Any]) -> None:
    assert torch.equal(run(change, seed=3), run(change, seed=3))
    assert not torch.equal(run(change, seed=3), run(change, seed=4))


@pytest.mark.parametrize("change", FIXED.values(), ids=FIXED)
def test_shapes_are_no_draws(change: dict[str, Any]) -> None:
    assert torch.equal(run(change, seed=3), run(change, seed=4))


@pytest.mark.parametrize("change", NOISE.values(), ids=NOISE)
def test_noise_follows_its_seed(change: dict[str, Any]) -> None:
    sim = imcsim.convert(layer(), BASE.replace(change))
    with torch.no_grad():
        imcsim.seed_reads(sim, 1)
        first, second = sim(X.double()), sim(X.double())
        imcsim.seed_reads(sim, 1)
        assert torch.equal(sim(X.double()), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("change", [ERRORS["sar"], ERRORS["word line offsets"], FIXED["clamp"]])
def test_survives_disk_and_state_dict(change: dict[str, Any], tmp_path: Path) -> None:
    sim = imcsim.convert(layer(), BASE.replace(change))
    imcsim.program(sim, seed=11)
    with torch.no_grad():
        want = sim(X.double())
        imcsim.save(sim, tmp_path / "chip.safetensors")
        assert torch.equal(imcsim.load(tmp_path / "chip.safetensors", layer(seed=2))(X.double()), want)
        other = imcsim.convert(layer(seed=2), BASE.replace(change))
        other.load_state_dict(sim.state_dict())
        assert torch.equal(other(X.double()), want)
        assert torch.equal(copy.deepcopy(sim)(X.double()), want)


def test_converters_errors_do_not_move_the_cells() -> None:
    change = {"device.programming": {"kind": "range", "sigma": 0.1}}
    cells = []
    for more in ({}, ERRORS["sar"]):
        sim = imcsim.convert(layer(), BASE.replace({**change, **more}))
        cells.append(sim.array.cells)
    assert all(torch.equal(cells[0][key], cells[1][key]) for key in cells[0])


# ---------------------------------------------------------------------------------- who reads which column


def test_column_c_is_read_by_converter_c_over_columns_per_adc() -> None:
    """20 outputs of 2 slices and 2 sides: 80 columns, on arrays of 32 with converters for 8."""
    hardware = BASE.replace({"adc.columns_per_adc": 8, "weights.cell_bits": 2})
    owner, _ = converter_owners(hardware, (1, 20, 70), (0, 1, 2), unit_column=False)
    assert owner.shape == (3, 1, 2, 20)
    for read in range(3):
        for output in range(20):
            for slice_ in range(2):
                column = (output * 2 + slice_) * 2
                array = read * 3 + column // 32
                assert int(owner[read, 0, slice_, output]) == array * 4 + column % 32 // 8


def test_slices_and_sides_on_arrays_of_their_own() -> None:
    change = {"adc.subtract": "digital", "weights.placement": "separate", "weights.pair": "arrays"}
    hardware = BASE.replace({**change, "weights.cell_bits": 2, "adc.columns_per_adc": 32})
    owner, _ = converter_owners(hardware, (1, 20, 20), (0,), unit_column=False)
    assert [int(row[0]) for row in owner[0, 0]] == [0, 2, 1, 3]  # plus sides of both slices, then minus
    assert bool((owner[0, 0] == owner[0, 0, :, :1]).all())


def test_groups_that_share_an_array_lie_side_by_side() -> None:
    hardware = BASE.replace({"weights.encoding": "offset", "weights.cell_bits": 4, "adc.columns_per_adc": 4})
    owner, _ = converter_owners(hardware, (6, 4, 9), (0,), unit_column=False)
    assert owner[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]  # three stacked, then the next columns


def test_unit_column_is_read_by_the_last_converter_of_its_array() -> None:
    hardware = BASE.replace({"weights.encoding": "offset", "adc.columns_per_adc": 8})
    owner, unit = converter_owners(hardware, (1, 20, 70), (0, 1, 2), unit_column=True)
    assert unit.flatten().tolist() == [3, 3 + 8, 3 + 16]  # two arrays of four converters a row block
    assert int(owner.max()) <= 23


def test_mismatch_is_shared_within_a_converter_and_independent_between() -> None:
    """Offsets alone, with equal weights in every column: what a column reads is its converter's offset."""
    made = nn.Linear(30, 64, bias=False, dtype=torch.float64)
    with torch.no_grad():
        made.weight.fill_(1.0)
    change = {"adc.bits": 12, "adc.offset_lsb": 20.0, "adc.columns_per_adc": 8, "weights.cell_bits": 3}
    errors = []
    for seed in range(60):
        sim = imcsim.convert(made, BASE.replace(change))
        imcsim.program(sim, seed)
        with torch.no_grad():
            errors.append(sim(torch.zeros(1, 30, dtype=torch.float64))[0])
    found = torch.stack(errors).unflatten(1, (16, 4))  # one slice: a pair of columns an output, 4 a converter
    assert torch.equal(found, found[..., :1].expand_as(found))
    between = torch.corrcoef(found[..., 0].T)
    off = between[~torch.eye(16, dtype=torch.bool)]
    assert float(off.abs().max()) <= (Z + 1) / math.sqrt(60)  # the largest of 120
    assert found[..., 0].std() > 0


# ------------------------------------------------------------------------------------------- sizes of effects


def test_noise_has_the_size_it_says() -> None:
    """One conversion a product: its variance in LSB, 1 / 12 of rounding on top."""
    made = nn.Linear(20, 4, bias=False, dtype=torch.float64)
    change = {"adc.bits": 10, "adc.per": "vector", "adc.noise_lsb": 2.0, "weights.cell_bits": 3}
    sim = imcsim.convert(made, BASE.replace({**change, "inputs.range": 1.0}))
    zero = torch.zeros(5000, 20, dtype=torch.float64)
    with torch.no_grad():
        out = sim(zero)
    step = sim.array.job().converters[0].step * sim.array.written.scale.item() / 255
    variance = float((out / step).var())
    want = 4 + 1 / 12
    assert abs(variance - want) <= Z * want * math.sqrt(2 / out.numel())


def test_word_line_noise_is_common_to_all_columns() -> None:
    """Columns with equal weights see the same drive: equal currents, and so equal outputs."""
    made = nn.Linear(20, 6, bias=False, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(made.weight[:1].expand(6, -1))
    sim = imcsim.convert(made, BASE.replace({"adc": None, "inputs.dac_noise_lsb": 0.3}))
    with torch.no_grad():
        out = sim(X[:, :20].double())
    assert torch.allclose(out, out[:, :1].expand_as(out), rtol=1e-12)
    assert not torch.allclose(out, imcsim.convert(made, BASE.replace({"adc": None}))(X[:, :20].double()))


def test_clamp_cuts_column_currents() -> None:
    """A clamp that nothing reaches changes nothing, not even the engine; a low one limits every cycle."""
    change = {"adc": None, "weights.encoding": "offset", "inputs.signed": False, "inputs.range": 1.0}
    high = imcsim.convert(layer(), BASE.replace({**change, "array.column_clamp": 32.0}))
    assert imcsim.summary(high).rows[0].engine == "collapsed"
    low = imcsim.convert(layer(), BASE.replace({**change, "array.column_clamp": 2.0}))
    job = low.array.job() if low(X[:1].double().abs()) is not None else None
    assert job is not None
    assert job.columns.clamp == (2.0 * 3, 2.0 * 3)
    assert imcsim.summary(low).rows[0].reason.startswith("column currents are clamped")


@pytest.mark.parametrize("engine", ["collapsed", "table"])
def test_engines_that_cannot_say_why(engine: str) -> None:
    sim = imcsim.convert(layer(), BASE.replace(ERRORS["sar"]), engine=engine)
    with pytest.raises(EngineError, match="converters are not ideal"):
        sim(X.double())


def test_statistical_engine_adds_what_errors_add() -> None:
    """Mean square deviation from the exact product: the statistical engine's against the reference's.

    One conversion a vector and a converter a column, whose errors are independent as the engine takes them.
    """
    made = layer(outputs=60)
    change = {"adc.bits": 7, "adc.offset_lsb": 3.0, "adc.noise_lsb": 2.0, "adc.columns_per_adc": 1}
    change["adc.per"] = "vector"
    exact = imcsim.convert(made, BASE.replace({"adc": None}))(X.double())
    power = {}
    for engine in ("reference", "statistical"):
        total = []
        for seed in range(6):
            sim = imcsim.convert(made, BASE.replace(change), engine=engine)
            imcsim.program(sim, seed)
            imcsim.seed_reads(sim, seed)
            with torch.no_grad():
                total.append(float((sim(X.double()) - exact).square().mean()))
        power[engine] = np.mean(total)
    assert power["statistical"] == pytest.approx(power["reference"], rel=0.1)


# ------------------------------------------------------------------------------------------- uneven codes


def test_kmeans_needs_calibration_and_then_beats_even_codes() -> None:
    made, x = layer(), X.double()
    want = made(x)
    error = {}
    for spacing in ("uniform", "kmeans"):
        change = {"adc.kind": "flash", "adc.bits": 3, "adc.spacing": spacing, "adc.range": "calibrated"}
        sim = imcsim.convert(made, BASE.replace(change))
        imcsim.calibrate(sim, [x])
        with torch.no_grad():
            error[spacing] = float((sim(x) - want).square().mean())
    assert error["kmeans"] < error["uniform"]
    fresh = imcsim.convert(made, BASE.replace({"adc.kind": "flash", "adc.bits": 3, "adc.spacing": "kmeans"}))
    with pytest.raises(CalibrationError, match=r"adc\.spacing = 'kmeans' but was not calibrated"):
        fresh(x)


def test_kmeans_values_survive_disk(tmp_path: Path) -> None:
    change = {"adc.kind": "flash", "adc.bits": 3, "adc.spacing": "kmeans", "weights.encoding": "offset"}
    sim = imcsim.convert(layer(), BASE.replace({**change, "adc.offset_correction": "unit_column"}))
    imcsim.calibrate(sim, [X.double()])
    with torch.no_grad():
        want = sim(X.double())
        imcsim.save(sim, tmp_path / "chip.safetensors")
        assert torch.equal(imcsim.load(tmp_path / "chip.safetensors", layer(seed=2))(X.double()), want)


@pytest.mark.parametrize("levels", [7, 11])
def test_flash_of_odd_levels_keeps_zero_a_code(levels: int) -> None:
    sim = imcsim.convert(layer(), BASE.replace({"adc.kind": "flash", "adc.levels": levels}))
    with torch.no_grad():
        assert torch.equal(sim(torch.zeros(1, 70).double()), sim.bias.detach()[None])
    sim(X.double())
    (first, *_) = sim.array.job().converters
    assert first.top + 1 == levels


def test_even_references_are_the_even_converter() -> None:
    """Away from the references themselves, where a comparator counts as above and rounding goes to even."""
    bits = 3
    references = [(c - 0.5) / 6 for c in range(1, 7)]  # a symmetric converter of 3 bits has 7 codes
    change = {"adc.kind": "flash", "adc.bits": bits, "adc.range": [-3.1, 3.1]}
    assert torch.equal(run({**change, "adc.references": references}), run(change))


def test_one_bit_sense_amplifier_is_a_sign() -> None:
    """Plus or minus the range, never zero; a current of exactly zero reads as plus."""
    made = nn.Linear(20, 5, bias=False, dtype=torch.float64)
    change = {"adc.kind": "sense_amp", "adc.bits": 1, "adc.range": [-1, 1], "adc.per": "vector"}
    sim = imcsim.convert(made, BASE.replace({**change, "weights.cell_bits": 3}))
    with torch.no_grad():
        out = sim(torch.cat([X[:, :20].double(), torch.zeros(1, 20).double()]))
    assert bool((out != 0).all())
    assert bool((out[-1] > 0).all())


# ------------------------------------------------------------------------------------ the span of currents


@given(st.integers(0, 1000), st.sampled_from(["sign_magnitude", "twos_complement", "offset"]), st.booleans())
def test_reach_is_reached_and_not_passed(seed: int, encoding: str, accumulate: bool) -> None:
    """The largest current of signed pulses: plus on all positive cells, minus on all negative ones."""
    change = {"inputs.signed_encoding": encoding, "inputs.signed": True, "adc.bits": 12}
    change["adc.per"] = "vector" if accumulate else "cycle"
    made = nn.Linear(9, 3, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(torch.randn(3, 9, generator=torch.Generator().manual_seed(seed)))
    sim = imcsim.convert(made, BASE.replace(change))
    sim(torch.ones(1, 9, dtype=torch.float64))
    job = sim.array.job()
    cells = job.columns.cells.double()
    both = cells.abs().sum(2).amax((0, 2)) * job.train.digit_max
    one = cells.clamp(min=0).sum(2).amax((0, 2)) * job.train.digit_max
    want = both if job.train.signed_digits else one
    assert [high for _, high in reach(job.columns, job.train)] == want.tolist()


def test_signed_pulses_on_a_short_range_are_not_called_lossless() -> None:
    """Plus and minus cells add up under signed inputs: a converter that holds either side alone clips."""
    made = nn.Linear(8, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[1.0] * 4 + [-1.0] * 4]))
    change = {"weights.bits": 2, "weights.cell_bits": 1, "inputs.bits": 2, "inputs.signed": True}
    hardware = BASE.replace({**change, "inputs.range": 1.0, "adc.bits": 4, "adc.range": [-7.0, 7.0]})
    x = torch.tensor([[1.0] * 4 + [-1.0] * 4], dtype=torch.float64)
    out = {
        engine: imcsim.convert(made, hardware, engine=engine)(x).item() for engine in ("auto", "reference")
    }
    assert out == {"auto": 7.0, "reference": 7.0}


# ------------------------------------------------------------------------------------------- whole layers


def test_uneven_references_of_an_xnor_array_by_hand() -> None:
    """64 inputs on 128 word lines, references in matches over 64, seven sense amplifiers a column."""
    matches = [20, 26, 30, 33, 36, 40, 48]
    made = nn.Linear(64, 6, bias=False, dtype=torch.float64)
    change = {
        "array.rows": 128,
        "weights": {"encoding": "xnor", "bits": 1},
        "inputs": {"bits": 1, "range": 1.0},
        "adc": {"kind": "sense_amp", "bits": 3, "references": [m / 64 for m in matches]},
    }
    x = torch.randn(30, 64, generator=torch.Generator().manual_seed(3)).double()
    got = imcsim.convert(made, BASE.replace(change))(x).detach().numpy()
    w, pulses = np.where(made.weight.detach().numpy() > 0, 1, -1), np.where(x.numpy() > 0, 1, -1)
    found = (pulses @ w.T + 64) // 2
    values = np.array([0, *[(a + b) / 2 for a, b in pairwise(matches)], 64])
    read = values[np.searchsorted(matches, found, side="right")]
    assert np.allclose(got, (2 * read - 64) * made.weight.abs().mean().item(), rtol=1e-12)


@pytest.mark.parametrize("change", [ERRORS["sar"], ERRORS["word line offsets"], NOISE["converter noise"]])
def test_grouped_convolutions_too(change: dict[str, Any]) -> None:
    made = nn.Conv2d(6, 12, 3, groups=3, dtype=torch.float64)
    x = torch.randn(2, 6, 7, 7, generator=torch.Generator().manual_seed(0)).double()
    change = {**change, "adc.columns_per_adc": 4}
    with torch.no_grad():
        outputs = [imcsim.convert(made, BASE.replace(change), engine=e)(x) for e in ("reference", "matmul")]
    assert (outputs[1] - outputs[0]).abs().max() <= BATCH_CUT * outputs[0].abs().max()


def test_summary_says_what_is_not_ideal() -> None:
    change = {**ERRORS["split sar"], **FIXED["clamp"], **NOISE["word line noise"]}
    (row,) = imcsim.summary(imcsim.convert(layer(), BASE.replace(change))).rows
    assert "6-bit SAR ADC" in row.became
    assert "converter errors (capacitor_mismatch)" in row.effects
    assert "word lines driven with errors, columns clamped at 3 cells" in row.effects
    (row,) = imcsim.summary(imcsim.convert(layer(), BASE.replace(FIXED["references"]))).rows
    assert "unevenly spaced codes (references)" in row.effects


def test_costs_do_not_mind() -> None:
    sim = imcsim.convert(layer().float(), BASE.replace(ERRORS["sar"]))
    ideal = imcsim.convert(layer().float(), BASE)
    assert imcsim.estimate(sim, X).energy_J == imcsim.estimate(ideal, X).energy_J
