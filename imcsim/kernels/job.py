"""Everything an engine needs to compute one layer: cells, pulses, converters, digital corrections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from imcsim.functional.adc import Converter
from imcsim.functional.bank import Bank
from imcsim.functional.correction import Correction
from imcsim.functional.dac import PulseTrain, complementary_lines
from imcsim.functional.mvm import Columns


@dataclass(frozen=True)
class Job:
    """A programmed layer, as numbers.

    Attributes:
        w_int: (groups, outputs, inputs) integer weights, what the cells stand for.
        columns: the bit lines.
        train: how input codes become pulses.
        converters: one a stream, or None for ideal ones.
        bank: the converters that are not ideal; None: they are.
        correction: the digital side.
        input_top: the largest magnitude of an input code.
        integer_cells: `columns.cells` are whole levels.
        complementary: a weight sits on two word lines (xnor): a code +1 drives the first, -1 the second, 0
            neither.
        snap: see `stream_sums`.
        unit: the unit column of each group, or None.
        unit_converter: its converter.
        unit_bank: its converters, where they are not ideal.
        unit_baseline: the known g_min baseline of a unit cell, in levels.
        compensation: digital factor of the converted sums against drift: a number or (groups, outputs); None:
            1.
        accumulator_bits: width of the register that adds one read's product after the other and saturates;
            None: sums are exact.
    """

    w_int: Tensor
    columns: Columns
    train: PulseTrain
    converters: tuple[Converter, ...] | None
    correction: Correction
    input_top: int
    integer_cells: bool
    complementary: bool = False
    snap: tuple[float, ...] | None = None
    unit: Columns | None = None
    unit_converter: Converter | None = None
    unit_baseline: float = 0.0
    bank: Bank | None = None
    unit_bank: Bank | None = None
    compensation: Tensor | None = None
    accumulator_bits: int | None = None

    @cached_property
    def largest_sum(self) -> int:
        """The largest magnitude that a sum of products can reach on the way, with any input."""
        return int(self.w_int.double().abs().sum(-1).max()) * self.input_top

    @property
    def overflow(self) -> str | None:
        """How sums can leave their accumulator; None where they cannot."""
        bits = self.accumulator_bits
        if bits is None or self.largest_sum < 1 << (bits - 1):
            return None
        return f"sums of up to {self.largest_sum} can leave an accumulator of {bits} bits"

    @property
    def input_reads(self) -> tuple[tuple[int, int], ...]:
        """The inputs of each read, (start, stop)."""
        lines = 2 if self.complementary else 1
        return tuple((start // lines, stop // lines) for start, stop in self.columns.reads)

    @cached_property
    def loss(self) -> str | None:
        """Why the integer product is not what comes out; None where converters and cells lose nothing."""
        if self.overflow is not None:
            return self.overflow
        if self.columns.reshapes:
            return "the readout is not linear"
        if self.columns.disturbed is not None:
            return self.columns.disturbed
        if self.bank is not None:
            return "converters are not ideal"
        if not self.integer_cells:
            return "cells are programmed, not ideal"
        if self.converters is None:
            return None
        if any(self.columns.baseline):
            return "the g_min baseline reaches the converters"
        for q, (converter, (low, high)) in enumerate(
            zip(self.converters, reach(self.columns, self.train), strict=True)
        ):
            if not converter.lossless(low, high):
                codes = f"its converter has {converter.top + 1} codes {converter.step:.4g} levels apart"
                return f"stream {q} spans levels {low:g} to {high:g}, {codes}"
        if self.unit is not None:
            return "the unit column's converter loses levels"
        return None

    @property
    def unit_residue(self) -> float:
        """What the unit column's converter must be given back for each read, in levels."""
        converter = self.unit_converter
        return 0.0 if converter is None else converter.residue * converter.step * sum(self.train.weights)

    @cached_property
    def unit_reads(self) -> tuple[Columns, ...]:
        """The unit column of each read on its own, (groups, 1, rows of the read, 1)."""
        if self.unit is None:
            return ()
        unit, out = self.unit, []
        for r, (start, stop) in enumerate(unit.reads):
            cells = unit.cells[:, :, start:stop]
            variance = None if unit.variance is None else unit.variance[:, :, start:stop]
            pedestal = None if unit.pedestal is None else unit.pedestal[r : r + 1]
            reads = ((0, stop - start),)
            out.append(replace(unit, cells=cells, reads=reads, variance=variance, pedestal=pedestal))
        return tuple(out)

    def word_lines(self, x_int: Tensor) -> Tensor:
        """What is sent to the word lines. Shapes: x_int (..., inputs) -> (..., rows)."""
        return complementary_lines(x_int) if self.complementary else x_int


def reach(columns: Columns, train: PulseTrain) -> list[tuple[float, float]]:
    """The lowest and the highest current, in levels, that each stream can reach with any input.

    Args:
        columns: the bit lines.
        train: the pulses.

    Returns:
        (low, high) of each stream; both include 0.
    """
    low = torch.zeros(len(columns.gains), dtype=torch.float64)
    high = torch.zeros_like(low)
    base = torch.tensor(columns.baseline, dtype=torch.float64)
    for start, stop in columns.reads:
        cells = columns.cells[:, :, start:stop].double()
        negative, positive = cells.clamp(max=0).sum(2), cells.clamp(min=0).sum(2)
        if train.signed_digits:  # plus on the positive cells and minus on the negative ones
            positive = positive - negative
            negative = -positive
        shift = base * (stop - start)
        low = torch.minimum(low, negative.amin((0, 2)).cpu() - (shift if train.signed_digits else 0))
        high = torch.maximum(high, positive.amax((0, 2)).cpu() + shift)
    low, high = low * train.digit_max, high * train.digit_max
    return list(zip(low.tolist(), high.tolist(), strict=True))
