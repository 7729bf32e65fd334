"""What a chip makes of each weight code: many written copies of every code, to draw from in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imcsim.functional.noise import short_numbers
from imcsim.kernels.collapsed import effective_weight, noise_variance
from imcsim.kernels.job import Job
from imcsim.nn.array import CrossbarArray
from imcsim.nn.effects import CURRENTS, TARGETS

COPIES = 1024
"""Copies of each code; a power of two. Their standard deviation is within 2.2 % of all copies' (one sigma),
and every code has its own."""

CODE_BITS = 9
"""Codes of more bits share the copies of the code with their low bits at zero: the error of a cell of a low
slice is less than 2^-8 of the largest weight's."""


@dataclass(frozen=True)
class WrittenCodes:
    """Errors of written weights, in units of one integer weight.

    A weight's error is drawn from those of its code, so that the distribution of each single weight is that
    of the device: programming error, spread, discrete states, stuck cells, drift at the array's age. Dead
    lines, which hit many weights at once, are drawn weight by weight.

    Attributes:
        low: the lowest code.
        step: codes that share their copies.
        toward_zero: low bits are dropped from magnitudes, not from the offset code.
        errors: (codes, copies) effective weight less the code; of pairs of word lines (codes, copies, 2),
            cell less its target in levels.
        variance: (codes,) read-noise variance per unit of pulse energy, of pairs of word lines (codes, 2);
            None: reads are noiseless.
    """

    low: int
    step: int
    toward_zero: bool
    errors: Tensor
    variance: Tensor | None

    @property
    def silent(self) -> bool:
        """Whether every weight is written exactly."""
        return not bool(self.errors.any())

    def rows(self, w_int: Tensor) -> Tensor:
        """Row of each code in `errors`. Shapes: w_int (*any); returns the same, int32."""
        code = w_int.to(torch.int32)
        if self.step > 1:
            code = torch.div(code, self.step, rounding_mode="trunc" if self.toward_zero else "floor")
        return code.sub_(self.low // self.step).clamp_(0, len(self.errors) - 1)

    def draw(self, w_int: Tensor, rng: np.random.Generator) -> Tensor:
        """Errors of one chip. Shapes: w_int (*any); returns the same, of pairs (*any, 2); float32."""
        picked = short_numbers(rng.bit_generator, w_int.numel()) & np.uint16(COPIES - 1)
        offset = torch.from_numpy(picked.astype(np.int32)).view(w_int.shape).to(w_int.device)
        index = self.rows(w_int).mul_(COPIES).add_(offset).flatten()
        drawn = self.errors.flatten(0, 1).index_select(0, index)
        return drawn.view(*w_int.shape, *self.errors.shape[2:])

    def read_variance(self, w_int: Tensor) -> Tensor | None:
        """Read-noise variance of each weight. Shapes: as `draw`."""
        return None if self.variance is None else self.variance[self.rows(w_int).long()]


def written_codes(array: CrossbarArray, compensation: Tensor | None) -> WrittenCodes:
    """Write every code of a layer's chip many times and look at what its cells stand for.

    Wires are left out: what they do depends on where a cell is.

    Args:
        array: the layer's arrays; their hardware, calibrated ranges and age are taken.
        compensation: digital factor against drift, a scalar; None: there is none.

    Returns:
        The errors. They depend on the chip and its age, not on the layer.
    """
    bits = array.hardware.weights.bits
    toward_zero = array.slicing.paired and bits > 1
    top = 1 if bits == 1 else (1 << (bits - 1)) - 1
    step = 2 if bits == 1 else 1 << max(0, bits - CODE_BITS)
    low = -(top // step) * step if toward_zero else -step * -(-top // step) + (bits == 1)
    codes = torch.arange(low, top + 1, step, dtype=torch.float64).clamp(min=-top)
    twin = _twin(array)
    scaled_to_one = torch.cat([codes, torch.tensor([top], dtype=torch.float64)])
    twin.sync(scaled_to_one.view(1, -1, 1).expand(1, -1, COPIES).contiguous())
    job = replace(twin.job(CURRENTS), compensation=compensation)
    if job.complementary:
        errors, variance = _lines(job, twin.job(TARGETS))
    else:
        errors = (effective_weight(job) - twin.written.w_int)[0]
        variance = None if job.columns.variance is None else noise_variance(job.columns)[0].mean(1)
    count = len(codes)
    return WrittenCodes(
        low,
        step,
        toward_zero,
        errors[:count].float().contiguous(),
        None if variance is None else variance[:count].float(),
    )


def _twin(array: CrossbarArray) -> CrossbarArray:
    """Arrays of the same chip for weights of their own."""
    hardware = array.hardware.replace(
        {"weights.scale": "per_tensor", "array.word_line_ohm": 0.0, "array.bit_line_ohm": 0.0}
    )
    twin = CrossbarArray(hardware, "codes for training", "auto", lambda weight: weight)
    twin.input_range, twin.input_signed = array.input_range, array.input_signed
    twin.age(array.seconds, None)
    return twin


def _lines(job: Job, ideal: Job) -> tuple[Tensor, Tensor | None]:
    """Errors and variances of the two cells of a weight. Shapes: (codes, copies, 2), (codes, 2)."""
    off = job.columns.cells.double() + job.columns.baseline[0]
    off = off - (ideal.columns.cells.double() + ideal.columns.baseline[0])
    noise = job.columns.variance

    def by_code(cells: Tensor) -> Tensor:
        return cells[0, 0].T.reshape(cells.shape[3], -1, 2)

    return by_code(off), None if noise is None else by_code(noise).mean(1)
