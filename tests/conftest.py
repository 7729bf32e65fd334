"""Settings of the whole suite: few, reproducible examples; one thread a process."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

from tests.strategies import SCALE

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, which no test has done yet

settings.register_profile(
    "ci",
    max_examples=25 * SCALE,
    derandomize=SCALE == 1,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci")

torch.set_num_threads(1)
