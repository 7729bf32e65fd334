"""Convolutions on crossbars: a patch of the input drives the word lines, an output channel is a column."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from imcsim.errors import InputError
from imcsim.kernels import table
from imcsim.kernels.engines import Choice
from imcsim.nn.layer import CrossbarLayer

BLOCK_ELEMENTS = 1 << 22
"""Unfolded input elements held at a time."""

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class _CrossbarConv(CrossbarLayer, _ConvNd):
    """What convolutions and transposed convolutions share. `spatial` dimensions after batch and channels."""

    spatial: ClassVar[int]

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
        """The input that an ordinary convolution takes, its stride, and the zero padding it still applies."""
        raise NotImplementedError

    def sum_terms(self, out: Tensor, terms: int) -> Tensor:
        """Shapes: (batch, groups x terms x outputs / groups, *space) -> (batch, outputs, *space)."""
        return reduce(torch.add, out.unflatten(1, (self.groups, terms, -1)).unbind(2)).flatten(1, 2)

    def input_sums(self, x_int: Tensor) -> Tensor:
        """Sums of patches, of each group for all its columns.

        Shapes: (batch, channels, *space) -> (batch, columns, *space).
        """
        w_int = self.array.written.w_int
        ones = torch.ones(self.groups, 1, w_int.shape[2], dtype=torch.float64, device=x_int.device)
        return self.multiply(x_int, ones, steady=False).repeat_interleave(w_int.shape[1], 1)

    def output_factor(self, factor: Tensor) -> Tensor:
        """Shapes: (groups or 1, outputs / groups or 1, 1) -> (outputs or 1, 1...)."""
        flat = factor.expand(self.groups, -1, 1).reshape(-1) if factor.shape[1] > 1 else factor.reshape(-1)
        return flat.view(-1, *[1] * self.spatial)

    def output_bias(self) -> Tensor | None:
        """Shapes: (outputs, 1...)."""
        return None if self.bias is None else self.bias.detach().view(-1, *[1] * self.spatial)

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """Shapes: (batch, outputs, ...) -> (outputs,)."""
        return grad.sum((0, *range(2, grad.dim())))

    def tabulated(self, codes: Tensor, plan: Choice, factor: Tensor, bias: Tensor | None) -> Tensor | None:
        """The layer by tables; patches are walked, never written out.

        Shapes: (batch, channels, *space) -> (batch, outputs, *space).
        """
        if plan.tables is None or plan.finish is None or self.spatial != 2:
            return None
        x, stride, padding = self.padded(codes)
        geometry = table.Geometry(
            (self.kernel_size[0], self.kernel_size[1]),
            (stride[0], stride[1]),
            (padding[0], padding[1]),
            (self.dilation[0], self.dilation[1]),
        )
        per_output = (self.groups, self.out_channels // self.groups)

        def by_group(values: Tensor) -> Tensor:
            return values.flatten().expand(self.out_channels).view(per_output)

        finish = replace(
            plan.finish,
            scale=by_group(factor),
            bias=None if bias is None else by_group(bias),
            dtype=codes.dtype,
        )
        return table.conv_stream_sums(x, geometry, plan.tables, finish, complementary=plan.pairs)

    def multiply(self, x_int: Tensor, matrix: Tensor, *, steady: bool) -> Tensor:
        """One convolution. Torch takes another kernel for one sample alone: two keep to one.

        On a GPU float32 goes by patches: cuDNN's convolutions round in between.

        Shapes: (batch, channels, *space) -> (batch, outputs, *space).
        """
        codes = x_int.to(matrix.dtype)
        if matrix.is_cuda and matrix.dtype == torch.float32:
            return self.by_vectors(codes, lambda rows, _: rows @ matrix.transpose(1, 2)).to(matrix.dtype)
        alone = steady and codes.shape[0] == 1
        x, stride, padding = self.padded(torch.cat([codes, codes]) if alone else codes)
        weight = matrix.reshape(-1, self.in_channels // self.groups, *self.kernel_size)
        out = _CONV[self.spatial](x, weight, None, stride, padding, self.dilation, self.groups)
        return out[:1] if alone else out

    def output_constant(self, constant: Tensor) -> Tensor:
        """Shapes: (groups, outputs / groups) -> (outputs, 1...)."""
        return constant.reshape(-1, *[1] * self.spatial)

    def vectors(self, x_int: Tensor) -> Tensor:
        """Shapes: (batch, channels, *space) -> (groups, batch x windows, channels / groups x kernel)."""
        return self._rows(self._windows(x_int))

    def vector_count(self, x: Tensor) -> int:
        """Windows of an input, but for its edges."""
        return x.numel() // self.in_channels // math.prod(self.stride)

    def by_vectors(self, x_int: Tensor, product: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Shapes: (batch, channels, *space) -> (batch, outputs, *space)."""
        windows = self._windows(x_int)
        space = windows.shape[2 : 2 + self.spatial]
        rows = self.in_channels * math.prod(self.kernel_size)
        block = max(1, BLOCK_ELEMENTS // max(1, rows * math.prod(space)))
        columns = self.array.written.w_int.shape[1]
        out = torch.empty(
            windows.shape[0], self.groups * columns, *space, dtype=torch.float64, device=x_int.device
        )
        for first in range(0, windows.shape[0], block):
            part = product(self._rows(windows[first : first + block]), first)
            part = part.view(self.groups, -1, *space, columns)
            out[first : first + block] = part.movedim(-1, 1).movedim(2, 0).flatten(1, 2)
        return out

    def _windows(self, x_int: Tensor) -> Tensor:
        """Shapes: (batch, channels, *space) -> (batch, channels, *windows, *kernel), a view."""
        x, stride, padding = self.padded(x_int)
        if any(padding):
            x = F.pad(x, [p for side in reversed(padding) for p in (side, side)])
        return patches(x, self.kernel_size, stride, self.dilation)

    def _rows(self, windows: Tensor) -> Tensor:
        """Windows as rows.

        Shapes: (batch, channels, *windows, *kernel) -> (groups, batch x windows, channels / groups x kernel).
        """
        grouped = windows.unflatten(1, (self.groups, -1))
        order = (1, 0, *range(3, 3 + self.spatial), 2, *range(3 + self.spatial, 3 + 2 * self.spatial))
        rows = self.in_channels // self.groups * math.prod(self.kernel_size)
        return grouped.permute(order).reshape(self.groups, -1, rows)

    def check_size(self, x: Tensor) -> None:
        """Raise InputError where the input is too small for the kernel."""

    def crossbar_forward(self, x: Tensor, float_forward: Callable[[], Tensor]) -> Tensor:
        """The layer on its chip: shapes checked, batch dimension added where it is missing."""
        batched = self.spatial + 2
        if (
            not isinstance(x, Tensor)
            or x.dim() not in (batched, batched - 1)
            or x.shape[-self.spatial - 1] != self.in_channels
        ):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"layer {self.array.name!r} takes (batch, {self.in_channels}, "
                f"{', '.join(['size'] * self.spatial)}) inputs or one sample without batch, "
                f"but got {got}; check the layer before it"
            )
        samples = x if x.dim() == batched else x.unsqueeze(0)
        self.check_size(samples)
        if self.array.observer is not None:
            self.array.observer(samples)
            out = self.calibration_forward(samples, float_forward)
            return out if out.dim() == x.dim() else out.squeeze(0)
        out = self.chip_forward(samples)
        return out if x.dim() == batched else out.squeeze(0)


