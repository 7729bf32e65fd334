"""What `convert` takes and what it makes of a whole model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim.errors import ConversionError, EngineError
from imcsim.nn import CrossbarLayer

A = imcsim.Hardware(inputs={"range": "dynamic"}, array={"rows": 16})
B = A.replace({"array.rows": 32})


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "conv1": nn.Conv2d(3, 4, 3),
            "layer1": nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)),
            "layer2": nn.Sequential(nn.Linear(4, 4)),
        }
    )


def chips(sim: nn.Module) -> dict[str, int | None]:
    return {
        name: module.array.hardware.array.rows
        for name, module in sim.named_modules()
        if isinstance(module, CrossbarLayer)
    }


def test_by_name_the_last_match_wins() -> None:
    sim = imcsim.convert(net(), {"*": A, "conv1": None, "layer1.*": B})
    assert chips(sim) == {"layer1.0": 32, "layer1.2": 32, "layer2.0": 16}
    assert type(sim["conv1"]) is nn.Conv2d
    reasons = {row.name: row.reason for row in imcsim.summary(sim).rows}
    assert "kept digital" in reasons["conv1"]
    assert chips(imcsim.convert(net(), {"layer1.*": B, "*": A})) == {
        "conv1": 16,
        "layer1.0": 16,
        "layer1.2": 16,
        "layer2.0": 16,
    }
    assert chips(imcsim.convert(net(), {"layer1.[02]": A})) == {"layer1.0": 16, "layer1.2": 16}


def test_a_shared_layer_answers_to_all_its_names() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = self.first
            self.last = nn.Linear(4, 2)

    hardware = imcsim.Hardware()
    sim = imcsim.convert(Shared(), {"*": hardware, "second": None})
    assert type(sim.first) is nn.Linear
    assert sim.first is sim.second
    assert "kept digital by the caller" in str(imcsim.summary(sim))
    wide = hardware.replace({"array.rows": 256})
    sim = imcsim.convert(Shared(), {"*": hardware, "second": wide})
    assert sim.first.array.hardware == wide
    assert sim.last.array.hardware == hardware


def test_what_no_pattern_names_is_listed() -> None:
    sim = imcsim.convert(net(), {"layer1.0": A})
    reasons = {row.name: (row.became, row.reason) for row in imcsim.summary(sim).rows}
    assert reasons["layer2.0"] == ("digital", "no pattern names it")


def test_nothing_is_skipped_silently() -> None:
    """Every module with parameters of its own has a row."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LSTM(4, 4), nn.MultiheadAttention(4, 2), nn.GELU()
    )
    sim = imcsim.convert(model, A)
    rows = [row.name for row in imcsim.summary(sim).rows]
    for name, module in sim.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            assert any(
                name == row or name.startswith(f"{row}.") or row.startswith(f"{name}.") for row in rows
            ), name


def test_engines_are_named_and_explained() -> None:
    layer = nn.Linear(40, 4)
    short = A.replace({"adc.bits": 3})
    for engine in ("reference", "matmul", "auto"):
        sim = imcsim.convert(layer, short, engine=engine)
        (row,) = imcsim.summary(sim).rows
        assert row.reason
        assert engine in ("auto", row.engine)
    with pytest.raises(EngineError, match=r"layer '': engine = 'collapsed' cannot compute it: .* use engine"):
        imcsim.convert(layer, short, engine="collapsed")(torch.randn(2, 40))
    (row,) = imcsim.summary(imcsim.convert(layer, A)).rows
    assert (row.engine, row.reason) == ("collapsed", "ideal converters")
    (row,) = imcsim.summary(imcsim.convert(layer, A.replace({"adc.bits": 9}))).rows
    assert (row.engine, row.reason) == ("collapsed", "converters lose nothing")


@pytest.mark.parametrize("engine", ["collapsd", "", "REFERENCE", None, 3])
def test_unknown_engines(engine) -> None:
    with pytest.raises(ConversionError, match=r"engine = .* is not one of auto, reference, collapsed"):
        imcsim.convert(nn.Linear(3, 3), A, engine=engine)


