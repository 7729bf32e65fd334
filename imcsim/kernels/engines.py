"""The planner: which engine computes a layer, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from imcsim.errors import EngineError
from imcsim.functional import mvm
from imcsim.functional.accumulate import saturating_product
from imcsim.functional.adc import Converter
from imcsim.functional.bank import Bank
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.functional.noise import ReadStream
from imcsim.kernels import accumulated, gpu, matmul, table
from imcsim.kernels.collapsed import Collapsed, collapse, combine, pulse_energy
from imcsim.kernels.job import Job
from imcsim.kernels.planner import estimate
from imcsim.kernels.serial import Sums, integer_product
from imcsim.kernels.statistical import ConversionErrors, statistical

ENGINES = ("auto", "reference", "collapsed", "matmul", "table", "triton", "statistical")

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
        until: vectors after which another engine is the better one; None: it stays the best.
    """

    engine: str
    reason: str
    run: Run
    product: Collapsed | None = None
    tables: table.Tables | None = None
    finish: table.Finish | None = None
    pairs: bool = False
    nbytes: int = 0
    until: int | None = None


def choose(
    job: Job,
    engine: str,
    dtype: torch.dtype,
    conversion_errors: ConversionErrors | None = None,
    *,
    vectors: int | None = None,
    moving: bool = False,
) -> Choice | str:
    """Choose the engine for a layer.

    Args:
        job: the layer.
        engine: auto, or the one wanted.
        dtype: of the input codes.
        conversion_errors: what calibration found, for the statistical engine.
        vectors: input vectors that these cells are known to see; None: many.
        moving: the cells are soon programmed anew, as in training.

    Returns:
        The choice, or the reason why the wanted engine cannot compute the layer.
    """
    if job.accumulator_bits is not None and job.overflow is not None:
        return _accumulated(job, engine, job.accumulator_bits, job.overflow)
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
    if engine == "triton" or (engine == "auto" and job.columns.cells.is_cuda):
        choice = _on_gpu(job, "asked for" if engine == "triton" else job.loss or "no single product")
        if isinstance(choice, Choice) or engine == "triton":
            return choice
        return _by_matmul(job, _without(job, "GPU kernel", choice))
    if engine in ("auto", "table"):
        reason = _why_neither(job) or table.supports(job.columns, job.train, job.converters)
        choice = reason or _weighed(job, engine, vectors, moving=moving)
        if isinstance(choice, Choice) or engine == "table":
            return choice
        return _by_matmul(job, _without(job, "table", choice))
    if engine == "matmul":
        return _by_matmul(job, "asked for")
    return f"{engine!r} is not one of {', '.join(ENGINES)}"


def _accumulated(job: Job, engine: str, bits: int, why: str) -> Choice | str:
    """Digital sums that saturate: integers, whatever cells and pulses stand for them."""
    if engine == "reference":

        def reference(x_int: Tensor, stream: ReadStream | None) -> Tensor:
            return saturating_product(x_int, job.w_int, job.input_reads, bits)

        return Choice("reference", "asked for", reference)
    if engine in ("auto", "matmul"):
        product = accumulated.build(job, bits)
        return Choice("matmul", why, lambda x_int, stream: product(x_int), nbytes=product.nbytes)
    return f"{why}: only 'reference' and 'matmul' compute them"


def _weighed(job: Job, engine: str, vectors: int | None, *, moving: bool) -> Choice | str:
    """Tables, or matrix products where those are estimated to take less time.

    Where building tables does not pay yet, products do the first vectors; but only where the two agree bit
    for bit, or cells move anyway, so that a programmed chip does not change its last bits as it is used.
    """
    if engine == "table":
        return _tabulate(job, "asked for")
    expected = estimate(job.columns, job.train)
    why = f"{job.loss or 'no single product'}; estimated {expected}"
    if expected.pays_from is None:
        return _by_matmul(job, why)
    same_bits = job.integer_cells and not any(job.columns.baseline)
    if vectors is not None and vectors < expected.pays_from and (same_bits or moving):
        return replace(_by_matmul(job, why), until=expected.pays_from)
    return _tabulate(job, why)


def _without(job: Job, what: str, why: str) -> str:
    return f"; no {what}: ".join(dict.fromkeys([job.loss or "no single product", why]))


def _by_matmul(job: Job, why: str) -> Choice:
    sums = partial(matmul.stream_sums, integer_cells=job.integer_cells)
    return Choice("matmul", why, _serial(job, sums), nbytes=_bytes(job.columns.cells))


def _on_gpu(job: Job, why: str) -> Choice | str:
    reason = _why_not_gpu(job)
    if reason is not None or job.converters is None:
        return reason or "no converters"

    def prepared(columns: Columns, converters: tuple[Converter, ...]) -> tuple[Sums, int]:
        product = gpu.build(columns, job.train, converters)
        return (lambda sent, _: gpu.stream_sums(sent, product)), product.nbytes

    main, nbytes = prepared(job.columns, job.converters)
    units = [prepared(unit, (job.unit_converter,))[0] for unit in job.unit_reads if job.unit_converter]
    return Choice(
        "triton", why, lambda x, stream: integer_product(x, job, main, units, stream), nbytes=nbytes
    )


def _why_not_gpu(job: Job) -> str | None:
    reasons = [_why_neither(job), gpu.supports(job.columns, job.train, job.converters)]
    if job.unit_converter is not None:
        reasons += [gpu.supports(unit, job.train, (job.unit_converter,)) for unit in job.unit_reads]
    return next((reason for reason in reasons if reason is not None), None)


def _one_product(engine: str, why: str, product: Collapsed, train: PulseTrain) -> Choice:
    nbytes = _bytes(*product.pieces, product.constant, product.variance, product.extra_variance)
    return Choice(
        engine, why, lambda x, stream: _collapsed(x, product, train, stream), product, nbytes=nbytes
    )


def _why_neither(job: Job) -> str | None:
    """What neither tables nor the GPU kernel take."""
    if job.columns.disturbed is not None:
        return job.columns.disturbed
    if job.bank is not None or job.unit_bank is not None:
        return "converters are not ideal"
    if job.columns.variance is not None:
        return "read noise is drawn at every conversion"
    if job.snap is not None:
        return "codes are snapped to levels above a baseline that depends on the input"
    return None


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
