"""Half and FP8 against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, MappingError
from imcsim.quant.codes import digit_terms
from imcsim.quant.floats import FP8, HALF, FloatGradient, FloatInput, FloatWeight, round_float
from tests.quant.statements import close, gradient, input_value, weight_value, weights

W = weights()


def test_half_is_numpys() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000) * 2.0 ** rng.integers(-30, 16, 20_000)
    x = np.concatenate([x, [0.0, -0.0, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 65504.0]])
    x = x[np.abs(x) < 65519]
    close(round_float(torch.from_numpy(x), HALF), x.astype(np.float16).astype(np.float64), 0)
    assert round_float(torch.tensor([1e9, -1e9]), HALF).tolist() == [65504, -65504]


def fp8_numbers() -> np.ndarray:
    """Every non-negative number of (1, 5, 2), from its bits."""
    out = []
    for exponent in range(31):
        for fraction in range(4):
            normal = (1 + fraction / 4) * 2.0 ** (exponent - 15)
            out.append(normal if exponent else fraction / 4 * 2.0**-14)
    return np.array(out)


def test_fp8_is_the_nearest_of_all_its_numbers() -> None:
    numbers = fp8_numbers()
    rng = np.random.default_rng(1)
    x = rng.standard_normal(5000) * 2.0 ** rng.integers(-20, 15, 5000)
    x = np.clip(x, -57344, 57344)
    want = numbers[np.abs(np.abs(x)[:, None] - numbers).argmin(1)] * np.sign(x)
    close(round_float(torch.from_numpy(x), FP8), want, 0)
    assert FP8.largest == numbers[-1] == 57344
    assert FP8.unit == numbers[1]
    close(round_float(torch.from_numpy(numbers), FP8), numbers, 0)
    middle = (numbers[1:] + numbers[:-1]) / 2
    even = np.where(np.arange(len(middle)) % 2 == 0, numbers[:-1], numbers[1:])
    close(round_float(torch.from_numpy(middle), FP8), even, 0)


def test_float32_input_keeps_its_dtype() -> None:
    x = W.float()
    assert round_float(x, FP8).dtype == torch.float32
    assert torch.equal(round_float(x, FP8).double(), round_float(x.double(), FP8))


@pytest.mark.parametrize("form", [FP8, HALF])
def test_weights_inputs_and_gradients(form: object) -> None:
    weight, inputs = FloatWeight(form, 8), FloatInput(form, 8)
    assert torch.equal(weight.encode(W).value(), round_float(W, form))
    close(gradient(lambda t: weight_value(weight, t), W), 1.0)
    x = torch.tensor([[1e6, -3.0, 0.1, 1e-9]], dtype=torch.float64)
    assert torch.equal(input_value(inputs, x), round_float(x, form))
    assert gradient(lambda t: input_value(inputs, t), x).tolist() == [[0, 1, 1, 1]]
    assert torch.equal(FloatGradient(form)(W), round_float(W, form))


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_digits_recombine(bits: int) -> None:
    codes = torch.tensor([0.0, 1, -1, 4095, -123456789, 2**40], dtype=torch.float64)
    digits, places = digit_terms(codes, bits)
    assert all(d.abs().max() < 2 ** (bits - 1) for d in digits)
    assert torch.equal(sum(d * w for d, w in zip(digits, places, strict=True)), codes)


def test_errors() -> None:
    with pytest.raises(ConversionError, match=r"form = 'fp9' is not one of half, fp8. Did you mean 'fp8'"):
        quant.Floats("fp9")
    with pytest.raises(MappingError, match="integer codes with zeros do not fit codes of 1 bit"):
        imcsim.convert(nn.Linear(2, 2), imcsim.Hardware(weights={"bits": 1}), qat=quant.Floats())
