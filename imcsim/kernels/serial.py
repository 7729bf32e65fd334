"""A layer's product through its converters: converted sums by an engine, then the digital corrections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from imcsim.functional import mvm
from imcsim.functional.correction import read_sums
from imcsim.functional.mvm import Columns
from imcsim.functional.noise import ReadStream
from imcsim.kernels.job import Job


def integer_product(
    x_int: Tensor, job: Job, sums: Callable[[Tensor], Tensor], stream: ReadStream | None = None
) -> Tensor:
    """The layer's product in units of one integer weight times one input code, through its converters.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes.
        job: the layer.
        sums: an engine's `stream_sums` for this layer: codes on the word lines in, digitised sums out.
        stream: where the unit column's read noise is drawn from.

    Returns:
        The product, with every digital correction.
    """
    x = job.word_lines(x_int)
    out = sums(x)
    if job.compensation is not None:
        out = out * (job.compensation if job.compensation.dim() == 0 else job.compensation.unsqueeze(1))
    fix = job.correction
    if fix.drive is not None:
        out = out + torch.einsum("rgn,rgc->gnc", read_sums(x, job.columns.reads, job.train.shift), fix.drive)
    if fix.unit is not None:
        out = out + torch.einsum("rgn,rgc->gnc", unit_sums(x, job, stream), fix.unit)
    return out + fix.constant[:, None] if bool(fix.constant.any()) else out


def unit_sums(x: Tensor, job: Job, stream: ReadStream | None = None) -> Tensor:
    """Sums of the codes sent to each read, as the unit column and its converter measure them.

    Shapes: x (groups, vectors, rows); returns (reads, groups, vectors) float64.

    Args:
        x: codes on the word lines.
        job: a layer with a unit column.
        stream: where its read noise is drawn from.

    Returns:
        The sums, less the unit cells' own g_min baseline.

    Raises:
        ValueError: the layer has no unit column.
    """
    unit, converter = job.unit, job.unit_converter
    if unit is None:
        raise ValueError("the layer has no unit column")
    converters = None if converter is None else (converter,)
    snap = None if job.snap is None else (job.unit_baseline,)
    out = []
    for r, (start, stop) in enumerate(unit.reads):
        rows = slice(start, stop)
        variance = None if unit.variance is None else unit.variance[:, :, rows]
        column = Columns(
            unit.cells[:, :, rows], ((0, stop - start),), unit.gains, unit.baseline, variance=variance
        )
        draws = None if stream is None else replace(stream, purpose=f"read of unit column {r}")
        out.append(mvm.stream_sums(x[..., rows], column, job.train, converters, snap, draws)[..., 0])
    measured = torch.stack(out)
    if snap is not None:
        return measured
    residue = 0.0 if converter is None else converter.residue * converter.step * sum(job.train.weights)
    return measured - read_sums(x, unit.reads, job.train.shift) * job.unit_baseline + residue
