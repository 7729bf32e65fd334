"""Binary neurons, and the binary VGG-smalls: what torch computes with them is what binary chips compute."""

import copy

import pytest
import torch
from torch import nn

import imcsim
from imcsim import zoo
from imcsim.survey import survey_chip

REAL_ENDS = ("features.conv1", "classifier.fc3")


@pytest.mark.parametrize(("neuron", "low"), [(zoo.Sign(), -1.0), (zoo.Step(), 0.0)])
def test_neurons_give_two_values_and_pass_the_gradient_of_a_line_between_them(neuron, low: float) -> None:
    x = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    neuron(x).backward(torch.arange(1.0, 9.0))
    assert neuron(x).tolist() == [low] * 5 + [1.0] * 3
    slope = (1 - low) / 2
    assert x.grad.tolist() == [0, 0, 3 * slope, 4 * slope, 5 * slope, 6 * slope, 0, 0]


@pytest.mark.parametrize("neuron", [zoo.Sign, zoo.Step])
def test_networks_of_binary_neurons_can_be_traced_and_copied(neuron) -> None:
    net = nn.Sequential(nn.Linear(4, 5), neuron(), nn.Linear(5, 2)).eval()
    x = torch.randn(3, 4)
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))


@pytest.mark.parametrize("neurons", ["-1, 1", "0, 1"])
def test_weights_of_hidden_layers_are_binary_and_neurons_too(neurons) -> None:
    net = zoo.vgg_small_binary(neurons=neurons)
    seen = []
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name not in REAL_ENDS:
            a = layer.weight.abs().mean()
            torch.testing.assert_close(layer.weight.abs(), a.expand_as(layer.weight))
            layer.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    images, _ = zoo.cifar10_test(4)
    net(images)
    assert len(seen) == 7
    allowed = {float(value) for value in neurons.split(",")}
    assert all(set(x.unique().tolist()) <= allowed for x in seen)


# Measured with PyTorch 2.13.0 on the CPU; a neuron whose sum is all but its threshold may flip elsewhere.
@pytest.mark.parametrize(("name", "of_300"), [("vgg_small_binary", 240), ("vgg_small_binary01", 240)])
def test_accuracy_on_the_images_in_the_package(name: str, of_300: int) -> None:
    benchmark = zoo.load(name, n=300)
    top1 = imcsim.evaluate(benchmark.model, benchmark.batches(100)).top1
    assert 300 * top1 == pytest.approx(of_300, abs=2.5)


@pytest.mark.parametrize(("name", "signed"), [("vgg_small_binary", True), ("vgg_small_binary01", False)])
def test_a_binary_chip_computes_what_torch_computes(name: str, signed: bool) -> None:
    benchmark = zoo.load(name, n=40)
    chip = survey_chip("FINN").hardware
    if not signed:
        chip = chip.replace({"weights.encoding": "differential", "inputs.signed": False})
    sim = imcsim.convert(benchmark.model, {"*": chip, **dict.fromkeys(REAL_ENDS)})
    wanted = benchmark.model(benchmark.images)
    assert imcsim.evaluate(sim, benchmark.batches(20), reference=benchmark.model).sqnr_db > 80
    folded = imcsim.fold_thresholds(sim)
    assert torch.equal(folded(benchmark.images).argmax(1), wanted.argmax(1))


def test_neurons_of_another_kind_are_refused() -> None:
    with pytest.raises(imcsim.ImcsimError, match=r"neurons = '1, 2' is not one of '-1, 1', '0, 1'"):
        zoo.vgg_small_binary(neurons="1, 2")  # type: ignore[arg-type]
