"""The table engine: look up the current of a few rows instead of multiplying (the method of four Russians).

Input pulses are binary or short, so the current that a small group of rows adds to a column has few values;
they are tabulated once per programming. This module decides how a layer is tabulated, keeps the arrays, and
drives the kernels; it needs numba and a processor with AVX2, and says so (`supports`) where it has not.

References:
    V. L. Arlazarov et al., "On economical construction of the transitive closure of a directed graph",
    Doklady 11, 1970. J. Wei et al., "T-MAC: CPU renaissance via table lookup for low-bit LLM deployment on
    edge", EuroSys 2025.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from imcsim.errors import EngineError
from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.kernels import table_plan
from imcsim.kernels.table_image import Geometry as Geometry
from imcsim.kernels.table_image import padded_image
from imcsim.kernels.table_threads import spread

if TYPE_CHECKING:
    from imcsim.kernels.simd import InstructionSet

LOG = logging.getLogger("imcsim")
PATTERN_BYTES = 16 << 20  # packed patterns in memory at once
FLOAT_INDEX_BITS = 4  # tables of float32 in memory have sixteen entries
REGISTER_INDEX_BITS = 5  # in registers, thirty-two
VECTORS_AT_ONCE = 1024  # that share a walk over float32 tables
TOTAL_BYTES = 256 << 10  # totals that stay in the second-level cache


@lru_cache
def instruction_set() -> InstructionSet | None:
    """The best instruction set here, or None without numba or AVX2."""
    if importlib.util.find_spec("numba") is None:
        return None
    from imcsim.kernels import simd

    found = simd.available()
    return found[0] if found else None


def supports(columns: Columns, train: PulseTrain, converters: tuple[Converter, ...] | None) -> str | None:
    """Why this engine cannot compute a layer, or None if it can.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream, or None for ideal ones.

    Returns:
        The reason, for `summary`.
    """
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    isa = instruction_set()
    if isa is None:
        return "the processor lacks AVX2"
    if converters is None:
        return "no converters: one product does it"
    if train.accumulate:
        return "the cycles are accumulated before the converter: one product a slice does it"
    digit_bits = train.bits_per_cycle + train.polarity
    if digit_bits > 4:
        return f"digits of {digit_bits} bits with sign do not fit a table's index of 4"
    if train.magnitude_bits > 16:
        return f"inputs of {train.magnitude_bits} bits are more than 16"
    if columns.cells.device.type != "cpu":
        return f"the cells are on {columns.cells.device.type}"
    if columns.reshapes:
        return "the readout is not linear"
    if columns.variance is not None:
        return "read noise is drawn at each conversion"
    weight = sum(abs(w) for w in train.weights) * len(columns.reads)
    for converter in converters:
        if converter.top > 32767:
            return f"codes up to {converter.top} do not fit in 16 bits"
        if any(sum(map(abs, w)) * converter.top >= 1 << 24 for _, w, _ in table_plan.planes(train).quads):
            return f"codes up to {converter.top} are too high for digits of {train.bits_per_cycle} bits"
        if weight * (abs(converter.zero) + converter.top + 256) >= 1 << 31:
            return "digital sums do not fit in 32 bits"
    return None


def table_bytes(columns: Columns, train: PulseTrain) -> int:
    """An upper bound on the memory of a layer's tables, without building them.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.

    Returns:
        Bytes.
    """
    isa = instruction_set()
    index_bits = FLOAT_INDEX_BITS if isa is None else isa.index_bits
    layer_groups, streams, _, outputs = columns.cells.shape
    digit_bits = train.bits_per_cycle + train.polarity

    def entries(places: int, multiple: int, bytes_each: int) -> int:
        groups = sum(-(-(stop - start) // places) for start, stop in columns.reads)
        padded = -(-outputs // multiple) * multiple
        return layer_groups * streams * groups * padded * bytes_each

    floats = max(
        entries(FLOAT_INDEX_BITS // digit_bits, 16, 64), entries(REGISTER_INDEX_BITS // digit_bits, 4, 128)
    )
    bound = 32 * layer_groups * streams * (outputs + 64) * len(columns.reads) + (1 << 20)
    if any(columns.baseline) or train.drive is not None or _per_level(columns.cells.double().numpy()) is None:
        return floats + bound
    extra = 2 * streams  # a block's padding
    return max(floats, entries(max(1, index_bits // digit_bits), 2 + extra, 1 << index_bits)) + bound


@dataclass(frozen=True)
class Tables:
    """A layer as the kernels read it; built once per programming.

    Attributes:
        isa: what the kernels are compiled for.
        planes: where the digits of an input code sit.
        layout: the same for the packer.
        arrays: `LevelTables`, `CurrentTables` or `RegisterTables`.
        factors: (streams,) gain times step.
        constants: (layer groups, streams, outputs) added to the totals.
        shape: layer groups, inputs, outputs.
        exact: cells are whole levels, results equal the reference bit for bit.
    """

    isa: InstructionSet
    planes: table_plan.Planes
    layout: Any
    arrays: Any
    factors: Any
    constants: Any
    shape: tuple[int, int, int]
    exact: bool

    @property
    def nbytes(self) -> int:
        """Memory that the tables take."""
        return sum(a.nbytes for a in self.arrays if isinstance(a, np.ndarray))


def build(
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...],
    isa: InstructionSet | None = None,
) -> Tables:
    """Tabulate a layer.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.
        converters: one a stream.
        isa: what to compile for; None: the best there is.

    Returns:
        The tables.

    Raises:
        EngineError: `supports` gives a reason why not, or a converter cannot be reproduced.
    """
    reason = supports(columns, train, converters)
    if reason is not None:
        raise EngineError(f"engine 'table': {reason}; use engine = 'matmul'")
    _announce()
    from imcsim.kernels.pack import layout_arrays
    from imcsim.kernels.table_build import LevelBuilder
    from imcsim.kernels.table_build_floats import FOLDED_TOP, build_currents, build_registers

    isa = isa or instruction_set()
    assert isa is not None  # supports() said so
    cells = columns.cells.detach().double().numpy()
    if any(columns.baseline):
        cells = cells + np.array(columns.baseline)[:, None, None]
    layout = table_plan.planes(train)
    per_level = None if train.drive is not None else _per_level(cells)
    factors = np.array([gain * c.step for gain, c in zip(columns.gains, converters, strict=True)])
    shape = (cells.shape[0], cells.shape[2], cells.shape[3])
    if per_level is not None:
        groups = table_plan.groups(columns.reads, isa.index_bits // layout.digit_bits)
        builder = LevelBuilder(isa, columns, cells, per_level, converters, layout, groups)
        if builder.fits:
            arrays, constants = builder.tables()
            packing = layout_arrays(layout, groups, columns.reads, place=None)
            return Tables(isa, layout, packing, arrays, factors, constants, shape, exact=True)
    if isa.float_registers and per_level is None and max(c.top for c in converters) <= FOLDED_TOP:
        groups = table_plan.groups(columns.reads, REGISTER_INDEX_BITS // layout.digit_bits)
        registers, constants = build_registers(columns, cells, converters, layout, groups)
        packing = layout_arrays(layout, groups, columns.reads, place=0)
        return Tables(isa, layout, packing, registers, factors, constants, shape, exact=False)
    groups = table_plan.groups(columns.reads, FLOAT_INDEX_BITS // layout.digit_bits)
    built = build_currents(columns, cells, per_level, converters, layout, groups)
    if built is None:
        raise EngineError(
            "engine 'table': no float32 constants give the converters' codes; use engine = 'matmul'"
        )
    packing = layout_arrays(layout, groups, columns.reads, place=FLOAT_INDEX_BITS)
    return Tables(isa, layout, packing, *built[:1], factors, built[1], shape, exact=per_level is not None)


def _per_level(cells: Any) -> int | None:
    """1 or 2 if the cells are whole or half levels, else None."""
    for per_level in (1, 2):
        scaled = cells * per_level
        if np.array_equal(np.rint(scaled), scaled) and np.abs(scaled).max(initial=0) < 32768:
            return per_level
    return None


@lru_cache
def _announce() -> None:
    LOG.info("table engine: compiling kernels, a few seconds the first time; kept on disk for later runs")


@dataclass(frozen=True)
class Finish:
    """What is done to the sums before they are written; float64 inside.

    ``y = (sums compensation + sum_r X_r coefficients_r + offset) scale + bias``, X_r the sum of the codes
    sent to read r (with `PulseTrain.shift`). All shapes may be anything that expands to (layer groups,
    outputs).

    Attributes:
        compensation: float64, or None for 1.
        coefficients: (reads, layer groups, outputs) float64, or None for 0.
        offset: float64, or None for 0.
        scale: float64, or None for 1.
        bias: float64, or None for 0.
        dtype: of the result, float32 or float64.
    """

    compensation: Tensor | None = None
    coefficients: Tensor | None = None
    offset: Tensor | None = None
    scale: Tensor | None = None
    bias: Tensor | None = None
    dtype: torch.dtype = torch.float64


def stream_sums(x_int: Tensor, tables: Tables, finish: Finish | None = None) -> Tensor:
    """`imcsim.functional.mvm.stream_sums` by tables.

    Shapes: x_int (layer groups, vectors, inputs); returns (layer groups, vectors, outputs).

    Args:
        x_int: input codes, any dtype that holds them.
        tables: from `build`.
        finish: what to do to the sums; None: nothing, float64.

    Returns:
        The sums.
    """
    from imcsim.kernels import pack

    finish = finish or Finish()
    layer_groups, vectors, inputs = x_int.shape
    _, _, outputs = tables.shape
    lanes = tables.isa.lanes
    out = torch.empty(layer_groups, vectors, outputs, dtype=finish.dtype)
    target = (vectors * outputs, outputs, 1, 1)
    for start, stop in _slabs(vectors, tables):
        parts = table_plan.byte_parts(x_int[:, start:stop], tables.planes)
        padding = (0, -inputs % 16, 0, -(stop - start) % lanes)
        parts = torch.nn.functional.pad(parts, padding) if any(padding) else parts.contiguous()
        patterns, sums = _pattern_arrays(tables, layer_groups, stop - start, finish)
        array = parts.numpy()

        def pack_some(
            first: int, last: int, array: Any = array, patterns: Any = patterns, sums: Any = sums
        ) -> None:
            pack.pack_matrix(tables.isa, tables.layout, array, first, last, patterns, sums)

        spread(sums.shape[0] * sums.shape[1], pack_some)
        _run(tables, finish, target, patterns, sums, start, stop, out)
    return out


def conv_stream_sums(
    x_int: Tensor,
    geometry: Geometry,
    tables: Tables,
    finish: Finish | None = None,
    complementary: bool = False,
) -> Tensor:
    """`stream_sums` of the patches of a convolution, which are never written out.

    Shapes: x_int (batch, channels, height, width); returns (batch, layer groups x outputs, output height,
        output width). Rows of a group's cells are ordered (channel, kernel row, kernel column), as in a
        weight.

    Args:
        x_int: input codes.
        geometry: how the kernel walks; padding is with code 0.
        tables: from `build`.
        finish: what to do to the sums; None: nothing, float64.
        complementary: a weight sits on two word lines (xnor), rows being ordered (channel, kernel row, kernel
            column, line): a positive code drives the first, a negative one the second, zero neither.

    Returns:
        The sums.
    """
    from imcsim.kernels import pack

    finish = finish or Finish()
    layer_groups, _, outputs = tables.shape
    lines, layout = 1, tables.layout
    if complementary:
        first, second = (x_int > 0).view(torch.uint8), (x_int < 0).view(torch.uint8)
        pairs = pack.paired(layout)
        if pairs is not None:
            layout, x_int = pairs, first.add_(second, alpha=2)
        else:
            lines, x_int = 2, torch.stack([first, second], dim=2).flatten(1, 2)
    height, width = geometry.output_size(*x_int.shape[2:])
    pixels = height * width
    image, segments = padded_image(x_int, geometry, tables.planes, layer_groups, (height, width), lines)
    out = torch.empty(x_int.shape[0], layer_groups * outputs, height, width, dtype=finish.dtype)
    target = (outputs * pixels, layer_groups * outputs * pixels, pixels, pixels)
    for start, stop in _slabs(x_int.shape[0] * pixels, tables):
        patterns, sums = _pattern_arrays(tables, layer_groups, stop - start, finish)

        def pack_some(
            first: int,
            last: int,
            start: int = start,
            stop: int = stop,
            patterns: Any = patterns,
            sums: Any = sums,
        ) -> None:
            pack.pack_patches(tables.isa, layout, segments, image, start, stop, first, last, patterns, sums)

        spread(sums.shape[0] * sums.shape[1], pack_some)
        _run(tables, finish, target, patterns, sums, start, stop, out)
    return out


def _slabs(vectors: int, tables: Tables) -> list[tuple[int, int]]:
    """Ranges of vectors whose patterns stay within `PATTERN_BYTES`."""
    each = tables.shape[0] * len(tables.layout.rows) * tables.planes.stored(tables.layout.by_vector)
    unit = tables.isa.lanes * tables.layout.merged
    size = max(1, PATTERN_BYTES // each // unit) * unit
    return [(start, min(vectors, start + size)) for start in range(0, vectors, size)]


def _pattern_arrays(tables: Tables, layer_groups: int, vectors: int, finish: Finish) -> tuple[Any, Any]:
    lanes = tables.isa.lanes
    blocks, merged = -(-vectors // lanes), tables.layout.merged
    stored = tables.planes.stored(tables.layout.by_vector)
    shape = (layer_groups, -(-blocks // merged), len(tables.layout.rows), stored, lanes)
    blank = stored > len(tables.planes.part) * merged or blocks % merged > 0
    reads = 0 if finish.coefficients is None else len(tables.layout.reads)
    return table_plan.aligned(shape, np.uint8, blank), np.empty(
        (layer_groups, blocks, reads, lanes), np.int32
    )


def _run(
    tables: Tables,
    finish: Finish,
    where: tuple[int, int, int, int],
    patterns: Any,
    sums: Any,
    start: int,
    stop: int,
    out: Tensor,
) -> None:
    """Walk the tables for packed vectors `start` to `stop` and write their outputs."""
    from imcsim.kernels.table_currents import run_currents
    from imcsim.kernels.table_levels import LevelTables, run_levels
    from imcsim.kernels.table_output import Epilogue, Target
    from imcsim.kernels.table_registers import OUTPUTS_AT_ONCE, RegisterTables, run_registers

    layer_groups, _, outputs = tables.shape

    def values(tensor: Tensor | None, shape: tuple[int, ...], empty: tuple[int, ...]) -> Any:
        if tensor is None:
            return np.empty(empty, np.float64)
        return np.ascontiguousarray(tensor.detach().double().expand(shape).numpy())

    per_output = (layer_groups, outputs)
    epilogue = Epilogue(
        tables.factors,
        tables.constants,
        values(finish.compensation, per_output, (0, 0)),
        values(finish.coefficients, (len(tables.layout.reads), *per_output), (0, *per_output)),
        values(finish.offset, per_output, (0, 0)),
        values(finish.scale, per_output, (0, 0)),
        values(finish.bias, per_output, (0, 0)),
    )
    target = Target(*where)
    flat = out.view(-1).numpy()
    out32 = flat if finish.dtype == torch.float32 else np.empty(0, np.float32)
    out64 = flat if finish.dtype == torch.float64 else np.empty(0, np.float64)
    arrays, lanes, blocks = tables.arrays, tables.isa.lanes, patterns.shape[1]
    run: Any
    if isinstance(arrays, LevelTables):
        run, parts = run_levels, arrays.pairs.shape[1]
        at_once = TOTAL_BYTES // (arrays.streams * arrays.outputs * arrays.merged * lanes * 4)
    elif isinstance(arrays, RegisterTables):
        run, parts = run_registers, -(-arrays.outputs // min(arrays.outputs, OUTPUTS_AT_ONCE))
        at_once = VECTORS_AT_ONCE // lanes
    else:
        run, parts = run_currents, arrays.outputs // 16
        at_once = VECTORS_AT_ONCE // lanes
    at_once = min(max(1, at_once), blocks)
    items = layer_groups * parts * -(-blocks // at_once)

    def run_some(first: int, last: int) -> None:
        run(
            tables.isa,
            arrays,
            epilogue,
            target,
            patterns,
            sums,
            start,
            stop,
            at_once,
            first,
            last,
            out32,
            out64,
        )

    spread(items, run_some)
