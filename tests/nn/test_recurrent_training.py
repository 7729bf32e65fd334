"""Recurrent layers on crossbars: gradients, and what wrong inputs raise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import imcsim
from imcsim.errors import InputError
from tests.nn.recurrent import (
    CASES,
    COARSE,
    FINE,
    HIDDEN,
    INPUTS,
    build,
    each,
    equal,
    inputs,
    network,
    states,
    tensors,
)


def gradients(layer: nn.Module, x: Tensor, hx: Any) -> list[Tensor]:
    leaves = [x, *tensors(hx)]
    for leaf in leaves:
        leaf.requires_grad_(True)
    loss = sum(
        (out * torch.sin(torch.arange(out.numel()).view_as(out))).sum() for out in tensors(layer(x, hx))
    )
    return list(torch.autograd.grad(loss, [*leaves, *layer.parameters()]))


class Packed(nn.Module):
    """A layer that takes sequences of unequal length."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, hx: Any) -> Any:
        return self.inner(pack_padded_sequence(x, [2, 5, 4], batch_first=True, enforce_sorted=False), hx)


class TestGradients:
    @each(CASES)
    def test_straight_through_gradients_are_torchs_within_quantization(
        self, kind: type[nn.Module], options: dict[str, Any]
    ) -> None:
        layer = build(kind, {**options, "dropout": 0.0}).train()
        sim = imcsim.convert(layer, FINE)
        x, hx = inputs(layer), states(layer)
        for got, want in zip(gradients(sim, x, hx), gradients(layer, x, hx), strict=True):
            assert (got - want).abs().max() <= 0.02 * want.abs().max()

    def test_packed_sequences_train(self) -> None:
        layer = Packed(build(nn.GRU, {"bidirectional": True, "batch_first": True})).train()
        sim = imcsim.convert(layer, FINE)
        x, hx = inputs(layer.inner), states(layer.inner)
        for got, want in zip(gradients(sim, x, hx), gradients(layer, x, hx), strict=True):
            assert (got - want).abs().max() <= 0.02 * want.abs().max()

    def test_an_optimizer_lowers_the_loss(self) -> None:
        net, x = network(nn.GRU)
        sim = imcsim.convert(net, COARSE).train()
        optimizer = torch.optim.Adam(sim.parameters(), 0.02)
        target = torch.arange(7) % 3
        losses = []
        for _ in range(30):
            loss = nn.functional.cross_entropy(sim(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]


class TestErrors:
    @pytest.mark.parametrize(
        ("x", "hx", "message"),
        [
            (
                torch.zeros(2, 3, 9),
                None,
                r"layer '' takes \(steps, batch, features\) or .* 4 features, but got",
            ),
            (torch.zeros(4), None, "4 features, but got"),
            (torch.zeros(0, 3, 4), None, "sequences without a step"),
            (
                torch.zeros(2, 3, 4).long(),
                None,
                "takes a floating-point tensor as its input, but got torch.int64",
            ),
            ([1.0], None, "takes a floating-point tensor as its input, but got list"),
            (torch.zeros(2, 3, 4), torch.zeros(1, 3, 6), r"takes a pair \(h, c\)"),
            (torch.zeros(2, 3, 4), (torch.zeros(1, 3, 6),) * 3, r"takes a pair \(h, c\)"),
            (
                torch.zeros(2, 3, 4),
                (torch.zeros(1, 2, 6),) * 2,
                r"initial state of \(1, 3, 6\) .* got \(1, 2, 6\)",
            ),
            (torch.zeros(2, 4), (torch.zeros(1, 3, 6),) * 2, r"initial state of \(1, 6\)"),
        ],
    )
    def test_wrong_inputs(self, x: Any, hx: Any, message: str) -> None:
        sim = imcsim.convert(nn.LSTM(INPUTS, HIDDEN), COARSE)
        with pytest.raises(InputError, match=message):
            sim(x, hx)

    def test_wrong_inputs_of_cells(self) -> None:
        sim = imcsim.convert(nn.GRUCell(INPUTS, HIDDEN), COARSE)
        with pytest.raises(InputError, match=r"4 features, but got \(2, 3, 4\)"):
            sim(torch.zeros(2, 3, INPUTS))
        with pytest.raises(InputError, match=r"initial state of \(2, 6\)"):
            sim(torch.zeros(2, INPUTS), torch.zeros(3, HIDDEN))

    def test_an_error_within_a_pass_leaves_the_layer_usable(self) -> None:
        layer = build(nn.RNN, {"nonlinearity": "relu"}, torch.float32)
        sim = imcsim.convert(layer, COARSE, engine="reference")
        x = inputs(layer, torch.float32)
        want = sim(x)
        bad = x.clone()
        bad[2, 1, 0] = float("nan")
        with pytest.raises(InputError, match="not finite"):
            sim(bad)
        equal(sim(x), want)
