"""Layer normalisation on analog sums."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import imcsim
from imcsim.errors import ConversionError, HardwareError, InputError
from imcsim.hardware_tables import Normalisation
from imcsim.nn.norm import AnalogNorm, analog_norms

CHIP = imcsim.Hardware(
    array={"rows": 25, "cols": 25},
    weights={"bits": 1},
    inputs={"bits": 8, "bits_per_cycle": 8},
    adc={"bits": 6},
    normalisation={},
)
"""Six bits lose much: whatever is converted shows."""
ERRORS = {"normalisation.gain_error": 0.05, "normalisation.offset": 0.02, "normalisation.noise": 0.03}
NORMS = ["1", "5.norm", "9"]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).permute(0, 3, 1, 2)


def network() -> nn.Sequential:
    """All three kinds of norm; the second and third layer span several arrays."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 5),
            nn.GroupNorm(1, 6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 5, bias=False),
            ChannelNorm(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 2 * 2, 20),
            nn.LayerNorm(20),
            nn.ReLU(),
            nn.Linear(20, 10),
        )
        for name in NORMS:
            norm = net.get_submodule(name)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0.0, 0.2)
    return net.eval()


X = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def chip(changes: dict[str, object] | None = None, seed: int = 0) -> nn.Module:
    sim = imcsim.convert(network(), CHIP.replace(changes or {}))
    imcsim.calibrate(sim, [X])
    imcsim.program(sim, seed)
    return imcsim.normalise_in_analog(sim)


def test_ideal_circuits_are_the_integer_network_with_its_norms() -> None:
    """Bit for bit, by hand: 8-bit images, 16-bit codes between layers, no conversion but the last layer's."""
    sim, net = chip(), network()
    x = X
    for name in ("0", "4", "8"):
        layer, bits = net.get_submodule(name), 8 if name == "0" else 16
        step = sim.get_submodule(name).array.input_range / (2**bits - 1)
        codes = (x / step).round().clamp(0, 2**bits - 1).double()
        signs = torch.where(layer.weight > 0, 1.0, -1.0).double()
        product = F.linear(codes, signs) if name == "8" else F.conv2d(codes, signs)
        sums = product * (layer.weight.double().abs().mean() * step)
        if layer.bias is not None:
            sums += layer.bias.double().view(-1, *[1] * (product.dim() - 2))
        last = {"0": 4, "4": 8, "8": 11}[name]
        x = net[int(name) + 1 : last](sums.float())
    assert torch.equal(sim[:11](X), x)
    assert sim[11].array.job().converters[0].top + 1 == 63  # the last layer keeps its converter
    assert all(sim.get_submodule(name).array.job().converters is None for name in ("0", "4", "8"))


def test_the_original_is_left_alone_and_keys_stay() -> None:
    sim = imcsim.convert(network(), CHIP)
    before = {name: type(module) for name, module in sim.named_modules()}
    normalised = imcsim.normalise_in_analog(sim)
    assert {name: type(module) for name, module in sim.named_modules()} == before
    assert [norm.name for norm in analog_norms(normalised)] == NORMS
    assert set(network().state_dict()) <= set(normalised.state_dict())
    normalised.load_state_dict(network().state_dict())


def test_gains_and_offsets_are_those_of_the_table() -> None:
    """4,096 circuits: means within 4 standard errors, deviations within 4 / sqrt(2 n)."""
    n, table = 4096, Normalisation(gain_error=0.05, offset=0.02)
    norm = AnalogNorm(nn.LayerNorm(n, elementwise_affine=False), table, "norm", -1)
    gain, offset = norm.circuits(n)
    for drawn, mean, deviation in ((gain, 1.0, 0.05), (offset, 0.0, 0.02)):
        assert abs(float(drawn.mean()) - mean) < 4 * deviation / math.sqrt(n)
        assert abs(float(drawn.std()) / deviation - 1) < 4 / math.sqrt(2 * n)
    assert abs(float(torch.corrcoef(torch.stack([gain, offset]))[0, 1])) < 4 / math.sqrt(n)
    x = torch.randn(3, n)
    expected = F.layer_norm(x, (n,)) * gain.float() + offset.float()
    assert torch.equal(norm(x), expected)
    norm.program(1)
    assert not torch.equal(norm.circuits(n)[0], gain)
    norm.program(0)
    assert torch.equal(norm(x), expected)


