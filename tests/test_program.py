"""Seeds, ages and reads of whole models."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.errors import InputError
from tests.tolerances import Z

RANGE = imcsim.Hardware(
    device={"programming": {"kind": "range", "sigma": 0.05}}, inputs={"range": "dynamic"}, array={"rows": 32}
)
PCM = imcsim.Hardware(device={"card": "pcm_gst"}, inputs={"range": "dynamic"})


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5))


X = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))


def test_convert_programs_with_seed_0() -> None:
    a, b = imcsim.convert(net(), RANGE), imcsim.convert(net(), RANGE)
    imcsim.program(b, seed=0)
    assert torch.equal(a(X), b(X))
    imcsim.program(b)
    assert torch.equal(a(X), b(X))


def test_layers_draw_by_their_names() -> None:
    twin = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    twin[1].load_state_dict(twin[0].state_dict())
    sim = imcsim.convert(twin, RANGE)
    assert not torch.equal(sim[0](X[:, :8]), sim[1](X[:, :8]))


def test_converting_other_layers_does_not_move_the_draws() -> None:
    whole, part = imcsim.convert(net(), RANGE), imcsim.convert(net(), {"*": RANGE, "0": None})
    assert torch.equal(whole[2](X[:, :30]), part[2](X[:, :30]))


def test_age_is_absolute_and_zero_is_as_programmed() -> None:
    sim = imcsim.convert(net(), PCM)

    def at(seconds: float) -> torch.Tensor:
        imcsim.age(sim, seconds=seconds)
        imcsim.seed_reads(sim, 0)
        return sim(X)

    fresh = at(0)
    day = at(86_400)
    assert not torch.equal(day, fresh)
    at(3600)
    assert torch.equal(at(86_400), day)
    assert torch.equal(at(0), fresh)
    at(86_400)
    imcsim.program(sim, seed=0)
    imcsim.seed_reads(sim, 0)
    assert torch.equal(sim(X), fresh)


def test_reads_are_keyed_by_the_samples_index_since_seed_reads() -> None:
    sim = imcsim.convert(net(), PCM)
    imcsim.seed_reads(sim, 0)
    first = sim(X)
    second = sim(X)
    assert not torch.equal(first, second)
    imcsim.seed_reads(sim, 0)
    assert torch.equal(sim(X), first)
    imcsim.seed_reads(sim, 1)
    assert not torch.equal(sim(X), first)
    imcsim.seed_reads(sim, 0)
    assert torch.equal(torch.cat([sim(X), sim(X)]), torch.cat([first, second]))


def test_programming_error_has_the_given_spread() -> None:
    """Standard deviation of cells about their targets: sigma, within Z standard errors of sigma / sqrt(2
    n)."""
    layer = nn.Linear(200, 100)
    sim = imcsim.convert(
        layer, RANGE.replace({"array.rows": 200, "device.programming": {"kind": "range", "sigma": 0.02}})
    )
    array = sim.array
    (cells,) = [value for value in array.cells.values() if value.shape == array.target_conductance().shape]
    target = array.target_conductance()
    error = (cells.double() - target.double())[(target > 0.2) & (target < 0.8)]
    n = error.numel()
    assert abs(error.std().item() - 0.02) <= Z * 0.02 / np.sqrt(2 * n)
    assert abs(error.mean().item()) <= Z * 0.02 / np.sqrt(n)


def test_noise_of_the_output_falls_with_the_square_root_of_the_reads() -> None:
    """Mean of N reads: its deviation from the long mean falls as 1 / sqrt(N); slope -1/2 by a fit."""
    sim = imcsim.convert(nn.Linear(64, 64), PCM)
    x = X[:1, :40].repeat(1, 2)[:, :64]
    imcsim.seed_reads(sim, 0)
    reads = sim(x.expand(4096, 64)).double()
    centre = reads.mean(0)
    counts = np.array([1, 4, 16, 64, 256])
    spread = [(reads.view(-1, n, 64).mean(1) - centre).std().item() for n in counts]
    slope = np.polyfit(np.log(counts), np.log(spread), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)


def test_the_same_chip_in_another_process() -> None:
    code = (
        "import torch, imcsim; from torch import nn; torch.manual_seed(5); torch.rand(3);\n"
        "layer = nn.Linear(6, 3); w = torch.arange(18.).view(3, 6) / 18 - 0.4\n"
        "layer.weight.data.copy_(w); layer.bias.data.zero_()\n"
        "device = {'programming': {'kind': 'range', 'sigma': 0.05}}\n"
        "hardware = imcsim.Hardware(device=device, inputs={'range': 'dynamic'})\n"
        "sim = imcsim.convert(layer, hardware)\n"
        "print(sim(torch.linspace(-1, 1, 6, dtype=torch.float32)[None]).flatten().tolist())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), "1 day", None, True])
def test_bad_times(seconds) -> None:
    with pytest.raises(InputError, match=r"age: seconds = .*give 0 or a positive number"):
        imcsim.age(imcsim.convert(net(), RANGE), seconds=seconds)


@pytest.mark.parametrize("call", [imcsim.program, imcsim.seed_reads])
@pytest.mark.parametrize("seed", [1.5, "0", None, False])
def test_bad_seeds(call, seed) -> None:
    with pytest.raises(InputError, match=r"seed = .* is not an integer"):
        call(imcsim.convert(net(), RANGE), seed=seed)


@pytest.mark.parametrize("seed", [-3, 2**70, np.int64(4)])
def test_any_integer_is_a_seed(seed) -> None:
    sim = imcsim.convert(net(), RANGE)
    imcsim.program(sim, seed=seed)
    imcsim.seed_reads(sim, seed)
    first = sim(X)
    imcsim.program(sim, seed=0)
    imcsim.program(sim, seed=seed)
    assert torch.equal(sim(X), first)
