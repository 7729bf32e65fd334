"""From integer totals to outputs: weigh the streams, correct, scale, add the bias, write once.

``y = ((sum_q factor_q (totals_q + constant_q)) compensation + sum_r X_r coefficient_r + offset) scale +
bias``, all float64 and in this order, then rounded to the output's type.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imcsim.kernels.simd import kernel


class Epilogue(NamedTuple):
    """What turns totals into outputs; (0, 0) arrays are skipped."""

    factors: NDArray[np.float64]  # (streams,) gain times step
    constants: NDArray[np.int64]  # (layer groups, streams, outputs) added to the totals
    compensation: NDArray[np.float64]  # (layer groups, outputs)
    coefficients: NDArray[np.float64]  # (reads or 0, layer groups, outputs)
    offset: NDArray[np.float64]  # (layer groups, outputs)
    scale: NDArray[np.float64]  # (layer groups, outputs)
    bias: NDArray[np.float64]  # (layer groups, outputs)


class Target(NamedTuple):
    """Where output (layer group, vector, column) lies in a flat array: vectors count pixels of images."""

    group: int
    image: int
    column: int
    pixels: int  # of an image; neighbours are neighbours in memory


@kernel
def weigh_byte_totals(
    totals: NDArray[np.int32], lanes: int, constant: int, factor: float, row: NDArray[np.float64]
) -> None:
    """Add one stream of a column to `row`, undoing the lane order of the byte kernel.

    In each block of `lanes` vectors, vector ``16 j + 4 i + l`` is at ``4 (i lanes / 16 + j) + l``.
    """
    across = lanes // 16
    for block in range(0, len(row), lanes):
        for i in range(4):
            for j in range(across):
                source, to = block + 4 * (i * across + j), block + 16 * j + 4 * i
                for k in range(4):
                    row[to + k] += factor * np.float64(totals[source + k] + np.int32(constant))


@kernel
def finish_row(
    sums: NDArray[np.int32],
    epilogue: Epilogue,
    target: Target,
    g: int,
    output: int,
    first: int,
    last: int,
    row: NDArray[np.float64],
    out32: NDArray[np.float32],
    out64: NDArray[np.float64],
) -> None:
    """Correct, scale and write one column of vectors `first` to `last` (counted over the images).

    Shapes: sums (blocks, reads, lanes) of input codes, used if there are coefficients; row (vectors and
        padding,); the outputs flat, one of them empty.
    """
    if epilogue.compensation.shape[0]:
        row *= epilogue.compensation[g, output]
    for r in range(epilogue.coefficients.shape[0]):
        coefficient, lanes = epilogue.coefficients[r, g, output], sums.shape[2]
        for b in range(sums.shape[0]):
            for lane in range(lanes):
                row[b * lanes + lane] += coefficient * sums[b, r, lane]
    if epilogue.offset.shape[0]:
        row += epilogue.offset[g, output]
    if epilogue.scale.shape[0]:
        row *= epilogue.scale[g, output]
    if epilogue.bias.shape[0]:
        row += epilogue.bias[g, output]
    base = g * target.group + output * target.column
    done, count = 0, last - first
    while done < count:
        image, pixel = (first + done) // target.pixels, (first + done) % target.pixels
        run = min(count - done, target.pixels - pixel)
        at = base + image * target.image + pixel
        if len(out32):
            for i in range(run):
                out32[at + i] = row[done + i]
        else:
            for i in range(run):
                out64[at + i] = row[done + i]
        done += run
