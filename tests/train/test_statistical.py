"""The statistical fidelity: as far from float as exact chips are; its gradients; converters one by one."""

from __future__ import annotations

import copy
from statistics import fmean

import pytest
import torch
from torch import nn

import imcsim
from imcsim import train
from imcsim.convert import arrays
from imcsim.errors import EngineError, InputError
from imcsim.evaluate import sqnr_db
from imcsim.hardware import Hardware
from imcsim.quant.methods.base import Method
from tests.train.small import ADC, CHIP, ERROR, XNOR, calibrated, generator, inputs, linear

CHIPS = 6
DECIBELS = 1.0
"""SQNR of the two fidelities, mean over chips."""

CASES: dict[str, dict] = {
    "programmed": {},
    "six bits": {"adc.bits": 6},
    "g_min = 0": {"device.on_off_ratio": None},
    "per channel": {"weights.scale": "per_channel"},
    "offset": {"weights.encoding": "offset"},
    "isaac": {"weights.encoding": "isaac"},
    "two's complement": {"weights.encoding": "twos_complement"},
    "twelve bits": {"weights.bits": 12},
    "stuck": {"device.programming": {"kind": "none"}, "device.stuck_off": 0.02, "device.stuck_on": 0.01},
    "wires": {"device.g_max_S": 1e-5, "array.word_line_ohm": 2.0, "array.bit_line_ohm": 2.0},
    "dynamic": {"inputs.range": "dynamic"},
    "no converters": {"adc": None},
}
CIRCUITS = {"adc.kind": "sar", "adc.capacitor_mismatch": 0.02, "adc.gain_error": 0.01}
CASES["converters as circuits"] = {"adc.bits": 6, **CIRCUITS}
CARD = {"device.card": "pcm_gst", "device.programming": {"kind": "card"}, "device.on_off_ratio": None}


def both(
    net: nn.Module, hardware: Hardware, x: torch.Tensor, prepare=lambda sim: None
) -> tuple[float, float]:
    """Mean SQNR over chips: programmed ones in eval mode, and the statistical ones of training."""
    sim = imcsim.convert(net, hardware)
    imcsim.program(sim)
    prepare(sim)
    imcsim.calibrate(sim, [x])
    exact, statistical = [], []
    with torch.no_grad():
        want = net(x)
        sim.eval()
        for seed in range(CHIPS):
            with train.another_chip(sim, seed):
                exact.append(sqnr_db(want, sim(x)))
        with train.inject(sim):
            sim.train()
            statistical = [sqnr_db(want, sim(x)) for _ in range(CHIPS)]
    return fmean(exact), fmean(statistical)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_as_far_from_float_as_exact_chips(changes):
    hardware = CHIP.replace(changes)
    exact, statistical = both(linear(), hardware, inputs())
    assert abs(exact - statistical) < DECIBELS


@pytest.mark.parametrize("encoding", ["sign_magnitude", "offset", "twos_complement"])
def test_signed_inputs(encoding):
    exact, statistical = both(
        linear(), CHIP.replace({"inputs.signed_encoding": encoding}), inputs(signed=True)
    )
    assert abs(exact - statistical) < DECIBELS


@pytest.mark.parametrize("compensation", [None, "global"])
def test_drift_and_read_noise_of_a_card(compensation):
    def age(sim):
        imcsim.age(sim, 86_400, compensation=compensation)

    exact, statistical = both(linear(), CHIP.replace(CARD), inputs(), age)
    assert abs(exact - statistical) < DECIBELS


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.ConvTranspose2d(8, 12, 3, 2)])
def test_convolutions(layer):
    torch.manual_seed(0)
    layer.reset_parameters()
    exact, statistical = both(layer, CHIP, torch.rand(6, 8, 7, 7, generator=generator()))
    assert abs(exact - statistical) < DECIBELS


def test_read_noise_has_its_variance():
    """Theory: the same inputs at two steps with nothing programmed differ by the noise of reads alone."""
    hardware = CHIP.replace({**CARD, "device.programming": {"kind": "none"}, "adc": None})
    x = inputs(2000)
    sim = calibrated(linear(), hardware, x)
    with torch.no_grad():
        sim.eval()
        exact = (sim(x) - sim(x)).double().var()
        with train.inject(sim):
            sim.train()
            statistical = (sim(x) - sim(x)).double().var()
    assert float(statistical / exact) == pytest.approx(
        1, abs=4.5 * (4 / exact.numel() / 60_000) ** 0.5 + 0.02
    )


