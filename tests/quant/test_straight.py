"""Uniform, integer and binary quantizers, BinaryConnect, QNN, DoReFa, PACT and LSQ against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import CalibrationError, ConversionError, MappingError
from imcsim.quant.binary import sign
from imcsim.quant.methods.dorefa import DoReFaGradient, DoReFaWeight
from imcsim.quant.methods.lsq import LSQInput, LSQWeight
from imcsim.quant.methods.pact import PACTInput
from imcsim.quant.methods.straight import UnitWeight
from imcsim.quant.rounding import stochastic_round
from imcsim.quant.uniform import integer_codes, uniform_codes, unit_codes
from tests.quant.statements import close, gradient, input_value, weight_value, weights

W = weights()
ALL = (1, 2, 3, 4, 5, 6, 7, 8)


def test_uniform_affine_of_eq_1() -> None:
    x = np.linspace(-3, 3, 601)
    want = np.clip(np.rint((x + 0.3) / 0.25), -4, 6)
    close(uniform_codes(torch.from_numpy(x), 0.25, 0.3, -4, 6), want)


def test_sign_of_eq_2() -> None:
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 1e-30])).tolist() == [-1, -1, -1, 1]


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_integers_of_eq_3(bits: int) -> None:
    x = np.linspace(-300, 300, 4001)
    close(
        integer_codes(torch.from_numpy(x), bits), np.clip(np.rint(x), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_affine_weights(per_channel: bool) -> None:
    quantizer = quant.AffineWeight(4, per_channel=per_channel)
    w = (W + 0.2).numpy()
    axes = 2 if per_channel else (0, 1, 2)
    low, high = np.minimum(w.min(axes, keepdims=True), 0), np.maximum(w.max(axes, keepdims=True), 0)
    s = (high - low) / 15
    z = np.rint(-low / s)
    close(quantizer.encode(W + 0.2).value(), s * (np.clip(np.rint((w + z * s) / s), 0, 15) - z))
    codes = quantizer.encode(W + 0.2)
    assert codes.codes.min() >= -8
    assert codes.codes.max() <= 7
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def test_fixed_point_weights() -> None:
    quantizer = quant.IntegerWeight(4, fraction_bits=3)
    close(quantizer.encode(W).value(), np.clip(np.rint(W.numpy() * 8), -8, 7) / 8)
    inside = (W.numpy() * 8 >= -8) & (W.numpy() * 8 <= 7)
    assert not inside.all()
    close(gradient(lambda t: weight_value(quantizer, t), W), inside.astype(float))


def test_stochastic_rounding_keeps_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([-1.7, -0.25, 0.0, 0.4, 2.0], dtype=torch.float64)
    n = 20_000
    drawn = stochastic_round(x, torch.rand(n, 5, dtype=torch.float64, generator=generator))
    fraction = (x - x.floor()).numpy()
    bound = 4 * np.sqrt(fraction * (1 - fraction) / n) + 1e-12
    assert (np.abs(drawn.mean(0).numpy() - x.numpy()) <= bound).all()
    assert ((drawn == x.floor()) | (drawn == x.ceil())).all()


def test_stochastic_weights_draw_anew_in_training_only() -> None:
    quantizer = quant.AffineWeight(4, per_channel=False, stochastic=True)
    first = quantizer.encode(W).codes
    assert torch.equal(first, quantizer.encode(W).codes)
    before = quantizer.state()[0].clone()
    quantizer.update(W)
    assert quantizer.state()[0] != before
    assert not torch.equal(first, quantizer.encode(W).codes)
    quantizer.eval()
    nearest = quant.AffineWeight(4, per_channel=False)
    assert torch.equal(quantizer.encode(W).codes, nearest.encode(W).codes)
    state = torch.random.get_rng_state()
    quantizer.train().encode(W)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_binary_weights(scaled: bool, per_channel: bool) -> None:
    quantizer = quant.BinaryWeight(scaled=scaled, per_channel=per_channel)
    w = W.numpy().copy()
    w[0, 0, 0] = 0
    mean = np.abs(w).mean(2 if per_channel else (0, 1, 2), keepdims=True)
    close(quantizer.encode(torch.from_numpy(w)).value(), np.where(w > 0, 1, -1) * (mean if scaled else 1))
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def test_stochastic_binary_weights() -> None:
    quantizer = quant.BinaryWeight(stochastic=True)
    w = torch.tensor([[[-1.5, -0.5, 0.0, 0.5, 1.5]]], dtype=torch.float64)
    total, n = torch.zeros_like(w), 4000
    for _ in range(n):
        quantizer.update(w)
        total += quantizer.encode(w).value()
    p = np.clip((w.numpy() + 1) / 2, 0, 1)
    bound = 4 * np.sqrt(4 * p * (1 - p) / n) + 1e-12
    assert (np.abs((total / n).numpy() - (2 * p - 1)) <= bound).all()
    assert quantizer.eval().encode(w).value().flatten().tolist() == [-1, -1, -1, 1, 1]


@pytest.mark.parametrize("bits", [2, 4])
def test_qnn_weights_and_activations(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    quantizer = UnitWeight(bits)
    close(quantizer.encode(W).value(), np.rint(np.clip(W.numpy(), -1, 1) * top) / top)
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)
    close(quantizer.after_step(W), np.clip(W.numpy(), -1, 1))
    inputs = quant.QNN().input_quantizer(imcsim.Hardware(inputs={"bits": bits}))
    x = torch.tensor([-1.5, -1.0, -0.4, 0.0, 0.7, 1.0, 2.0], dtype=torch.float64)
    close(input_value(inputs, x), np.rint(np.clip(x.numpy(), -1, 1) * top) / top)
    close(gradient(lambda t: input_value(inputs, t), x), (np.abs(x.numpy()) < 1).astype(float))


def test_qnn_binary_activations() -> None:
    inputs = quant.QNN().input_quantizer(imcsim.Hardware(inputs={"bits": 1}))
    x = torch.tensor([-1.5, -0.4, 0.0, 0.7, 1.0], dtype=torch.float64)
    assert input_value(inputs, x).tolist() == [-1, -1, -1, 1, 1]
    assert gradient(lambda t: input_value(inputs, t), x).tolist() == [0, 1, 1, 1, 0]


def unit(x: np.ndarray, k: int) -> np.ndarray:
    return np.rint((2**k - 1) * x) / (2**k - 1)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_dorefa_weights_of_eq_8_as_the_original_has_it(bits: int) -> None:
    quantizer = DoReFaWeight(bits)
    w = W.numpy()
    top = np.abs(np.tanh(w)).max()
    close(quantizer.encode(W).value(), 2 * unit(np.tanh(w) / (2 * top) + 0.5, bits) - 1)
    assert not np.allclose(  # what the survey prints
        quantizer.encode(W).value().numpy(), 2 * unit(np.clip(np.tanh(w) / (2 * top + 0.5), 0, 1), bits) - 1
    )
    grad = weights(1)
    got = gradient(lambda t: weight_value(quantizer, t), W, grad)
    g = grad.numpy()
    want = g * (1 - np.tanh(w) ** 2) / top  # of tanh, and of the maximum where it is
    peak = np.unravel_index(np.abs(w).argmax(), w.shape)
    want[peak] -= (g * np.tanh(w)).sum() / top**2 * np.sign(w[peak]) * (1 - np.tanh(w[peak]) ** 2)
    close(got, want)


def test_dorefa_codes_are_odd_multiples() -> None:
    codes = DoReFaWeight(3).encode(W)
    assert codes.zero is not None
    assert set((2 * (codes.codes + codes.zero)).flatten().tolist()) <= {
        -7.0,
        -5.0,
        -3.0,
        -1.0,
        1.0,
        3.0,
        5.0,
        7.0,
    }


def test_dorefa_binary_weights_of_eq_9() -> None:
    quantizer = quant.DoReFa().weight_quantizer(imcsim.Hardware(weights={"bits": 1}))
    close(quantizer.encode(W).value(), np.where(W.numpy() > 0, 1, -1) * np.abs(W.numpy()).mean())


@pytest.mark.parametrize("bits", [2, 4])
def test_dorefa_activations(bits: int) -> None:
    inputs = quant.DoReFa().input_quantizer(imcsim.Hardware(inputs={"bits": bits}))
    x = torch.linspace(-0.5, 1.503, 41, dtype=torch.float64)
    close(input_value(inputs, x), unit(np.clip(x.numpy(), 0, 1), bits))
    close(gradient(lambda t: input_value(inputs, t), x), ((x >= 0) & (x <= 1)).double().numpy())


@pytest.mark.parametrize(("signed", "levels"), [("auto", [-1, 1]), (False, [0, 1])])
def test_dorefa_binary_activations(signed: object, levels: list[int]) -> None:
    inputs = quant.DoReFa().input_quantizer(imcsim.Hardware(inputs={"bits": 1, "signed": signed}))
    x = torch.linspace(-0.9, 0.9, 10, dtype=torch.float64)
    assert sorted(set(input_value(inputs, x).tolist())) == levels


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dorefa_gradients(bits: int) -> None:
    grad = weights(2, (5, 3, 4, 4))
    got = DoReFaGradient(bits, noise=False)(grad).numpy()
    g = grad.numpy()
    top = np.abs(g).max((1, 2, 3), keepdims=True)
    close(got, 2 * top * (unit(g / (2 * top) + 0.5, bits) - 0.5))


def test_dorefa_gradient_noise_makes_the_rounding_unbiased() -> None:
    quantizer = DoReFaGradient(2, noise=True)
    grad = torch.tensor([[1.0, 0.5, 0.2, -0.1, -0.7]], dtype=torch.float64)
    n = 4000
    total = sum((quantizer(grad) for _ in range(n)), torch.zeros_like(grad)) / n
    assert (total - grad).abs().max() < 4 * (1 / 3) / np.sqrt(n)
    assert quantizer.passes == n
    assert torch.equal(DoReFaGradient(2, noise=True)(grad), DoReFaGradient(2, noise=True)(grad))


@pytest.mark.parametrize("bits", [2, 4])
def test_pact_of_eq_13(bits: int) -> None:
    quantizer = PACTInput(bits, alpha=1.5, decay=0.1).double()
    x = torch.linspace(-1, 3.003, 81, dtype=torch.float64)
    a, top = x.numpy(), 2**bits - 1
    want = np.rint(np.clip(a, 0, 1.5) * top / 1.5) * 1.5 / top
    got = input_value(quantizer, x.requires_grad_())
    close(got.detach(), want)
    grad = weights(3, (81,))
    grad_x, grad_alpha = torch.autograd.grad(got, [x, quantizer.alpha], grad)
    close(grad_x, grad.numpy() * ((a >= 0) & (a < 1.5)))
    close(grad_alpha, (grad.numpy() * (a >= 1.5)).sum())
    close(quantizer.penalty().detach(), 0.1 * 1.5**2)


def test_pact_alpha_comes_from_calibration() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(), qat=quant.PACT())
    assert sim.array.input_quantizer.alpha == 10
    imcsim.calibrate(sim, [torch.tensor([[0.1, 0.5, 0.2, 0.3]]), torch.tensor([[0.1, 2.5, 0.2, 0.3]])])
    assert sim.array.input_quantizer.alpha.item() == 2.5
    imcsim.calibrate(sim, [torch.tensor([[0.1, 0.5, 0.2, 0.3]])])
    assert sim.array.input_quantizer.alpha.item() == 0.5


def lsq_slope(u: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where(u < low, low, np.where(u > high, high, np.rint(u) - u))


@pytest.mark.parametrize("per_channel", [False, True])
def test_lsq_weights(per_channel: bool) -> None:
    quantizer = LSQWeight(3, per_channel=per_channel).double()
    quantizer.start(W)
    w, axes = W.numpy(), 2 if per_channel else (0, 1, 2)
    s = 2 * np.abs(w).mean(axes, keepdims=True) / np.sqrt(3)
    close(quantizer.step.detach(), s)
    close(quantizer.encode(W).value(), s * np.clip(np.rint(w / s), -3, 3))
    leaf, grad = W.clone().requires_grad_(), weights(4)
    got_w, got_s = torch.autograd.grad(weight_value(quantizer, leaf), [leaf, quantizer.step], grad)
    close(got_w, grad.numpy() * (np.abs(w / s) <= 3))
    count = w.size / s.size
    close(got_s, (grad.numpy() * lsq_slope(w / s, -3, 3)).sum(axes, keepdims=True) / np.sqrt(count * 3))


@pytest.mark.parametrize("signed", [False, True])
def test_lsq_activations(signed: bool) -> None:
    quantizer = LSQInput(4, signed=None).double()
    x = weights(5, (7, 12), 1.0)
    x = x if signed else x.abs()
    assert not quantizer.ready
    quantizer.update(x)
    assert quantizer.signed is signed
    top = 7 if signed else 15
    s = 2 * np.abs(x.numpy()).mean() / np.sqrt(top)
    close(quantizer.step.detach(), s)
    leaf, grad = x.clone().requires_grad_(), weights(6, (7, 12))
    out = input_value(quantizer, leaf)
    low = -7 if signed else 0
    close(out.detach(), s * np.clip(np.rint(x.numpy() / s), low, top))
    got_x, got_s = torch.autograd.grad(out, [leaf, quantizer.step], grad)
    u = x.numpy() / s
    close(got_x, grad.numpy() * ((u >= low) & (u <= top)))
    close(got_s, (grad.numpy() * lsq_slope(u, low, top)).sum() / np.sqrt(12 * top))
    quantizer.update(10 * x)  # fitted once
    close(quantizer.step.detach(), s)


def test_activations_that_saw_no_data_raise() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(), qat=quant.LSQ()).eval()
    with pytest.raises(CalibrationError, match=r"has not seen any data; call imcsim.calibrate"):
        sim(torch.rand(2, 4))
    sim.train()(torch.rand(2, 4))
    sim.eval()(torch.rand(2, 4))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: quant.PACT(alpha=0), ConversionError, "alpha = 0 must be positive"),
        (lambda: quant.DoReFa(gradient_bits=0), ConversionError, "gradient_bits = 0 is not between 1 and 16"),
        (lambda: quant.LQNet(momentum=1.0), ConversionError, "momentum = 1.0 is not in"),
        (lambda: quant.DSQ(alpha=0.7), ConversionError, "alpha = 0.7 must be between 0 and 0.5"),
        (lambda: on_bits(quant.BinaryConnect(), 8), MappingError, "weights.bits = 8; set weights.bits = 1"),
        (lambda: on_bits(quant.LSQ(), 1), MappingError, "LSQ: weights.bits = 1 is too narrow"),
    ],
)
def test_wrong_options(make, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def on_bits(method: quant.Method, bits: int) -> nn.Module:
    return imcsim.convert(nn.Linear(4, 2), imcsim.Hardware(weights={"bits": bits}), qat=method)


def test_unit_codes() -> None:
    x = np.linspace(0, 1, 101)
    close(unit_codes(torch.from_numpy(x), 4) / 15, unit(x, 4))