def test_every_position_of_a_channel_has_the_channels_circuit() -> None:
    table = Normalisation(gain_error=0.1)
    layer_norm = nn.LayerNorm((4, 3, 3), elementwise_affine=False)
    for module, axis in ((nn.GroupNorm(1, 4, affine=False), 1), (layer_norm, -3)):
        norm = AnalogNorm(module, table, "norm", axis)
        x = torch.randn(2, 4, 3, 3)
        assert torch.equal(norm(x), module(x) * norm.circuits(4)[0].float().view(4, 1, 1))


def test_noise_has_the_tables_rms_and_is_of_the_sample() -> None:
    table = Normalisation(noise=0.03)
    norm = AnalogNorm(nn.LayerNorm(64, elementwise_affine=False), table, "norm", -1)
    x = torch.randn(500, 64)
    noisy = norm(x)
    noise = noisy - F.layer_norm(x, (64,))
    assert abs(float(noise.std()) / 0.03 - 1) < 4 / math.sqrt(2 * noise.numel())
    assert abs(float(noise.mean())) < 4 * 0.03 / math.sqrt(noise.numel())
    assert not torch.equal(norm(x), noisy)  # another read
    norm.seed_reads(0)
    assert torch.equal(torch.cat([norm(part) for part in x.split([1, 99, 400])]), noisy)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    for changes in (ERRORS, {**ERRORS, "normalisation.bits": 10}):
        sim = chip(changes, seed=3)
        imcsim.seed_reads(sim, 4)
        whole = sim(X)
        imcsim.seed_reads(sim, 4)
        assert torch.equal(torch.cat([sim(X[:1]), sim(X[1:4]), sim(X[4:])]), whole)


def test_a_converter_of_normalised_values() -> None:
    table = Normalisation(bits=5, range=2.0)
    norm = AnalogNorm(nn.LayerNorm(200, elementwise_affine=False), table, "norm", -1)
    x = torch.randn(10, 200, requires_grad=True)
    z, out = F.layer_norm(x, (200,)), norm(x)
    step = 2.0 / 15
    assert torch.equal(out, torch.round(z.clamp(-2, 2) / step) * step)
    assert float(out.detach().max()) == pytest.approx(2.0)
    inside = z.detach().abs() <= 2.0
    assert not inside.all()
    direction = torch.randn(10, 200)
    (grad,) = torch.autograd.grad(out, x, direction, retain_graph=True)
    (want,) = torch.autograd.grad(z, x, direction * inside)
    assert torch.allclose(grad, want, atol=1e-6)


def test_errors_show_and_add_nothing_where_they_are_zero() -> None:
    fine = {"adc.bits": 16}  # of the last layer
    ideal = chip(fine)(X)
    assert torch.equal(chip({**fine, **dict.fromkeys(ERRORS, 0.0)})(X), ideal)
    for name, value in ERRORS.items():
        assert not torch.equal(chip({**fine, name: value})(X), ideal)


def test_saved_and_copied_with_circuits_and_noise(tmp_path: Path) -> None:
    sim = chip({**ERRORS, "device.programming": {"kind": "range", "sigma": 0.05}}, seed=7)
    imcsim.seed_reads(sim, 5)
    sim(X[:2])
    imcsim.save(sim, tmp_path / "chip.safetensors")
    loaded = imcsim.load(tmp_path / "chip.safetensors", network())
    copied, want = copy.deepcopy(sim), sim(X)
    assert torch.equal(loaded(X), want)
    assert torch.equal(copied(X), want)


def test_what_was_programmed_and_calibrated_stays() -> None:
    sim = imcsim.convert(
        network(),
        CHIP.replace({"device.programming": {"kind": "range", "sigma": 0.05}, "adc.range": "calibrated"}),
    )
    imcsim.program(sim, 9)
    imcsim.calibrate(sim, [X])
    sim[4].array.set_conductances(sim[4].array.cells["conductance_S"] * 0.9, None)  # measured ones, say
    normalised = imcsim.normalise_in_analog(sim)
    for name in ("0", "4", "8", "11"):
        old, new = sim.get_submodule(name).array, normalised.get_submodule(name).array
        assert torch.equal(old.cells["conductance_S"], new.cells["conductance_S"])
        assert (old.seed, old.input_range, old.input_signed) == (new.seed, new.input_range, new.input_signed)
    assert normalised[11].array.adc_high == sim[11].array.adc_high
    again = copy.deepcopy(normalised)
    imcsim.program(again, 9)
    assert not torch.equal(again[4].array.cells["conductance_S"], normalised[4].array.cells["conductance_S"])


