"""Biases and BatchNorm parameters in few bits, and BatchNorm folded, while a network trains."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import imcsim
from imcsim.errors import ConversionError, InputError
from imcsim.hardware import Hardware
from imcsim.train.digital import QuantizedDigital, digital_parameters
from imcsim.train.folding import FoldingLayer, fold_in_training, unfold

CHIP = Hardware.model_validate(
    {"weights": {"bits": 4}, "inputs": {"bits": 4, "signed": True, "range": "dynamic"}}
)


def net(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=bias),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
        nn.BatchNorm1d(3),
    )
    for norm in (model[1], model[5]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


X = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8) % 3


def test_parameters_are_quantized_inside_and_real_outside() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    with QuantizedDigital(model, 3).applied():
        for name in ("0.bias", "1.weight", "1.bias", "4.bias", "5.weight", "5.bias"):
            real, used = before[name], model.get_parameter(name).detach()
            step = float(real.abs().max()) / 3
            codes = used / step
            assert torch.allclose(codes, codes.round(), atol=1e-5)
            assert float((used - real).abs().max()) <= step / 2 + 1e-7
            assert not torch.equal(used, real)
        assert torch.equal(model[0].weight, before["0.weight"])
        assert torch.equal(model[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_gradients_are_those_at_the_quantized_parameters() -> None:
    """Straight-through, as BinaryConnect's: a twin that holds the quantized values has the same gradients."""
    model = net()
    digital = QuantizedDigital(model, 4)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name in digital.parameters:
            twin.get_parameter(name).copy_(digital.quantized(twin.get_parameter(name)))
    F.cross_entropy(twin(X), Y).backward()
    with digital.applied():
        F.cross_entropy(model(X), Y).backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, twin.get_parameter(name).grad)


def test_parameters_come_back_after_an_error() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt), QuantizedDigital(model, 2).applied():
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_which_parameters() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "n": nn.LayerNorm(2), "l": nn.LSTM(2, 2)})
    assert set(digital_parameters(model, biases=True, norms=False)) == {
        "a.bias",
        "l.bias_ih_l0",
        "l.bias_hh_l0",
    }
    assert set(digital_parameters(model, biases=False, norms=True)) == {"n.weight", "n.bias"}


def test_a_chip_trains_with_quantized_digital_parameters() -> None:
    sim = imcsim.convert(net(), CHIP).train()
    digital = QuantizedDigital(sim, 4)
    optimizer = torch.optim.SGD(sim.parameters(), lr=0.05)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        with digital.applied():
            loss = F.cross_entropy(sim(X), Y)
            loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("bits", [1, 17])
def test_wrong_widths(bits: int) -> None:
    with pytest.raises(InputError, match=f"bits = {bits} for 6 parameters"):
        QuantizedDigital(net(), bits)


def test_a_model_without_digital_parameters() -> None:
    with pytest.raises(InputError, match="at least one bias or normalisation"):
        QuantizedDigital(nn.Linear(2, 2, bias=False), 8)


# ---- folding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_folded_float_network_computes_the_same(bias: bool, training: bool) -> None:
    """Eq. 22 is an identity in floats: outputs, gradients and running statistics agree."""
    plain = net(bias).double().train(training)
    folded = copy.deepcopy(plain)
    assert fold_in_training(folded) == ["0", "4"]
    want, got = plain(X.double()), folded(X.double())
    assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)
    (want.square().sum() + want.sum()).backward()
    (got.square().sum() + got.sum()).backward()
    unfold(folded)
    for name, parameter in plain.named_parameters():
        grad = folded.get_parameter(name).grad
        scale = float(parameter.grad.abs().max()) + 1e-3
        assert float((grad - parameter.grad).abs().max()) < 1e-8 * scale
    for name, buffer in plain.named_buffers():
        assert torch.allclose(folded.get_buffer(name), buffer)
    assert list(folded.state_dict()) == list(plain.state_dict())


def test_frozen_statistics_are_the_running_ones_and_stay() -> None:
    model = net()
    evaluated = copy.deepcopy(model).eval()
    fold_in_training(model)
    before = model[0].norm.running_mean.clone()
    for module in model.modules():
        if isinstance(module, FoldingLayer):
            module.frozen = True
    assert torch.allclose(model.train()(X), evaluated(X), atol=1e-5)
    assert torch.equal(model[0].norm.running_mean, before)


def test_training_sees_the_folded_weights_that_the_chip_will_hold() -> None:
    """Exactness: in eval mode the folding network's arrays are those of convert(fold_batchnorm=True)."""
    model = net().double().eval()
    sim = imcsim.convert(model, CHIP)
    folded = imcsim.convert(model, CHIP, fold_batchnorm=True)
    assert fold_in_training(sim) == ["0", "4"]
    x = X.double()
    assert torch.allclose(sim(x), folded(x), rtol=1e-9, atol=1e-9)
    assert torch.equal(sim[0].layer.array.written.w_int, folded[0].array.written.w_int)
    assert not torch.allclose(sim(x), imcsim.convert(model, CHIP)(x), rtol=1e-3, atol=1e-3)


def test_a_folded_chip_trains() -> None:
    sim = imcsim.convert(net(), CHIP).train()
    fold_in_training(sim)
    optimizer = torch.optim.SGD(sim.parameters(), lr=0.05)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(sim(X), Y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert sim[0].norm.weight.grad.abs().sum() > 0


def test_what_cannot_be_traced() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ConversionError, match=r"fold_in_training needs torch\.fx"):
        fold_in_training(Branching())
