"""Training in stages: what each stage's chip is, and that weights and teachers are handed on."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import imcsim
from imcsim import quant, zoo
from imcsim.convert import named_layers
from imcsim.errors import InputError
from imcsim.hardware import Hardware
from imcsim.train.digital import average_bit_width
from imcsim.train.stages import (
    Stage,
    decreasing,
    progressive,
    real_to_binary,
    run_stages,
    two_stage,
    with_tanh,
)

BASE = Hardware.model_validate({"weights": {"bits": 2}, "inputs": {"bits": 2}})
BINARY = Hardware.model_validate({"weights": {"bits": 1, "encoding": "xnor"}, "inputs": {"bits": 1}})


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Hardtanh(), nn.Linear(16, 16), nn.Hardtanh(), nn.Linear(16, 3))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(96, 12, generator=torch.Generator().manual_seed(1))
    return x, x[:, :3].argmax(1)


def widths(stages: list[Stage], pattern: str = "*") -> list[tuple[int, int]]:
    chips = [stage.chips[pattern] for stage in stages if stage.chips is not None]
    return [(chip.weights.bits, chip.inputs.bits) for chip in chips]


def test_what_the_stages_are() -> None:
    assert widths(two_stage(BASE)) == [(2, 16), (2, 2)]
    assert widths(progressive(BASE, (16, 8, 4, 2))) == [(16, 16), (8, 8), (4, 4), (2, 2)]
    stages = real_to_binary(BINARY, fixed={"0": None})
    assert [(s.chips is None, s.soft) for s in stages] == [
        (True, False),
        (True, True),
        (False, False),
        (False, False),
    ]
    assert widths(stages) == [(16, 1), (1, 1)]
    assert all(stage.chips["0"] is None for stage in stages[2:])
    fixed = {"0": BASE.replace({"weights.bits": 8})}
    assert widths(progressive(BASE, (4, 2), fixed=fixed), "0") == [(8, 2), (8, 2)]


def test_cells_are_no_wider_than_the_weight() -> None:
    chip = BASE.replace({"weights.bits": 8, "weights.cell_bits": 4})
    cells = [stage.chips["*"].weights.cell_bits for stage in progressive(chip, (8, 3, 2))]
    assert cells == [4, 2, 1]


def test_weights_and_teachers_are_handed_on() -> None:
    seen = []

    def train(student: nn.Module, stage: Stage, before: nn.Module | None) -> None:
        seen.append((stage.name, student, before, student[0].weight.detach().clone()))
        with torch.no_grad():
            student[0].weight.add_(1)

    model = net()
    start = copy.deepcopy(model.state_dict())
    last = run_stages(model, real_to_binary(BINARY), train, calibration=[data()[0]])
    assert [name for name, *_ in seen] == ["real", "soft activations", "binary activations", "binary"]
    assert [before for _, _, before, _ in seen] == [None, *[student for _, student, _, _ in seen[:-1]]]
    for i, (_, _, _, weight) in enumerate(seen):
        assert torch.equal(weight, _plus(start["0.weight"], i))
    assert last is seen[-1][1]
    assert torch.equal(last[0].weight, _plus(start["0.weight"], 4))
    assert all(torch.equal(value, start[key]) for key, value in model.state_dict().items())
    kinds = [type(student[1]) for _, student, _, _ in seen]
    assert kinds == [nn.Hardtanh, nn.Tanh, nn.Hardtanh, nn.Hardtanh]


def _plus(weight: torch.Tensor, ones: int) -> torch.Tensor:
    for _ in range(ones):
        weight = weight + 1
    return weight


def test_a_staged_training_learns() -> None:
    """Two-stage training at 2 b / 2 b ends well above chance, with an ordinary loop."""
    x, y = data()

    def train(student: nn.Module, stage: Stage, before: nn.Module | None) -> None:
        optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
        student.train()
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(student(x), y).backward()
            optimizer.step()

    fixed = {name: BASE.replace({"weights.bits": 8, "inputs.bits": 8}) for name in ("0", "4")}
    sim = run_stages(net(), two_stage(BASE, fixed=fixed), train, calibration=[x])
    assert imcsim.evaluate(sim, [(x, y)]).top1 > 0.8


def test_softly_binarized() -> None:
    x = torch.linspace(-3, 3, 12).view(1, -1)
    soft = with_tanh(net())
    assert torch.equal(soft(x), soft[4](torch.tanh(soft[2](torch.tanh(soft[0](x))))))


def test_vgg7_at_8_4_2_1_1_1_has_the_published_size() -> None:
    """Chu et al.: 1.06 times the size of the binarized network (the survey's section 4.5.2)."""
    model = zoo.vgg7(bias=False, affine=False)
    chip = Hardware.model_validate({"weights": {"bits": 8}, "inputs": {"bits": 8}})
    sizes = []
    for bits in ((8, 4, 2, 1, 1, 1), (1,)):
        chips = decreasing(model, chip, bits)
        small = zoo.vgg7(width=0.02, bias=False, affine=False)  # the same names, quickly converted
        layers = named_layers(imcsim.convert(small, chips))
        assert [layers[n].array.hardware.weights.bits for n in layers][: len(bits)] == list(bits)
        full = dict(model.named_modules())
        sizes.append(sum(full[n].weight.numel() * la.array.hardware.weights.bits for n, la in layers.items()))
    assert sizes[0] / sizes[1] == pytest.approx(1.06, abs=0.005)


def test_average_bit_width_by_hand() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    sim = imcsim.convert(model, {"*": BASE, "2": BASE.replace({"weights.bits": 8})})
    # 24 weights at 2 b, 8 at 8 b, a bias and two affine vectors of 4 at 32 b, over 32 weights
    assert average_bit_width(sim) == (24 * 2 + 8 * 8 + 12 * 32) / 32
    assert average_bit_width(sim, digital_bits=8) == (24 * 2 + 8 * 8 + 12 * 8) / 32
    logs = imcsim.convert(model, BASE.replace({"weights.bits": 8}), qat={"0": quant.Log2(bits=4), "2": None})
    assert average_bit_width(logs, code_bits=4) == (24 * 4 + 8 * 8 + 12 * 32) / 32
    digital = imcsim.convert(model, {"*": BASE, "2": None})
    assert average_bit_width(digital) == (24 * 2 + 8 * 32 + 12 * 32) / 32
    assert average_bit_width(model) == (32 * 32 + 12 * 32) / 32


def test_average_bit_width_of_matrices_that_share_a_parameter() -> None:
    sim = imcsim.convert(nn.MultiheadAttention(4, 2, bias=False), {"*": BASE, "key_proj": None})
    assert average_bit_width(sim) == (3 * 16 * 2 + 16 * 32) / 64


def test_wrong_requests() -> None:
    with pytest.raises(InputError, match="no stages"):
        run_stages(net(), [], lambda *_: None, calibration=[data()[0]])
    with pytest.raises(InputError, match="must fall from stage to stage"):
        progressive(BASE, (4, 8))
    with pytest.raises(InputError, match="must fall"):
        progressive(BASE, ())
    with pytest.raises(InputError, match=r"weights\.bits = 2 and inputs\.bits = 2; both must be 1"):
        real_to_binary(BASE)
    with pytest.raises(InputError, match="for 3 layers"):
        decreasing(net(), BASE, (8, 4, 2, 1))
    with pytest.raises(InputError, match="no weights"):
        average_bit_width(nn.ReLU())
