"""The survey's Table 3 as data, and its digital designs as chips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import ConversionError, FileMissingError, HardwareError
from imcsim.quant import QUEST, Log2Input, Span, count_gates
from imcsim.survey import survey_chip, survey_chips, survey_points
from imcsim.survey.table import NUMBERS, TEXT

# ---- the table


def test_every_row_is_there() -> None:
    frame = imcsim.survey()
    assert len(frame) == 31
    assert list(frame["section"]).count("FPGA") == 7
    assert dict(frame["kind"].value_counts()) == {"rram": 11, "digital": 11, "fpga": 7, "sram": 2}
    assert "doi:10.3389/felec.2025.1469802" in frame.attrs["citation"]
    assert frame.attrs["license"] == "CC BY 4.0"
    assert frame.index.is_unique


def test_corrections_stand_beside_what_is_printed() -> None:
    frame = imcsim.survey()
    for name in (*TEXT, *NUMBERS):
        same = frame[name].eq(frame[f"{name}_corrected"]) | (
            frame[name].isna() & frame[f"{name}_corrected"].isna()
        )
        listed = frame["corrected"].str.split(", ").apply(lambda names, name=name: name in names)
        assert (~same).equals(listed), name
    assert frame.loc["vwa", ["gops_per_watt", "gops_per_watt_corrected"]].tolist() == [1_084_000, 1084]
    assert frame.loc["isaac", ["gops_per_mm2", "gops_per_mm2_corrected"]].tolist() == [446, 478.95]
    assert frame.loc["isaac", ["gops_per_watt", "gops_per_watt_corrected"]].tolist() == [380, 627.5]
    assert "MNIST" in frame.loc["conv_sram", "networks_corrected"]
    assert "126" in frame.loc["yao2020", "implementation"]
    assert "128" in frame.loc["yao2020", "implementation_corrected"]
    assert frame.loc["yao2020", ["weight_bits", "weight_bits_corrected"]].tolist() == [3, 4]
    assert frame.loc["liu2021", "work_corrected"] == "Zhu et al. (2019)"
    assert "BitBlade" in frame.loc["ryu2020", "notes"]


def test_a_corrected_row_says_why_and_how_sure_we_are() -> None:
    frame = imcsim.survey()
    changed = frame[frame["corrected"] != ""]
    assert (changed["notes"] != "").all()
    assert frame[frame["notes"] != ""]["notes"].str.match(r"[ABC]: ").all()


@pytest.mark.parametrize(
    ("key", "watts"), [("chen2020", 19.6), ("vwa", 0.154), ("quest", 3.3), ("isaac", 65.8), ("puma", 62.5)]
)
def test_corrected_efficiencies_are_rates_over_powers(key: str, watts: float) -> None:
    row = imcsim.survey().loc[key]
    assert row["power_w_corrected"] == watts
    assert row["gops_corrected"] / watts == pytest.approx(row["gops_per_watt_corrected"], rel=0.01)


def test_numbers_are_in_the_text_they_were_taken_from() -> None:
    frame = imcsim.survey()
    for key, row in frame.iterrows():
        text = row["performance"].replace(",", "")
        for name, scales in (("gops_per_watt", (1, 1000)), ("gops_per_mm2", (1, 1000)), ("gops", (1, 1000))):
            if row[name] == row[name]:
                assert any(f"{row[name] / scale:g}" in text for scale in scales), (key, name)


def test_points_have_every_printed_operating_point() -> None:
    points = survey_points()
    unpu = points[points["key"] == "unpu"]
    assert sorted(unpu["weight_bits"]) == [1, 16]
    assert sorted(points[points["key"] == "quest"]["gops_per_watt"]) == [590, 2270]
    assert not points[["gops_per_watt", "gops_per_mm2"]].isna().all(axis=1).any()
    assert points.loc[points["key"] == "vwa", "gops_per_watt_corrected"].tolist() == [1084]


# ---- the designs


def layer() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(150, 7, bias=False).double().eval()


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4)).eval()


UNIFORM = [key for key in survey_chips() if survey_chip(key).qat is None]
OTHERS = [key for key in survey_chips() if key not in UNIFORM]


@pytest.mark.parametrize("key", UNIFORM)
def test_a_design_computes_its_integers_exactly(key: str) -> None:
    """Against integers worked out here: `w_int`, `x_int` and an int64 product."""
    chip = survey_chip(key).hardware
    assert chip.array.readout == "digital"
    assert key in imcsim.survey().index
    peak = 1.0 if chip.inputs.bits == 1 else 3.0
    sim = imcsim.convert(layer(), chip.replace({"inputs.range": peak, "inputs.signed": True}))
    x = torch.randn(9, 150, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).clamp(-3, 3)
    weights, inputs = chip.weights.bits, chip.inputs.bits
    w = sim.weight.detach()
    s_w = w.abs().mean() if weights == 1 else w.abs().max() / (2 ** (weights - 1) - 1)
    w_int = torch.where(w > 0, 1, -1) if weights == 1 else (w / s_w).round().long()
    s_x = peak if inputs == 1 else peak / (2 ** (inputs - 1) - 1)
    x_int = torch.where(x > 0, 1, -1) if inputs == 1 else (x / s_x).round().long()
    assert torch.equal(sim(x), (x_int @ w_int.long().T).double() * (s_w * s_x))


@pytest.mark.parametrize("key", survey_chips())
def test_a_design_runs_a_network(key: str) -> None:
    chip = survey_chip(key)
    sim = imcsim.convert(network(), chip.hardware, qat=chip.qat, fold_batchnorm=chip.fold_batchnorm)
    x = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    imcsim.calibrate(sim, [x])
    assert sim(x).isfinite().all()
    assert imcsim.estimate(sim, x).energy_J > 0


@pytest.mark.parametrize("key", [*(k for k in OTHERS if k != "fracbnn"), "quest 3", "quest 2"])
def test_other_formats_multiply_their_numbers_exactly(key: str) -> None:
    """The product of the quantizers' values, in float64, where every sum is exact."""
    name, _, bits = key.partition(" ")
    chip = survey_chip(name, weight_bits=int(bits) if bits else None)
    hardware = chip.hardware.replace({"inputs.range": 3.0, "inputs.signed": True})
    sim = imcsim.convert(layer(), hardware, qat=chip.qat)
    x = torch.randn(9, 150, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).clamp(-3, 3)
    w = sim.array.weight_quantizer.encode(sim.weight.detach()[None]).value()[0]
    x_q = sim.array.quantize(x, 1).value()
    assert torch.allclose(sim(x), x_q @ w.T, rtol=1e-12, atol=1e-12)


