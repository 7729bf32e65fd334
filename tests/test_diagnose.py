"""A diagnosis names what was put in, adds up, and leaves the model as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant, zoo
from imcsim.diagnose import CAUSES
from imcsim.errors import CalibrationError, ConversionError, InputError

BASE = imcsim.Hardware.model_validate({"weights": {"bits": 8, "cell_bits": 2}, "inputs": {"bits": 8}})


@pytest.fixture(scope="module")
def net() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    model = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def on_chip(net: nn.Module, images: torch.Tensor, **changes: object) -> nn.Module:
    sim = imcsim.convert(net, BASE.replace({key.replace("__", "."): value for key, value in changes.items()}))
    imcsim.calibrate(sim, [images])
    imcsim.program(sim, seed=0)
    return sim


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"adc__bits": 4, "adc__range": "calibrated"}, "ADC rounding"),
        ({"adc__bits": 12, "adc__range": (-4.0, 4.0)}, "ADC clipping"),
        ({"device__programming": {"kind": "range", "sigma": 0.1}}, "programming"),
        ({"weights__bits": 3}, "weight quantization"),
        ({"inputs__bits": 3}, "input quantization"),
        (
            {"device__g_max_S": 1e-4, "array__word_line_ohm": 20.0, "array__bit_line_ohm": 20.0},
            "wires",
        ),
        ({"array__column_clamp": 3.0}, "drivers and clamps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_blames_what_was_put_in(net, images, changes, cause) -> None:
    found = imcsim.diagnose(on_chip(net, images, **changes), images)
    assert [layer.worst for layer in found.layers] == [cause] * 2
    assert found.culprit.startswith(f"{cause} costs most and is the largest error in 2 of 2 layers; ")
    assert cause in found.causes


def test_drift_and_read_noise_are_told_apart(net, images) -> None:
    sim = on_chip(net, images, device__card="pcm_gst")
    fresh = imcsim.diagnose(sim, images)
    imcsim.age(sim, 1e6)
    aged = imcsim.diagnose(sim, images)
    assert "drift" not in fresh.causes
    assert {"programming", "read noise"} <= set(fresh.causes)
    assert all(layer.worst == "drift" for layer in aged.layers)
    assert aged.network.sqnr_db < fresh.network.sqnr_db
    assert aged.network.without_db["drift"] > aged.network.sqnr_db + 3


def test_the_parts_are_the_whole_and_the_whole_is_the_layer_s_error(net, images) -> None:
    sim = on_chip(
        net,
        images,
        adc__bits=4,
        adc__range="calibrated",
        device__programming={"kind": "range", "sigma": 0.2},
    )
    found = imcsim.diagnose(sim, images)
    for layer in found.layers:
        assert layer.adds_up
        parts = sum(10 ** (-db / 10) for db in layer.alone_db.values())
        assert -10 * math.log10(parts) == pytest.approx(layer.sqnr_db, abs=1)
        assert sum(layer.shares.values()) == pytest.approx(1)
    with torch.no_grad():  # the first layer's input is the image, so its error is seen from outside
        out, want = sim[0](images), net[0](images)
        without_bias = want - net[0].bias.view(1, -1, 1, 1)
        error = (out - want).double().square().sum() / without_bias.double().square().sum()
    assert found.layers[0].sqnr_db == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)
    whole = imcsim.evaluate(sim, [(images, torch.zeros(24, dtype=torch.int64))], reference=net)
    assert found.network.sqnr_db == pytest.approx(whole.sqnr_db, abs=1e-3)


def test_a_converter_of_whole_levels_rounds_errors_of_cells_away(net, images) -> None:
    written = {"kind": "range", "sigma": 0.02}
    chip = {"adc__bits": 8, "adc__range": "full", "array__rows": 32, "device__programming": written}
    found = imcsim.diagnose(on_chip(net, images, **chip), images)
    layer = found.layers[0]
    assert layer.alone_db["programming"] < layer.sqnr_db - 3  # the chip is better than its cells
    assert not layer.adds_up
    assert "errors are correlated" in str(found)


def test_an_ideal_chip_loses_its_quantization_only(net, images) -> None:
    found = imcsim.diagnose(on_chip(net, images), images)
    assert found.causes == ("weight quantization", "input quantization")
    assert found.network.without_db == {}
    assert found.network.quantized_db == pytest.approx(found.network.sqnr_db, abs=1e-9)


def test_a_network_trained_in_codes_is_held_against_them(images) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
    chip = BASE.replace({"weights.bits": 4, "inputs.bits": 4})
    sim = imcsim.convert(model, chip, qat=quant.DoReFa())
    imcsim.calibrate(sim, [images])
    found = imcsim.diagnose(sim, images)
    assert found.causes == ()
    assert found.culprit == "nothing is lost: every layer equals its float product"


def test_the_model_is_left_as_it_was(net, images) -> None:
    sim = on_chip(net, images, device__card="pcm_gst", adc__bits=6, adc__range="calibrated")
    sim.train()
    first = sim(images)
    state = torch.random.get_rng_state()
    imcsim.diagnose(sim, images)
    assert sim.training
    assert torch.equal(state, torch.random.get_rng_state())
    after = sim(images)
    imcsim.seed_reads(sim, 0)
    assert torch.equal(sim(images), first)
    assert torch.equal(sim(images), after)  # the stream of read noise went on where it was


def test_accuracy_without_an_effect(net, images) -> None:
    targets = net(images).argmax(1)
    sim = on_chip(net, images, adc__bits=3, adc__range="calibrated")
    found = imcsim.diagnose(sim, images, targets)
    assert found.network.top1 is not None
    assert found.network.without_top1["converters"] >= found.network.top1
    assert "without converters" in str(found)


def test_recurrent_layers_and_attention_are_diagnosed() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h, _ = self.lstm(x)
            return self.attention(h, h, h, need_weights=False)[0][:, -1]

    x = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(2))
    sim = imcsim.convert(Both().eval(), BASE.replace({"adc.bits": 4, "adc.range": "calibrated"}))
    imcsim.calibrate(sim, [x])
    found = imcsim.diagnose(sim, x)
    assert {layer.name for layer in found.layers} >= {"lstm.weight_ih_l0", "attention.out_proj"}
    assert all(layer.sqnr_db < 40 for layer in found.layers)


def test_what_it_says_is_complete(net, images) -> None:
    found = imcsim.diagnose(on_chip(net, images, adc__bits=4, adc__range="calibrated"), images)
    text, record = str(found), found.to_dict()
    assert all(layer.name in text for layer in found.layers)
    assert record["culprit"] in text
    assert [row["layer"] for row in record["layers"]] == ["0", "3"]
    assert set(found.frame().columns) == {"layer", "sqnr_db", "parts_db", *found.causes}
    assert set(found.causes) <= set(CAUSES)


@pytest.mark.parametrize(
    ("x", "targets", "text"),
    [
        (torch.rand(3), None, r"a batch of samples, a tensor \(batch, ...\), but got \(3,\)"),
        ("x", None, "but got str"),
        (torch.rand(2, 3, 8, 8), torch.zeros(3), r"targets are \(3,\), but x has 2 samples"),
    ],
)
def test_bad_input(net, images, x, targets, text) -> None:
    with pytest.raises(InputError, match=text):
        imcsim.diagnose(on_chip(net, images), x, targets)


def test_it_needs_a_converted_and_calibrated_model(net, images) -> None:
    with pytest.raises(ConversionError, match="convert it first"):
        imcsim.diagnose(net, images)
    with pytest.raises(CalibrationError, match=r"imcsim\.calibrate"):
        imcsim.diagnose(imcsim.convert(net, BASE), images)


@pytest.mark.slow
def test_resnet_20_with_a_five_bit_offset_adc() -> None:
    benchmark = zoo.load("resnet20", n=16)
    chip = BASE.replace({"weights.encoding": "offset", "adc.bits": 5, "adc.range": "calibrated"})
    sim = imcsim.convert(benchmark.model, chip)
    imcsim.calibrate(sim, benchmark.calibration_batches())
    found = imcsim.diagnose(sim, benchmark.images[:8])
    assert found.culprit.startswith("ADC rounding costs most and is the largest error in ")
    lowest = min(found.layers, key=lambda layer: layer.alone_db["ADC rounding"])
    assert f"it is worst in {lowest.name} (" in found.culprit
    assert len(found.layers) == 20
    assert sum(layer.worst == "ADC rounding" for layer in found.layers) >= 18
    assert sum(layer.adds_up for layer in found.layers) >= 16
    assert found.network.without_db["converters"] > found.network.sqnr_db + 20
