"""A layer's product through its converters: converted sums by an engine, then the digital corrections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from imcsim.functional.correction import read_sums
from imcsim.functional.noise import ReadStream
from imcsim.kernels.job import Job

Sums = Callable[[Tensor, ReadStream | None], Tensor]
"""An engine's `stream_sums` for given columns: codes on the word lines and the read noise to digitised sums."""


def integer_product(
    x_int: Tensor, job: Job, sums: Sums, unit_sums: Sums | None, stream: ReadStream | None
) -> Tensor:
    """The layer's product in units of one integer weight times one input code, through its converters.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes.
        job: the layer.
        sums: the engine on the layer's columns.
        unit_sums: the engine on `Job.unit_columns`, where the layer has them.
        stream: where read noise is drawn from.

    Returns:
        The product, with every digital correction.
    """
    x = job.word_lines(x_int)
    out = sums(x, stream)
    if job.compensation is not None:
        out = out * (job.compensation if job.compensation.dim() == 0 else job.compensation.unsqueeze(1))
    fix = job.correction
    counted = None
    if fix.drive is not None or unit_sums is not None:
        counted = read_sums(x, job.columns.reads, job.train.shift)
    if fix.drive is not None and counted is not None:
        out = out + torch.einsum("rgn,rgc->gnc", counted, fix.drive)
    if fix.unit is not None and unit_sums is not None and counted is not None:
        draws = None if stream is None else replace(stream, purpose="read of the unit column")
        measured = unit_sums(x, draws).permute(2, 0, 1)
        if job.snap is None:
            measured = measured - counted * job.unit_baseline + job.unit_residue
        out = out + torch.einsum("rgn,rgc->gnc", measured, fix.unit)
    return out + fix.constant[:, None] if bool(fix.constant.any()) else out
