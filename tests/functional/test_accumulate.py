"""Digital sums in a register of limited width: against NumPy's integers, in every engine that has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim.errors import EngineError, HardwareError
from imcsim.functional.accumulate import saturating_product
from tests.layers import CASES, LayerCase, named

CHIP = imcsim.Hardware.model_validate(
    {
        "device": {"card": "sram_digital"},
        "array": {"readout": "digital", "rows": 8, "accumulator_bits": 10},
        "weights": {"bits": 6, "cell_bits": 1, "encoding": "twos_complement"},
        "inputs": {"bits": 5, "range": 15.0, "signed": True},
    }
)


def by_numpy(rows: np.ndarray, w: np.ndarray, reads: list[range], bits: int) -> np.ndarray:
    """One addition after the other, in int64. Shapes: rows (vectors, inputs), w (outputs, inputs)."""
    total = np.zeros((len(rows), len(w)), dtype=np.int64)
    for read in reads:
        for k in read:
            total += rows[:, k, None] * w[None, :, k]
        total = np.clip(total, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return total


def reads_of(inputs: int, rows: int, active: int) -> list[range]:
    """Arrays filled one after the other, each read in parts."""
    return [
        range(first, min(first + active, start + rows, inputs))
        for start in range(0, inputs, rows)
        for first in range(start, min(start + rows, inputs), active)
    ]


@pytest.mark.parametrize(**named(CASES))
@pytest.mark.parametrize("active", [1, 3, 8])
def test_every_layer_saturates_as_integers_do(case: LayerCase, active: int) -> None:
    layer, x = case.whole_numbers(31, 15, signed=True)
    layer.bias = None
    chip = CHIP.replace({"array.rows_active": active})
    sim = imcsim.convert(layer, chip)
    got = sim(x)
    matrix, rows = sim.weight_matrix(layer.weight).detach(), sim.vectors(x)
    for engine in ("reference", "matmul"):
        assert torch.equal(imcsim.convert(layer, chip, engine=engine)(x), got)
    want = np.stack(
        [
            by_numpy(r.long().numpy(), w.long().numpy(), reads_of(w.shape[1], 8, active), 10)
            for r, w in zip(rows, matrix, strict=True)
        ]
    )
    by_group = sim.by_vectors(x, lambda vectors, first: torch.from_numpy(want).double())
    assert torch.equal(got, by_group)
    if matrix.shape[2] > 1:
        assert torch.equal(imcsim.convert(layer.float(), chip)(x.float()), got.float())


@pytest.mark.parametrize("encoding", ["offset", "isaac", "differential", "twos_complement"])
@pytest.mark.parametrize("signed_encoding", ["sign_magnitude", "twos_complement", "offset"])
def test_the_register_holds_products_whatever_the_encoding(encoding: str, signed_encoding: str) -> None:
    layer, x = case_of(40, 5)
    chip = CHIP.replace({"weights.encoding": encoding, "inputs.signed_encoding": signed_encoding})
    assert torch.equal(imcsim.convert(layer, chip)(x), imcsim.convert(layer, CHIP)(x))


def case_of(inputs: int, outputs: int, vectors: int = 12) -> tuple[nn.Module, Tensor]:
    return LayerCase("", nn.Linear, (inputs, outputs), (vectors, inputs), {"bias": False}).whole_numbers(
        31, 15, signed=True
    )


def test_binary_counts_saturate_by_inputs_not_by_word_lines() -> None:
    chip = imcsim.Hardware.model_validate(
        {
            "device": {"card": "sram_digital"},
            "array": {"readout": "digital", "rows": 16, "rows_active": 6, "accumulator_bits": 3},
            "weights": {"bits": 1, "encoding": "xnor"},
            "inputs": {"bits": 1, "range": 1.0},
        }
    )
    layer, x = LayerCase("", nn.Linear, (29, 4), (50, 29), {"bias": False}).whole_numbers(1, 1, signed=True)
    want = by_numpy(x.long().numpy(), layer.weight.long().numpy(), reads_of(29, 8, 3), 3)
    for engine in ("auto", "reference"):
        assert torch.equal(imcsim.convert(layer, chip, engine=engine)(x), torch.from_numpy(want).double())
    assert want.max() == 3
    assert want.min() == -4


def test_order_matters_and_width_does() -> None:
    x, w = torch.tensor([[[10.0, 10.0, -10.0]]]), torch.ones(1, 1, 3)
    one_by_one = ((0, 1), (1, 2), (2, 3))
    assert saturating_product(x, w, one_by_one, 5).item() == 5  # 10, 15 of 20, 5
    assert saturating_product(x, w, ((0, 3),), 5).item() == 10
    assert saturating_product(x, w, one_by_one, 6).item() == 10


def test_no_register_is_exact_and_a_wide_one_is_one_product() -> None:
    layer, x = case_of(40, 5)
    exact = imcsim.convert(layer, CHIP.replace({"array.accumulator_bits": None}))
    wide = imcsim.convert(layer, CHIP.replace({"array.accumulator_bits": 16}))
    narrow = imcsim.convert(layer, CHIP)
    assert torch.equal(exact(x), x @ layer.weight.T)
    assert torch.equal(wide(x), exact(x))
    assert not torch.equal(narrow(x), exact(x))
    engines = [imcsim.summary(sim).rows[0] for sim in (exact, wide, narrow)]
    assert [row.engine for row in engines] == ["collapsed", "collapsed", "matmul"]
    assert "can leave an accumulator of 10 bits" in engines[2].reason
    assert "sums saturate at 10 bits" in engines[2].effects


def test_a_sample_does_not_depend_on_its_batch_and_gradients_pass() -> None:
    layer, x = case_of(40, 5)
    sim = imcsim.convert(layer, CHIP)
    assert torch.equal(torch.cat([sim(x[:5]), sim(x[5:])]), sim(x))
    leaf = x.clone().requires_grad_()
    sim.train()(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, layer.weight.detach().sum(0).expand_as(x))


def test_what_cannot_saturate_says_so() -> None:
    layer, x = case_of(40, 5)
    for engine in ("collapsed", "statistical", "table"):
        sim = imcsim.convert(layer, CHIP, engine=engine)
        with pytest.raises(EngineError, match="only 'reference' and 'matmul' compute them"):
            sim(x)
    sim = imcsim.convert(layer, CHIP).train()
    imcsim.train.inject(sim, fidelity="statistical")
    with pytest.raises(EngineError, match=r"leave array.accumulator_bits out"):
        sim(x)


def test_only_digital_sums_have_a_register() -> None:
    with pytest.raises(HardwareError, match=r"array.accumulator_bits = 20 is for digital sums, but array.r"):
        imcsim.Hardware(array={"accumulator_bits": 20})
    with pytest.raises(HardwareError, match="accumulator_bits = 1"):
        CHIP.replace({"array.accumulator_bits": 1})


def test_diagnosis_counts_saturation_as_clipping() -> None:
    layer, x = case_of(40, 5)
    found = imcsim.diagnose(imcsim.convert(layer, CHIP), x).layers[0]
    assert found.worst == "ADC clipping"
