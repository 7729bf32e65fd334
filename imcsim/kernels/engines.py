"""The planner: which engine computes a layer, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.functional import mvm
from imcsim.kernels import matmul
from imcsim.kernels.collapsed import Collapsed, collapse
from imcsim.kernels.job import Job
from imcsim.kernels.serial import integer_product

ENGINES = ("auto", "reference", "collapsed", "matmul", "table", "statistical")


@dataclass(frozen=True)
class Choice:
    """An engine for one layer.

    Attributes:
        engine: its name.
        reason: why it was chosen.
        run: codes (groups, vectors, inputs) to products (groups, vectors, outputs) float64.
        product: the collapsed engine's single product, which a convolution applies directly.
    """

    engine: str
    reason: str
    run: Callable[[Tensor], Tensor]
    product: Collapsed | None = None


def choose(job: Job, engine: str, dtype: torch.dtype) -> Choice | str:
    """Choose the engine for a layer.

    Args:
        job: the layer.
        engine: auto, or the one wanted.
        dtype: of the input codes.

    Returns:
        The choice, or the reason why the wanted engine cannot compute the layer.
    """
    if engine in ("auto", "collapsed"):
        product = collapse(job, dtype)
        if isinstance(product, Collapsed):
            why = "converters lose nothing" if job.converters is not None else "ideal converters"
            return Choice("collapsed", why, lambda x: _collapsed(x, product), product)
        if engine == "collapsed":
            return product
    if engine == "reference":
        return Choice("reference", "asked for", lambda x: integer_product(x, job, lambda sent: _reference(sent, job)))
    if engine in ("auto", "matmul"):
        why = "asked for" if engine == "matmul" else (job.loss or "no single product")
        return Choice("matmul", why, lambda x: integer_product(x, job, lambda sent: _matmul(sent, job)))
    return f"engine {engine!r} is not part of this version"


def _reference(sent: Tensor, job: Job) -> Tensor:
    return mvm.stream_sums(sent, job.columns, job.train, job.converters, job.snap)


def _matmul(sent: Tensor, job: Job) -> Tensor:
    return matmul.stream_sums(sent, job.columns, job.train, job.converters, job.snap, integer_cells=job.integer_cells)


def _collapsed(x_int: Tensor, product: Collapsed) -> Tensor:
    out: Tensor | None = None
    for piece, shift in zip(product.pieces, product.shifts, strict=True):
        part = (x_int.to(piece.dtype) @ piece.transpose(1, 2)).double()
        out = part if out is None else out + part * (1 << shift)
    assert out is not None
    return out if product.constant is None else out + product.constant[:, None]
