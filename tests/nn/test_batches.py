"""A sample's result does not depend on the rest of its batch, nor on how the batch is cut, nor on tiling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import imcsim
from tests.layers import PLAIN, LayerCase, named
from tests.strategies import chips, examples, hardware_of
from tests.tolerances import BATCH_CUT, CODES_ONE_STEP_OFF

QUIET = imcsim.Hardware(array={"rows": 8}, inputs={"range": "dynamic"}, adc={"bits": 5})
REAL = {
    "programmed": {"device.programming": {"kind": "range", "sigma": 0.05}},
    "no converter": {"device.programming": {"kind": "range", "sigma": 0.05}, "adc": None},
    "read noise": {"device.card": "pcm_gst"},
    "read noise, no converter": {"device.card": "pcm_gst", "adc": None},
}


def cuts(net: nn.Module, x: Tensor, sizes: list[int]) -> Tensor:
    return torch.cat([net(part) for part in x.split(sizes)])


def batch(case: LayerCase, samples: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, *case.shape[1:], generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("engine", ["auto", "reference", "matmul"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(**named(PLAIN))
def test_integer_levels_are_bit_identical(case: LayerCase, dtype: torch.dtype, engine: str) -> None:
    sim = imcsim.convert(case.build(dtype), QUIET, engine=engine)
    x = batch(case, 11, dtype)
    whole = sim(x)
    assert torch.equal(cuts(sim, x, [1, 3, 7]), whole)
    assert torch.equal(cuts(sim, x, [1] * 11), whole)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(2))
    assert torch.equal(sim(x[order]), whole[order])
    assert torch.equal(torch.stack([sim(sample) for sample in x]), whole)


@pytest.mark.parametrize("effect", REAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(**named(PLAIN))
def test_real_levels_within_the_bound(case: LayerCase, dtype: torch.dtype, effect: str) -> None:
    """Within 1e-5 relative; with converters at most 1e-3 of codes one step off (none of the few here)."""
    sim = imcsim.convert(case.build(dtype), QUIET.replace(REAL[effect]))
    x = batch(case, 11, dtype)

    def run(sizes: list[int]) -> Tensor:
        imcsim.seed_reads(sim, 0)
        return cuts(sim, x, sizes).double()

    whole = run([11])
    for sizes in ([1, 3, 7], [1] * 11, [10, 1]):
        far = (run(sizes) - whole).abs() > BATCH_CUT * whole.abs().max()
        assert far.double().mean() <= CODES_ONE_STEP_OFF * QUIET.array.rows
    if "read noise" not in effect:
        order = torch.randperm(11, generator=torch.Generator().manual_seed(2))
        far = (sim(x[order]).double() - whole[order]).abs() > BATCH_CUT * whole.abs().max()
        assert far.double().mean() <= CODES_ONE_STEP_OFF * QUIET.array.rows


def test_many_samples_across_the_blocks_of_an_engine() -> None:
    """Engines work in blocks of vectors that bound memory; results must not show where they end."""
    conv = nn.Conv2d(8, 8, 3, padding=1)
    sim = imcsim.convert(conv, QUIET.replace({"array.rows": 64, "inputs.bits": 4}), engine="matmul")
    x = torch.randn(40, 8, 16, 16)
    assert torch.equal(cuts(sim, x, [40]), cuts(sim, x, [7, 13, 20]))


def test_the_input_scale_does_not_couple_samples() -> None:
    """A defect of other simulators: one outlier in the batch changes every other sample's codes."""
    for layer, x in ((nn.Linear(9, 4), torch.randn(5, 9)), (nn.Conv2d(2, 3, 3), torch.randn(5, 2, 6, 6))):
        sim = imcsim.convert(layer, QUIET)
        before = sim(x)
        loud = x.clone()
        loud[0] *= 1e4
        assert torch.equal(sim(loud)[1:], before[1:])


@examples(60)
@given(data=st.data())
def test_tiling_changes_nothing_while_converters_lose_nothing(data: st.DataObject) -> None:
    chip: dict[str, Any] = data.draw(chips(converters="enough", finite_ratio=False))
    chip["inputs"]["range"] = 1.0
    chip["adc"]["bits"] = 26
    step = 2 if chip["weights"]["encoding"] == "xnor" else 1
    layer = nn.Linear(37, 5, dtype=torch.float64)
    x = torch.rand(4, 37, dtype=torch.float64)
    results = []
    for _ in range(3):
        rows = step * data.draw(st.integers(1, 50))
        chip["array"] = {"rows": rows, "rows_active": step * data.draw(st.integers(1, rows // step))}
        chip["weights"]["partition"] = data.draw(st.sampled_from(["fill", "even"]))
        results.append(imcsim.convert(layer, hardware_of(chip), engine="matmul")(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_columns_and_placement_change_nothing() -> None:
    layer, x = nn.Linear(20, 6), torch.randn(3, 20)
    want = imcsim.convert(layer, QUIET)(x)
    for change in (
        {"array.cols": 3},
        {"weights.placement": "separate"},
        {"weights.pair": "arrays"},
        {"adc.columns_per_adc": 1},
    ):
        assert torch.equal(imcsim.convert(layer, QUIET.replace(change))(x), want)
