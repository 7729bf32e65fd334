"""The GPU engine equals the reference: compiled where there is a GPU, else by Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import nn

import imcsim
from imcsim.errors import EngineError
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.functional.mvm import stream_sums as reference
from imcsim.kernels import gpu
from tests.kernels.table_cases import Case, cases
from tests.strategies import examples
from tests.tolerances import CODES_ONE_STEP_OFF

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton (pip install 'imcsim[gpu]')", allow_module_level=True)

import triton

if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
    pytest.skip("Triton was loaded without its interpreter", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EIGHT_BIT = Converter(127, 384, 127, 254)


def on_device(case: Case) -> tuple[Columns, torch.Tensor]:
    flip = None if case.columns.flip is None else case.columns.flip.to(DEVICE)
    return replace(case.columns, cells=case.columns.cells.to(DEVICE), flip=flip), case.x_int.to(DEVICE)


@examples(30)
@given(case=cases())
def test_whole_levels_equal_the_reference_bit_for_bit(case: Case) -> None:
    columns, x_int = on_device(case)
    if gpu.supports(columns, case.train, case.converters) is not None:
        return
    product = gpu.build(columns, case.train, case.converters)
    expected = reference(case.x_int, case.columns, case.train, case.converters)
    assert torch.equal(gpu.stream_sums(x_int, product).cpu(), expected)


@examples(15)
@given(case=cases(real=True))
def test_real_cells_are_close_to_the_reference(case: Case) -> None:
    columns, x_int = on_device(case)
    if gpu.supports(columns, case.train, case.converters) is not None:
        return
    product = gpu.build(columns, case.train, case.converters)
    found = gpu.stream_sums(x_int, product).cpu()
    expected = reference(case.x_int, case.columns, case.train, case.converters)
    per_output = len(case.columns.reads) * len(case.train.weights) * len(case.converters)
    off = (found - expected).abs() > 1e-9 * expected.abs().max()
    assert off.sum() <= max(CODES_ONE_STEP_OFF * per_output * off.numel(), 2)


def layer(real: bool) -> Columns:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(-3, 4, (1, 4, 200, 40), generator=generator).double()
    if real:
        cells += 0.05 * torch.randn(cells.shape, generator=generator).double()
    return Columns(cells.to(DEVICE), ((0, 128), (128, 200)), (1, 4, 16, 64), (0.0,) * 4)


@pytest.mark.parametrize(
    "train", [PulseTrain(8, 1), PulseTrain(7, 1, polarity=True), PulseTrain(8, 2)], ids=str
)
def test_real_cells_keep_60_db(train: PulseTrain) -> None:
    columns = layer(real=True)
    x_int = torch.randint(0, 128, (1, 60, 200), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    product = gpu.build(columns, train, (EIGHT_BIT,) * 4)
    expected = reference(x_int, columns, train, (EIGHT_BIT,) * 4)
    error = gpu.stream_sums(x_int, product) - expected
    assert error.square().mean() <= 1e-6 * expected.square().mean()


def test_blocks_of_vectors_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = layer(real=False)
    x_int = torch.randint(0, 256, (1, 50, 200), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    product = gpu.build(columns, PulseTrain(8, 1), (EIGHT_BIT,) * 4)
    whole = gpu.stream_sums(x_int, product)
    monkeypatch.setattr(gpu, "BLOCK_ELEMENTS", 20 * 4 * 40)
    assert torch.equal(gpu.stream_sums(x_int, product), whole)


CHIPS = {
    "ideal": {},
    "programmed": {"device.programming": {"kind": "range", "sigma": 0.02}},
    "digital subtraction": {"adc.subtract": "digital"},
    "isaac": {"weights.encoding": "isaac", "weights.cell_bits": 2},
    "unit column": {"weights.encoding": "offset", "adc.offset_correction": "unit_column"},
    "g_min of a whole level": {"weights.encoding": "offset", "device.on_off_ratio": 4.0},
}


@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS)
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(150, 12), lambda: nn.Conv2d(8, 6, 3, padding=1, groups=2)]
)
def test_layers_are_those_of_the_reference(changes: dict, make) -> None:
    torch.manual_seed(0)
    module = make()
    x = torch.rand(4, 150) if isinstance(module, nn.Linear) else torch.rand(2, 8, 5, 5)
    chip = imcsim.Hardware(inputs={"range": 1.0, "signed": False}, adc={"bits": 6}).replace(changes)
    sim = imcsim.convert(module, chip, engine="triton").to(DEVICE)
    want = imcsim.convert(module, chip, engine="reference")(x)
    got = sim(x.to(DEVICE)).cpu()
    (row,) = imcsim.summary(sim).rows
    assert row.engine == "triton"
    if "device.programming" in changes:
        assert (got - want).norm() <= 1e-3 * want.norm()
    else:
        assert torch.equal(got, want)


REFUSALS = [
    ({"train": PulseTrain(8, 1, accumulate=True)}, "accumulated before the converter"),
    ({"train": PulseTrain(8, 8)}, "digits of 8 bits are wider than 7"),
    ({"train": PulseTrain(8, 1, drive=(0.0, 1.0))}, "I-V bends"),
    ({"cells": torch.full((1, 1, 8, 4), 200)}, "too high a level"),
    ({"converters": None}, "no converters"),
    ({"converters": (Converter(1, 1, 0, 1 << 22),)}, "more than 22 bits"),
    ({"train": PulseTrain(16, 1), "converters": (Converter(1, 1, 0, 1 << 21),)}, "do not fit in 32 bits"),
    ({"variance": torch.ones(1, 1, 8, 4)}, "read noise is drawn"),
    ({"saturation": (5.0,)}, "not linear"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSALS, ids=[reason for _, reason in REFUSALS])
def test_what_it_cannot_do_it_says(change: dict, reason: str) -> None:
    columns = Columns(torch.ones(1, 1, 8, 4, dtype=torch.int64, device=DEVICE), ((0, 8),), (1,), (0.0,))
    train = change.pop("train", PulseTrain(8, 1))
    converters = change.pop("converters", (Converter(1, 1, 0, 15),))
    found = gpu.supports(replace(columns, **change), train, converters)
    assert found is not None
    assert reason in found
    with pytest.raises(EngineError, match="use engine = 'matmul'"):
        gpu.build(replace(columns, **change), train, converters)


COMPILE = """
import re, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from imcsim.kernels import triton_product as kernel

for levels, tensor_core in ((True, "s32.s8.s8"), (False, "f32.f16.f16")):
    cell = "*i8" if levels else "*fp16"
    blocks = dict(block_vectors=16, block_outputs=64, block_rows=64)
    flags = dict(cycles=8, polarity=False, ties_up=False, levels=levels, **blocks)
    kinds = ["*u8", cell, cell, "*i32", "*i32", "*i32", "*fp32", "*i32", *["i32"] * 6]
    kinds += ["constexpr"] * len(flags)
    signature = dict(zip(kernel.converted_product.arg_names, kinds, strict=True))
    options = dict(num_warps=kernel.WARPS, num_stages=kernel.STAGES, enable_fp_fusion=False)
    source = ASTSource(fn=kernel.converted_product, signature=signature, constexprs=flags)
    for arch in (80, 90):
        ptx = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options).asm["ptx"]
        assert re.search("mma.*" + re.escape(tensor_core), ptx), (levels, arch)
        assert "fma.rn.f32" not in ptx, (levels, arch)
"""


def test_it_compiles_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    """To machine code with tensor cores of bytes and of float16; converters keep their two roundings."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
