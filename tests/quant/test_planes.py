"""Bit planes of images, and padding for binary inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, InputError
from imcsim.survey import survey_chip


def test_pixels_are_sent_bit_by_bit() -> None:
    pixels = torch.arange(256, dtype=torch.float64)
    codes = quant.BitPlanes().input_quantizer(imcsim.Hardware()).encode(pixels / 255, None)
    bits = (np.arange(256)[None] >> np.arange(8)[:, None]) & 1
    np.testing.assert_array_equal(torch.stack(codes.codes).numpy(), 2 * bits - 1)
    np.testing.assert_allclose(codes.value().numpy() * 255, np.arange(256), atol=1e-12)
    assert codes.zero == 1


def test_signed_planes_are_odd_multiples() -> None:
    x = torch.linspace(-3, 3, 601, dtype=torch.float64) + 1e-3
    codes = quant.BitPlanes(bits=3, high=2.0, signed=True).input_quantizer(imcsim.Hardware()).encode(x, None)
    levels = np.arange(-7, 8, 2) * 2 / 7
    nearest = levels[np.abs(x.numpy()[:, None] - levels).argmin(1)]
    np.testing.assert_allclose(codes.value().numpy(), nearest, atol=1e-12)
    assert codes.zero == 0
    with pytest.raises(ConversionError, match="bits = 0 between 1"):
        quant.BitPlanes(bits=0)


def test_fbna_computes_images_by_xnor_and_bit_count() -> None:
    chip = survey_chip("FBNA")
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False, dtype=torch.float64)
    sim = imcsim.convert(layer, chip.hardware, qat=chip.first)
    pixels = torch.randint(0, 256, (2, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    signs = torch.where(layer.weight > 0, 1.0, -1.0)
    want = torch.conv2d(pixels.double(), signs.double(), padding=1)  # whole numbers, zeros around the image
    got = sim(pixels.double() / 255) / layer.weight.detach().abs().mean() * 255
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-9)
    assert torch.equal(got.round(), want)
    assert sim.array.hardware.weights.encoding == "xnor"
    (row,) = imcsim.summary(sim).rows
    assert row.method == "BitPlanes(bits=8, high=1.0, signed=False)"


def test_borders_alternate() -> None:
    x = torch.full((2, 3, 2, 3), 7.0)
    got = quant.AlternatingPad2d(1)(x)
    assert got.shape == (2, 3, 4, 5)
    assert got[1, 2].tolist() == [
        [1, -1, 1, -1, 1],
        [-1, 7, 7, 7, -1],
        [1, 7, 7, 7, 1],
        [-1, 1, -1, 1, -1],
    ]
    with pytest.raises(InputError, match="takes \\(batch, channels, height, width\\)"):
        quant.AlternatingPad2d()(x[0])
