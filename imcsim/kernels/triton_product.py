"""The GPU kernel: product of one input cycle, converter, shift-and-add in registers (Triton).

A program computes some vectors by some outputs. All cycles of a vector are rows of one tile: an input code is
loaded once as an integer, which is its digits packed, and each row takes its own digit with a shift and a
mask. A read's currents are one product on tensor cores; they are converted where they stand, weighed, and
added over reads and cycles. What is written is one whole number a stream.

References:
    P. Tillet, H. T. Kung, D. Cox, "Triton: an intermediate language and compiler for tiled neural network
    computations", MAPL 2019, doi:10.1145/3315508.3329973.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROUNDS = tl.constexpr(12582912.0)
"""1.5 x 2^23: added to a float32 below 2^22 and taken away again, it rounds half to even."""

ROWS_AT_ONCE = 128  # of a tile: vectors times cycles
WARPS, STAGES = 8, 3


@triton.jit
def converted_product(  # type: ignore[no-untyped-def]
    codes,  # (groups, vectors, padded rows) integers
    cells,  # (groups, streams, padded outputs, padded rows) int8 levels, or the upper half of float16 pairs
    rest,  # the lower half of these pairs; not read for levels
    signs,  # (groups, reads, streams, padded outputs) int32: -1 where a column is stored flipped
    read_tiles,  # (reads + 1,) int32: the first tile of rows of each read
    digits,  # (cycles, 3) int32: shift, mask and weight of each cycle's digit
    converters,  # (streams, 4) float32: codes a level, code of zero current, highest, the one counted as 0
    totals,  # (groups, vectors, streams, outputs) int32, written
    vectors,
    outputs,
    padded_outputs,
    padded_rows,
    reads,
    streams,
    cycles: tl.constexpr,
    polarity: tl.constexpr,
    ties_up: tl.constexpr,
    levels: tl.constexpr,
    block_vectors: tl.constexpr,
    block_outputs: tl.constexpr,
    block_rows: tl.constexpr,
):
    """Sums of converted codes over cycles and reads, one a stream."""
    # Where a program starts is a 64-bit number, what it adds to that fits in 32 bits.
    group, block = tl.program_id(2).to(tl.int64), tl.program_id(0).to(tl.int64) * block_vectors
    tile = tl.arange(0, block_vectors * cycles)
    cycle = tile % cycles
    own = tile // cycles
    output = tl.program_id(1) * block_outputs + tl.arange(0, block_outputs)
    row = tl.arange(0, block_rows)
    shift = tl.load(digits + 3 * cycle)[:, None]
    mask = tl.load(digits + 3 * cycle + 1)[:, None]
    weight = tl.load(digits + 3 * cycle + 2)[:, None]
    codes += (group * vectors + block) * padded_rows
    left = vectors - block
    code_at = (tl.minimum(own, left - 1).to(tl.int32) * padded_rows)[:, None] + row[None, :]
    cell_at = (output * padded_rows)[None, :] + row[:, None]
    for stream in range(streams):
        scale = tl.load(converters + 4 * stream)
        origin = tl.load(converters + 4 * stream + 1)
        top = tl.load(converters + 4 * stream + 2)
        zero = tl.load(converters + 4 * stream + 3).to(tl.int32)
        part = (group * streams + stream) * padded_outputs * padded_rows
        total = tl.zeros((block_vectors * cycles, block_outputs), tl.int32)
        for read in range(reads):
            if levels:
                current = tl.zeros((block_vectors * cycles, block_outputs), tl.int32)
            else:
                current = tl.zeros((block_vectors * cycles, block_outputs), tl.float32)
            for t in range(tl.load(read_tiles + read), tl.load(read_tiles + read + 1)):
                code = tl.load(codes + t * block_rows + code_at).to(tl.int32)
                if polarity:
                    digit = (tl.abs(code) >> shift) & mask
                    digit = tl.where(code < 0, -digit, digit)
                else:
                    digit = (code >> shift) & mask
                here = part + t * block_rows
                cell = tl.load(cells + here + cell_at)
                if levels:
                    current = tl.dot(digit.to(tl.int8), cell, current, out_dtype=tl.int32)
                else:
                    drive = digit.to(tl.float16)
                    current = tl.dot(drive, cell, current)
                    current = tl.dot(drive, tl.load(rest + here + cell_at), current)
            value = current.to(tl.float32) * scale + origin
            value = tl.minimum(tl.maximum(value, 0.0), top)
            value = tl.floor(value + 0.5) if ties_up else (value + ROUNDS) - ROUNDS
            sign_at = ((group * reads + read) * streams + stream) * padded_outputs + output
            total += tl.load(signs + sign_at)[None, :] * (value.to(tl.int32) - zero)
        summed = tl.sum(tl.reshape(total * weight, (block_vectors, cycles, block_outputs)), axis=1)
        one = tl.arange(0, block_vectors)
        at = ((group * vectors + block + one)[:, None] * streams + stream) * outputs + output[None, :]
        tl.store(totals + at, summed, mask=(one < left)[:, None] & (output < outputs)[None, :])


def launch(
    codes: Tensor,
    cells: tuple[Tensor, Tensor],
    signs: Tensor,
    read_tiles: Tensor,
    digits: Tensor,
    converters: Tensor,
    totals: Tensor,
    *,
    polarity: bool,
    ties_up: bool,
    block_outputs: int,
    block_rows: int,
) -> None:
    """Run the kernel over all vectors; shapes as there.

    Multiplications and additions are not fused: the converters' constants were chosen for two roundings.
    """
    groups, vectors, streams, outputs = totals.shape
    cycles = digits.shape[0]
    block_vectors = max(1, ROWS_AT_ONCE // cycles)
    grid = (triton.cdiv(vectors, block_vectors), triton.cdiv(outputs, block_outputs), groups)
    with torch.cuda.device_of(totals):  # Triton runs on the current device
        converted_product[grid](
            codes,
            *cells,
            signs,
            read_tiles,
            digits,
            converters,
            totals,
            vectors,
            outputs,
            *cells[0].shape[2:],
            read_tiles.shape[0] - 1,
            streams,
            cycles=cycles,
            polarity=polarity,
            ties_up=ties_up,
            levels=cells[0].dtype == torch.int8,
            block_vectors=block_vectors,
            block_outputs=block_outputs,
            block_rows=block_rows,
            num_warps=WARPS,
            num_stages=STAGES,
            enable_fp_fusion=False,
        )
