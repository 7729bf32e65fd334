"""Learning rates as functions of the part of training that is done."""

import pytest
import torch

from imcsim.errors import InputError
from imcsim.train.schedules import assigned, exponential_decay


def test_exponential_decay_is_torchs() -> None:
    """Oracle: torch's ExponentialLR over 40 epochs from 3e-3 to 2e-6."""
    weight = torch.nn.Parameter(torch.zeros(1))
    ratio, epochs = 2e-6 / 3e-3, 40
    own, torchs = (torch.optim.SGD([weight], lr=3e-3) for _ in range(2))
    schedule = exponential_decay(ratio)
    first = torch.optim.lr_scheduler.LambdaLR(own, lambda epoch: schedule(epoch / epochs))
    second = torch.optim.lr_scheduler.ExponentialLR(torchs, ratio ** (1 / epochs))
    for _ in range(epochs):
        assert own.param_groups[0]["lr"] == pytest.approx(torchs.param_groups[0]["lr"], rel=1e-9)
        own.step()
        torchs.step()
        first.step()
        second.step()
    assert own.param_groups[0]["lr"] == pytest.approx(2e-6)


def test_assigned_rates() -> None:
    schedule = assigned({0.5: 0.1, 0: 1, 0.75: 0.01})
    assert [schedule(done) for done in (0, 0.49, 0.5, 0.74, 0.75, 1)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("ratio", [0, -1, 1.5, float("nan")])
def test_wrong_ratios(ratio: float) -> None:
    with pytest.raises(InputError, match="exponential_decay: ratio"):
        exponential_decay(ratio)


@pytest.mark.parametrize("factors", [{}, {0.5: 0.1}, {0: 1, 1.0: 0.1}, {0: 0}, {0: 1, -0.1: 1}])
def test_wrong_assignments(factors) -> None:
    with pytest.raises(InputError, match="positive factors by parts of training"):
        assigned(factors)
