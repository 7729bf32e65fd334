"""Guided training: distances by hand, gradients, and what is watched when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import InputError
from imcsim.hardware import Hardware
from imcsim.train.distill import Guidance, attention, soft_label_loss


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).double()


X = torch.randn(5, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def outputs(model: nn.Sequential, last: int) -> np.ndarray:
    with torch.no_grad():
        return model[: last + 1](X).numpy()


@pytest.mark.parametrize("match", ["features", "attention"])
def test_distances_by_hand(match: str) -> None:
    student, teacher = net(0).eval(), net(1).eval()
    with Guidance(student, teacher, ["2", "4"], match) as guidance:
        student(X)
        got = float(guidance(X).detach())
    expected = 0.0
    for last in (2, 4):
        s, t = outputs(student, last), outputs(teacher, last)
        if match == "features":
            expected += ((s - t) ** 2).mean()
            continue
        maps = []
        for f in (s, t):
            energy = (f**2).sum(1).reshape(5, -1) if f.ndim == 4 else f**2
            maps.append(energy / np.linalg.norm(energy, axis=1, keepdims=True))
        expected += ((maps[0] - maps[1]) ** 2).sum(1).mean()
    assert got == pytest.approx(expected, rel=1e-12)


def test_gradients_reach_the_student_and_not_the_teacher() -> None:
    student, teacher = net(0), net(1)
    running = teacher[1].running_mean.clone()
    with Guidance(student, teacher, ["2"]) as guidance:
        student(X)
        guidance(X).backward()
    assert student[0].weight.grad.abs().sum() > 0
    assert student[4].weight.grad is None  # behind the layer that is compared
    assert teacher[0].weight.grad is None
    assert torch.equal(teacher[1].running_mean, running)
    assert teacher.training


@pytest.mark.parametrize("match", ["features", "attention"])
def test_gradcheck(match: str) -> None:
    student, teacher = net(0).eval(), net(1).eval()
    weight = student[0].weight.detach().clone().requires_grad_()

    def distance(w: torch.Tensor) -> torch.Tensor:
        with Guidance(student, teacher, ["1"], match) as guidance:
            torch.func.functional_call(student, {"0.weight": w}, (X,))
            return guidance(X)

    assert torch.autograd.gradcheck(distance, (weight,))


def test_a_float_network_guides_its_chip() -> None:
    """A 3-bit network is drawn to a float teacher: the distance falls while it trains on nothing else."""
    teacher = net(0).float().eval()
    chip = Hardware.model_validate({"weights": {"bits": 3}, "inputs": {"bits": 4}})
    sim = imcsim.convert(net(3).float(), chip)
    imcsim.calibrate(sim, [X.float()])
    optimizer = torch.optim.Adam(sim.parameters(), lr=0.01)
    distances = []
    with Guidance(sim, teacher, ["0", "4"]) as guidance:
        for _ in range(40):
            optimizer.zero_grad()
            sim(X.float())
            loss = guidance(X.float())
            loss.backward()
            optimizer.step()
            distances.append(float(loss.detach()))
    assert np.mean(distances[-5:]) < 0.5 * distances[0]


def test_nothing_is_watched_outside() -> None:
    student, teacher = net(0), net(1)
    with Guidance(student, teacher, ["2"]) as guidance:
        student(X)
        guidance(X)
        with pytest.raises(InputError, match="'2' has not run since the last call"):
            guidance(X)
    assert not student[2]._forward_hooks
    assert not teacher[2]._forward_hooks


def test_soft_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    p, q = (np.exp(z.numpy() / 3) / np.exp(z.numpy() / 3).sum(1, keepdims=True) for z in (t, s))
    expected = 9 * (p * np.log(p / q)).sum(1).mean()
    assert float(soft_label_loss(s, t, 3.0)) == pytest.approx(expected, rel=1e-12)
    assert float(soft_label_loss(t, t)) == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(lambda z: soft_label_loss(z, t), (s.requires_grad_(),))


def test_attention_is_a_unit_vector_a_sample() -> None:
    maps = attention(X)
    assert maps.shape == (5, 36)
    assert torch.allclose(maps.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_wrong_requests() -> None:
    with pytest.raises(InputError, match="match = 'maps' is not one of features, attention"):
        Guidance(net(0), net(1), ["2"], "maps")
    with pytest.raises(InputError, match="the student has no module 'conv'"):
        Guidance(net(0), net(1), ["conv"])
    with pytest.raises(InputError, match="the teacher has no module '4'"):
        Guidance(net(0), net(1)[:3], ["4"])
    with pytest.raises(InputError, match="layers is empty"):
        Guidance(net(0), net(1), [])
    with pytest.raises(InputError, match="temperature = 0"):
        soft_label_loss(X, X, 0)
    student = net(0)
    with Guidance(student, net(1), ["2"]) as guidance:
        student(X)
        with pytest.raises(InputError, match="for one batch"):
            guidance(X[:2])