class _Direct(_CrossbarConv):
    """Ordinary convolutions."""

    def check_size(self, x: Tensor) -> None:
        """Raise InputError where the padded input is smaller than the kernel."""
        pads = self._reversed_padding_repeated_twice
        for i in range(self.spatial):
            size = x.shape[2 + i] + pads[-2 * i - 1] + pads[-2 * i - 2]
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            if size < reach:
                raise InputError(
                    f"layer {self.array.name!r} needs at least {reach} padded samples along dimension "
                    f"{2 + i}, but "
                    f"got {size} from an input of {tuple(x.shape)}; use a larger input or more padding"
                )

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """Shapes: (outputs, channels / groups, *kernel) -> (groups, outputs / groups, inputs)."""
        return weight.reshape(self.groups, self.out_channels // self.groups, -1)

    def weight_from_matrix(self, matrix: Tensor) -> Tensor:
        """The inverse of `weight_matrix`."""
        return matrix.reshape(self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
        """Pads here unless torch's convolution can."""
        if self.padding_mode == "zeros" and not isinstance(self.padding, str):
            return x, self.stride, self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, self._reversed_padding_repeated_twice, mode=mode), self.stride, (0,) * self.spatial

    def product_gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, need: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the convolution."""
        with torch.enable_grad():
            source = x.detach().requires_grad_(need[0])
            full, stride, padding = self.padded(source)
        grad_full, grad_w, _ = torch.ops.aten.convolution_backward(
            grad,
            full.detach(),
            weight,
            None,
            stride,
            padding,
            self.dilation,
            False,
            [0] * self.spatial,
            self.groups,
            [need[0], need[1], False],
        )
        if not need[0] or full is source:
            return grad_full, grad_w
        (grad_x,) = torch.autograd.grad(full, source, grad_full)
        return grad_x, grad_w


class _Transposed(_CrossbarConv):
    """Transposed convolutions.

    An ordinary one over the input with zeros put between its samples, which drive no word line.
    """

    _extra: tuple[int, ...] = ()

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """Shapes: (channels, outputs / groups, *kernel) -> (groups, outputs / groups, inputs)."""
        grouped = weight.unflatten(0, (self.groups, -1)).transpose(1, 2)
        return grouped.flip([*range(3, 3 + self.spatial)]).flatten(2)

    def weight_from_matrix(self, matrix: Tensor) -> Tensor:
        """The inverse of `weight_matrix`."""
        shape = (self.in_channels // self.groups, *self.kernel_size)
        return matrix.unflatten(2, shape).flip([*range(3, 3 + self.spatial)]).transpose(1, 2).flatten(0, 1)

    def check_size(self, x: Tensor) -> None:
        """Raise InputError where padding takes away all of the output."""
        for i in range(self.spatial):
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            size = (x.shape[2 + i] - 1) * self.stride[i] - 2 * int(self.padding[i]) + reach + self._extra[i]
            if size < 1 or not x.shape[2 + i]:
                raise InputError(
                    f"layer {self.array.name!r} would give {size} samples along dimension {2 + i} for an "
                    f"input of {tuple(x.shape)} with padding = {tuple(self.padding)}; use a larger input or "
                    "less padding"
                )

    def vector_count(self, x: Tensor) -> int:
        """Output positions, but for the edges."""
        return x.numel() // self.in_channels * math.prod(self.stride)

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
        """Zeros between samples and around them; an ordinary convolution of stride 1 follows."""
        extra = self._extra
        sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.stride, strict=True)]
        stuffed = x.new_zeros(*x.shape[:2], *sizes)
        stuffed[(slice(None), slice(None), *[slice(None, None, s) for s in self.stride])] = x
        pad = []
        for i in reversed(range(self.spatial)):
            edge = self.dilation[i] * (self.kernel_size[i] - 1) - int(self.padding[i])
            pad += [edge, edge + extra[i]]
        return F.pad(stuffed, pad), (1,) * self.spatial, (0,) * self.spatial

    def transposed_forward(self, x: Tensor, output_size: list[int] | None, base: Any) -> Tensor:
        """`forward` with torch's rule for `output_size`."""
        try:
            extra = base._output_padding(
                self,
                x,
                output_size,
                self.stride,
                self.padding,
                self.kernel_size,
                self.spatial,
                self.dilation,
            )
        except ValueError as error:
            raise InputError(f"layer {self.array.name!r}: {error}") from None
        self._extra = tuple(extra)
        return self.crossbar_forward(x, lambda: base.forward(self, x, output_size))

    def product_gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, need: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the transposed convolution."""
        extra = []
        for i in range(self.spatial):
            stride, padding, reach = (
                self.stride[i],
                self.padding[i],
                self.dilation[i] * (self.kernel_size[i] - 1),
            )
            extra.append(grad.shape[2 + i] - ((x.shape[2 + i] - 1) * stride - 2 * int(padding) + reach + 1))
        grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            True,
            extra,
            self.groups,
            [need[0], need[1], False],
        )
        return grad_x, grad_w


def patches(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Sliding windows, as a view.

    Shapes: x (batch, channels, *space); returns (batch, channels, *windows, *kernel).

    Args:
        x: the padded input.
        kernel: window size.
        stride: step between windows.
        dilation: step within a window.

    Returns:
        The windows.
    """
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + i, d * (k - 1) + 1, s)[..., ::d]
    return x


