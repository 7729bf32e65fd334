from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor


@pytest.fixture
def ngspice(tmp_path: Path) -> Callable[[str], Tensor]:
    """Run a netlist and return the currents it prints, in the order of the columns."""
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("ngspice is not installed")

    def run(netlist: str) -> Tensor:
        path = tmp_path / "array.cir"
        path.write_text(netlist)
        done = subprocess.run([program, "-b", str(path)], capture_output=True, text=True, timeout=120)
        found = re.findall(r"^i\(vsense(\d+)\) = (\S+)$", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        assert [int(c) for c, _ in found] == list(range(len(found)))
        return torch.tensor([float(value) for _, value in found], dtype=torch.float64)

    return run


@pytest.fixture
def array() -> Callable[..., Tensor]:
    """Random conductances, evenly between 2 and 100 per cent of g_max."""

    def make(*shape: int, g_max: float = 1e-4, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return g_max * (0.02 + 0.98 * torch.rand(*shape, generator=generator, dtype=torch.float64))

    return make


@pytest.fixture
def voltages() -> Callable[..., Tensor]:
    """Random voltages, evenly between -0.2 and 0.2 V."""

    def make(*shape: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 0.4 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.2

    return make


@pytest.fixture
def worst() -> Callable[[Tensor, Tensor], float]:
    """Largest difference, relative to the largest current of its vector."""

    def of(got: Tensor, wanted: Tensor) -> float:
        return float(((got - wanted).abs().amax(-1) / wanted.abs().amax(-1)).max())

    return of
