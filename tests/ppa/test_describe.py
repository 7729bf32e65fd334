"""From models to shapes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import imcsim
from imcsim import ppa, zoo
from imcsim.errors import InputError
from tests.layers import CASES
from tests.ppa.chips import chip, costs, small_net

ROOT = Path(__file__).parents[2]


def test_a_float_and_a_converted_model_agree() -> None:
    net, x = small_net(), torch.rand(4, 3, 8, 8)
    sim = imcsim.convert(net, chip("xnor_rram"))
    for before, after in zip(ppa.describe(net, x), ppa.describe(sim, x), strict=True):
        assert after.hardware == chip("xnor_rram")
        for field in (
            "name",
            "groups",
            "outputs",
            "inputs",
            "vectors",
            "kind",
            "activations",
            "pools",
            "window",
        ):
            assert getattr(before, field) == getattr(after, field)
    conv, linear = ppa.describe(net, x)
    assert (conv.groups, conv.outputs, conv.inputs, conv.vectors) == (1, 20, 27, 64)
    assert conv.window == (2 * 8 + 3) / 64
    assert (linear.groups, linear.outputs, linear.inputs, linear.vectors) == (1, 10, 320, 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_torch_layer_has_the_shape_of_its_matrix(case) -> None:
    layer = case.build(torch.float32)
    x = case.inputs(torch.float32)
    (shape,) = ppa.describe(layer, x)
    sim = imcsim.convert(layer, chip("xnor_rram"))
    groups, outputs, inputs = sim.weight_matrix(sim.weight).shape
    assert (shape.groups, shape.outputs, shape.inputs) == (groups, outputs, inputs)
    assert shape.output_elements == layer(x).numel() // len(x)


def test_the_model_is_left_as_it_was() -> None:
    net = zoo.resnet20()
    sim = imcsim.convert(net, chip("xnor_rram")).train()
    state = {key: value.clone() for key, value in sim.state_dict().items()}
    before = torch.get_rng_state()
    ppa.describe(sim, torch.zeros(2, 3, 32, 32))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in sim.state_dict().items())
    assert all(module.training for module in sim.modules())
    assert all(m.array.observer is None for m in sim.modules() if hasattr(m, "array"))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in sim.modules())


def test_resnet20_on_isaac() -> None:
    shapes = ppa.describe(zoo.resnet20(), torch.empty(1, 3, 32, 32))
    assert sum(shape.macs for shape in shapes) == 40_551_040  # 40.55 M in every table of this network
    report = ppa.estimate(zoo.resnet20(), torch.empty(1, 3, 32, 32), chip("isaac"), costs=costs("isaac"))
    assert report.chips == 1
    assert "vector_op" in report.uncosted  # ISAAC has no unit for residual sums


def test_layers_kept_digital_are_counted_so() -> None:
    sim = imcsim.convert(small_net(), {"*": chip("isaac"), "4": None})
    conv, linear = ppa.describe(sim, torch.zeros(2, 3, 8, 8))
    assert conv.on_arrays
    assert not linear.on_arrays
    assert linear.digital_macs == 3200
    report = ppa.estimate(sim, torch.zeros(2, 3, 8, 8), costs=costs("isaac"))
    assert report.rows[1].kind == "Linear, digital"
    assert report.uncosted == {"digital_mac": 3200}


def test_a_layer_used_twice_has_the_vectors_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.layer(self.layer(x))) + x

    (shape,) = ppa.describe(Twice(), torch.zeros(3, 8))
    assert (shape.vectors, shape.activations, shape.vector_ops) == (2, 8, 8)


def test_recurrent_layers() -> None:
    net = nn.LSTM(16, 32, num_layers=2, bidirectional=True, batch_first=True)
    shapes = {shape.name: shape for shape in ppa.describe(net, torch.zeros(3, 5, 16))}
    assert len(shapes) == 8
    first, second = shapes["weight_ih_l0"], shapes["weight_ih_l1_reverse"]
    assert (first.outputs, first.inputs, first.vectors, first.sequential) == (128, 16, 5, False)
    assert (second.outputs, second.inputs) == (128, 64)
    recurrent = shapes["weight_hh_l0"]
    assert (recurrent.outputs, recurrent.inputs, recurrent.sequential) == (128, 32, True)
    assert recurrent.activations == 5 * 32 * 5
    (ih, hh) = ppa.describe(nn.GRUCell(4, 8), torch.zeros(2, 4))
    assert (ih.outputs, hh.outputs, hh.vectors) == (24, 24, 1)


def test_attention() -> None:
    net = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)
    shapes = {shape.name: shape for shape in ppa.describe(net, torch.zeros(2, 7, 32))}
    assert set(shapes) == {
        *(f"self_attn.{part}_proj" for part in ("query", "key", "value", "out")),
        "linear1",
        "linear2",
    }
    assert shapes["self_attn.query_proj"].vectors == 7
    assert shapes["self_attn.out_proj"].digital_macs == 2 * 7 * 7 * 32


def test_activity_is_measured_on_the_sample() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(4))
    hardware = chip("isaac").replace({"inputs.bits": 2, "inputs.range": 3.0, "inputs.signed": False})
    sim = imcsim.convert(net, hardware)
    x = torch.tensor([[0.0, 1.0, 2.0, 3.0]])  # codes 00, 01, 10, 11: half of all pulses
    first, second = ppa.describe(sim, x, activity=True)
    assert first.activity == second.activity == 0.5
    full = ppa.estimate(sim, x, costs=costs("isaac"))
    measured = ppa.estimate(sim, x, costs=costs("isaac"), activity=True)
    assert measured.rows[0].energy_aJ["dac"] * 2 == full.rows[0].energy_aJ["dac"]
    assert measured.rows[0].energy_aJ["adc"] == full.rows[0].energy_aJ["adc"]


def test_ternary_inputs_of_xnor_drive_a_line_of_the_pairs_that_are_not_0() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), chip("xnor_sram").replace({"inputs.range": 1.0}))
    (shape,) = ppa.describe(sim, torch.tensor([[0.0, 1.0, -1.0, 0.1]]), activity=True)
    assert shape.activity == 0.5 * 2 / 4
    binary = imcsim.convert(nn.Linear(4, 2), chip("xnor_rram"))
    (shape,) = ppa.describe(binary, torch.zeros(1, 4), activity=True)
    assert shape.activity == 0.5


def test_activity_needs_a_chip_and_an_input_that_fits() -> None:
    with pytest.raises(InputError, match="the model has none; convert it first"):
        ppa.describe(small_net(), torch.zeros(1, 3, 8, 8), activity=True)
    with pytest.raises(InputError, match=r"does not run on an input of shape \(1, 2, 8, 8\).*2 channels"):
        ppa.describe(small_net(), torch.zeros(1, 2, 8, 8))


def test_a_forward_pass_that_looks_at_its_data_is_run_on_the_data() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(input=x) if x.sum().item() >= 0 else x

    (shape,) = ppa.describe(Looks(), torch.zeros(3, 8))
    assert (shape.outputs, shape.inputs, shape.vectors) == (4, 8, 1)


def test_wrong_inputs() -> None:
    with pytest.raises(InputError, match="takes the model's input, a tensor, but got str"):
        ppa.describe(small_net(), "image")
    with pytest.raises(InputError, match="nothing to estimate"):
        ppa.describe(nn.ReLU(), torch.zeros(1, 3))
    with pytest.raises(InputError, match="no hardware was given"):
        ppa.estimate(small_net(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="do not share evenly; give batch"):
        ppa.describe(nn.Linear(4, 4), torch.zeros(3, 4), batch=2)


LARGE = """
import resource, time
import torch
from imcsim import ppa
from tests.ppa.chips import chip, costs, vgg16
start = time.perf_counter()
if "{net}" == "vgg16":
    model, x = vgg16(), torch.zeros(1, 3, 224, 224)
else:
    model, x = torch.nn.LSTM(2048, 2048), torch.zeros(50, 1, 2048)
report = ppa.estimate(model, x, chip("isaac"), costs=costs("isaac"), samples=1)
print(report.macs, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("net", "macs"), [("vgg16", 15_470_264_320), ("lstm", 50 * 2 * 4 * 2048 * 2048)])
def test_large_networks_take_under_60_s_and_4_GB(net: str, macs: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE.replace("{net}", net)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counted, seconds, gigabytes = done.stdout.split()
    assert int(counted) == macs
    assert float(seconds) < 60
    assert float(gigabytes) < 4
