"""BatchNorm folded into the layer before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim.errors import ConversionError, ImcsimError
from imcsim.fold import fold_batchnorm
from tests.layers import CASES, LayerCase, named
from tests.tolerances import FOLD_FLOAT64

NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
IDEAL = imcsim.Hardware(weights={"bits": 16}, inputs={"range": "dynamic", "bits": 16})


def normalised(case: LayerCase, *, affine: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layer = case.build()
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    norm = NORMS[len(case.shape)](outputs, affine=affine, dtype=torch.float64)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        if affine:
            norm.weight.uniform_(-2, 2)
            norm.bias.normal_()
    return nn.Sequential(layer, norm, nn.ReLU()).eval()


FOLDABLE = [case for case in CASES if case.name != "Linear-sequence"]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(**named(FOLDABLE))
def test_the_folded_model_computes_the_same(case: LayerCase, affine: bool) -> None:
    net, x = normalised(case, affine=affine), case.inputs()
    want = net(x)
    folded = fold_batchnorm(normalised(case, affine=affine))
    assert isinstance(folded[1], nn.Identity)
    assert (folded(x) - want).abs().max() <= FOLD_FLOAT64 * 10 * want.abs().max()
    assert not [key for key in folded.state_dict() if key.startswith("1.")]


def test_a_norm_over_positions_is_not_taken_for_one_over_features() -> None:
    """BatchNorm1d on (batch, positions, features) normalises positions, not a linear layer's outputs."""
    torch.manual_seed(0)
    apart = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(5))
    apart(torch.randn(8, 5, 6) * 2 + 1)
    x = torch.randn(3, 5, 6)
    want = apart.eval()(x)
    folded = fold_batchnorm(apart)
    assert isinstance(folded[1], nn.BatchNorm1d)
    assert torch.equal(folded(x), want)

    alike = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).eval()  # foldable, but not for sequences
    folded = fold_batchnorm(alike)
    assert folded(torch.randn(3, 6)).shape == (3, 4)
    with pytest.raises(ImcsimError, match=r"\(3, 4, 4\).*fold_batchnorm=False"):
        folded(torch.randn(3, 4, 6))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(x.mean((2, 3)))


def trained() -> Net:
    torch.manual_seed(0)
    net = Net()
    for _ in range(3):
        net(torch.randn(16, 3, 6, 6) * 2 + 1)
    return net.eval()


def test_keys_of_folded_norms_go_and_float_checkpoints_are_refused() -> None:
    net, x = trained(), torch.randn(5, 3, 6, 6)
    sim = imcsim.convert(net, IDEAL, fold_batchnorm=True)
    assert not [key for key in sim.state_dict() if "bn" in key]
    assert "conv1.bias" in sim.state_dict()
    assert (sim(x) - net(x)).abs().max() <= 0.01 * net(x).abs().max()
    with pytest.raises(
        ImcsimError, match=r"checkpoint has 'bn1\..*folded.*load the checkpoint into the float model"
    ):
        sim.load_state_dict(net.state_dict())
    with pytest.raises(ImcsimError):
        sim.load_state_dict(net.state_dict(), strict=False)
    assert "bn1.weight" in net.state_dict()


def test_its_own_checkpoint_loads() -> None:
    sim = imcsim.convert(trained(), IDEAL, fold_batchnorm=True)
    x = torch.randn(5, 3, 6, 6)
    y = sim(x)
    sim.load_state_dict(sim.state_dict(), strict=True)
    assert torch.equal(sim(x), y)


def test_folding_is_off_by_default() -> None:
    sim = imcsim.convert(trained(), IDEAL)
    assert isinstance(sim.bn1, nn.BatchNorm2d)
    rows = {row.name: row.became for row in imcsim.summary(sim).rows}
    assert rows["bn1"] == "digital"


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"fold_batchnorm=True .*training mode; call model.eval\(\) first"
    ):
        imcsim.convert(Net().train(), IDEAL, fold_batchnorm=True)


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if x.sum() > 0 else x

    with pytest.raises(ConversionError, match=r"torch\.fx .*convert without folding"):
        imcsim.convert(Branch().eval(), IDEAL, fold_batchnorm=True)


def test_what_is_used_twice_or_branches_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.branch = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
            self.bn2 = nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.bn(self.conv(self.bn(self.conv(x))))
            y = self.branch(x)
            return self.bn2(y) + y

    net = Twice().eval()
    x = torch.randn(2, 2, 4, 4)
    sim = imcsim.convert(net, IDEAL, fold_batchnorm=True)
    assert isinstance(sim.bn, nn.BatchNorm2d)
    assert isinstance(sim.bn2, nn.BatchNorm2d)
    assert (sim(x) - net(x)).abs().max() <= 0.01 * net(x).abs().max()


def test_a_weight_shared_with_another_layer_is_not_folded_behind_its_back() -> None:
    """Folding one of two layers with one weight must not change the other's result."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn, self.b = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.bn(self.a(x)))

    net = Tied().eval()
    with torch.no_grad():
        net.bn.running_var.fill_(9.0)
    x = torch.randn(2, 2, 4, 4)
    sim = imcsim.convert(net, IDEAL, fold_batchnorm=True)
    assert (sim(x) - net(x)).abs().max() <= 0.01 * net(x).abs().max()