def test_converted_models_are_not_converted_again() -> None:
    with pytest.raises(ConversionError, match="already runs on crossbars; convert the float model"):
        imcsim.convert(imcsim.convert(net(), A), A)


def test_arrays_columns_and_utilisation_of_a_known_layer() -> None:
    """Linear(300, 48): 8-bit differential in 2-bit cells is 4 slices x 2 columns = 384 columns, 3 arrays
    wide, 3 deep."""
    sim = imcsim.convert(nn.Linear(300, 48), imcsim.Hardware(inputs={"range": "dynamic"}))
    (row,) = imcsim.summary(sim).rows
    assert row.arrays == 9
    assert row.utilisation == pytest.approx(300 * 384 / (9 * 128 * 128))
    assert row.idle_columns == 0


def test_depthwise_layers_are_packed() -> None:
    """32 groups of 9 x 1: 14 groups stack in 128 rows, 8 columns each; not 32 arrays."""
    sim = imcsim.convert(nn.Conv2d(32, 32, 3, groups=32), imcsim.Hardware(inputs={"range": "dynamic"}))
    (row,) = imcsim.summary(sim).rows
    assert row.arrays == 1
    assert row.idle_columns > 0


def test_explicit_uniform_range_without_a_zero_code_is_warned_about() -> None:
    def warnings(**adc) -> str:
        (row,) = imcsim.summary(imcsim.convert(nn.Linear(4, 2), A.replace({"adc": {"bits": 4, **adc}}))).rows
        return row.warnings

    assert "zero lies between two codes" in warnings(kind="uniform", range=[-1.0, 1.0])
    assert not warnings(kind="symmetric", range=[-1.0, 1.0])
    assert not warnings(kind="uniform", range=[-7.0, 8.0])
    assert not warnings(kind="uniform", range=[0.0, 8.0])
    assert "does not contain zero" in warnings(kind="uniform", range=[1.0, 16.0])


def test_the_original_can_be_thrown_away() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    model = Hooked()
    calls = []
    model.fc.register_forward_hook(lambda *_: calls.append(1))
    sim = imcsim.convert(model, A)
    sim(torch.randn(2, 4))
    assert calls, "hooks of the layer stay"


def test_gain_of_offset_cells_with_a_digital_offset() -> None:
    """A defect of other simulators: a gain error of (2^c - 2) / (2^c - 1) between cells and the digital
    offset."""
    for cell_bits in (1, 2, 4):
        hardware = imcsim.Hardware(
            weights={"encoding": "offset", "cell_bits": cell_bits}, inputs={"range": 1.0, "bits": 8}
        )
        layer = nn.Linear(64, 16, bias=False, dtype=torch.float64)
        x = torch.rand(200, 64, dtype=torch.float64)
        y, want = imcsim.convert(layer, hardware)(x), layer(x)
        gain = (y * want).sum() / want.square().sum()
        assert gain.item() == pytest.approx(1, abs=2e-3)


def test_unsigned_inputs_use_all_their_codes() -> None:
    """A defect of other simulators: non-negative inputs get half the codes of a signed range."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    sim = imcsim.convert(layer, imcsim.Hardware(inputs={"bits": 4}))
    x = torch.linspace(0, 1, 1000, dtype=torch.float64)[:, None]
    imcsim.calibrate(sim, [x])
    assert len(sim(x).unique()) == 16


def test_manual_seed_matters_to_no_engine() -> None:
    """A defect of other simulators: manual_seed reproduces one engine and not the other."""
    noisy = A.replace({"device.card": "pcm_gst", "adc.bits": 6})
    x = torch.randn(3, 12)
    layer = nn.Linear(12, 4)
    results = []
    for seed in (1, 2):
        for engine in ("reference", "matmul", "auto"):
            torch.manual_seed(seed)
            results.append(imcsim.convert(layer, noisy, engine=engine)(x))
    assert torch.equal(results[0], results[3])
    assert torch.equal(results[1], results[4])
    assert torch.equal(results[2], results[5])
