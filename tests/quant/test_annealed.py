"""ANA, ProxQuant, nBitQNN and quantization networks against NumPy, and their way to the hard quantizer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError
from imcsim.quant import Span
from imcsim.quant.grids import input_staircase, least_square_step, weight_staircase
from imcsim.quant.methods.ana import ANAInput, ANAWeight, noise_width, uniform_step
from imcsim.quant.methods.nbit import MixedWeight
from imcsim.quant.methods.proxquant import ProxWeight, proximal_step
from imcsim.quant.methods.sigmoid import SigmoidInput, SigmoidWeight, sigmoid_staircase
from tests.quant.statements import close, gradient, weights

W = weights()


def hard(u: np.ndarray, bits: int) -> np.ndarray:
    top = 2 ** (bits - 1) - 1
    return np.where(u > 0, 1.0, -1.0) if bits == 1 else np.clip(np.ceil(u - 0.5), -top, top)


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_staircases(bits: int) -> None:
    u = np.linspace(-20, 20, 801)
    close(weight_staircase(bits).codes(torch.from_numpy(u)), hard(u, bits))
    want = np.clip(np.ceil(u - 0.5), 0, 2**bits - 1)
    close(input_staircase(bits, signed=False).codes(torch.from_numpy(u)), want)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_least_square_step(bits: int) -> None:
    stairs = weight_staircase(bits)
    step = least_square_step(W, stairs, per_channel=False)

    def error(s: float) -> float:
        return float(((stairs.codes(W / s) * s - W) ** 2).sum())

    best = error(float(step))
    grid = np.linspace(0.01, float(W.abs().max()), 400)
    assert best <= min(error(s) for s in grid) * 1.02
    assert least_square_step(W, stairs, per_channel=True).shape == (1, 6, 1)
    assert float(least_square_step(torch.zeros(1, 2, 3), stairs, per_channel=False)) == 1


def ana(bits: int = 3) -> ANAWeight:
    quantizer = ANAWeight(bits, False, 0.5, 2.0)
    quantizer.start(W)
    return quantizer


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9])
def test_ana_is_the_mean_over_noise_of_eq_14(bits: int, progress: float) -> None:
    quantizer = ana(bits)
    quantizer.set_progress(progress)
    s, sigma = float(quantizer.step), 0.5 * (1 - progress) ** 2
    u = W.numpy() / s
    noise = sigma * (2 * (np.arange(20_000) + 0.5) / 20_000 - 1)  # the uniform density, by quadrature
    want = np.stack([hard(v + noise, bits).mean() for v in u.flatten()]).reshape(u.shape)
    close(quantizer.soft_value(W), s * want, 1e-3)
    stairs = weight_staircase(bits)
    distance = np.abs(u[..., None] - np.array(stairs.thresholds))
    close(gradient(quantizer.soft_value, W), stairs.jump * (distance < sigma).sum(-1) / (2 * sigma))


def test_ana_converges_to_the_hard_quantizer() -> None:
    quantizer = ana()
    errors = []
    for progress in (0.0, 0.3, 0.6, 0.9, 0.99):
        quantizer.set_progress(progress)
        errors.append(float((quantizer.soft_value(W) - quantizer.encode(W).value()).abs().mean()))
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-3 * float(quantizer.step)
    assert quantizer.soft
    quantizer.set_progress(1.0)
    assert not quantizer.soft
    close(quantizer.encode(W).value(), float(quantizer.step) * hard(W.numpy() / float(quantizer.step), 3))
    assert noise_width(0.5, 2.0, 1.0) == 0


def test_ana_activations() -> None:
    quantizer = ANAInput(3, 0.5, 1.0)
    x, span = torch.linspace(-1, 3, 101, dtype=torch.float64), Span(2.0, signed=False)
    s = 2 / 7
    u = x.numpy() / s
    want = sum(np.clip((u - (k + 0.5) + 0.5) / 1.0, 0, 1) for k in range(7))
    close(quantizer.soft_value(x, span), s * want)
    close(quantizer.encode(x, span).value(), s * np.clip(np.ceil(u - 0.5), 0, 7))


def test_uniform_step_gradcheck() -> None:
    u = torch.tensor([-0.9, -0.2, 0.1, 0.3, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: uniform_step(t, 0.5), u)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.4])
def test_proximal_step_minimises_eq_15(amount: float) -> None:
    w = np.linspace(-1, 1, 41)
    q = np.where(w > 0, 0.6, -0.6)
    got = proximal_step(torch.from_numpy(w), torch.from_numpy(q), amount).numpy()
    grid = np.linspace(-1.2, 1.2, 24_001)
    for value, target, mine in zip(w, q, got, strict=True):
        cost = (grid - value) ** 2 / 2 + amount * np.abs(grid - target)
        assert abs(grid[cost.argmin()] - mine) <= 2e-4


@pytest.mark.parametrize("bits", [1, 3])
def test_proxquant_pulls_weights_onto_codes(bits: int) -> None:
    quantizer = ProxWeight(bits, False, 0.02)
    quantizer.start(W)
    s, w = float(quantizer.step), W.numpy().copy()
    assert torch.equal(quantizer.soft_value(W), W)
    moved: torch.Tensor | None = W
    for t in range(1, 31):
        moved = quantizer.after_step(moved)
        q = s * hard(w / s, bits)
        w = q + np.sign(w - q) * np.maximum(np.abs(w - q) - 0.02 * t * s, 0)
        close(moved, w)
    for _ in range(60):
        moved = quantizer.after_step(moved)
    assert torch.equal(moved, quantizer.encode(moved).value())


@pytest.mark.parametrize("alpha", [0.2, 0.7])
def test_nbitqnn_of_eq_16(alpha: float) -> None:
    quantizer = MixedWeight(4, 8, alpha)
    want = alpha * W.numpy() + (1 - alpha) * quantizer.encode(W).value().numpy()
    close(quantizer.soft_value(W), want)
    close(gradient(quantizer.soft_value, W), alpha)
    assert quantizer.soft
    assert not quantizer.eval().soft


def test_nbitqnn_weights_at_codes_stay() -> None:
    """Fixed points of the mixture are the hard codes: there the training and evaluation values agree."""
    quantizer = MixedWeight(4, 8, 0.3)
    at = quantizer.encode(W).value()
    close(quantizer.soft_value(at), quantizer.encode(at).value().numpy())


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("temperature", [2.0, 10.0])
def test_sigmoids_of_eq_18(bits: int, temperature: float) -> None:
    u = np.linspace(-3, 3, 61)
    if bits == 1:
        steps, shifts = [2.0], [0.0]
    else:
        top = 2 ** (bits - 1) - 1
        steps, shifts = [1.0] * (2 * top), [k + 0.5 for k in range(-top, top)]
    o = sum(steps) / 2
    want = sum(s / (1 + np.exp(-temperature * (u - b))) for s, b in zip(steps, shifts, strict=True)) - o
    close(sigmoid_staircase(torch.from_numpy(u), weight_staircase(bits), temperature), want)


def test_quantization_network_weights() -> None:
    quantizer = SigmoidWeight(3, True, (5.0, 100.0), until=0.5).double()
    quantizer.start(W)
    matrix = W[:, :2, :5]
    alpha, beta = quantizer.alpha.detach(), quantizer.beta.detach()
    close(beta, (1 / alpha).numpy())
    quantizer.set_progress(0.25)
    quantizer.alpha.data, quantizer.beta.data = alpha[:, :2], beta[:, :2]

    def value(w: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        quantizer.alpha, quantizer.beta = nn.Parameter(a), nn.Parameter(b)
        return a * sigmoid_staircase(w * b, quantizer.stairs, 52.5)

    close(quantizer.soft_value(matrix).detach(), value(matrix, alpha[:, :2], beta[:, :2]).detach().numpy())
    leaves = [t.clone().requires_grad_() for t in (matrix, alpha[:, :2], beta[:, :2])]
    soft = lambda w, a, b: a * sigmoid_staircase(w * b, quantizer.stairs, 5.0)  # noqa: E731
    assert torch.autograd.gradcheck(soft, leaves)


def test_quantization_network_converges_and_is_then_fixed() -> None:
    quantizer = SigmoidWeight(3, False, (5.0, 1000.0), until=0.5).double()
    quantizer.start(W)
    errors = []
    for progress in (0.0, 0.1, 0.3, 0.4999):
        quantizer.set_progress(progress)
        assert quantizer.soft
        errors.append((quantizer.soft_value(W) - quantizer.encode(W).value()).abs().mean().item())
    assert all(later < earlier for earlier, later in pairwise(errors))
    quantizer.set_progress(0.5)
    assert not quantizer.soft
    value = quantizer.encode(W).value()
    close(value, quantizer.alpha.item() * hard(W.numpy() * quantizer.beta.item(), 3))
    close(gradient(lambda t: quantizer(t, value), W), 0.0)


def test_three_phases() -> None:
    quantizer = SigmoidInput(2, False, (5.0, 75.0), begin=0.5).double()
    x = torch.linspace(0, 1, 37, dtype=torch.float64)
    quantizer.update(x)
    quantizer.set_progress(0.2)
    assert torch.equal(quantizer.soft_value(x, None), x)
    quantizer.set_progress(0.75)
    close(
        quantizer.soft_value(x, None).detach(),
        sum(1 / 3 / (1 + np.exp(-40.0 * (3 * x.numpy() - b))) for b in (0.5, 1.5, 2.5)),
    )
    quantizer.set_progress(1.0)
    assert not quantizer.soft
    close(quantizer.encode(x, None).value(), np.clip(np.ceil(3 * x.numpy() - 0.5), 0, 3) / 3)


@pytest.mark.parametrize(
    "method", [quant.ANA(), quant.SigmoidQN(phase=1.0), quant.NBitQNN(), quant.ProxQuant(rate=0.01)]
)
def test_training_ends_on_the_chip(method: quant.Method) -> None:
    """The loss falls in training, and at its end the chip is what training left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    sim = imcsim.convert(net, imcsim.Hardware(weights={"bits": 4}), qat=method).train()
    x = torch.rand(128, 8)
    target = (x[:, 0] > x[:, 1]).long()
    imcsim.calibrate(sim, [x])
    optimizer = torch.optim.Adam(sim.parameters(), lr=0.01)
    losses = []
    for step in range(60):
        loss = nn.functional.cross_entropy(sim(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quant.after_step(sim)
        quant.set_progress(sim, (step + 1) / 60)
        losses.append(loss.item())
    with torch.no_grad():
        in_training = sim(x)
        assert torch.equal(in_training, sim.eval()(x))
        assert nn.functional.cross_entropy(in_training, target) < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: quant.ANA(width=0), "width = 0"),
        (lambda: quant.ProxQuant(rate=-1), "rate = -1 must be positive"),
        (lambda: quant.NBitQNN(alpha=1.0), "alpha = 1.0 must be between"),
        (lambda: quant.SigmoidQN(start=10, end=5), "start = 10 must be positive and at most end = 5"),
    ],
)
def test_wrong_options(make, text: str) -> None:
    with pytest.raises(ConversionError, match=text):
        make()
