"""Integer weights as levels of memory cells. To add an encoding, add it to `slicing` and `cell_levels`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import MappingError


@dataclass(frozen=True)
class Slicing:
    """How the bits of a weight are spread over cells.

    ``w_int = sum_s gains[s] level_s - offset``, where ``level_s`` is the level of the cell, or of the plus
    cell less the minus cell.

    Attributes:
        widths: bits of each slice's cell, least significant slice first; a cell has levels 0 to ``2^width -
            1``.
        gains: digital weight of one level of each slice.
        offset: what the stored code exceeds the weight by.
        paired: a weight is a plus and a minus cell.
    """

    widths: tuple[int, ...]
    gains: tuple[int, ...]
    offset: int
    paired: bool

    @property
    def top_levels(self) -> tuple[int, ...]:
        """The level of a fully-on cell of each slice."""
        return tuple((1 << width) - 1 for width in self.widths)


def slicing(encoding: str, bits: int, cell_bits: int | tuple[int, ...]) -> Slicing:
    """The slices of a weight.

    Differential and ternary: base ``2^cell_bits`` digits of the magnitude. Offset and isaac: of ``w +
    2^(bits-1)``
    (one bit: of ``(w + 1) / 2``). Two's complement: of the low ``bits - 1`` bits, then the sign bit as a
    slice of its own with gain
    ``-2^(bits-1)``, in a cell as wide as the slice before it. XNOR: one binary cell, whose complement sits on
    the next word line.

    Args:
        encoding: differential, offset, isaac, twos_complement, xnor or ternary.
        bits: width of the weight, sign included.
        cell_bits: bits of every cell, or the widths of the slices from the least significant.

    Returns:
        The slicing.

    Raises:
        MappingError: widths that do not add up to the bits to be sliced; says how many are needed.
    """
    if encoding == "xnor" or (bits == 1 and encoding in ("offset", "isaac")):
        return Slicing((cell_bits,) if isinstance(cell_bits, int) else cell_bits, (2,), 1, paired=False)
    whole = encoding in ("offset", "isaac")
    need = bits if whole else max(bits - 1, 1)
    widths = (cell_bits,) * -(-need // cell_bits) if isinstance(cell_bits, int) else cell_bits
    if sum(widths) < need:
        raise MappingError(
            f"cell_bits = {cell_bits} holds {sum(widths)} bits, but encoding {encoding!r} slices {need}; "
            f"give widths that reach {need}"
        )
    gains = tuple(1 << sum(widths[:s]) for s in range(len(widths)))
    if encoding == "twos_complement":
        return Slicing((*widths, widths[-1]), (*gains, -(1 << need)), 0, paired=False)
    return Slicing(widths, gains, 1 << (bits - 1) if whole else 0, paired=not whole)


def cell_levels(w_int: Tensor, slices: Slicing, encoding: str, *, two_sided: bool = False) -> Tensor:
    """Target level of every cell.

    Differential: digits of ``|w_int|`` on the plus or the minus cell by sign; two-sided: plus ``(n + d) / 2``
        and minus ``(n - d) / 2``
    with the signed digit d and the top level n (half levels). XNOR: row ``2k`` holds the weight's cell, row
    ``2k + 1`` its complement.

    Shapes: w_int (groups, outputs, inputs); returns (groups, planes, slices, rows, outputs) float32, planes 2
    for pairs (plus, minus)
    else 1, rows = inputs (xnor: 2 x inputs).

    Args:
        w_int: integer weights.
        slices: from `slicing`.
        encoding: as there.
        two_sided: constant-sum differential pairs.

    Returns:
        The levels.
    """
    w = w_int.to(torch.int32).transpose(1, 2)
    if encoding == "xnor":
        on = (w > 0).to(torch.float32)
        return torch.stack([on, 1 - on], dim=2).flatten(1, 2)[:, None, None]
    if slices.paired:
        magnitude = _digits(w.abs(), slices.widths)
        signed = magnitude * w.sign().unsqueeze(1)
        if not two_sided:
            return torch.stack([signed.clamp(min=0), (-signed).clamp(min=0)], dim=1).to(torch.float32)
        top = torch.tensor(slices.top_levels, device=w.device).view(1, -1, 1, 1)
        return torch.stack([top + signed, top - signed], dim=1).to(torch.float32) / 2
    if encoding == "twos_complement":
        low = _digits(w & (-slices.gains[-1] - 1), slices.widths[:-1])
        return torch.cat([low, (w < 0).to(torch.int32).unsqueeze(1)], dim=1).unsqueeze(1).to(torch.float32)
    stored = (w + slices.offset) // slices.gains[0]
    return _digits(stored, slices.widths).unsqueeze(1).to(torch.float32)


def _digits(code: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Digits of non-negative codes, least significant first.

    Shapes: code (groups, K, C) -> (groups, slices, K, C).
    """
    out = []
    for width in widths:
        out.append(code & ((1 << width) - 1))
        code = code >> width
    return torch.stack(out, dim=1)


def flip_columns(levels: Tensor, arrays: tuple[tuple[int, int], ...], limit: int, digit_max: int) -> Tensor:
    """ISAAC's flipped columns: which columns of each array are stored as ``2^cell_bits - 1 - level``.

    A column is flipped when its all-on sum would set the top bit of the unflipped converter: ``digit_max
    sum_rows level >= limit``.

    Shapes: levels (groups, slices, rows, outputs); returns (arrays, groups, slices, outputs) int8, -1 where
    flipped else 1.

    Args:
        levels: unflipped levels.
        arrays: row ranges of the arrays.
        limit: ``2^(A-1)``, A the bits of the largest unflipped sum.
        digit_max: the digit that drives a word line fully on.

    Returns:
        The signs.

    References: A. Shafiee et al., "ISAAC: A convolutional neural network accelerator with in-situ analog
        arithmetic in crossbars",
        ISCA 2016.
    """
    sums = torch.stack([levels[:, :, start:stop].sum(2) for start, stop in arrays])
    return torch.where(sums * digit_max >= limit, -1, 1).to(torch.int8)
