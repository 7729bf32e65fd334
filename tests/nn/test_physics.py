"""Device and circuit effects as layers see them: read noise, wires, I-V, SRAM readouts, ageing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import imcsim
from imcsim.circuits import effective_conductance, read_variance
from imcsim.devices.library import library_folder
from imcsim.errors import HardwareError
from imcsim.functional.mvm import divide, saturate
from imcsim.hardware import Hardware
from imcsim.nn.wiring import wired

Z = 4.5  # bounds below are this many standard errors; all seeds are fixed


def linear(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator))
    return layer


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


def uniform(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


NOISY_CARD = """
schema = 1
name = "noisy"
title = "white read noise of 5 per cent of the range"
technology = "rram"
confidence = "A"

[sources.test]
authors = "imcsim"
venue = "this test"
year = 2026

[conductance]
g_max_S = 1e-5
g_min_S = 1e-7
source = "test"
confidence = "A"

[read_noise]
source = "test"
confidence = "A"

[read_noise.white]
source = "test"
confidence = "A"
amplitude = { equation = "range", sigma_norm = 0.05 }
"""


@pytest.fixture
def noisy(tmp_path):
    path = tmp_path / "noisy.toml"
    path.write_text(NOISY_CARD)
    return str(path)


@pytest.mark.parametrize("adc", [None, {"bits": 14, "kind": "uniform", "range": [-20.0, 20.0]}])
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_read_noise_has_the_variance_of_independent_cells(noisy, adc, encoding):
    """Theory: sum over slices, cycles, cells of (gain weight digit sigma)^2, sigma 5 % of the range."""
    layer = linear(24, 3)
    hardware = Hardware.model_validate(
        {
            "device": {"card": noisy},
            "array": {"rows": 16},
            "weights": {"bits": 5, "cell_bits": 2, "encoding": encoding},
            "inputs": {"bits": 4, "range": 1.0, "signed": False},
            "adc": adc,
        }
    )
    sim = imcsim.convert(layer, hardware)
    x = uniform(1, 24)
    n = 6000
    y = sim(x.expand(n, 24)).double()
    code = (x[0] * 15).round().to(torch.int64)
    energy = sum(4.0**t * ((code >> t) & 1).double().sum() for t in range(4))
    gains = [4.0**s for s in range(3 if encoding == "offset" else 2)]
    step = 3 / (1 - 0.01)  # levels per unit of g_max
    planes = 2 if encoding == "differential" else 1
    variance = planes * sum(g * g for g in gains) * energy * (0.05 * 0.99 * step) ** 2
    scale = float(layer.weight.detach().abs().max() / 15 / 15)
    got = y.var(0) / scale**2
    # the ADC's step is 1/20 of one cell's noise: it adds less than 1 %
    assert torch.allclose(
        got / variance, torch.ones(3, dtype=torch.float64), atol=Z * math.sqrt(2 / n) + 0.01
    )


def test_read_noise_is_gaussian_and_new_every_sample(noisy):
    sim = imcsim.convert(
        linear(8, 2), Hardware.model_validate({"device": {"card": noisy}, "inputs": {"range": 1.0}})
    )
    y = sim(uniform(1, 8).expand(4000, 8)).double()
    z = (y - y.mean(0)) / y.std(0)
    assert (z.pow(4).mean(0) - 3).abs().max() < Z * math.sqrt(96 / 4000)
    lag = (z[1:] * z[:-1]).mean(0)
    assert lag.abs().max() < Z / math.sqrt(4000)


def test_read_noise_does_not_depend_on_the_batch(noisy):
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 4))
    hardware = Hardware.model_validate(
        {
            "device": {"card": noisy},
            "inputs": {"range": "dynamic"},
            "adc": {"bits": 9, "range": [-40.0, 40.0]},
        }
    )
    sim = imcsim.convert(net, hardware)
    x = uniform(6, 2, 4, 4)
    imcsim.seed_reads(sim, 3)
    whole = sim(x)
    imcsim.seed_reads(sim, 3)
    parts = torch.cat([sim(part) for part in x.split([1, 2, 3])])
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5)
    imcsim.seed_reads(sim, 4)
    assert not torch.allclose(sim(x), whole)


@pytest.mark.parametrize("engine", ["reference", "matmul"])
def test_read_noise_is_the_same_in_every_engine(noisy, engine):
    hardware = Hardware.model_validate(
        {
            "device": {"card": noisy},
            "weights": {"encoding": "isaac", "bits": 4},
            "inputs": {"range": 1.0, "bits": 4},
            "adc": {"bits": 6, "offset_correction": "unit_column"},
        }
    )
    layer = linear(20, 3)
    want = imcsim.convert(layer, hardware, engine="reference")(uniform(5, 20))
    got = imcsim.convert(layer, hardware, engine=engine)(uniform(5, 20))
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4)


WIRES = {"word_line_ohm": 2.0, "bit_line_ohm": 1.0}


@pytest.mark.parametrize("placement", ["adjacent", "separate"])
@pytest.mark.parametrize("pair", ["columns", "arrays"])
def test_cells_share_the_wires_that_the_placement_says(placement, pair):
    """Oracle: each array built by hand, column by column, and solved on its own."""
    hardware = Hardware.model_validate(
        {
            "device": {"g_max_S": 1e-4, "on_off_ratio": 50.0},
            "array": {"rows": 6, "cols": 5, **WIRES},
            "weights": {"placement": placement, "pair": pair},
        }
    )
    groups, planes, slices, rows, outputs = 2, 2, 3, 9, 2
    cells = 1e-6 + 1e-4 * uniform(groups, planes, slices, rows, outputs)
    got, _ = wired(hardware, cells, None, ((0, 6), (6, 9)))
    want = torch.empty_like(cells)
    for g in range(groups):
        order = [(p, s, o) for o in range(outputs) for s in range(slices) for p in range(planes)]
        sets: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for p, s, o in order:
            key = (s if placement == "separate" else 0, p if pair == "arrays" else 0)
            sets.setdefault(key, []).append((p, s, o))
        for columns in sets.values():
            for start, stop in ((0, 6), (6, 9)):
                for first in range(0, len(columns), 5):
                    chunk = columns[first : first + 5]
                    tile = torch.zeros(6, 5, dtype=torch.float64)
                    for i, (p, s, o) in enumerate(chunk):
                        tile[: stop - start, i] = cells[g, p, s, start:stop, o]
                    solved = effective_conductance(tile, **WIRES)
                    for i, (p, s, o) in enumerate(chunk):
                        want[g, p, s, start:stop, o] = solved[: stop - start, i].to(want.dtype)
    assert torch.allclose(got, want, rtol=2e-6, atol=0)


def test_wires_cost_signal_and_no_wires_cost_nothing():
    layer, x = linear(100, 8), uniform(16, 100)
    base = {"device": {"g_max_S": 1e-4, "on_off_ratio": 50.0}, "inputs": {"range": 1.0}}
    ideal = imcsim.convert(layer, Hardware.model_validate(base))(x)
    losses = []
    for ohm in (1e-6, 0.5, 2.0):
        array = {"word_line_ohm": ohm, "bit_line_ohm": ohm}
        y = imcsim.convert(layer, Hardware.model_validate({**base, "array": array}))(x)
        losses.append(float((y - ideal).norm() / ideal.norm()))
    assert losses[0] < 1e-4 < losses[1] < losses[2]


def test_unit_column_stands_behind_the_same_wires():
    layer, x = linear(40, 4), uniform(8, 40)
    chip = {
        "device": {"g_max_S": 1e-4, "on_off_ratio": 100.0},
        "array": {"rows": 32, "word_line_ohm": 1.0, "bit_line_ohm": 1.0},
        "weights": {"encoding": "offset", "bits": 4},
        "inputs": {"range": 1.0, "bits": 4},
        "adc": {"bits": 12},
    }
    counted = imcsim.convert(layer, Hardware.model_validate(chip))(x)
    chip["adc"] = {"bits": 12, "offset_correction": "unit_column"}
    measured = imcsim.convert(layer, Hardware.model_validate(chip))(x)
    exact = layer(x)
    error = [float((y - exact).norm()) for y in (counted, measured)]
    assert (
        error[1] < error[0]
    )  # the reference column loses current like the others, so the offset still cancels


def test_read_noise_behind_wires_is_close_to_first_order(noisy):
    """The layer scales a cell's noise by its effective conductance; exact to first order is the adjoint."""
    hardware = Hardware.model_validate(
        {
            "device": {"card": noisy},
            "array": {"rows": 32, "cols": 16, "word_line_ohm": 4.0, "bit_line_ohm": 4.0},
            "weights": {"bits": 4, "cell_bits": 3, "encoding": "offset"},
            "inputs": {"bits": 1, "signed": False, "range": 1.0},
        }
    )
    sim = imcsim.convert(linear(32, 8), hardware)
    array = sim.array
    job = array.job()
    g = array.cells["conductance_S"][0, 0]  # (slices, rows, outputs)
    tile = g.permute(1, 2, 0).reshape(32, -1).double()  # output-major, slices adjacent
    on = (uniform(6, 32) > 0.5).double()
    sigma = torch.full_like(tile, 0.05 * (1e-5 - 1e-7))
    exact = read_variance(tile, on, sigma, word_line_ohm=4.0, bit_line_ohm=4.0)
    step = 7 / (1 - 0.01) / 1e-5
    approx = torch.einsum("vr,qrc->vcq", on, job.columns.variance[0].double()).flatten(1) / step**2
    error = ((approx - exact) / exact).abs()
    assert error.max() < 0.05
    assert error.mean() < 0.02


