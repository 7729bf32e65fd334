"""Ranges from data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import imcsim
from imcsim.errors import CalibrationError
from tests import oracle
from tests.strategies import chips, examples, hardware_of

HARDWARE = imcsim.Hardware(array={"rows": 32}, adc={"bits": 5, "range": "calibrated"})


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 5))


def data(n: int = 64) -> Tensor:
    return torch.randn(n, 40, generator=torch.Generator().manual_seed(1))


def ranges(sim: nn.Module) -> list[tuple[float, bool, tuple[float, ...]]]:
    return [(sim[i].array.input_range, sim[i].array.input_signed, sim[i].array.adc_high) for i in (0, 2)]


def test_input_range_is_the_largest_magnitude_and_sign_is_seen() -> None:
    sim = imcsim.convert(net(), HARDWARE)
    x = data()
    imcsim.calibrate(sim, x.split(10))
    hidden = net()[:2](x)
    (first, first_signed, _), (second, second_signed, _) = ranges(sim)
    assert first == pytest.approx(x.abs().max().item(), rel=1e-6)
    assert second == pytest.approx(hidden.max().item(), rel=1e-6)
    assert first_signed
    assert not second_signed


def test_generators_pairs_and_forward_give_the_same() -> None:
    x = data()
    y = torch.zeros(len(x), dtype=torch.long)
    ways: list[tuple[Any, Any]] = [
        (x.split(16), None),
        ((part for part in x.split(16)), None),
        (((part, y[:16]) for part in x.split(16)), None),
        ([[part, "anything"] for part in x.split(16)], None),
        (({"images": part} for part in x.split(16)), lambda model, batch: model(batch["images"])),
    ]
    found = []
    for batches, forward in ways:
        sim = imcsim.convert(net(), HARDWARE)
        imcsim.calibrate(sim, batches, forward=forward)
        found.append(ranges(sim))
    assert all(other == found[0] for other in found)


def test_it_iterates_once() -> None:
    taken = []

    def batches():
        for part in data().split(16):
            taken.append(1)
            yield part

    sim = imcsim.convert(net(), HARDWARE)
    imcsim.calibrate(sim, batches())
    assert len(taken) == 4


def test_modes_are_restored_and_dropout_is_off() -> None:
    model = nn.Sequential(nn.Dropout(0.5), net()).train()
    model[1][1].eval()
    sim = imcsim.convert(model, HARDWARE)
    imcsim.calibrate(sim, [data()])
    assert [m.training for m in sim.modules()][:3] == [m.training for m in model.modules()][:3]
    assert not sim[1][1].training
    assert sim[1][0].array.input_range == pytest.approx(data().abs().max().item(), rel=1e-6)


def test_currents_of_one_sign_keep_zero_as_lower_end() -> None:
    for encoding, lowest in (("offset", 0), ("differential", -15)):
        hardware = HARDWARE.replace({"weights.encoding": encoding, "inputs.signed": False})
        sim = imcsim.convert(net(), hardware)
        imcsim.calibrate(sim, [data().abs()])
        for converter in sim[0].array.job().converters:
            assert -converter.origin == lowest
            assert converter.residue == 0


def test_a_forward_pass_before_calibration_says_what_to_do() -> None:
    pattern = r"layer '0' has (inputs|adc)\.range = 'calibrated' .*imcsim\.calibrate.*range = \"dynamic\""
    for hardware in (HARDWARE, HARDWARE.replace({"inputs.range": "dynamic"})):
        with pytest.raises(CalibrationError, match=pattern):
            imcsim.convert(net(), hardware)(data())


def test_negative_inputs_of_a_range_that_is_a_number() -> None:
    """With signed = "auto" and no calibration codes are unsigned, and a negative input is an error."""
    hardware = imcsim.Hardware(inputs={"range": 2.0})
    sim = imcsim.convert(nn.Linear(4, 2), hardware)
    x = torch.tensor([[0.5, 1.0, 2.5, 0.0]])
    assert sim.array.pulses.magnitude_bits == 8
    sim(x)
    with pytest.raises(
        CalibrationError, match=r"negative input with inputs\.range = 2\.0.*inputs\.signed = true"
    ):
        sim(-x)
    imcsim.calibrate(sim, [-x])
    assert sim(-x).shape == (1, 2)
    assert sim.array.full_scale(x, 1) == 2.0  # the number stays
    signed = imcsim.convert(nn.Linear(4, 2), hardware.replace({"inputs.signed": True}))
    assert signed(-x).shape == (1, 2)
    unsigned = imcsim.convert(nn.Linear(4, 2), hardware.replace({"inputs.signed": False}))
    assert torch.equal(unsigned(-x), unsigned(torch.zeros_like(x)))


def test_dynamic_ranges_are_signed_until_calibrated() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(inputs={"range": "dynamic"}))
    assert sim.array.signed
    imcsim.calibrate(sim, [torch.rand(3, 4)])
    assert not sim.array.signed


def test_nothing_needs_calibration_with_dynamic_inputs_and_full_converters() -> None:
    sim = imcsim.convert(net(), imcsim.Hardware(inputs={"range": "dynamic"}, adc={"bits": 8}))
    assert sim(data()).shape == (64, 5)


def test_targets_unless_program_was_called() -> None:
    noisy = HARDWARE.replace({"device.programming": {"kind": "range", "sigma": 0.3}})
    on_targets, on_cells, ideal = (imcsim.convert(net(), hardware) for hardware in (noisy, noisy, HARDWARE))
    imcsim.program(on_cells, seed=0)
    for sim in (on_targets, on_cells, ideal):
        imcsim.calibrate(sim, [data()])
    assert ranges(on_targets) == ranges(ideal)
    assert ranges(on_cells) != ranges(ideal)


def test_all_zero_data_and_all_zero_weights() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight.zero_()
    sim = imcsim.convert(model, HARDWARE)
    imcsim.calibrate(sim, [torch.zeros(4, 40)])
    y = sim(torch.zeros(4, 40))
    assert torch.equal(y, model[2].bias.expand_as(y))


def column_errors(chip: dict[str, Any], x: Tensor, w: Tensor, ends: list[float]) -> float:
    """Mean square conversion error of slice 0 over all columns, in fully-on cells, by the dense loop's
    parts."""
    w_int, _ = oracle.weight_codes(w.numpy(), chip)
    x_int, _ = oracle.input_codes(x.numpy(), chip, float(x.abs().max()), signed=False)
    part = oracle.slices_of(w_int, chip)[0]
    pulses = oracle.pulses_of(x_int, chip, signed=False)
    net_levels = part.plus if part.minus is None else part.plus - part.minus
    levels = torch.from_numpy(net_levels.astype(float)) / part.top
    total = torch.zeros(len(ends), dtype=torch.float64)
    adc = chip["adc"]
    for _, digit in pulses.cycles:
        v = torch.from_numpy(digit.astype(float)) / pulses.full @ levels.T
        for i, end in enumerate(ends):
            if part.minus is None:
                q, lo = (2 ** adc["bits"] - 1) / end, 0.0
            else:
                q, lo = (2 ** adc["bits"] - 2) / (2 * end), -end
            read = torch.round((v.clamp(lo, end) - lo) * q) / q + lo
            total[i] += (read - v).square().sum()
    return total


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("bits", [3, 4, 5])
def test_the_chosen_range_has_the_least_mean_square_error(encoding: str, bits: int) -> None:
    """Against a fine search with the contract's formula; and never worse than the full range."""
    hardware = imcsim.Hardware(
        array={"rows": 64},
        weights={"encoding": encoding},
        inputs={"bits_per_cycle": 2},
        adc={"bits": bits, "range": "calibrated"},
    )
    layer = nn.Linear(64, 12, dtype=torch.float64)
    x = torch.rand(40, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) ** 3
    sim = imcsim.convert(layer, hardware)
    imcsim.calibrate(sim, [x])
    chip = hardware.model_dump()
    level = 1 / (3 * 3)
    chosen = sim.array.adc_high[0] * level
    fine = torch.linspace(0.02, 64, 3200, dtype=torch.float64).tolist()
    errors = column_errors(chip, x, layer.weight.detach(), [chosen, 64.0, *fine])
    assert errors[0] <= errors[1]
    assert errors[0] <= errors[2:].min() * 1.1