# ---- converters one by one ---------------------------------------------------------------------------


@pytest.mark.parametrize("adc", [{"adc.bits": 3}, {"adc.bits": 1, "adc.range": "full"}, {"adc": None}])
@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_binary_layers_on_ideal_cells_are_the_chip(adc, layer):
    """Exactness: one slice and one cycle leave nothing to be taken for noise, padding included."""
    if layer == "linear":
        net, x = linear(), inputs(signed=True)
    else:
        torch.manual_seed(0)
        net, x = nn.Conv2d(10, 6, 3, padding=1), 2 * torch.rand(4, 10, 5, 5, generator=generator()) - 1
    sim = calibrated(net, XNOR.replace(adc), x)
    with torch.no_grad():
        want = sim.eval()(x)
        with train.inject(sim):
            got = sim.train()(x)
    assert torch.allclose(want, got, rtol=1e-6, atol=1e-6 * float(want.abs().max()))


def test_uneven_and_noisy_amplifiers_are_applied_as_they_are():
    """Seven references around the middle; then with offsets and noise of comparators."""
    around = [24 / 64, 27 / 64, 30 / 64, 32 / 64, 34 / 64, 37 / 64, 40 / 64]
    hardware = XNOR.replace({"adc.range": "full", "adc.references": around})
    net, x = linear(), inputs(512, signed=True)
    sim = calibrated(net, hardware, x)
    with torch.no_grad():
        want = sim.eval()(x)
        with train.inject(sim):
            assert torch.allclose(want, sim.train()(x), rtol=1e-6, atol=1e-6 * float(want.abs().max()))
        noisy = {"adc.comparator_offset_lsb": 0.3, "adc.comparator_noise_lsb": 0.3}
        sim = calibrated(net, hardware.replace(noisy), x)
        exact = sqnr_db(want, sim.eval()(x))
        with train.inject(sim):
            statistical = sqnr_db(want, sim.train()(x))
    assert abs(exact - statistical) < DECIBELS


@pytest.mark.parametrize("changes", [{"adc.bits": 3}, {"adc.bits": 1, "adc.range": "full"}])
@pytest.mark.parametrize(
    "hardware",
    [XNOR, XNOR.replace({"weights.encoding": "differential", "adc.kind": "uniform", "adc.bits": 5})],
)
def test_binary_layers_on_varied_cells(hardware, changes):
    """Against the chip on ideal cells: the two fidelities' errors are equally large."""
    if hardware.weights.encoding == "differential":
        changes = {}
    net, x = linear(), inputs(256, signed=True)
    ideal = calibrated(net, hardware.replace(changes), x).eval()
    varied = {"device.programming": {"kind": "range", "sigma": 0.1}, "device.on_off_ratio": 20.0}
    sim = calibrated(net, hardware.replace({**changes, **varied}), x)
    with torch.no_grad():
        want, exact, statistical = ideal(x), [], []
        sim.eval()
        for seed in range(CHIPS):
            with train.another_chip(sim, seed):
                exact.append(sqnr_db(want, sim(x)))
        with train.inject(sim):
            sim.train()
            statistical = [sqnr_db(want, sim(x)) for _ in range(CHIPS)]
    assert abs(fmean(exact) - fmean(statistical)) < DECIBELS


def test_a_clipped_sense_amplifier_passes_no_gradient():
    x = torch.ones(1, 64, requires_grad=True)
    net = nn.Linear(64, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.ones(2, 64))
        net.weight[1, ::2] = -1.0
    hardware = XNOR.replace({"adc.range": [0.0, 40.0], "inputs.range": 1.0})
    sim = imcsim.convert(net, hardware)
    with train.inject(sim):
        sim.train()(x).sum().backward()
    assert not sim.weight.grad[0].any()  # 64 of 64 match: above the range
    assert bool((sim.weight.grad[1] == 1).all())  # 32 match


# ---- gradients and draws -----------------------------------------------------------------------------


