"""Tang's regulariser and activations, the average bit-width, the bypass; recurrent and attention layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim import quant
from imcsim.errors import ConversionError, InputError, MappingError
from imcsim.quant.methods.tang import ResidueInput
from tests.quant.statements import close, gradient, input_value, weights


def test_binary_regulariser_of_eq_21_is_bounded() -> None:
    w = weights(0, (50,), 0.8)
    assert (w.abs() > 1).any()
    inside = np.clip(w.numpy(), -1, 1)
    close(quant.binary_regulariser([w, w], 0.1), 0.2 * (1 - inside**2).sum())
    want = np.where(np.abs(w.numpy()) <= 1, -2 * 0.1 * w.numpy(), 0)
    close(gradient(lambda t: quant.binary_regulariser([t], 0.1), w), want)
    assert quant.binary_regulariser([1e6 * w], 0.1) >= 0
    assert quant.binary_regulariser([], 0.1) == 0


def test_average_bits_of_eq_19() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.Flatten())
    net.append(nn.Linear(16, 3, bias=False))
    binary = imcsim.Hardware(weights={"bits": 1})
    assert quant.average_bits(imcsim.convert(net, binary)) == 1
    assert quant.average_bits(
        imcsim.convert(net, {"0": binary.replace({"weights.bits": 4}), "3": binary})
    ) == ((72 * 4 + 48) / 120)
    net[1] = nn.BatchNorm2d(4)
    net[3] = nn.Linear(16, 3)
    sim = imcsim.convert(net, {"0": binary, "3": None})
    assert quant.average_bits(sim) == (72 * 1 + 48 * 32 + (8 + 3) * 32) / 120
    with pytest.raises(InputError, match="has no weights"):
        quant.average_bits(nn.ReLU())


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        (quant.Floats("half"), 16),
        (quant.Floats("fp8"), 8),
        (quant.Log4(), 4),
        (quant.Log2(3), 3),
        (quant.Codebook(16), 4),
        (quant.MixAndMatch(), 4),
        (quant.IntraLayer(share=0.25), 5),
        (quant.LQNet(), 8),
    ],
)
def test_average_bits_are_those_of_the_format(method: quant.Method, bits: float) -> None:
    assert (
        quant.average_bits(imcsim.convert(nn.Linear(8, 4, bias=False), imcsim.Hardware(), qat=method)) == bits
    )


def test_average_bits_of_packed_matrices() -> None:
    attention = nn.MultiheadAttention(8, 2, bias=False)
    sim = imcsim.convert(attention, {"*": imcsim.Hardware(weights={"bits": 4}), "key_proj": None})
    assert quant.average_bits(sim) == pytest.approx((3 * 4 + 32) / 4)


def test_bypass_of_eq_20() -> None:
    layer = nn.Conv2d(3, 3, 3, padding=1, bias=False, dtype=torch.float64)
    net = nn.Sequential(
        quant.Bypass(layer, torch.relu), quant.Bypass(nn.Sequential(layer, nn.BatchNorm2d(3).double()))
    )
    sim = imcsim.convert(net, imcsim.Hardware(inputs={"range": "dynamic"}), qat=quant.QNN()).eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    first = torch.relu(sim[0].layer(x) + x)
    assert torch.equal(sim[0](x), first)
    assert torch.equal(sim[1](first), sim[1].layer(first) + first)
    with pytest.raises(InputError, match=r"turns \(2, 4\) into \(2, 3\)"):
        quant.Bypass(nn.Linear(4, 3))(torch.rand(2, 4))


def test_multiple_activations() -> None:
    quantizer = ResidueInput(3, momentum=0.5)
    x = weights(1, (30, 4), 1.0)
    assert not quantizer.ready
    quantizer.update(x)
    residue, betas = x.numpy(), []
    for _ in range(3):
        betas.append(np.abs(residue).mean())
        residue = residue - betas[-1] * np.where(residue > 0, 1, -1)
    close(quantizer.betas, betas)
    close(input_value(quantizer, x), x.numpy() - residue)
    close(gradient(lambda t: input_value(quantizer, t), x), (np.abs(x.numpy()) < 1).astype(float))
    quantizer.update(2 * x)
    close(quantizer.betas, 1.5 * np.array(betas))
    with pytest.raises(MappingError, match=r"weights.bits = 8; set weights.bits = 1"):
        imcsim.convert(nn.Linear(2, 2), imcsim.Hardware(), qat=quant.MultipleActivations())
    with pytest.raises(ConversionError, match="momentum = 1"):
        quant.MultipleActivations(momentum=1)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(x)
        mixed, _ = self.attention(out, out, out)
        return self.head(mixed.mean(1))


@pytest.mark.parametrize(
    "method", [quant.LSQ(), quant.LQNet(), quant.OptimalClipping(), quant.SigmoidQN(), quant.ProxQuant()]
)
def test_recurrent_and_attention_layers_train(method: quant.Method) -> None:
    torch.manual_seed(0)
    hardware = imcsim.Hardware(
        weights={"bits": 4, "encoding": "offset"}, inputs={"bits": 4, "signed": True, "range": "dynamic"}
    )
    sim = imcsim.convert(Encoder(), hardware, qat=method).train()
    x, target = torch.randn(16, 5, 6), torch.arange(16) % 3
    optimizer = torch.optim.Adam(sim.parameters(), lr=0.02)
    losses = []
    for step in range(15):
        loss = nn.functional.cross_entropy(sim(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quant.after_step(sim)
        quant.set_progress(sim, step / 15)
        losses.append(loss.item())
    assert min(losses[5:]) < losses[0]
    quant.set_progress(sim, 1.0)
    sim.eval()
    with torch.no_grad():
        assert torch.equal(torch.cat([sim(x[:5]), sim(x[5:])]), sim(x))
    assert any(name.startswith("lstm.crossbars.weight_hh_l0.array") for name, _ in sim.named_modules())
