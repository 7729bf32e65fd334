"""Codes of weights and inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imcsim.functional.quantize import quantize_input, quantize_weight, top_code


@given(st.integers(2, 16), st.booleans(), st.integers(0, 100))
def test_weight_codes(bits: int, per_channel: bool, seed: int) -> None:
    w = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(seed))
    w[1, 2] = 0
    codes, scale = quantize_weight(w, bits, per_channel=per_channel)
    assert codes.dtype == scale.dtype == torch.float64
    top = 2 ** (bits - 1) - 1
    assert codes.abs().max() == top
    assert ((codes * scale - w.double()).abs() <= scale / 2 * (1 + 1e-12)).all()
    assert scale.shape == ((2, 3, 1) if per_channel else (1, 1, 1))
    if per_channel:
        assert scale[1, 2] == 1


def test_binary_weights_take_zero_as_minus_one() -> None:
    codes, scale = quantize_weight(torch.tensor([[[0.0, -2.0, 4.0]]]), 1, per_channel=False)
    assert codes.flatten().tolist() == [-1, -1, 1]
    assert scale.item() == 2


def test_weights_are_quantized_in_float64_whatever_their_dtype() -> None:
    w = torch.randn(1, 8, 64)
    for dtype in (torch.float32, torch.bfloat16):
        narrow = w.to(dtype)
        assert torch.equal(
            quantize_weight(narrow, 8, per_channel=False)[0],
            quantize_weight(narrow.double(), 8, per_channel=False)[0],
        )


@given(st.integers(2, 16), st.booleans(), st.floats(1e-3, 1e3), st.integers(0, 100))
def test_input_codes(bits: int, signed: bool, full: float, seed: int) -> None:
    x = full * 1.5 * torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    codes, scale = quantize_input(x, full, bits, signed=signed)
    top = 2 ** (bits - signed) - 1
    assert codes.max() <= top
    assert codes.min() >= (-top if signed else 0)
    inside = (x <= full) & (x >= (-full if signed else 0))
    assert ((codes * scale - x).abs()[inside] <= scale / 2 * (1 + 1e-9)).all()
    assert (codes[x > full] == top).all()


def test_unsigned_inputs_use_every_code() -> None:
    """An 8-bit unsigned input has 256 codes, not the 128 of a signed one."""
    codes, scale = quantize_input(torch.linspace(0, 1, 4096, dtype=torch.float64), 1.0, 8, signed=False)
    assert torch.equal(codes.unique(), torch.arange(256, dtype=torch.float64))
    assert scale == 1 / 255
    assert (top_code(8, signed=False), top_code(8, signed=True), top_code(1, signed=True)) == (255, 127, 1)


def test_binary_inputs_are_plus_and_minus_the_range() -> None:
    codes, scale = quantize_input(torch.tensor([0.0, -3.0, 0.1]), 2.0, 1, signed=True)
    assert codes.tolist() == [-1, -1, 1]
    assert scale == 2.0


def test_a_range_a_sample() -> None:
    x = torch.tensor([[1.0, -2.0], [10.0, 5.0]])
    codes, scale = quantize_input(x, torch.tensor([[2.0], [10.0]]), 8, signed=True)
    assert codes.tolist() == [[64.0, -127.0], [127.0, 64.0]]
    assert scale.flatten().tolist() == pytest.approx([2 / 127, 10 / 127])