def test_gate_inputs_without_wires_change_nothing():
    layer, x = linear(30, 4), uniform(5, 30)
    chip = Hardware.model_validate(
        {"device": {"g_max_S": 1e-4, "on_off_ratio": 20.0}, "inputs": {"range": 1.0}}
    )
    gated = chip.replace({"array.input_mode": "gate"})
    assert torch.equal(imcsim.convert(layer, chip)(x), imcsim.convert(layer, gated)(x))


def test_gate_inputs_lose_less_behind_wires():
    layer, x = linear(100, 8), uniform(16, 100)
    chip = Hardware.model_validate(
        {
            "device": {"g_max_S": 1e-4, "on_off_ratio": 50.0},
            "array": {"word_line_ohm": 1.0, "bit_line_ohm": 1.0},
            "inputs": {"range": 1.0},
        }
    )
    exact = layer(x)
    loss = [
        float((imcsim.convert(layer, chip.replace({"array.input_mode": mode}))(x) - exact).norm())
        for mode in ("voltage", "gate")
    ]
    assert loss[1] < loss[0]  # idle cells take no current


def test_divider_transfer():
    up, down = torch.tensor([0.0, 3.0, 6.0, 0.0]), torch.tensor([6.0, 3.0, 0.0, 0.0])
    assert torch.equal(divide(up, down, 8), torch.tensor([0.0, 4.0, 8.0, 4.0]))


