"""Layers of several weight matrices: each on arrays of its own, what joins their products is digital."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.functional.noise import ReadStream
from imcsim.nn.linear import VectorLayer


@dataclass
class _Pass:
    """One pass over a batch of sequences.

    Attributes:
        stream: read noise of its samples, None where reads are noiseless.
        seen: (batch, inputs) the inputs of each step so far, kept while calibration looks at them.
        step: the step that is read now.
    """

    stream: ReadStream | None
    seen: dict[int, Tensor] = field(default_factory=dict)
    step: int = 0


class Projection(VectorLayer):
    """One matrix of a layer that has several; its weight and bias stay the layer's parameters.

    Args:
        owner: the layer.
        key: which of its matrices.
    """

    def __init__(self, owner: CrossbarMatrices, key: str) -> None:
        super().__init__()
        self._owner = (owner,)  # in a tuple, which torch does not take for a child
        self._key = key
        self._pass: _Pass | None = None
        self.out_features, self.in_features = self.weight.shape

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix, as it is in the layer now."""
        return self._owner[0].matrix(self._key)[0]

    @property
    def bias(self) -> Tensor | None:
        """Its bias."""
        return self._owner[0].matrix(self._key)[1]

    @contextmanager
    def sequence(self, samples: int, valid: Tensor | None) -> Iterator[None]:
        """One pass over a batch of sequences, step by step.

        The weight is looked at once, every sample is counted once and its read noise keyed by the step, and
        calibration sees all steps at once.

        Shapes: valid (batch, steps).

        Args:
            samples: sequences of the batch.
            valid: which steps each sequence has; None: all.
        """
        observer = self.array.observer
        if observer is None:
            self.sync()
        self._pass = _Pass(self.array.read_stream(samples) if observer is None else None)
        try:
            yield
            seen = self._pass.seen
            if observer is not None and seen:
                inputs = torch.stack([seen[t] for t in sorted(seen)], 1)
                observer(inputs if valid is None else inputs[valid])
        finally:
            self._pass = None

    def sync(self) -> None:
        """Program the arrays if the weight changed; within `sequence` it is known not to have."""
        if self._pass is None:
            super().sync()

    def read_stream(self, samples: int) -> ReadStream | None:
        """Random numbers of the next reads: within `sequence` those of its samples at the present step."""
        if self._pass is None:
            return super().read_stream(samples)
        stream = self._pass.stream
        return None if stream is None else replace(stream, name=f"{stream.name} step {self._pass.step}")

    def forward(self, input: Tensor, *, step: int | None = None, valid: Tensor | None = None) -> Tensor:
        """The product on its chip.

        Shapes: input (*, inputs), within `sequence` (batch, inputs); valid like input without its last
        dimension; returns (*, outputs).

        Args:
            input: the vectors.
            step: within `sequence`, which step they are.
            valid: vectors that are not padding, the only ones that calibration looks at; None: all.

        Returns:
            The products, bias included.
        """
        observer = self.array.observer
        if self._pass is not None and step is not None:
            self._pass.step = step
        if observer is None:
            return self.vector_forward(input)
        if self._pass is None:
            observer(input if valid is None else input[valid])
        else:
            self._pass.seen[self._pass.step] = input.detach()
        return self.calibration_forward(input, lambda: digital_product(input, self.weight, self.bias))


def digital_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x weight^T + bias`` in floats of x's dtype. Shapes: x (*, inputs); returns (*, outputs)."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class CrossbarMatrices(nn.Module):
    """Mixin of layers of several matrices. `crossbars` holds those on arrays; the others are digital.

    A subclass names its matrices (`matrix_keys`) and finds them in torch's parameters (`matrix`).
    """

    crossbars: nn.ModuleDict
    module_name: str
    """As it was when converted, for errors."""

    @staticmethod
    def matrix_keys(module: nn.Module) -> tuple[str, ...]:
        """Names of the matrices of a torch layer or of its crossbar form."""
        raise NotImplementedError

    def matrix(self, key: str) -> tuple[Tensor, Tensor | None]:
        """A matrix (outputs, inputs) and its bias (outputs,), views of the layer's parameters."""
        raise NotImplementedError

    def projection(self, key: str) -> Projection | None:
        """A matrix on its arrays, None where it is digital."""
        return cast("Projection", self.crossbars[key]) if key in self.crossbars else None

    def project(self, key: str, x: Tensor, **how: Any) -> Tensor:
        """Vectors through one matrix.

        Shapes: x (*, inputs); returns (*, outputs).

        Args:
            key: the matrix.
            x: the vectors.
            how: `step` and `valid` of `Projection.forward`.

        Returns:
            The products, bias included.
        """
        if key in self.crossbars:
            return self.crossbars[key](x, **how)
        return digital_product(x, *self.matrix(key))
