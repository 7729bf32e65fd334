"""Any quantizer reaches the arrays exactly: terms, zero points and passes, for every layer option and engine.

The quantizers here have scales that are powers of two, so that a float64 layer of the quantized input and
weight gives the same numbers bit for bit.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, InputError, MappingError
from imcsim.quant import (
    GradientQuantizer,
    InputCodes,
    InputQuantizer,
    Method,
    WeightCodes,
    WeightQuantizer,
    after_step,
    parameters,
    penalty,
    set_progress,
)
from tests.layers import CASES, LINEAR_CASES, PLAIN, LayerCase, named
from tests.quant.toys import quantized_twin

HARDWARE = imcsim.Hardware(
    array={"rows": 8, "rows_active": 6},
    weights={"bits": 4, "encoding": "offset"},
    inputs={"bits": 4, "signed": True},
    adc={"bits": 14},
)


class TwoTerms(WeightQuantizer):
    """Two terms, each output with a scale of its own and a zero point of a half or one."""

    def encode(self, matrix: Tensor) -> WeightCodes:
        coarse = torch.round(matrix.double() * 2).clamp(-8, 7)
        fine = torch.round(matrix.double() * 64).remainder(8)
        outputs = torch.arange(matrix.shape[1], dtype=torch.float64)
        scale = (2.0 ** -(outputs % 3))[None, :, None]
        zero = torch.stack([(outputs % 2) / 2, outputs % 2 - 1])[:, None, :, None]
        return WeightCodes(
            torch.stack([coarse, fine]),
            torch.stack([scale, scale / 4]).expand(2, matrix.shape[0], -1, 1),
            zero.expand(2, matrix.shape[0], -1, 1),
        )


class TwoPasses(InputQuantizer):
    """Two passes and a zero point of a half."""

    ranged, signed = False, True

    def encode(self, x: Tensor, span: object) -> InputCodes:
        coarse = torch.round(x * 2).clamp(-7, 7)
        return InputCodes((coarse, torch.round(x * 16).remainder(7)), (0.5, 0.0625), zero=0.5)

    def forward(self, x: Tensor, value: Tensor, span: object) -> Tensor:
        return imcsim.quant.straight_through(x, value)


@dataclass(frozen=True)
class Both(Method):
    def weight_quantizer(self, hardware: imcsim.Hardware) -> WeightQuantizer:
        return TwoTerms()

    def input_quantizer(self, hardware: imcsim.Hardware) -> InputQuantizer:
        return TwoPasses()


@pytest.mark.parametrize("engine", ["auto", "reference", "matmul"])
@pytest.mark.parametrize(**named(CASES))
def test_terms_passes_and_zero_points_are_exact(case: LayerCase, engine: str) -> None:
    layer, x = case.build(), case.inputs()
    sim = imcsim.convert(layer, HARDWARE, engine=engine, qat=Both())
    assert sim.array.written.w_int.shape[1] == 2 * sim.weight_matrix(sim.weight).shape[1]
    twin, x_q = quantized_twin(sim, layer, x)
    if twin.bias is not None:  # a bias of many bits would round the sum
        with torch.no_grad():
            for module in (twin, sim):
                module.bias.copy_(torch.round(layer.bias * 4) / 4)
    assert torch.equal(sim(x), twin(x_q))


@pytest.mark.parametrize(**named(CASES))
def test_gradients_are_those_of_the_quantized_layer(case: LayerCase) -> None:
    layer, x = case.build(), case.inputs()
    sim = imcsim.convert(layer, HARDWARE, qat=Both()).train()
    leaf = x.clone().requires_grad_()
    y = sim(leaf)
    grad = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(y, [leaf, *sim.parameters()], grad)
    twin, x_q = quantized_twin(sim, layer, x)
    want = torch.autograd.grad(twin(x_q.requires_grad_()), [x_q, *twin.parameters()], grad)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


class Learned(WeightQuantizer):
    """One learned step, soft until training is half done."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.25))
        self.fraction = 0.0

    @property
    def soft(self) -> bool:
        return self.training and self.fraction < 0.5

    def encode(self, matrix: Tensor) -> WeightCodes:
        codes = torch.round(matrix.double() / self.step.detach().double()).clamp(-7, 7)
        return WeightCodes.single(codes, self.step.detach().double().reshape(1, 1, 1))

    def soft_value(self, matrix: Tensor) -> Tensor:
        return torch.tanh(matrix / self.step) * self.step

    def set_progress(self, fraction: float) -> None:
        self.fraction = fraction

    def penalty(self) -> Tensor:
        return self.step.square()

    def after_step(self, matrix: Tensor) -> Tensor:
        return matrix.clamp(-0.5, 0.5)


class Halved(GradientQuantizer):
    def forward(self, grad: Tensor) -> Tensor:
        return grad / 2


@dataclass(frozen=True)
class Learning(Method):
    def weight_quantizer(self, hardware: imcsim.Hardware) -> WeightQuantizer:
        return Learned()

    def gradient_quantizer(self, hardware: imcsim.Hardware) -> GradientQuantizer:
        return Halved()


DYNAMIC = imcsim.Hardware(weights={"bits": 4}, inputs={"range": "dynamic"})