def test_quest_numbers_are_powers_of_two() -> None:
    for bits, signed, top in ((4, True, 6), (4, False, 14), (3, False, 6), (2, True, 0)):
        quantizer = Log2Input(bits)
        x = torch.linspace(-4, 4, 2001, dtype=torch.float64)
        codes = quantizer.encode(x, Span(4.0, signed)).codes[0]
        magnitudes = sorted(codes.abs().unique().tolist())
        assert set(magnitudes) <= {0.0, *(2.0**e for e in range(top + 1))}
        assert magnitudes[-1] == 2.0**top
        assert bool((codes < 0).any()) == signed
    with pytest.raises(ConversionError, match="bits = 1 is not between 2 and 4"):
        QUEST(bits=1)


def test_fracbnn_gates_the_second_bit_by_channel() -> None:
    """Two exact counts of bits, the second where the first is above the channel's gate."""
    chip = survey_chip("FracBNN")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        conv = nn.Conv2d(4, 6, 3, padding=1, bias=False, dtype=torch.float64)
        x = torch.randn(5, 4, 7, 7, dtype=torch.float64)
    sim = imcsim.convert(conv, chip.hardware, qat=chip.qat).requires_grad_(False)
    gates = torch.linspace(-0.3, 0.3, 6, dtype=torch.float64)
    sim.array.input_quantizer.threshold.copy_(gates.view(1, 6, 1))
    first = torch.where(x > 0, 1.0, -1.0).double()
    second = torch.where(x - first * 2 / 3 > 0, 1.0, -1.0).double()
    signs = torch.where(conv.weight > 0, 1.0, -1.0).double()
    scale = conv.weight.abs().mean((1, 2, 3)).view(-1, 1, 1)
    y_1, y_2 = (torch.conv2d(bits, signs, padding=1) * scale for bits in (first, second))
    opened = y_1 * 2 / 3 > gates.view(-1, 1, 1)
    with count_gates(sim) as counts:
        got = sim(x)
    torch.testing.assert_close(got, y_1 * 2 / 3 + opened * y_2 / 3, rtol=1e-12, atol=1e-12)
    assert counts[""].fraction == opened.double().mean().item()
    assert 0.2 < counts[""].fraction < 0.8
    sim(x)
    assert counts[""].seen == opened.numel()
    assert sim.array.hardware.weights.encoding == "xnor"


