"""The GPU engine: cells and converters of a layer as `imcsim.kernels.triton_product` reads them.

Whole and half levels are multiplied as bytes and added as 32-bit integers. Real-valued cells are split into
two float16 numbers, which keeps 22 bits of each; digits are exact in float16, so that both products run on
tensor cores and add up in float32.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imcsim.errors import EngineError
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.kernels.job import reach
from imcsim.kernels.matmul import float32_twin

BLOCK_ELEMENTS = 1 << 24
"""Sums of streams held at a time; bounds memory whatever the batch (64 MB)."""

_TOP_CODE = 1 << 22  # below it a float32 code can be rounded by an addition
_LEVEL_BITS, _CURRENT_BITS = 7, 11  # widest digit that is exact in int8 and in float16
_MOST_FLOAT16 = 60000.0


@dataclass(frozen=True)
class Product:
    """A layer as the kernel reads it; built once per programming.

    Attributes:
        train: how input codes become pulses.
        cells: (groups, streams, padded outputs, padded rows), int8 and nothing, or two halves in float16.
        signs: (groups, reads, streams, padded outputs) int32, -1 where a column is stored flipped.
        rows: where each read's rows are in the codes, and where among padded rows: (start, stop, first).
        read_tiles: (reads + 1,) int32: the first tile of rows of each read.
        digits: (cycles, 3) int32: shift, mask, weight; cycles are filled up to a power of two.
        converters: (streams, 4) float32: codes per level, code of zero current, highest code, code counted
            as 0.
        ties_up: how the converters round.
        factors: gain times step of each stream.
        outputs: columns without padding.
        block_outputs: columns of a program.
        block_rows: rows of a tile.
    """

    train: PulseTrain
    cells: tuple[Tensor, Tensor]
    signs: Tensor
    rows: tuple[tuple[int, int, int], ...]
    read_tiles: Tensor
    digits: Tensor
    converters: Tensor
    ties_up: bool
    factors: tuple[float, ...]
    outputs: int
    block_outputs: int
    block_rows: int

    @property
    def nbytes(self) -> int:
        """Memory that the padded cells take."""
        return sum(t.numel() * t.element_size() for t in (*self.cells, self.signs))


def supports(columns: Columns, train: PulseTrain, converters: tuple[Converter, ...] | None) -> str | None:
    """Why this engine cannot compute a layer, or None if it can.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream, or None for ideal ones.

    Returns:
        The reason, for `summary`.
    """
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'imcsim[gpu]')"
    if columns.cells.device.type != "cuda" and not interpreted():
        return f"the cells are on {columns.cells.device.type}"
    if converters is None:
        return "no converters: one product does it"
    if train.accumulate:
        return "the cycles are accumulated before the converter: one product a slice does it"
    if train.drive is not None:
        return "the cells' I-V bends the input pulses"
    if columns.reshapes:
        return "the readout is not linear"
    if columns.variance is not None:
        return "read noise is drawn at each conversion"
    if len({c.ties_up for c in converters}) > 1:
        return "converters of several kinds"
    cells, per_level = _cells(columns)
    widest = _LEVEL_BITS if per_level else _CURRENT_BITS
    if train.bits_per_cycle > widest:
        return f"digits of {train.bits_per_cycle} bits are wider than {widest}"
    if float(cells.abs().max()) > (127 if per_level else _MOST_FLOAT16):
        return "cells reach too high a level"
    if max(c.top for c in converters) >= _TOP_CODE:
        return "codes of more than 22 bits"
    weight = sum(abs(w) for w in train.weights) * len(columns.reads)
    if any(weight * (abs(c.zero) + c.top) >= 1 << 31 for c in converters):
        return "digital sums do not fit in 32 bits"
    if per_level and None in _twins(columns, train, converters, per_level):
        return "no float32 constants give the converters' codes"
    return None


def interpreted() -> bool:
    """Whether Triton runs kernels in Python, on the CPU: for tests (``TRITON_INTERPRET=1``)."""
    import triton

    return bool(triton.knobs.runtime.interpret)


def build(columns: Columns, train: PulseTrain, converters: tuple[Converter, ...]) -> Product:
    """Prepare a layer.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream.

    Returns:
        The product.

    Raises:
        EngineError: `supports` gives a reason why not.
    """
    reason = supports(columns, train, converters)
    if reason is not None:
        raise EngineError(f"engine 'triton': {reason}; use engine = 'matmul'")
    device, (groups, streams, _, outputs) = columns.cells.device, columns.cells.shape
    longest = max(stop - start for start, stop in columns.reads)
    block_rows, block_outputs = (64 if longest > 32 else 32), (64 if outputs > 32 else 32)
    padded_outputs = -(-outputs // block_outputs) * block_outputs
    tiles = [0]
    for start, stop in columns.reads:
        tiles.append(tiles[-1] - (start - stop) // block_rows)
    rows = tuple((*read, block_rows * tile) for read, tile in zip(columns.reads, tiles, strict=False))

    def padded(cells: Tensor) -> Tensor:
        out = cells.new_zeros(groups, streams, padded_outputs, block_rows * tiles[-1])
        for start, stop, first in rows:
            out[:, :, :outputs, first : first + stop - start] = cells[:, :, start:stop].transpose(2, 3)
        return out

    exact, per_level = _cells(columns)
    if per_level:
        cells = padded(exact.to(torch.int8)), torch.empty(0, dtype=torch.int8, device=device)
        used = [twin for twin in _twins(columns, train, converters, per_level) if twin is not None]
    else:
        upper = exact.half()
        cells, used = (padded(upper), padded((exact - upper.double()).half())), list(converters)
    signs = torch.ones(groups, len(rows), streams, padded_outputs, dtype=torch.int32, device=device)
    if columns.flip is not None:
        signs[..., :outputs] = columns.flip.transpose(0, 1)
    constants = [(c.num / c.den, c.origin, c.top, own.zero) for c, own in zip(used, converters, strict=True)]
    return Product(
        train,
        cells,
        signs,
        rows,
        torch.tensor(tiles, dtype=torch.int32, device=device),
        torch.tensor(_digit_places(train), dtype=torch.int32, device=device),
        torch.tensor(constants, dtype=torch.float32, device=device),
        converters[0].ties_up,
        tuple(gain * c.step for gain, c in zip(columns.gains, converters, strict=True)),
        outputs,
        block_outputs,
        block_rows,
    )


def stream_sums(x_int: Tensor, product: Product) -> Tensor:
    """`imcsim.functional.mvm.stream_sums` by the kernel.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, outputs) float64.

    Args:
        x_int: input codes, any dtype that holds them, on the cells' device.
        product: from `build`.

    Returns:
        The sums: equal to the reference bit for bit for whole levels, else to the cells' rounding.
    """
    from imcsim.kernels.triton_product import launch

    groups, vectors, _ = x_int.shape
    streams = len(product.factors)
    out = torch.zeros(groups, vectors, product.outputs, dtype=torch.float64, device=x_int.device)
    block = max(1, BLOCK_ELEMENTS // (groups * streams * product.outputs))
    for first in range(0, vectors, block):
        some = _packed(x_int[:, first : first + block], product)
        totals = torch.empty(
            groups, some.shape[1], streams, product.outputs, dtype=torch.int32, device=x_int.device
        )
        launch(
            some,
            product.cells,
            product.signs,
            product.read_tiles,
            product.digits,
            product.converters,
            totals,
            polarity=product.train.polarity,
            ties_up=product.ties_up,
            block_outputs=product.block_outputs,
            block_rows=product.block_rows,
        )
        for q, factor in enumerate(product.factors):
            out[:, first : first + block] += factor * totals[:, :, q].double()
    return out


def _cells(columns: Columns) -> tuple[Tensor, int | None]:
    """The cells with what g_min adds to them, and in how many parts a level then comes; None: real numbers.

    Shapes: returns (groups, streams, rows, outputs) float64, in these parts.
    """
    cells = columns.cells.double()
    if any(columns.baseline):
        cells = cells + cells.new_tensor(columns.baseline).view(-1, 1, 1)
    for per_level in (1, 2):
        if torch.equal((cells * per_level).round(), cells * per_level):
            return cells * per_level, per_level
    return cells, None


def _twins(
    columns: Columns, train: PulseTrain, converters: tuple[Converter, ...], per_level: int
) -> list[Converter | None]:
    """Converters of parts of levels with float32 constants, None where there are none."""
    return [
        float32_twin(replace(c, den=c.den * per_level), int(low * per_level), int(high * per_level))
        for c, (low, high) in zip(converters, reach(columns, train), strict=True)
    ]


def _digit_places(train: PulseTrain) -> list[tuple[int, int, int]]:
    """Shift, mask and weight of each cycle's digit in a code; weight 0 up to a power of two of cycles."""
    bits, magnitude = train.bits_per_cycle, train.magnitude_bits
    places = [(b, (1 << min(bits, magnitude - b)) - 1) for b in range(0, magnitude, bits)]
    if train.sign_cycle:  # the bit above those of the magnitude, in two's complement
        places.append((magnitude, 1))
    out = [(*place, weight) for place, weight in zip(places, train.weights, strict=True)]
    return out + [(0, 0, 0)] * ((1 << (len(out) - 1).bit_length()) - len(out))


def _packed(x_int: Tensor, product: Product) -> Tensor:
    """Codes in the narrowest integers that hold them, rows where the padded cells have theirs.

    Shapes: x_int (groups, vectors, inputs); returns (groups, vectors, padded rows).
    """
    train = product.train
    if train.magnitude_bits <= 8 and not (train.polarity or train.sign_cycle):
        dtype = torch.uint8
    else:  # a bit more than the magnitude, for the sign
        bits = train.magnitude_bits + 1
        dtype = torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32
    out = torch.zeros(*x_int.shape[:2], product.cells[0].shape[3], dtype=dtype, device=x_int.device)
    for start, stop, first in product.rows:
        out[:, :, first : first + stop - start] = x_int[:, :, start:stop] + train.shift
    return out