def test_parameters_of_quantizers_are_the_models_and_reach_files(tmp_path) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    sim = imcsim.convert(net, DYNAMIC, qat=Learning())
    assert [name for name, _ in sim.named_parameters() if "quantizer" in name] == [
        "0.array.weight_quantizer.step",
        "2.array.weight_quantizer.step",
    ]
    assert len(list(parameters(sim))) == 2
    assert penalty(sim).item() == 2 * 0.25**2
    assert penalty(imcsim.convert(net, DYNAMIC)).item() == 0
    sim.load_state_dict(net.state_dict(), strict=True)  # a float checkpoint has no quantizers
    with torch.no_grad():
        sim[0].array.weight_quantizer.step.fill_(0.1)
    x = torch.randn(4, 6)
    twin = copy.deepcopy(sim)
    assert torch.equal(twin(x), sim(x))
    imcsim.save(sim, tmp_path / "chip.safetensors")
    loaded = imcsim.load(tmp_path / "chip.safetensors", net)
    assert torch.equal(loaded(x), sim(x))
    assert isinstance(loaded[0].array.method, Learning)
    other = imcsim.convert(net, DYNAMIC, qat=Learning())
    other.load_state_dict(sim.state_dict())
    assert torch.equal(other(x), sim(x))


def test_a_changed_parameter_reprograms_the_arrays() -> None:
    sim = imcsim.convert(nn.Linear(6, 5), DYNAMIC, qat=Learning()).eval()
    before = sim.array.written.w_int
    sim(torch.randn(2, 6))
    assert sim.array.written.w_int is before
    with torch.no_grad():
        sim.array.weight_quantizer.step.mul_(2)
    sim(torch.randn(2, 6))
    assert not torch.equal(sim.array.written.w_int, before)


def test_soft_values_are_computed_digitally_until_they_are_hard() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    sim = imcsim.convert(layer, DYNAMIC, qat=Learning()).train()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    soft = copy.deepcopy(layer)
    with torch.no_grad():
        soft.weight.copy_(torch.tanh(layer.weight / 0.25) * 0.25)
    x_q = sim.array.quantize(x.detach(), 3).value()
    torch.testing.assert_close(sim(x), soft(x_q), rtol=1e-12, atol=1e-12)
    with torch.no_grad():  # also without gradients, as when statistics are estimated anew
        torch.testing.assert_close(sim(x), soft(x_q), rtol=1e-12, atol=1e-12)
    sim(x).sum().backward()
    assert sim.array.weight_quantizer.step.grad is not None
    set_progress(sim, 0.5)
    in_training = sim(x)
    assert torch.equal(in_training, sim.eval()(x))
    sim.train()
    set_progress(sim, 0.0)
    assert not torch.equal(sim(x), in_training)


def test_gradients_are_quantized_and_weights_clipped() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64)
    sim = imcsim.convert(layer, DYNAMIC, qat=Learning()).eval()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    sim(x).sum().backward()
    assert torch.equal(sim.bias.grad, torch.full((3,), 2.0, dtype=torch.float64))  # the bias' is not
    torch.testing.assert_close(x.grad, sim.array.written.codes.value()[0].sum(0).expand(2, -1) / 2)
    with torch.no_grad():
        sim.weight.fill_(3.0)
    after_step(sim)
    assert torch.equal(sim.weight, torch.full_like(sim.weight, 0.5))


def test_methods_by_pattern() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(3, 2))
    sim = imcsim.convert(net, DYNAMIC, qat={"*": Learning(), "1": None})
    assert [layer.array.method for layer in sim] == [Learning(), None, Learning()]


@pytest.mark.parametrize(
    ("qat", "texts"),
    [
        ("lsqq", ("qat = 'lsqq'", "imcsim.quant")),
        ({"0": 3}, ("qat['0'] = 3",)),
        ({"fc*": Learning()}, ("'fc*' matches no layer", "Layers: 0, 1")),
    ],
)
def test_wrong_methods(qat: object, texts: tuple[str, ...]) -> None:
    with pytest.raises(ConversionError) as error:
        imcsim.convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), DYNAMIC, qat=qat)
    for text in texts:
        assert text in str(error.value)


def test_codes_that_the_cells_cannot_hold() -> None:
    narrow = imcsim.Hardware(weights={"bits": 3, "cell_bits": 2}, inputs={"range": "dynamic"})
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[9.0, -9, 1, 1]] * 2))
    with pytest.raises(MappingError, match=r"layer '': its quantizer makes weights of -7 to 7.*hold -3 to 3"):
        imcsim.convert(layer, narrow, qat=Learning())


@pytest.mark.parametrize("fraction", [-0.1, 1.5, True, "half", float("nan")])
def test_progress_is_a_fraction(fraction: object) -> None:
    sim = imcsim.convert(nn.Linear(2, 2), DYNAMIC, qat=Learning())
    with pytest.raises(InputError, match="between 0"):
        set_progress(sim, fraction)


@pytest.mark.parametrize(**named([*PLAIN, *LINEAR_CASES[1:3]]))
def test_calibration_runs_the_quantized_network(case: LayerCase) -> None:
    layer, x = case.build(), case.inputs()
    calibrated = HARDWARE.replace({"adc.range": "calibrated", "adc.bits": 6})
    sim = imcsim.convert(nn.Sequential(layer), calibrated, qat=Both())
    seen: list[Tensor] = []
    sim.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    imcsim.calibrate(sim, [x])
    twin, x_q = quantized_twin(sim[0], layer, x)
    torch.testing.assert_close(seen[-1], twin(x_q), rtol=1e-12, atol=1e-12)


def test_summary_names_the_method_of_each_layer() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    sim = imcsim.convert(net, imcsim.Hardware(), qat={"*": quant.LSQ(), "2": None})
    rows = {row.name: row for row in imcsim.summary(sim).rows}
    assert rows["0"].method == str(quant.LSQ())
    assert rows["2"].method == ""
    assert str(imcsim.summary(sim)).count("quantized by LSQ(") == 1
    assert list(imcsim.summary(sim).frame()["method"]) == [str(quant.LSQ()), ""]
