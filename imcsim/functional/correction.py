"""What the digital side adds to the converted sums.

Offsets, flipped columns, the g_min baseline, converters without a zero code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns


@dataclass(frozen=True)
class Correction:
    """Terms of the digital side, in units of one integer product.

    Attributes:
        drive: (reads, groups, outputs) factor of the counted sum of the codes sent to each read; None:
            nothing.
        unit: (reads, groups, outputs) factor of that sum as the unit column measured it; None: there is none.
        constant: (groups, outputs) added once.
    """

    drive: Tensor | None
    unit: Tensor | None
    constant: Tensor


def correction(
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    *,
    known_baseline: tuple[float, ...],
    top_levels: tuple[int, ...],
    offset: int,
    weight_sums: Tensor,
    unit_column: bool,
    snapped: bool,
) -> Correction:
    """Digital corrections of `stream_sums`.

    With ``X_r = sum_rows (x_int + shift)`` of read r and ``f = +-1`` the flip of a column,
    ``y_int = stream_sums + sum_r X_r (sum_q gain_q ((1 - f) / 2 top_q - f baseline_q) - offset)
    + sum_q gain_q step_q residue_q sum_t weight_t sum_r f - shift sum_k w_int``.

    Shapes: weight_sums (groups, outputs).

    Args:
        columns: the bit lines.
        train: the pulses.
        converters: one a stream, or None.
        known_baseline: g_min's contribution to each stream, in levels per unit of digit sum, that is removed
            digitally.
        top_levels: level of a fully-on cell of each stream.
        offset: what the stored code exceeds the weight by.
        weight_sums: ``sum_k w_int`` of each output.
        unit_column: sums of inputs for offset and flips are measured, not counted.
        snapped: baseline and residue are already removed at every conversion.

    Returns:
        The corrections.
    """
    reads, (groups, _, _, outputs) = len(columns.reads), columns.cells.shape
    shape = (reads, groups, outputs)
    device = columns.cells.device
    ones = torch.ones(*shape, dtype=torch.float64, device=device)
    counted, inputs = torch.zeros_like(ones), -offset * ones
    constant = -train.shift * weight_sums.double()
    for q, gain in enumerate(columns.gains):
        flip = ones if columns.flip is None else columns.flip[:, :, q].double()
        inputs = inputs + gain * top_levels[q] * (1 - flip) / 2
        if not snapped:
            counted = counted - gain * known_baseline[q] * flip
            if converters is not None and converters[q].residue:
                step, residue = converters[q].step, converters[q].residue
                constant = constant + gain * step * residue * sum(train.weights) * flip.sum(0)
    if not unit_column:
        counted, inputs = counted + inputs, torch.zeros_like(inputs)
    return Correction(
        drive=counted if bool(counted.any()) else None,
        unit=inputs if unit_column else None,
        constant=constant,
    )


def read_sums(x_int: Tensor, reads: tuple[tuple[int, int], ...], shift: int) -> Tensor:
    """Sum of the codes sent to the rows of each read.

    Shapes: x_int (groups, vectors, inputs); returns (reads, groups, vectors) float64.

    Args:
        x_int: input codes.
        reads: row ranges.
        shift: added to each code before it is sent.

    Returns:
        The sums.
    """
    x = x_int.double()
    return torch.stack([x[..., start:stop].sum(-1) + shift * (stop - start) for start, stop in reads])
