"""CrossSim's bit-sliced products, through `imcsim.convert`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from tests.tolerances import GOLDEN

CASES = sorted((Path(__file__).parent / "golden" / "crosssim").glob("*.npz"))


def description(settings: dict) -> imcsim.Hardware:
    lim = settings["lim"]
    adc = None
    if settings["adc_bits"]:
        symmetric = settings["adc"] == "SignMagnitudeADC"
        adc = {
            "bits": settings["adc_bits"],
            "kind": "symmetric" if symmetric else "uniform",
            "range": [-lim if symmetric else 0.0, lim],
            "per": "cycle" if settings["per_ibit"] else "vector",
            "subtract": "analog" if settings["posneg_analog"] else "digital",
            "offset_correction": settings["offset"],
        }
    offset = settings["style"] == "offset"
    cell_bits = -(-(settings["wbits"] - (not offset)) // settings["slices"])
    tables = {
        "device": {"on_off_ratio": 1 / settings["gmin"] if settings["gmin"] else float("inf")},
        "array": {"rows": settings["rows"]},
        "weights": {
            "bits": settings["wbits"],
            "cell_bits": cell_bits,
            "encoding": "offset" if offset else "differential",
            "partition": {"EQUAL": "even", "MAX": "fill"}[settings["part"]],
        },
        "inputs": {
            "bits": settings["ibits"],
            "bits_per_cycle": settings["islice"],
            "signed": settings["signed_in"],
            "range": settings["xmax"],
        },
    }
    return imcsim.Hardware.model_validate(tables if adc is None else tables | {"adc": adc})


def test_all_nine_are_here() -> None:
    assert len(CASES) == 9


@pytest.mark.oracle
@pytest.mark.parametrize("engine", ["auto", "reference", "matmul"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_same_product_as_crosssim(path: Path, dtype: torch.dtype, engine: str) -> None:
    case = np.load(path, allow_pickle=False)
    hardware = description(json.loads(str(case["settings"])))
    outputs, inputs = case["W"].shape
    layer = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(case["W"]))
    sim = imcsim.convert(layer.to(dtype), hardware, engine=engine)
    got = sim(torch.from_numpy(case["X"]).T.to(dtype)).double().detach().numpy().T
    np.testing.assert_allclose(got, case["Y"], rtol=0, atol=GOLDEN * np.abs(case["Y"]).max())
