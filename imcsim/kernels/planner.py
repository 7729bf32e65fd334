"""How long engines take for a layer: a small linear model with measured coefficients.

``time = sum_i count_i coefficient_i``: counts follow from the layer's shape; the coefficients of each
instruction set stand in ``costs.toml``, which `python -m benchmarks.planner` measures and writes.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns
from imcsim.kernels import table, table_plan

COSTS = Path(__file__).with_name("costs.toml")
MANY = 4096
"""Vectors that a layer is taken to see where nobody says how many."""

BYTE_SPAN = 255  # of the sums in a table of bytes


@dataclass(frozen=True)
class Estimate:
    """What a layer takes by tables and by matrix products, in seconds on one thread.

    Attributes:
        build: making the tables.
        table: over `MANY` vectors by table, a vector.
        matmul: the same by matrix products.
    """

    build: float
    table: float
    matmul: float

    @property
    def pays_from(self) -> int | None:
        """Vectors from which on tables, built once, are the faster way; None: never."""
        if self.table >= self.matmul:
            return None
        return int(self.build / (self.matmul - self.table)) + 1

    def __str__(self) -> str:
        """For `summary`."""
        times = f"{_time(self.table)} a vector by table, {_time(self.matmul)} by matmul"
        pays_from = self.pays_from
        return times if pays_from is None else f"{times}, tables pay from {pays_from} vectors on"


def estimate(columns: Columns, train: PulseTrain) -> Estimate:
    """Times of a layer that `imcsim.kernels.table` supports.

    Args:
        columns: the cells and how they are read.
        train: how input codes become pulses.

    Returns:
        The estimate.
    """
    kind = kind_of_table(columns, train)
    return Estimate(
        seconds(build_counts(columns, train, kind), coefficients(f"{kind}_build")),
        seconds(table_counts(columns, train, kind, MANY), coefficients(kind)) / MANY,
        seconds(matmul_counts(columns, train, MANY), coefficients("matmul")) / MANY,
    )


def coefficients(what: str) -> dict[str, float]:
    """Coefficients of this processor's instruction set, in ns.

    A set with float tables in registers shares the kernel for those in memory, which only whole levels too
    high for bytes take there, with the set that has not.
    """
    isa = table.instruction_set()
    own = measured()[isa.name if isa is not None else ""]
    return own[what] if what in own else measured()["avx512vbmi"][what]


@cache
def measured() -> dict[str, dict[str, dict[str, float]]]:
    """Coefficients in nanoseconds: instruction set -> what -> count's name -> coefficient."""
    found: dict[str, dict[str, dict[str, float]]] = tomllib.loads(COSTS.read_text(encoding="utf-8"))
    return found


def seconds(counts: dict[str, float], each: dict[str, float]) -> float:
    """``sum_i count_i coefficient_i``, `each` in ns."""
    return 1e-9 * sum(count * each[name] for name, count in counts.items())


def matmul_counts(columns: Columns, train: PulseTrain, vectors: int) -> dict[str, float]:
    """Work of `imcsim.kernels.matmul`."""
    groups, streams, rows, outputs = columns.cells.shape
    sums = groups * streams * outputs * len(train.weights) * vectors
    return {"call": 1, "multiply": sums * rows, "convert": sums * len(columns.reads)}


def kind_of_table(columns: Columns, train: PulseTrain) -> str:
    """levels: tables of bytes; registers and currents: of float32, in registers and in memory."""
    isa = table.instruction_set()
    whole = not (any(columns.baseline) or train.drive is not None or columns.cells.is_floating_point())
    if isa is not None and whole:
        layout = table_plan.planes(train)
        places = isa.index_bits // layout.digit_bits
        span = places * int(columns.cells.abs().max()) * train.digit_max * (2 if layout.signed else 1)
        if span <= BYTE_SPAN:
            return "levels"
    return "registers" if isa is not None and isa.float_registers and not whole else "currents"


def table_counts(columns: Columns, train: PulseTrain, kind: str, vectors: int) -> dict[str, float]:
    """Work of `imcsim.kernels.table` once tables are there; vectors fill whole blocks, cycles whole quads."""
    groups, streams, rows, outputs = columns.cells.shape
    layout, isa = table_plan.planes(train), table.instruction_set()
    lanes = 1 if isa is None else isa.lanes
    merged = layout.merged(by_vector=kind != "levels")
    filled = -(-vectors // lanes) * lanes
    planes = len(layout.quads) * table_plan.QUAD / merged * filled
    columns_read = groups * streams * outputs * planes
    return {
        "call": 1,
        "look_up": columns_read * row_groups(columns, train, kind),
        "convert": columns_read * len(columns.reads),
        "pack": groups * rows * planes,
    }


def build_counts(columns: Columns, train: PulseTrain, kind: str) -> dict[str, float]:
    """Work of `imcsim.kernels.table.build`."""
    groups, streams, rows, outputs = columns.cells.shape
    bits = index_bits(kind)
    entries = groups * streams * outputs * row_groups(columns, train, kind) * (1 << bits)
    return {"call": 1, "cell": groups * streams * rows * outputs, "entry": entries}


def index_bits(kind: str) -> int:
    """Bits that look up one entry."""
    isa = table.instruction_set()
    if kind == "registers":
        return table.REGISTER_INDEX_BITS
    return isa.index_bits if isa is not None and kind == "levels" else table.FLOAT_INDEX_BITS


def row_groups(columns: Columns, train: PulseTrain, kind: str) -> int:
    """Groups of rows that share a table."""
    places = index_bits(kind) // table_plan.planes(train).digit_bits
    return sum(-(-(stop - start) // places) for start, stop in columns.reads)


def _time(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"
