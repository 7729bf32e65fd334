"""The planner: which engine computes a layer, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from imcsim.errors import EngineError
from imcsim.functional import mvm
from imcsim.functional.adc import Converter
from imcsim.functional.bank import Bank
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.functional.noise import ReadStream
from imcsim.kernels import matmul, table
from imcsim.kernels.collapsed import Collapsed, collapse, combine, pulse_energy
from imcsim.kernels.job import Job
from imcsim.kernels.serial import Sums, integer_product
from imcsim.kernels.statistical import ConversionErrors, statistical

ENGINES = ("auto", "reference", "collapsed", "matmul", "table", "statistical")


Converters = tuple[Converter, ...] | None
Run = Callable[[Tensor, ReadStream | None], Tensor]


@dataclass(frozen=True)
class Choice:
    """An engine for one layer.

    Attributes:
        engine: its name.
        reason: why it was chosen.
        run: codes (groups, vectors, inputs) and the stream of read noise to products (groups, vectors,
            outputs) float64.
        product: the collapsed engine's single product, which a convolution applies directly.
        tables: the table engine's tables, which a convolution walks directly and to which it leaves the
            scaling.
        finish: the digital corrections that go with `tables`.
        pairs: a weight sits on two word lines (xnor).
        nbytes: memory that the plan holds beside the programmed cells.
    """

    engine: str
    reason: str
    run: Run
    product: Collapsed | None = None
    tables: table.Tables | None = None
    finish: table.Finish | None = None
    pairs: bool = False
    nbytes: int = 0


def choose(
    job: Job, engine: str, dtype: torch.dtype, conversion_errors: ConversionErrors | None = None
) -> Choice | str:
    """Choose the engine for a layer.

    Args:
        job: the layer.
        engine: auto, or the one wanted.
        dtype: of the input codes.
        conversion_errors: what calibration found, for the statistical engine.

    Returns:
        The choice, or the reason why the wanted engine cannot compute the layer.
    """
    if engine in ("auto", "collapsed"):
        product = collapse(job, dtype)
        if isinstance(product, Collapsed):
            why = "converters lose nothing" if job.converters is not None else "ideal converters"
            return _one_product("collapsed", why, product, job.train)
        if engine == "collapsed":
            return product
    if engine == "statistical":
        model = statistical(job, dtype, conversion_errors)
        if isinstance(model, str):
            return model
        return _one_product("statistical", "asked for: one product, converters as noise", model, job.train)
    if engine == "reference" or (engine == "auto" and job.columns.reshapes):
        why = "asked for" if engine == "reference" else f"{job.loss}: only the reference computes it"
        return Choice("reference", why, _serial(job, _reference_in_blocks))
    if job.columns.reshapes:
        return f"{job.loss}: only the reference computes it"
    why_not_table = _why_not_table(job)
    if engine in ("auto", "table") and why_not_table is None:
        choice = _tabulate(job, "asked for" if engine == "table" else job.loss or "no single product")
        if isinstance(choice, Choice):
            return choice
        why_not_table = choice
    if engine == "table":
        return why_not_table or "it does not fit a table"
    if engine in ("auto", "matmul"):
        why = (
            "asked for"
            if engine == "matmul"
            else "; no table: ".join(dict.fromkeys([job.loss or "no single product", why_not_table or ""]))
        )
        sums = partial(matmul.stream_sums, integer_cells=job.integer_cells)
        return Choice("matmul", why, _serial(job, sums), nbytes=_bytes(job.columns.cells))
    return f"{engine!r} is not one of {', '.join(ENGINES)}"


def _one_product(engine: str, why: str, product: Collapsed, train: PulseTrain) -> Choice:
    nbytes = _bytes(*product.pieces, product.constant, product.variance, product.extra_variance)
    return Choice(
        engine, why, lambda x, stream: _collapsed(x, product, train, stream), product, nbytes=nbytes
    )


def _why_not_table(job: Job) -> str | None:
    if job.columns.disturbed is not None:
        return job.columns.disturbed
    if job.bank is not None or job.unit_bank is not None:
        return "converters are not ideal"
    if job.columns.variance is not None:
        return "read noise is drawn at every conversion"
    if job.snap is not None:
        return "codes are snapped to levels above a baseline that depends on the input"
    return table.supports(job.columns, job.train, job.converters)


def _tabulate(job: Job, why: str) -> Choice | str:
    if job.converters is None:
        return "no converters"
    try:
        tables = table.build(job.columns, job.train, job.converters)
        unit_tables = [
            table.build(unit, job.train, (job.unit_converter,))
            for unit in job.unit_reads
            if job.unit_converter
        ]
    except EngineError as error:
        return str(error)
    fix = job.correction
    finish = None
    if fix.unit is None:
        constant = fix.constant if bool(fix.constant.any()) else None
        finish = table.Finish(job.compensation, fix.drive, constant)

    def by(which: table.Tables) -> Sums:
        return lambda sent, _: table.stream_sums(sent, which)

    units = [by(tabulated) for tabulated in unit_tables]

    def run(x_int: Tensor, stream: ReadStream | None) -> Tensor:
        return integer_product(x_int, job, by(tables), units, stream)

    return Choice(
        "table", why, run, tables=tables, finish=finish, pairs=job.complementary, nbytes=tables.nbytes
    )


def _bytes(*tensors: Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _serial(job: Job, sums: Callable[..., Tensor]) -> Run:
    unit_converters = None if job.unit_converter is None else (job.unit_converter,)
    unit_snap = None if job.snap is None else (job.unit_baseline,)

    def by(
        columns: Columns, converters: Converters, snap: tuple[float, ...] | None, bank: Bank | None
    ) -> Sums:
        return lambda sent, stream: sums(sent, columns, job.train, converters, snap, stream, bank=bank)

    main = by(job.columns, job.converters, job.snap, job.bank)
    units = [
        by(unit, unit_converters, unit_snap, None if job.unit_bank is None else job.unit_bank.at_read(r))
        for r, unit in enumerate(job.unit_reads)
    ]
    return lambda x_int, stream: integer_product(x_int, job, main, units, stream)


def _reference_in_blocks(
    x_int: Tensor,
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None,
    stream: ReadStream | None,
    bank: Bank | None,
) -> Tensor:
    """The reference, a bounded number of vectors at a time."""
    groups, vectors, rows = x_int.shape
    outputs = columns.cells.shape[3]
    block = max(
        1, matmul.BLOCK_ELEMENTS // (groups * max(len(train.weights) * rows, len(columns.gains) * outputs))
    )
    parts = [
        mvm.stream_sums(
            x_int[:, first : first + block], columns, train, converters, snap, stream, first, bank
        )
        for first in range(0, max(vectors, 1), block)
    ]
    return torch.cat(parts, dim=1)


def _collapsed(x_int: Tensor, product: Collapsed, train: PulseTrain, stream: ReadStream | None) -> Tensor:
    def multiply(x: Tensor, matrix: Tensor) -> Tensor:
        return x.to(matrix.dtype) @ matrix.transpose(1, 2)

    out = combine([multiply(x_int, piece) for piece in product.pieces], product.shifts)
    if product.constant is not None:
        out = out.double() + product.constant[:, None]
    spread = product.deviation(
        None if product.variance is None else multiply(pulse_energy(x_int, train), product.variance)
    )
    if stream is not None and spread is not None:
        samples = x_int.shape[1] // stream.vectors
        drawn = torch.from_numpy(stream.of_samples(samples, out.shape[0] * stream.vectors * out.shape[2]))
        normals = drawn.to(out.device).view(samples, out.shape[0], stream.vectors, -1).transpose(0, 1)
        out = out + spread * normals.reshape_as(out)
    return out.double()