class CrossbarConv1d(_Direct, nn.Conv1d):
    """`nn.Conv1d` on crossbars."""

    spatial: ClassVar[int] = 1
    sample_dims: ClassVar[int] = 2

    def forward(self, input: Tensor) -> Tensor:
        """The layer on its chip."""
        return self.crossbar_forward(input, lambda: nn.Conv1d.forward(self, input))


class CrossbarConv2d(_Direct, nn.Conv2d):
    """`nn.Conv2d` on crossbars."""

    spatial: ClassVar[int] = 2
    sample_dims: ClassVar[int] = 3

    def forward(self, input: Tensor) -> Tensor:
        """The layer on its chip."""
        return self.crossbar_forward(input, lambda: nn.Conv2d.forward(self, input))


class CrossbarConv3d(_Direct, nn.Conv3d):
    """`nn.Conv3d` on crossbars."""

    spatial: ClassVar[int] = 3
    sample_dims: ClassVar[int] = 4

    def forward(self, input: Tensor) -> Tensor:
        """The layer on its chip."""
        return self.crossbar_forward(input, lambda: nn.Conv3d.forward(self, input))


class CrossbarConvTranspose1d(_Transposed, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` on crossbars."""

    spatial: ClassVar[int] = 1
    sample_dims: ClassVar[int] = 2

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer on its chip."""
        return self.transposed_forward(input, output_size, nn.ConvTranspose1d)


class CrossbarConvTranspose2d(_Transposed, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` on crossbars."""

    spatial: ClassVar[int] = 2
    sample_dims: ClassVar[int] = 3

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer on its chip."""
        return self.transposed_forward(input, output_size, nn.ConvTranspose2d)


class CrossbarConvTranspose3d(_Transposed, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` on crossbars."""

    spatial: ClassVar[int] = 3
    sample_dims: ClassVar[int] = 4

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer on its chip."""
        return self.transposed_forward(input, output_size, nn.ConvTranspose3d)