def test_eyeriss_v2_saturates_at_20_bits() -> None:
    """Against additions one by one in int64, where sums go beyond 2^19 and come back."""
    chip = survey_chip("Eyeriss v2")
    conv = nn.Conv2d(16, 3, 3, bias=False, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-127, 128, conv.weight.shape, generator=generator))
        conv.weight.abs_()
        conv.weight[:, 9:].neg_()
        conv.weight.div_(128)
    x = torch.randint(80, 128, (2, 16, 4, 4), generator=generator).double() / 128
    sim = imcsim.convert(conv, chip.hardware.replace({"inputs.range": 1.0}), qat=chip.qat)
    patches = nn.functional.unfold(x * 128, 3).long()
    total, beyond = torch.zeros(2, 3, 4, dtype=torch.int64), False
    for k, w in enumerate((conv.weight * 128).long().flatten(1).T):
        total = total + w.view(1, 3, 1) * patches[:, k].unsqueeze(1)
        beyond |= bool((total > 2**19 - 1).any())
        total = total.clamp(-(2**19), 2**19 - 1)
    assert beyond
    assert torch.equal(sim(x).flatten(2), total.double() / 2**14)
    assert imcsim.summary(sim).rows[0].engine == "matmul"


def test_bits_by_layer_on_one_chip() -> None:
    """Envision's layers have widths of their own: a dict of its chips."""
    wide, narrow = survey_chip("Envision", weight_bits=8), survey_chip("Envision", weight_bits=4)
    net = network().double()
    sim = imcsim.convert(net, {"*": wide.hardware, "3": narrow.hardware}, qat=wide.qat)
    x = torch.rand(6, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    imcsim.calibrate(sim, [x])
    for layer, bits in ((sim[0], 8), (sim[3], 4)):
        layer.sync()
        codes = layer.array.written.codes
        peak = float(layer.weight.detach().abs().max())
        assert codes.scale.item() == 2.0 ** math.ceil(math.log2(peak)) / 2 ** (bits - 1)
        assert 2 ** (bits - 2) <= codes.codes.abs().max() <= 2 ** (bits - 1)
        assert layer.array.quantize(torch.ones(1, dtype=torch.float64), 1).codes[0].max() < 2 ** (bits - 1)
    assert [row.became.split(",")[1] for row in imcsim.summary(sim).rows] == [" 8 x 1 bit", " 4 x 1 bit"]


def test_formats_of_the_rows() -> None:
    film = survey_chip("FILM-QNN")
    sim = imcsim.convert(nn.Linear(64, 40, bias=False).eval(), film.hardware, qat=film.qat)
    largest = sim.array.weight_quantizer.encode(sim.weight.detach()[None]).codes.abs().amax(-1).flatten()
    assert sorted(largest.tolist()) == [7.0] * 38 + [127.0] * 2
    mixed = survey_chip("Mix & Match")
    sim = imcsim.convert(nn.Linear(64, 40, bias=False).eval(), mixed.hardware, qat=mixed.qat)
    largest = sim.array.weight_quantizer.encode(sim.weight.detach()[None]).codes.abs().amax(-1).flatten()
    assert sorted(largest.tolist()) == [7.0] * 20 + [8.0] * 20
    assert survey_chip("QUEST", weight_bits=1).qat is None
    assert survey_chip("UNPU", weight_bits=1).qat is None
    with pytest.raises(HardwareError, match="input_bits = 2 does not go with weight_bits = 4"):
        survey_chip("QUEST", weight_bits=4, input_bits=2)


def test_names_and_widths() -> None:
    assert survey_chip("Eyeriss v2").key == survey_chip("EYERISS_V2").key == "eyeriss_v2"
    unpu = survey_chip("UNPU", weight_bits=3).hardware
    assert (unpu.weights.bits, unpu.inputs.bits) == (3, 16)
    mixed = survey_chip("BitBlade", weight_bits=4, input_bits=8).hardware
    assert (mixed.weights.bits, mixed.inputs.bits) == (4, 8)
    with pytest.raises(HardwareError, match=r"weight_bits = 3; the design offers 2, 4, 8"):
        survey_chip("BitBlade", weight_bits=3)
    with pytest.raises(FileMissingError, match=r"no digital design 'Eyeris'\. Did you mean 'Eyeriss'\?"):
        survey_chip("Eyeris")
