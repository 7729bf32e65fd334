"""Log4, radix 2, LNS and Madam against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, InputError, MappingError
from imcsim.quant.logarithmic import LNSWeight, Log2Weight, Log4Gradient, Log4Weight, lns, log2_codes, log4
from imcsim.quant.methods.lns import LNSGradient
from tests.quant.statements import close, gradient, weight_value, weights

W = weights()


def log4_by_hand(x: np.ndarray) -> np.ndarray:
    out = np.zeros_like(x)
    for n in range(-3, 4):
        out = np.where(np.abs(x) > 0.625 * 4.0**n, 4.0**n * np.sign(x), out)
    return out


def test_log4_of_eq_4() -> None:
    x = np.concatenate([np.linspace(-80, 80, 3001), np.linspace(-0.05, 0.05, 1001)])
    close(log4(torch.from_numpy(x)), log4_by_hand(x))
    levels = sorted(set(log4(torch.from_numpy(np.abs(x))).tolist()))
    assert levels == [0.0] + [4.0**n for n in range(-3, 4)]  # eight codes of three bits
    assert log4(torch.tensor(0.625 * 4**-3)) == 0  # underflow
    assert log4(torch.tensor(1e9)) == 64


@pytest.mark.parametrize(("bits", "terms"), [(14, 1), (8, 2), (4, 5)])
def test_log4_weights_reach_any_width(bits: int, terms: int) -> None:
    quantizer = Log4Weight(bits)
    s = np.abs(W.numpy()).max() / 64
    codes = quantizer.encode(W)
    close(codes.value(), s * log4_by_hand(W.numpy() / s))
    assert codes.terms == terms
    assert codes.codes.abs().max() < 2 ** (bits - 1)
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def test_log4_gradients() -> None:
    grad = weights(1, (4, 5))
    s = np.abs(grad.numpy()).max() / 64
    close(Log4Gradient()(grad), s * log4_by_hand(grad.numpy() / s))
    assert torch.equal(Log4Gradient()(torch.zeros(3)), torch.zeros(3))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_radix_2(bits: int) -> None:
    u = np.linspace(-200, 200, 4001) + 0.013
    levels = np.array([0.0] + [2.0**e for e in range(2 ** (bits - 1) - 1)])
    want = levels[np.abs(np.abs(u)[:, None] - levels).argmin(1)] * np.sign(u)
    close(log2_codes(torch.from_numpy(u), bits), want)
    quantizer = Log2Weight(bits, 8)
    value = quantizer.encode(W).value().numpy()
    powers = np.log2(np.abs(value[value != 0]))
    close(powers, np.rint(powers))
    top = 2 ** np.floor(np.log2(4 * np.abs(W.numpy()).max() / 3))
    assert np.abs(value).max() == top
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def lns_by_hand(x: np.ndarray, s: float, gamma: int, bits: int, linear: bool) -> np.ndarray:
    e = np.clip(np.rint(np.log2(np.abs(x) / s) * gamma), 0, 2 ** (bits - 1) - 1)
    power = 2.0 ** (e / gamma) if not linear else 2.0 ** (e // gamma) * (1 + (e % gamma) / gamma)
    return np.where(x > 0, 1, -1) * s * power


def test_lns_as_in_figure_6() -> None:
    """gamma = 2, b = 3, s = 2: magnitudes 2, 2 sqrt 2, 4 and 4 sqrt 2, no zero."""
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    got = lns(x, 2.0, 2, 3)
    assert sorted({round(abs(v), 9) for v in got.tolist()}) == [
        round(v, 9) for v in (2, 2 * 2**0.5, 4, 4 * 2**0.5)
    ]
    assert got[500] == -2  # zero has the lowest exponent, and Eq. 2's sign


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("gamma", "bits"), [(1, 4), (2, 3), (8, 8)])
def test_lns_of_eq_12(gamma: int, bits: int, linear: bool) -> None:
    x = W[0].numpy()
    close(lns(W[0], 0.01, gamma, bits, linear=linear), lns_by_hand(x, 0.01, gamma, bits, linear))
    quantizer = LNSWeight(bits, gamma=gamma, linear=linear, bits=8)
    top = lns_by_hand(np.array(2.0 ** (2 ** (bits - 1))), 1.0, gamma, bits, linear)
    s = np.abs(W.numpy()).max() / top
    close(quantizer.encode(W).value(), lns_by_hand(W.numpy(), s, gamma, bits, linear))
    close(gradient(lambda t: weight_value(quantizer, t), W), 1.0)


def test_linear_fraction_is_close() -> None:
    ratio = lns(W, 0.01, 8, 8, linear=True) / lns(W, 0.01, 8, 8)
    assert ratio.min() == 1
    assert ratio.max() <= 1.0615  # of (1 + f) / 2^f
    exact, approximate = (LNSWeight(8, gamma=8, linear=linear, bits=8) for linear in (False, True))
    assert approximate.encode(W).terms < exact.encode(W).terms


def test_lns_gradients() -> None:
    grad = weights(2, (4, 5))
    grad[0, 0] = 0
    s = np.abs(grad.numpy()).max() * 2 ** (-127 / 8)
    with np.errstate(divide="ignore"):
        want = np.where(grad.numpy() == 0, 0, lns_by_hand(grad.numpy(), s, 8, 8, False))
    close(LNSGradient(8, gamma=8)(grad), want)


def test_madam_by_hand() -> None:
    w = torch.tensor([1.0, -0.5, 0.25, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = quant.Madam([w], lr=0.1, beta=0.9, clip=10, bound=3)
    value, square = w.detach().numpy().copy(), np.zeros(4)
    bound = 3 * np.sqrt((value**2).mean())
    for t in range(1, 4):
        grad = np.array([0.3, -0.2, 0.0, 1.0]) * t
        w.grad = torch.from_numpy(grad)
        optimizer.step()
        square = 0.9 * square + 0.1 * grad**2
        root = np.sqrt(square / (1 - 0.9**t))
        ratio = np.divide(grad, root, out=np.zeros(4), where=root > 0)
        with np.errstate(divide="ignore"):
            value = np.sign(value) * 2 ** (np.log2(np.abs(value)) - 0.1 * np.sign(value) * ratio)
        value = np.clip(value, -bound, bound)
        close(w.detach(), value)
    assert w[3] == 0  # a weight keeps its sign


def test_madam_stays_on_its_grid_and_learns() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    hardware = imcsim.Hardware(inputs={"range": "dynamic"})
    sim = imcsim.convert(net, hardware, qat=quant.LNSMadam(gamma=8)).train()
    matrices = [p for p in sim.parameters() if p.dim() > 1]
    madam = quant.Madam(matrices, lr=2.0**-4, step=64)
    x = torch.randn(128, 8)
    target = (x[:, 0] * x[:, 1] > 0).long()
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(sim(x), target)
        madam.zero_grad()
        loss.backward()
        madam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]
    magnitude = matrices[0].detach().abs().double()
    exponents = torch.log2(magnitude[magnitude < madam.state[matrices[0]]["bound"]]) * 64
    assert (exponents - exponents.round()).abs().max() < 1e-3


@pytest.mark.parametrize("option", [{"lr": 0.0}, {"beta": 1.0}, {"clip": -1.0}, {"step": 0}])
def test_wrong_options_of_madam(option: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Madam: lr"):
        quant.Madam([torch.ones(2, requires_grad=True)], **option)


def test_errors() -> None:
    with pytest.raises(ConversionError, match="gamma = 3 is not a power of two"):
        quant.LNSMadam(gamma=3)
    with pytest.raises(ConversionError, match="bits = 9 is not between 2 and 6"):
        quant.Log2(bits=9)
    binary = imcsim.Hardware(weights={"bits": 1})
    for method in (quant.Log4(), quant.Log2(), quant.LNSMadam(), quant.Codebook()):
        with pytest.raises(MappingError, match="too narrow"):
            imcsim.convert(nn.Linear(2, 2), binary, qat=method)
