"""Converters applied one by one: layers of one slice and one input cycle, binary and ternary ones.

There the product with each read's rows is all that a converter sees, so that nothing has to be taken for
noise: a sense amplifier's clipping stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imcsim.functional.adc import Converter
from imcsim.functional.noise import quick_normals
from imcsim.kernels.job import Job
from imcsim.train.straight import converted


@dataclass(frozen=True)
class PerRead:
    """A layer's reads and the digital side after them.

    Attributes:
        reads: (start, stop) of the inputs of each.
        gain: digital weight of a level.
        complementary: a weight sits on two word lines.
        baseline: g_min of a cell in levels, where it reaches the converter.
        converter: of every read; None: ideal ones.
        drive: (reads, groups, outputs) factor of the sum of what drives each read's word lines, or None.
        constant: (groups, outputs) added once.
    """

    reads: tuple[tuple[int, int], ...]
    gain: float
    complementary: bool
    baseline: float
    converter: Converter | None
    drive: Tensor | None
    constant: Tensor

    def __call__(
        self,
        x: Tensor,
        w_int: Tensor,
        error: Tensor | None,
        variance: Tensor | None,
        high: Tensor | None,
        rng: np.random.Generator,
    ) -> Tensor:
        """The integer product through the converters.

        A pair of cells at ``(1 + w) / 2`` and ``(1 - w) / 2`` levels, of which a code +1 drives the first
        and -1 the second, carries ``x (w + e_0 - e_1) / 2 + |x| (1 + e_0 + e_1) / 2``.

        Shapes: x (groups, vectors, inputs) codes; w_int (groups, outputs, inputs); error and variance like
            w_int, of pairs with a last dimension of 2; high (); returns (groups, vectors, outputs).

        Args:
            x: input codes.
            w_int: integer weights.
            error: of the cells in levels, or None.
            variance: of a read of each cell in levels squared, or None.
            high: the parameter of the converter's range, or None.
            rng: for read noise.

        Returns:
            The product, differentiable.
        """
        converter = self.converter
        if converter is not None and high is not None:
            converter = _of_range(converter, float(high.detach()))
        driven = x.detach().abs() if self.complementary else x.detach()
        out: Tensor | float = 0.0
        signed, common = self._weights(w_int, error)
        noise = None if variance is None else self._variances(variance)
        for r, (start, stop) in enumerate(self.reads):
            rows = slice(start, stop)
            current = x[..., rows] @ signed[..., rows].transpose(1, 2)
            lines = driven[..., rows]
            if common is not None:
                current = current + lines @ common[..., rows].transpose(1, 2)
            if noise is not None:
                power = lines.abs() @ noise[1][..., rows].transpose(1, 2)
                power = power + x.detach()[..., rows] @ noise[0][..., rows].transpose(1, 2)
                drawn = torch.from_numpy(quick_normals(rng, current.numel())).view_as(current)
                current = current + power.clamp_(min=0).sqrt_() * drawn.to(current)
            read = current if converter is None else converted(current, converter, high)
            out = out + self.gain * read
            if self.drive is not None:
                out = out + lines.sum(-1, keepdim=True) * self.drive[r].unsqueeze(1).to(x.dtype)
        return out + self.constant.unsqueeze(1).to(x.dtype)

    def _weights(self, w_int: Tensor, error: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Factors of x and of what is driven. Shapes: (groups, outputs, inputs) both."""
        if not self.complementary:
            return (w_int if error is None else w_int + error), None
        half = torch.full_like(w_int, 0.5 + self.baseline)
        if error is None:
            return w_int / 2, half
        return (w_int + error[..., 0] - error[..., 1]) / 2, half + error.sum(-1) / 2

    def _variances(self, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Variances per x and per driven line. Shapes: (groups, outputs, inputs) both."""
        if not self.complementary:
            return torch.zeros_like(variance), variance
        return (variance[..., 0] - variance[..., 1]) / 2, variance.sum(-1) / 2


def reads_one_by_one(job: Job) -> PerRead | None:
    """The reads of a layer of one slice and one cycle, whose converters can be applied as they are.

    Args:
        job: the layer, with cells at their targets.

    Returns:
        Its reads; None for any other layer, and without converters but for complementary cells.
    """
    columns, fix = job.columns, job.correction
    one = len(columns.gains) == 1 and len(job.train.weights) == 1 and not job.train.shift
    digits = job.train.digit_max == 1
    plain = columns.flip is None and fix.unit is None and job.snap is None
    if not (one and digits and plain) or (job.converters is None and not job.complementary):
        return None
    if not job.complementary and (columns.baseline[0] or fix.drive is not None):
        return None
    lines = 2 if job.complementary else 1
    gain, converter, residue = columns.gains[0], None, 0.0
    if job.converters is not None:
        # `converted` gives back what a converter without a zero code lacks; the correction would do it again.
        converter = job.converters[0]
        residue = gain * converter.step * converter.residue * sum(job.train.weights) * len(columns.reads)
    return PerRead(
        tuple((start // lines, stop // lines) for start, stop in columns.reads),
        gain,
        job.complementary,
        columns.baseline[0],
        converter,
        fix.drive,
        fix.constant - residue,
    )


def _of_range(converter: Converter, high: float) -> Converter:
    """The same converter with its range scaled to another upper end."""
    end = (converter.top - converter.origin) * converter.step
    return replace(converter, den=converter.den * high / end)
