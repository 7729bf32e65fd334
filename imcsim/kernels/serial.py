"""A layer's product through its converters: converted sums by an engine, then the digital corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from imcsim.functional.correction import read_sums
from imcsim.functional.noise import ReadStream
from imcsim.kernels.job import Job

Sums = Callable[[Tensor, ReadStream | None], Tensor]
"""An engine's `stream_sums` for given columns.

Codes on the word lines and the read noise to digitised sums.
"""


def integer_product(
    x_int: Tensor, job: Job, sums: Sums, unit_sums: Sequence[Sums], stream: ReadStream | None
) -> Tensor:
    """The layer's product in units of one integer weight times one input code, through its converters.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes.
        job: the layer.
        sums: the engine on the layer's columns.
        unit_sums: the engine on each of `Job.unit_reads`.
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
    if fix.drive is not None or unit_sums:
        counted = read_sums(x, job.columns.reads, job.train.shift)
    if fix.drive is not None and counted is not None:
        out = _corrected(out, counted, fix.drive)
    if fix.unit is not None and counted is not None:
        reads = []
        for r, ((start, stop), measure) in enumerate(zip(job.columns.reads, unit_sums, strict=True)):
            draws = None if stream is None else replace(stream, purpose=f"read of unit column {r}")
            reads.append(measure(x[..., start:stop], draws)[..., 0])
        measured = torch.stack(reads)
        if job.snap is None:
            measured = measured - counted * job.unit_baseline + job.unit_residue
        out = _corrected(out, measured, fix.unit)
    return out + fix.constant[:, None] if bool(fix.constant.any()) else out


def _corrected(out: Tensor, sums: Tensor, factors: Tensor) -> Tensor:
    """``out + sum_r sums_r factors_r``, read by read, as the table engine adds them: the same bits.

    Shapes: out (groups, vectors, outputs); sums (reads, groups, vectors); factors (reads, groups, outputs).
    """
    for read, factor in zip(sums, factors, strict=True):
        out = out + read.unsqueeze(-1) * factor.unsqueeze(1)
    return out