def test_calibration_sees_ideal_circuits_and_draws_no_noise() -> None:
    plain, noisy = chip(), chip(ERRORS)
    imcsim.calibrate(noisy, [X])
    for name in ("0", "4", "8", "11"):
        assert noisy.get_submodule(name).array.input_range == plain.get_submodule(name).array.input_range
    assert [norm.samples_read for norm in analog_norms(noisy)] == [0, 0, 0]


def test_diagnosis_and_other_chips_leave_norms_as_they_are() -> None:
    sim = chip(ERRORS, seed=2)
    imcsim.seed_reads(sim, 1)
    sim(X)
    found = imcsim.diagnose(sim, X)
    assert {"drivers and clamps", "read noise"} <= set(found.network.without_db)
    batches = [(X, torch.zeros(len(X), dtype=torch.long))]
    results = imcsim.train.evaluate_on_chips(sim, batches, [11, 12], reference=network())
    assert results[0].sqnr_db != results[1].sqnr_db
    assert [(norm.seed, norm.read_seed, norm.samples_read) for norm in analog_norms(sim)] == [(2, 1, 5)] * 3


class Residual(nn.Module):
    """The first norm's result is added to something: it has to be a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.norm1, self.norm2 = nn.LayerNorm(12), nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.first(x))
        z = self.norm2(self.second(y))
        return self.third(F.relu(z)) + y.sum(-1, keepdim=True)


def test_what_cannot_stay_analog_is_left() -> None:
    sim = imcsim.convert(Residual().eval(), CHIP)
    analog = imcsim.normalise_in_analog(sim)
    assert [norm.name for norm in analog_norms(analog)] == ["norm2"]
    assert analog.third.array.hardware.inputs.analog
    assert not analog.second.array.hardware.inputs.analog
    converted = imcsim.normalise_in_analog(
        imcsim.convert(Residual().eval(), CHIP.replace({"normalisation.bits": 8}))
    )
    assert [norm.name for norm in analog_norms(converted)] == ["norm1", "norm2"]
    assert not converted.third.array.hardware.inputs.analog


class Functional(nn.Module):
    """Written as functions, flattened by its size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 5), nn.GroupNorm(1, 4), nn.Linear(4 * 6 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.max_pool2d(F.relu(self.norm(self.conv(x))), 2), 0.1, self.training)
        return self.fc(x.view(x.size(0), -1))


def test_networks_of_functions() -> None:
    sim = imcsim.normalise_in_analog(imcsim.convert(Functional().eval(), CHIP))
    assert [norm.name for norm in analog_norms(sim)] == ["norm"]
    assert sim.fc.array.hardware.inputs.analog
    with pytest.raises(ConversionError, match=r"no layer normalisation"):  # it is done already
        imcsim.normalise_in_analog(sim)


@pytest.mark.parametrize(
    "between",
    [
        [nn.GroupNorm(2, 4)],  # not over all channels
        [nn.LayerNorm((6, 6))],  # a channel by itself
        [nn.LayerNorm(6)],  # a row of the image
        [nn.GroupNorm(1, 4), nn.Sigmoid()],
        [nn.ReLU(), nn.GroupNorm(1, 4)],  # not the sums
    ],
)
def test_other_norms_stay_digital(between: list[nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), *between, nn.Conv2d(4, 2, 3)).eval()
    with pytest.raises(ConversionError, match=r"no layer normalisation .* \[normalisation\] table"):
        imcsim.normalise_in_analog(imcsim.convert(net, CHIP))
    over_all = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm((4, 6, 6)), nn.Conv2d(4, 2, 3)).eval()
    assert analog_norms(imcsim.normalise_in_analog(imcsim.convert(over_all, CHIP)))
    with pytest.raises(ConversionError, match=r"no layer normalisation"):
        imcsim.normalise_in_analog(imcsim.convert(over_all, CHIP.replace({"normalisation": None})))
    with pytest.raises(ConversionError, match=r"no layer normalisation"):
        imcsim.normalise_in_analog(imcsim.convert(over_all, CHIP.replace({"inputs": {"bits": 1}})))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weights.encoding": "offset"}, r"weights\.encoding = 'offset'; use 'differential'"),
        ({"weights.bits": 4, "weights.cell_bits": 1}, r"weights\.cell_bits = 1; use 3"),
        ({"inputs.bits_per_cycle": 1}, r"inputs\.bits_per_cycle = 1; use 8"),
        ({"inputs.signed_encoding": "offset"}, r"inputs\.signed_encoding = 'offset'; use 'sign_magnitude'"),
    ],
)
def test_chips_that_need_a_digital_side(changes: dict[str, object], field: str) -> None:
    sim = imcsim.convert(network(), CHIP.replace({**changes, "normalisation.bits": 8}))
    with pytest.raises(HardwareError, match=rf"layer '0' cannot have analog sums .*array\.output .*{field}"):
        imcsim.normalise_in_analog(sim)


