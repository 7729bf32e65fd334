"""Fully connected layers on crossbars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.functional.dac import complementary_lines
from imcsim.kernels import table
from imcsim.kernels.engines import Choice
from imcsim.kernels.matmul import ROW_MULTIPLE
from imcsim.nn.layer import CrossbarLayer


class VectorLayer(CrossbarLayer):
    """A product of vectors and one matrix.

    Shapes: input (*, in_features); output (*, out_features).
    """

    in_features: int
    out_features: int
    bias: Any
    sample_dims: ClassVar[int] = 1

    def weight_matrix(self, weight: Tensor) -> Tensor:
        """Shapes: (outputs, inputs) -> (1, outputs, inputs)."""
        return weight.unsqueeze(0)

    def weight_from_matrix(self, matrix: Tensor) -> Tensor:
        """The inverse of `weight_matrix`."""
        return matrix[0]

    def vectors(self, x_int: Tensor) -> Tensor:
        """Shapes: (*, inputs) -> (1, vectors, inputs)."""
        return x_int.reshape(1, -1, self.in_features)

    def by_vectors(self, x_int: Tensor, product: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Shapes: (*, inputs) -> (*, outputs)."""
        out = product(self.vectors(x_int), 0)
        return out.view(*x_int.shape[:-1], out.shape[-1])

    def tabulated(self, codes: Tensor, plan: Choice, factor: Tensor, bias: Tensor | None) -> Tensor | None:
        """Shapes: (*, inputs) -> (*, outputs)."""
        if plan.tables is None or plan.finish is None:
            return None
        finish = replace(plan.finish, scale=factor, bias=bias, dtype=codes.dtype)
        sent = self.vectors(codes)
        out = table.stream_sums(complementary_lines(sent) if plan.pairs else sent, plan.tables, finish)
        return out.view(*codes.shape[:-1], out.shape[-1])

    def multiply(self, x_int: Tensor, matrix: Tensor, *, steady: bool) -> Tensor:
        """One product. Torch takes another kernel for a few rows: a multiple of 8 keeps to one.

        Shapes: (*, inputs) -> (*, outputs).
        """
        codes = x_int.to(matrix.dtype)
        if not steady:
            return F.linear(codes, matrix[0])
        rows = codes.reshape(-1, self.in_features)
        padded = F.pad(rows, (0, 0, 0, -len(rows) % ROW_MULTIPLE))
        return F.linear(padded, matrix[0])[: len(rows)].view(*x_int.shape[:-1], matrix.shape[1])

    def output_constant(self, constant: Tensor) -> Tensor:
        """Shapes: (1, outputs) -> (outputs,)."""
        return constant[0]

    def sum_terms(self, out: Tensor, terms: int) -> Tensor:
        """Shapes: (*, terms x outputs) -> (*, outputs)."""
        return reduce(torch.add, out.unflatten(-1, (terms, -1)).unbind(-2))

    def input_sums(self, x_int: Tensor) -> Tensor:
        """Shapes: (*, inputs) -> (*, 1)."""
        return x_int.sum(-1, keepdim=True, dtype=torch.float64)

    def output_factor(self, factor: Tensor) -> Tensor:
        """Shapes: (1, outputs or 1, 1) -> (outputs or 1)."""
        return factor.flatten()

    def output_bias(self) -> Tensor | None:
        """Shapes: (outputs,)."""
        return None if self.bias is None else self.bias.detach()

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """Shapes: (*, outputs) -> (outputs,)."""
        return grad.flatten(0, -2).sum(0) if grad.dim() > 1 else grad

    def product_gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, need: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of ``x weight^T``."""
        grad_x = grad @ weight if need[0] else None
        grad_w = grad.reshape(-1, self.out_features).T @ x.reshape(-1, self.in_features) if need[1] else None
        return grad_x, grad_w

    def vector_forward(self, x: Tensor) -> Tensor:
        """The layer on its chip, or in floats where calibration looks at its inputs."""
        if isinstance(x, Tensor) and (x.dim() == 0 or x.shape[-1] != self.in_features):
            raise InputError(
                f"layer {self.array.name!r} takes (..., {self.in_features}) inputs, but got "
                f"{tuple(x.shape)}; check the layer before it"
            )
        if self.array.observer is not None:
            self.array.observer(x)
            return self.calibration_forward(x, lambda: F.linear(x, self.weight, self.bias))
        return self.chip_forward(x)


class CrossbarLinear(VectorLayer, nn.Linear):
    """`nn.Linear` on crossbars.

    Shapes: input (*, in_features); output (*, out_features).
    """

    def forward(self, input: Tensor) -> Tensor:
        """The layer on its chip."""
        return self.vector_forward(input)
