from __future__ import annotations

import pytest
import torch

from imcsim.devices import DeviceModel, column_factors, global_factor, load
from imcsim.errors import DeviceError


@pytest.fixture
def arrays(rng_for):
    card = load("pcm_gst")
    model = DeviceModel(card, g_max_S=25e-6, g_min_S=0.0)
    target = torch.from_numpy(rng_for("weights").random((256, 32), dtype="float32")) * 25e-6
    inputs = torch.from_numpy(rng_for("inputs").random((100, 256), dtype="float32"))
    state = model.program(target, rng_for)
    return inputs @ state["conductance_S"], inputs @ model.aged(state, 86_400.0 * 30, rng_for)


def test_global_factor_restores_the_mean_response(arrays) -> None:
    before, after = arrays
    assert float(after.abs().mean() / before.abs().mean()) < 0.75  # a month of drift
    factor = global_factor(before, after)
    torch.testing.assert_close((after * factor).abs().mean(), before.abs().mean(), rtol=1e-5, atol=0)


def test_column_factors_restore_every_column_and_leave_less_error(arrays) -> None:
    before, after = arrays
    factors = column_factors(before, after)
    assert factors.shape == (32,)
    torch.testing.assert_close((after * factors).abs().mean(0), before.abs().mean(0), rtol=1e-5, atol=0)
    raw, one, each = (
        float((x - before).square().mean())
        for x in (after, after * global_factor(before, after), after * factors)
    )
    assert each < one < raw / 10


def test_uniform_drift_is_undone_exactly() -> None:
    before = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(before * 0.5 * global_factor(before, before * 0.5), before)
    torch.testing.assert_close(before * 0.5 * column_factors(before, before * 0.5).unsqueeze(-2), before)


def test_dead_columns_keep_factor_one() -> None:
    before, after = torch.ones(3, 2), torch.ones(3, 2)
    after[:, 1] = 0
    assert column_factors(before, after).tolist() == [1.0, 1.0]
    assert float(global_factor(torch.zeros(3, 2), torch.zeros(3, 2))) == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(DeviceError, match=r"\(3, 2\) at programming and \(2, 2\) now"):
        global_factor(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(DeviceError, match="not empty"):
        column_factors(torch.ones(0, 2), torch.ones(0, 2))
