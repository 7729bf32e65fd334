"""The float64 reference of an analog matrix product: pulses in, column currents, codes, shift-and-add, sum over reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.functional.adc import Converter, convert
from imcsim.functional.dac import PulseTrain, digits


@dataclass(frozen=True)
class Columns:
    """The bit lines of a layer as its converters see them.

    A *stream* is one converted column per output: a weight slice (after analog subtraction of its pair), or one side of it.
    Currents are counted in levels (see `imcsim.functional.adc`).

    Attributes:
        cells: (groups, streams, inputs, outputs) level of each cell: integers for ideal cells (any dtype that holds them), real
            numbers for programmed ones.
        reads: (start, stop) ranges of rows driven together and converted; they cover the inputs once.
        gains: digital weight of one level of each stream.
        baseline: g_min's contribution to each stream in levels per unit of digit sum, where it is not part of `cells`.
        flip: (reads, groups, streams, outputs), -1 where the column is stored flipped, else 1; None: nothing is flipped.
    """

    cells: Tensor
    reads: tuple[tuple[int, int], ...]
    gains: tuple[float, ...]
    baseline: tuple[float, ...]
    flip: Tensor | None = None


def stream_sums(
    x_int: Tensor,
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None = None,
) -> Tensor:
    """Digitised and digitally summed column currents, in units of one integer product.

    ``sum_q gain_q step_q sum_r flip_rq sum_t weight_t (code_rqt - zero_q)`` with
    ``code = ADC(sum_rows digit_t (cell + baseline_q))``; without converters ``step (code - zero)`` is the current itself.
    With `snap` each converted value is first rounded to the nearest whole level above the known baseline:
    ``rint(step (code - origin) - snap_q sum_rows digit)`` replaces ``step (code - zero)``.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes.
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream, or None for ideal ones.
        snap: the known baseline of each stream in levels per unit of digit sum, to be removed before rounding; None: no snapping.

    Returns:
        The sum, before the corrections that `imcsim.functional.correction` describes.
    """
    cells = columns.cells.double()
    pulses = digits(x_int.double(), train)
    out = torch.zeros(*x_int.shape[:2], cells.shape[-1], dtype=torch.float64, device=x_int.device)
    for q, gain in enumerate(columns.gains):
        converter = None if converters is None else converters[q]
        total = torch.zeros_like(out)
        for r, (start, stop) in enumerate(columns.reads):
            flip = 1.0 if columns.flip is None else columns.flip[r, :, q, None, :].double()
            for weight, pulse in zip(train.weights, pulses[..., start:stop], strict=True):
                current = pulse @ cells[:, q, start:stop]
                drive = pulse.sum(-1, keepdim=True)
                if columns.baseline[q]:
                    current = current + columns.baseline[q] * drive
                code = current if converter is None else convert(current, converter)
                if snap is not None and converter is not None:
                    code = torch.round((code + converter.residue) * converter.step - snap[q] * drive)
                total += weight * flip * code
        step = 1.0 if converter is None or snap is not None else converter.step
        out += gain * step * total
    return out