@examples(20)
@given(data=st.data())
def test_calibrated_is_never_worse_than_full_where_it_was_calibrated(data: st.DataObject) -> None:
    """By mean square error of the layer's conversions; on the layer's output it may differ a little."""
    chip = data.draw(chips(converters="short", finite_ratio=False))
    chip["adc"]["range"] = "calibrated"
    chip["adc"] |= {"kind": "auto", "bits": max(chip["adc"]["bits"], 2)}
    chip["inputs"]["range"] = 1.0
    torch.manual_seed(data.draw(st.integers(0, 100)))
    layer, x = nn.Linear(40, 8), torch.rand(32, 40)
    sim = imcsim.convert(layer, hardware_of(chip))
    imcsim.calibrate(sim, [x])
    array = sim.array
    full_chip = {**chip, "adc": {**chip["adc"], "range": "full"}}
    full = imcsim.convert(layer, hardware_of(full_chip))
    ideal = array.job(ideal_converters=True)
    (x_int,) = array.quantize(x, 1).codes
    sent = ideal.word_lines(x_int[None].double())
    from imcsim.functional.adc import convert
    from imcsim.functional.dac import digits

    by_slice: dict[int, list[float]] = {}
    streams = len(ideal.columns.gains)
    for q in range(streams):
        errors = by_slice.setdefault(q % len(array.slicing.widths), [0.0, 0.0])
        for start, stop in ideal.columns.reads:
            v = digits(sent, ideal.train)[..., start:stop] @ ideal.columns.cells[:, q, start:stop].double()
            for which, job in enumerate((array.job(), full.array.job())):
                adc = job.converters[q]
                errors[which] += float((((convert(v, adc) + adc.residue) * adc.step) - v).square().sum())
    for calibrated, full_error in by_slice.values():
        assert calibrated <= full_error * (1 + 1e-9) + 1e-9


def test_power_of_two_ranges_and_percentiles() -> None:
    sim = imcsim.convert(net(), HARDWARE)
    imcsim.calibrate(sim, [data()], power_of_two=True)
    highs = sim[0].array.adc_high
    for high in highs:
        assert (torch.log2(torch.tensor(max(highs) / high)) % 1).item() == pytest.approx(0, abs=1e-6)
    imcsim.calibrate(sim, [data()], criterion="percentile", percentile=100.0)
    widest = sim[0].array.adc_high
    imcsim.calibrate(sim, [data()], criterion="percentile", percentile=90.0)
    assert all(a < b for a, b in zip(sim[0].array.adc_high, widest, strict=True))


def test_calibrating_again_replaces() -> None:
    sim = imcsim.convert(net(), HARDWARE)
    imcsim.calibrate(sim, [data()])
    first = ranges(sim)
    imcsim.calibrate(sim, [data() * 3])
    assert ranges(sim)[0][0] == pytest.approx(3 * first[0][0], rel=1e-6)
    imcsim.calibrate(sim, [data()])
    assert ranges(sim) == first