def test_divider_of_equal_cells_counts_exactly():
    """With equal pull-ups and pull-downs the divider is a bit count, whatever is idle."""
    layer = linear(20, 5)
    chip = {
        "array": {"rows": 32, "readout": "divider"},
        "weights": {"bits": 1, "encoding": "xnor"},
        "inputs": {"bits": 1, "range": 1.0},
    }
    x = torch.where(uniform(7, 20) > 0.5, 1.0, -1.0)
    w = torch.where(layer.weight > 0, 1.0, -1.0)
    y = imcsim.convert(layer, Hardware.model_validate(chip))(x)
    assert torch.allclose(y, x @ w.T * layer.weight.abs().mean(), atol=1e-4)


def test_divider_is_compressed_by_unequal_strengths(tmp_path):
    card = tmp_path / "weak.toml"
    source = (library_folder() / "sram_xnor.toml").read_text()
    card.write_text(
        source.replace("pull_down_norm = 1.0", "pull_down_norm = 0.5").replace(
            'name = "sram_xnor"', 'name = "weak"'
        )
    )
    layer, x = linear(14, 5), torch.where(uniform(7, 14) > 0.5, 1.0, -1.0)
    chip = Hardware.model_validate(
        {
            "device": {"card": str(card), "programming": {"kind": "none"}},
            "array": {"rows": 32, "readout": "divider"},
            "weights": {"bits": 1, "encoding": "xnor"},
            "inputs": {"bits": 1, "range": 1.0},
        }
    )
    y = imcsim.convert(layer, chip)(x) / layer.weight.abs().mean()
    matches = (x @ torch.where(layer.weight > 0, 1.0, -1.0).T + 14) / 2
    want = 2 * 14 * matches / (matches + 0.5 * (14 - matches)) - 14
    assert torch.allclose(y, want.to(y.dtype), atol=1e-3)