def test_fields_that_contradict_each_other() -> None:
    with pytest.raises(HardwareError, match=r"array\.output = 'analog'.*normalisation = None; use a table"):
        imcsim.Hardware(array={"output": "analog"})
    with pytest.raises(HardwareError, match=r"array\.output = 'analog'.*adc = 'given'; use none"):
        CHIP.replace({"array.output": "analog"})
    with pytest.raises(HardwareError, match=r"inputs\.analog = True is one amplitude .*bits_per_cycle = 1"):
        imcsim.Hardware(inputs={"analog": True})
    with pytest.raises(HardwareError, match=r"normalisation\.bits = 1"):
        CHIP.replace({"normalisation.bits": 1})


def test_no_digital_drift_compensation() -> None:
    sim = chip()
    imcsim.age(sim, 10.0)
    with pytest.raises(InputError, match=r"compensation = 'global' .* sums of layer '0' stay analog"):
        imcsim.age(sim, 10.0, compensation="global")


def test_summary_names_the_circuits() -> None:
    rows = {row.name: row for row in imcsim.summary(chip({**ERRORS, "normalisation.bits": 8})).rows}
    assert rows["1"].became == "analog normalisation, 8-bit converter on +-4"
    assert rows["1"].effects == "gain errors 0.05, offsets 0.02, noise 0.03"
    assert rows["0"].became.endswith("analog sums")
    assert rows["11"].became.endswith("6-bit ADC")
    rows = {row.name: row for row in imcsim.summary(chip()).rows}
    assert "analog inputs" in rows["11"].effects


def test_events_of_a_network_that_is_never_converted() -> None:
    """By hand: 144 vectors of 25 inputs and 6 outputs, 4 of 150 and 8, 1 of 32 and 20, 1 of 20 and 10."""
    report = imcsim.estimate(chip(), X[:1])
    events = {row.name: row.events for row in report.rows}
    assert events["0"]["neuron"] == 3 * 144 * 6  # normalised, activated, pooled
    assert events["4"]["neuron"] == 2 * 4 * 8
    assert events["8"]["neuron"] == 2 * 20
    assert [events[name]["sample_hold"] for name in ("0", "4", "8", "11")] == [144 * 6, 4 * 8, 20, 10]
    digital = {
        "adc",
        "shift_add",
        "add",
        "output_register_byte",
        "activation",
        "pool",
        "vector_op",
        "flit_hop",
    }
    for name in ("0", "4", "8"):
        assert not digital & set(events[name])
    assert events["0"]["buffer_byte"] == 144 * 25  # images are read, results are not written
    for name in ("4", "8"):
        assert not {"buffer_byte", "bus_byte", "input_register_byte"} & set(events[name])
    assert events["11"]["adc"] == events["11"]["shift_add"] == 10
    assert events["11"]["buffer_byte"] == 10 * 6 / 8
    assert events["11"]["link_byte"] == 10 * 6 / 8
    assert report.uncosted["neuron"] == 3 * 144 * 6 + 2 * 4 * 8 + 2 * 20
    assert "neuron" in str(report)
    assert "operations of 1 x 8 bits, 1 x analog" in report.convention


def test_events_where_normalised_values_are_converted() -> None:
    digital = {row.name: row.events for row in imcsim.estimate(imcsim.convert(network(), CHIP), X[:1]).rows}
    report = imcsim.estimate(chip({"normalisation.bits": 12}), X[:1])
    events = {row.name: row.events for row in report.rows}
    assert [events[name]["adc"] for name in ("0", "4", "8")] == [144 * 6, 4 * 8, 20]
    assert [digital[name]["adc"] for name in ("0", "4", "8")] == [144 * 6, 6 * 4 * 8, 2 * 20]  # row blocks
    assert [events[name]["neuron"] for name in ("0", "4", "8")] == [144 * 6, 4 * 8, 20]
    assert "vector_op" not in events["0"]
    assert digital["0"]["vector_op"] == 144 * 6
    for event in ("activation", "buffer_byte", "bus_byte", "input_register_byte"):
        assert events["4"][event] == digital["4"][event]
