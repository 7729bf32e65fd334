"""Convolutions: the image as the packer walks over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imcsim.kernels.table_plan import Planes, byte_parts


@dataclass(frozen=True)
class Geometry:
    """How a two-dimensional convolution walks over its input."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the output of an input of this size."""
        sizes = []
        for size, k, s, p, d in zip(
            (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            sizes.append((size + 2 * p - d * (k - 1) - 1) // s + 1)
        return sizes[0], sizes[1]


def padded_image(
    x_int: Tensor,
    geometry: Geometry,
    planes: Planes,
    layer_groups: int,
    size: tuple[int, int],
    word_lines: int,
) -> tuple[Any, Any]:
    """The image's bytes with its padding, columns sorted by phase of the stride.

    Neighbouring patches then have a tap's values side by side, whatever the stride.

    Shapes: x_int (batch, channels, height, width).

    Args:
        x_int: input codes.
        geometry: how the kernel walks.
        planes: where digits sit.
        layer_groups: of the convolution.
        size: of the output.
        word_lines: channels to an input, the last axis of a group's rows.

    Returns:
        The bytes of all parts, flat, and the `imcsim.kernels.pack.Segments` that find patches in them.
    """
    from imcsim.kernels import pack

    batch, channels, height, width = x_int.shape
    (top, left), (stride_y, stride_x) = geometry.padding, geometry.stride
    parts = byte_parts(x_int, planes)
    blank = byte_parts(torch.zeros(1, dtype=x_int.dtype), planes)
    lines, columns = height + 2 * top, -(-(width + 2 * left) // stride_x)
    count = parts.shape[0] * batch * channels * lines * stride_x * columns
    flat = torch.empty(count + 64, dtype=torch.uint8)
    image = flat[:count].view(parts.shape[0], batch, channels, lines, columns, stride_x)
    phased = flat[:count].view(parts.shape[0], batch, channels, lines, stride_x, columns)
    for p in range(parts.shape[0]):
        phased[p].fill_(int(blank[p]))
    if stride_x == 1:
        image[:, :, :, top : top + height, left : left + width, 0] = parts
    else:
        for phase in range(stride_x):
            first = (phase - left) % stride_x  # first image column of this phase
            own = parts[..., first::stride_x]
            at = (first + left) // stride_x
            phased[:, :, :, top : top + height, phase, at : at + own.shape[-1]] = own
    line = stride_x * columns
    plane = lines * line
    kernel_y, kernel_x = (np.arange(k) * d for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
    along = (kernel_x % stride_x) * columns + kernel_x // stride_x
    channel = np.arange(channels // layer_groups).reshape(-1, word_lines) * plane
    tap = channel[:, None, None, :] + (kernel_y * line)[:, None, None] + along[:, None]
    segments = pack.Segments(
        tap.reshape(-1).astype(np.int64),
        channels * plane,
        stride_y * line,
        batch * channels * plane,
        channels // layer_groups * plane,
        *size,
    )
    return flat.numpy(), segments
