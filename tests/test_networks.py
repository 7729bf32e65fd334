"""Pretrained networks on chips, on the images in the package."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import imcsim
from imcsim import zoo
from tests.tolerances import SQNR_DB_8_BIT_ADC, TOP1_POINTS, TOP1_POINTS_8_BIT_ADC

LOSSLESS = imcsim.Hardware(adc={"bits": 10})
"""8-bit weights and inputs, differential pairs of 2-bit cells, 128 rows: 10 bits lose nothing."""


def chip(model: nn.Module, hardware: imcsim.Hardware, benchmark: zoo.Benchmark) -> nn.Module:
    sim = imcsim.convert(model, hardware)
    imcsim.calibrate(sim, benchmark.calibration_batches())
    return sim


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scale"), [("resnet20", "per_tensor"), ("resnet20", "per_channel"), ("resnet8", "per_channel")]
)
def test_lossless_converters_keep_the_accuracy(name: str, scale: str) -> None:
    """ResNet-8 wants a weight scale a channel: with one a tensor 8 bits cost it 0.45 points, before any
    converter."""
    benchmark = zoo.load(name)
    sim = chip(benchmark.model, LOSSLESS.replace({"weights.scale": scale}), benchmark)
    assert {row.engine for row in imcsim.summary(sim).rows if row.arrays} == {"collapsed"}
    got = imcsim.evaluate(sim, benchmark.batches(250), reference=benchmark.model)
    float_net = imcsim.evaluate(benchmark.model, benchmark.batches(250))
    assert got.n == float_net.n == 2000
    assert abs(got.top1 - float_net.top1) * 100 <= TOP1_POINTS + 1e-9
    assert got.sqnr_db >= 25


@pytest.mark.slow
def test_eight_bit_calibrated_converters() -> None:
    """On 100 images here; one point of top-1 is one image, so the logits' SQNR is the sharper test."""
    benchmark = zoo.load("resnet20", n=100)
    hardware = imcsim.Hardware(adc={"bits": 8, "range": "calibrated"})
    sim = chip(benchmark.model, hardware, benchmark)
    got = imcsim.evaluate(sim, benchmark.batches(50), reference=benchmark.model)
    float_net = imcsim.evaluate(benchmark.model, benchmark.batches(50))
    assert abs(got.top1 - float_net.top1) * 100 <= TOP1_POINTS_8_BIT_ADC + 1e-9
    assert got.sqnr_db >= SQNR_DB_8_BIT_ADC


def test_engines_agree_on_a_network() -> None:
    benchmark = zoo.load("resnet8", n=4)
    for hardware in (LOSSLESS, LOSSLESS.replace({"adc.bits": 6, "adc.range": "calibrated"})):
        logits = []
        for engine in ("auto", "matmul"):
            sim = imcsim.convert(benchmark.model, hardware, engine=engine)
            imcsim.calibrate(sim, [benchmark.calibration[:32]])
            with torch.inference_mode():
                logits.append(sim(benchmark.images))
        assert torch.equal(logits[0], logits[1])


def test_offset_falls_earlier_than_differential_with_calibrated_ranges() -> None:
    """At 5 bits: the sums of offset cells are large and nearly equal, those of pairs small and around
    zero."""
    benchmark = zoo.load("resnet8", n=16)
    sqnr = {}
    for encoding in ("differential", "offset"):
        hardware = imcsim.Hardware(weights={"encoding": encoding}, adc={"bits": 5, "range": "calibrated"})
        sim = imcsim.convert(benchmark.model, hardware)
        imcsim.calibrate(sim, [benchmark.calibration[:64]])
        sqnr[encoding] = imcsim.evaluate(sim, benchmark.batches(16), reference=benchmark.model).sqnr_db
    assert sqnr["differential"] > sqnr["offset"] + 3