def test_weights_get_the_gradient_of_the_product_with_rounded_inputs():
    net, x = linear(), inputs(8).requires_grad_()
    sim = calibrated(net, CHIP.replace({"adc": None}), x.detach())
    with train.inject(sim):
        y = sim.train()(x)
    grad = torch.randn(y.shape, generator=generator(3))
    y.backward(grad)
    ((layer, array),) = arrays(sim)
    step = array.input_range / 255
    x_q = (x.detach() / step).round() * step
    assert torch.allclose(layer.weight.grad, grad.T @ x_q, rtol=1e-4, atol=1e-4)
    assert torch.allclose(layer.bias.grad, grad.sum(0), rtol=1e-5, atol=1e-5)


def test_inputs_get_the_gradient_of_the_product_with_the_written_weights():
    """Surrogate: backward runs through the very weights that the forward pass of the same step had."""
    x = inputs(200)
    sim = calibrated(linear(), CHIP.replace({"adc": None}), x)
    one = torch.zeros(1, 150, requires_grad=True)
    with train.inject(sim, seed=1):
        sim.train()
        torch.autograd.backward(sim(one.expand(30, 150)), torch.eye(30))
    with train.inject(sim, seed=1):
        y = sim(torch.eye(150) * sim.array.input_range)
    total = (y - sim.bias).sum(1) / sim.array.input_range
    assert torch.allclose(one.grad[0], total, rtol=1e-4, atol=1e-5)


def test_every_step_and_every_part_of_a_batch_is_another_chip():
    x = inputs(4)[:1].expand(6, -1)
    sim = calibrated(linear(), CHIP.replace({"adc": None}), x).train()
    with torch.no_grad(), train.inject(sim, chips=3) as injection:
        one, two = sim(x), sim(x)
        injection.step = -1
        again = sim(x)
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)
    assert torch.allclose(one[0], one[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(one[0], one[2], rtol=1e-3)


def test_strength_scales_the_error():
    x = inputs()
    sim = calibrated(linear(), CHIP.replace({"adc": None}), x)
    ideal = calibrated(linear(), Hardware(), x).eval()
    with torch.no_grad(), train.inject(sim) as injection:
        sim.train()
        want, off = ideal(x), []
        for strength in (0.0, 1.0, 2.0):
            injection.strength, injection.step = strength, -1
            off.append(sim(x) - want)
    assert torch.allclose(off[0], torch.zeros_like(want), atol=1e-5)
    assert torch.allclose(2 * off[1], off[2], rtol=1e-3, atol=1e-4)


def test_quantizers_of_a_method_take_the_same_path():
    net, x = linear(), inputs(16)
    plain, method = (calibrated(net, CHIP, x, seed=0, qat=qat) for qat in (None, Method()))
    grads = []
    for sim in (plain, method):
        with train.inject(sim, chips=2):
            y = sim.train()(x)
        y.square().sum().backward()
        grads.append((y.detach(), sim.weight.grad, sim.bias.grad))
    for one, two in zip(*grads, strict=True):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-4)


def test_layers_of_several_matrices_train():
    for net, x in ((nn.LSTM(20, 12), torch.rand(5, 3, 20)), (nn.GRU(20, 12), torch.rand(5, 3, 20))):
        sim = calibrated(net, CHIP, x)
        for fidelity in ("statistical", "exact"):
            twin = copy.deepcopy(sim).train()
            with train.inject(twin, fidelity, chips=2):
                out, _ = twin(x)
            out.sum().backward()
            assert all(bool(p.grad.any()) for p in twin.parameters())


# ---- what it cannot do -------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    net, x = linear(), inputs()
    divider = XNOR.replace({"array.readout": "divider", "adc.range": "full", "inputs.range": 1.0})
    sim = imcsim.convert(net, divider)
    with (
        train.inject(sim),
        pytest.raises(EngineError, match=r"bit lines that add currents.*fidelity = 'exact'"),
    ):
        sim.train()(x)
    sim = calibrated(net, CHIP.replace({"array.column_clamp": 3.0}), x)
    with train.inject(sim), pytest.raises(EngineError, match=r"column currents are clamped; use fidelity"):
        sim.train()(x)
    sim = calibrated(net, Hardware.model_validate(ADC).replace(ERROR), x)
    with (
        train.inject(sim, learn=("converters",)),
        pytest.raises(InputError, match=r"takes its converters as noise.*fidelity = 'exact'"),
    ):
        sim.train()(x)