def test_saturation_is_linear_for_small_currents_and_bounded():
    current = torch.tensor([0.0, 1e-3, 1.0, 1e6], dtype=torch.float64)
    out = saturate(current, 10.0)
    assert out[0] == 0
    assert abs(out[1] - 1e-3) < 1e-7
    assert out[3] == 10.0


def test_digital_readout_refuses_converters_and_noise():
    layer = linear(8, 2)
    chip = {"device": {"card": "sram_digital"}, "array": {"readout": "digital"}, "weights": {"cell_bits": 1}}
    x = uniform(3, 8)
    hardware = Hardware.model_validate({**chip, "inputs": {"range": 1.0}})
    assert torch.equal(
        imcsim.convert(layer, hardware)(x),
        imcsim.convert(layer, Hardware.model_validate({"inputs": {"range": 1.0}}))(x),
    )
    with pytest.raises(HardwareError, match=r"leave the \[adc\] table out"):
        imcsim.convert(layer, hardware.replace({"adc.bits": 8}))
    with pytest.raises(HardwareError, match=r"array.readout = 'current'; set array.readout = 'digital'"):
        imcsim.convert(layer, hardware.replace({"array.readout": "current"}))


def test_wires_need_siemens():
    with pytest.raises(HardwareError, match=r"need conductances in siemens; set device.g_max_S"):
        imcsim.convert(linear(8, 2), Hardware.model_validate({"array": {"word_line_ohm": 1.0}}))


@pytest.mark.parametrize("compensation", ["global", "column"])
def test_compensation_restores_the_mean_response(compensation):
    layer, x = linear(200, 16), uniform(64, 200)
    sim = imcsim.convert(
        layer, Hardware.model_validate({"device": {"card": "pcm_gst"}, "inputs": {"range": 1.0}})
    )
    fresh = sim(x)
    imcsim.age(sim, 2.6e6)
    drifted = sim(x)
    imcsim.age(sim, 2.6e6, compensation=compensation)
    restored = sim(x)
    gain = [float((y * fresh).sum() / fresh.square().sum()) for y in (drifted, restored)]
    assert gain[0] < 0.8
    assert abs(gain[1] - 1) < 0.05
    imcsim.age(sim, 0)
    imcsim.seed_reads(sim, 0)
    assert torch.equal(sim(x), fresh)


def test_sinh_cells_bend_amplitudes_but_not_pulses(tmp_path):
    """Bit-serial pulses are on or off and see one factor; amplitudes (several bits a cycle) are bent."""
    card = tmp_path / "sinh.toml"
    card.write_text(
        NOISY_CARD.split("[read_noise]")[0]
        + '[iv]\nequation = "sinh"\nv0_V = 0.1\nread_voltage_V = 0.3\nsource = "test"\nconfidence = "A"\n'
    )
    layer, x = linear(16, 4), uniform(6, 16)
    base = {"device": {"card": str(card)}, "weights": {"bits": 4}}
    ideal = {"device": {"on_off_ratio": 100.0}, "weights": {"bits": 4}}
    serial = {"inputs": {"bits": 4, "range": 1.0}}
    amplitude = {"inputs": {"bits": 4, "bits_per_cycle": 4, "range": 1.0}}
    pulses = [imcsim.convert(layer, Hardware.model_validate({**d, **serial}))(x) for d in (base, ideal)]
    assert torch.allclose(pulses[0], pulses[1], rtol=1e-5, atol=1e-5)
    bent, straight = (
        imcsim.convert(layer, Hardware.model_validate({**d, **amplitude}))(x) for d in (base, ideal)
    )
    digit = (x * 15).round() / 15
    drive = torch.sinh(digit * 3) / math.sinh(3)
    scale = layer.weight.abs().max() / 7
    want = drive @ (torch.round(layer.weight / scale) * scale).T
    assert torch.allclose(bent, want, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(bent, straight, rtol=0.1)
