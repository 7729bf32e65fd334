"""Dynamic fixed point: a network of whole numbers and shifts, computed here in NumPy's int64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import MappingError
from imcsim.quant.fixed import power_of_two
from imcsim.survey import survey_chip

METHOD = quant.FixedPoint(fraction_bits=None, inputs=True)


def test_powers_of_two() -> None:
    for high, want in ((1.0, 1), (1.0000001, 2), (0.75, 1), (0.5, 0.5), (3, 4), (4, 4), (1e-9, 2**-29)):
        assert float(power_of_two(high)) == want
    assert float(power_of_two(0.0)) == 1
    assert power_of_two(torch.tensor([5.0, 0.125])).tolist() == [8, 0.125]


@pytest.mark.parametrize("peak", [0.3, 0.5, 1.0, 1.7, 40.0, 0.0])
def test_weights_take_the_smallest_power_of_two_that_holds_them(peak: float) -> None:
    w = torch.linspace(-peak, peak, 41, dtype=torch.float64).view(1, 1, -1)
    codes = quant.IntegerWeight(8, fraction_bits=None).encode(w)
    f = 7 - (math.ceil(math.log2(peak)) if peak else 0)
    assert codes.scale.item() == 2.0**-f
    np.testing.assert_array_equal(codes.codes.numpy()[0], np.clip(np.rint(w.numpy() * 2.0**f), -128, 127))
    assert not peak or codes.codes.abs().max() >= 64


@pytest.mark.parametrize("signed", [False, True])
def test_inputs(signed: bool) -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    quantizer = quant.FixedPointInput(6)
    codes = quantizer.encode(x, quant.Span(2.5, signed))
    f, top = (3, 31) if signed else (4, 63)
    want = np.clip(np.rint(x.numpy() * 2**f), -top if signed else 0, top)
    np.testing.assert_array_equal(codes.codes[0].numpy(), want)
    assert codes.scale == (2.0**-f,)
    leaf = x.clone().requires_grad_()
    quantizer(leaf, codes.value(), quant.Span(2.5, signed)).sum().backward()
    inside = (x.numpy() <= 4) & (x.numpy() >= (-4 if signed else 0))
    np.testing.assert_array_equal(leaf.grad.numpy(), inside)
    with pytest.raises(MappingError, match="one bit has no place for a fraction"):
        quant.FixedPointInput(1)


def shifted(a: np.ndarray, places: int) -> np.ndarray:
    """``a / 2^places`` in whole numbers, halves to even; a shift to the left where negative."""
    if places <= 0:
        return a << -places
    down, rest = a >> places, a & ((1 << places) - 1)
    half = 1 << (places - 1)
    return down + ((rest > half) | ((rest == half) & (down & 1 == 1)))


def fraction(peak: float, bits: int) -> int:
    return bits - 1 - math.ceil(math.log2(peak))


@pytest.mark.parametrize("name", ["eyeriss", "eyeriss_v2", "vwa", "envision", "unpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_design_of_the_survey_needs_integers_and_shifts_alone(name: str, dtype: torch.dtype) -> None:
    chip = survey_chip(name)
    n, m = chip.hardware.weights.bits, chip.hardware.inputs.bits
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 7)).to(dtype).eval()
        x = torch.randn(40, 60, dtype=dtype)
    sim = imcsim.convert(net, chip.hardware, qat=chip.qat, fold_batchnorm=chip.fold_batchnorm)
    imcsim.calibrate(sim, [x])
    register = chip.hardware.array.accumulator_bits
    carried, places = None, 0  # the last layer's sums and their binary places
    for layer in (sim[0], sim[2]):
        w, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        f_w, f_x = fraction(np.abs(w).max(), n), fraction(layer.array.input_range, m)
        top = 2 ** (m - 1) - 1
        if carried is None:
            codes = np.rint(x.double().numpy() * 2.0**f_x).astype(np.int64)
        else:
            codes = shifted(np.maximum(carried, 0), places - f_x)
        codes = np.clip(codes, -top, top)
        w_int = np.clip(np.rint(w * 2.0**f_w), -(2 ** (n - 1)), 2 ** (n - 1) - 1).astype(np.int64)
        carried = codes @ w_int.T
        if register is not None:
            total = np.zeros_like(carried)
            for k in range(codes.shape[1]):
                total = np.clip(
                    total + codes[:, k, None] * w_int[None, :, k],
                    -(2 ** (register - 1)),
                    2 ** (register - 1) - 1,
                )
            carried = total
        carried = carried + np.rint(b * 2.0 ** (f_w + f_x)).astype(np.int64)
        places = f_w + f_x
    got = sim(x).detach().double().numpy()
    want = carried.astype(np.float64) * 2.0**-places
    if dtype == torch.float64:
        np.testing.assert_array_equal(got, want)
    else:  # sums of 16-bit products are wider than float32, which rounds them once
        np.testing.assert_allclose(got, want, rtol=1e-4 if n == 16 else 0, atol=1e-4 if n == 16 else 0)


def test_biases_are_whole_numbers_of_the_sums_scale() -> None:
    chip = survey_chip("VWA", weight_bits=8, input_bits=8).hardware.replace({"inputs.range": 1.0})
    layer = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    x = torch.rand(2, 2, 5, 5, dtype=torch.float64)
    sim = imcsim.convert(layer, chip, qat=METHOD)
    step = float(sim.array.weight_quantizer.encode(sim.weight_matrix(layer.weight)).scale) * 2.0**-7
    sums = sim(x) / step
    assert torch.equal(sums, sums.round())
    plain = imcsim.convert(layer, chip, qat=quant.FixedPoint(fraction_bits=None))
    assert not torch.equal(plain(x) / step, (plain(x) / step).round())
    dynamic = imcsim.convert(layer, chip.replace({"inputs.range": "dynamic"}), qat=METHOD)
    assert torch.equal(torch.cat([dynamic(x[:1]), dynamic(x[1:])]), dynamic(x))
