"""Two gloo processes under torchrun: the same weights in both, other chips in each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import imcsim
from imcsim import train
from tests.train.small import CHIP, digits, perceptron

dist.init_process_group("gloo")
torch.set_num_threads(1)
rank, folder = dist.get_rank(), sys.argv[1]
batches = digits(128)
own = batches[rank::2]


def weights(sim):
    return torch.cat([p.detach().flatten() for p in sim.parameters()])


def start():
    sim = imcsim.convert(perceptron(), CHIP)
    imcsim.calibrate(sim, [batches[0][0]])
    return sim


# the loop of the library, stopped after an epoch and gone on
sim = start()
options = {"validation": digits(64, train=False), "selection_seeds": (3,)}
whole = train.fit(sim, own, 2, **options)
other = start()


class Killed(list):
    left = 3

    def __iter__(self):
        for batch in super().__iter__():
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            yield batch


try:
    train.fit(other, Killed(own), 2, checkpoint=f"{folder}/fit.safetensors", **options)
except KeyboardInterrupt:
    pass
other = start()
again = train.fit(other, own, 2, checkpoint=f"{folder}/fit.safetensors", **options)

# a loop of one's own
mine = start()
with train.inject(mine, learn=("inputs",)):
    net = DistributedDataParallel(mine.train())
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.05)
    for x, y in own:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    step = weights(mine)
    with torch.no_grad():
        seen = mine(batches[0][0])
torch.save(
    {"fit": weights(sim), "again": weights(other), "scores": [e.score for e in whole.epochs],
     "losses": [e.loss for e in whole.epochs], "same": whole == again, "own": step, "seen": seen},
    f"{folder}/rank{rank}.pt",
)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **one, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for key in ("fit", "own"):
        assert torch.equal(first[key], second[key])
    assert first["scores"] == second["scores"]
    assert first["losses"] == second["losses"]
    assert first["same"]
    assert second["same"]
    assert torch.equal(first["again"], first["fit"])
    assert not torch.allclose(first["seen"], second["seen"])  # other chips
