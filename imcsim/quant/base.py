"""What a quantizer is: codes for the arrays, and a differentiable value for training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imcsim.errors import MappingError
from imcsim.hardware import Hardware
from imcsim.quant.codes import InputCodes, WeightCodes


@dataclass(frozen=True)
class Span:
    """The inputs a word line can carry.

    Attributes:
        high: the magnitude that maps to the top code; a tensor that broadcasts to the input, or a number.
        signed: whether there are negative ones.
    """

    high: Tensor | float
    signed: bool

    def inside(self, x: Tensor) -> Tensor:
        """Where x is not clipped. Shapes: x (*any); returns bool like it."""
        return (x <= self.high) & (x >= (-self.high if self.signed else 0))


class Quantizer(nn.Module):
    """What weight and input quantizers share: their place in training and in files.

    Parameters are ordinary ones of the model. A checkpoint that lacks them, a float model's, loads all the
    same.
    """

    key: str = ""
    """The layer's name and what is quantized, which keys random draws."""

    @property
    def soft(self) -> bool:
        """Whether training now sees a value that is not one of the codes, which no array can hold."""
        return False

    def set_progress(self, fraction: float) -> None:
        """How far training is, 0 to 1; for quantizers that harden on the way."""

    def penalty(self) -> Tensor | None:
        """A term of the loss, or None."""
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """A change of the model's dtype leaves float64 buffers, from which codes follow, as they are."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            now = self._buffers[name]
            if old is not None and now is not None and old.dtype == torch.float64:
                self._buffers[name] = old.to(now.device)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing: list[str] = []
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs
        )


class WeightQuantizer(Quantizer):
    """From a weight matrix to codes.

    A subclass gives `encode`, and where the gradient is not straight-through `forward`; where it trains on
    soft values `soft` and `soft_value`.
    """

    planes: ClassVar[bool] = False
    """Codes are -1 and 1 in several terms: the arrays hold one-bit weights, whatever weights.bits says."""

    stored_bits: float | None = None
    """Bits of a weight's code where they are not weights.bits, for `average_bits`."""

    def encode(self, matrix: Tensor) -> WeightCodes:
        """The codes.

        Shapes: matrix (groups, outputs, inputs).

        Args:
            matrix: real weights, any float dtype; computed in float64.

        Returns:
            The codes, always hard ones.
        """
        raise NotImplementedError

    def forward(self, matrix: Tensor, value: Tensor) -> Tensor:
        """The value of the codes with a gradient to the weights: straight through unless a subclass says.

        Shapes: (groups, outputs, inputs) all.

        Args:
            matrix: real weights.
            value: what `encode` gave for them.

        Returns:
            The value.
        """
        return straight_through(matrix, value)

    def start(self, matrix: Tensor) -> None:
        """Choose starting values of parameters from the float model's weights; called by `convert`."""

    def soft_value(self, matrix: Tensor) -> Tensor:
        """What training sees where `soft`. Shapes: (groups, outputs, inputs) both."""
        raise NotImplementedError

    def state(self) -> tuple[Tensor, ...]:
        """Tensors beside the weights that codes depend on: arrays are programmed anew where one changes."""
        return (*self.parameters(recurse=False), *self.buffers(recurse=False))

    def update(self, matrix: Tensor) -> None:
        """Look at the weights before a training step's forward pass, to fit what gradients do not."""

    def after_step(self, matrix: Tensor) -> Tensor | None:
        """The weights after an optimizer's step, clipped or moved as a method asks.

        Shapes: matrix (groups, outputs, inputs); returns the same.

        Args:
            matrix: what the step left.

        Returns:
            The new weights; None: as they are.
        """
        return None


class InputQuantizer(Quantizer):
    """From a layer's input to codes, without a look at the rest of the batch."""

    planes: ClassVar[bool] = False
    """Codes are -1 and 1 in several passes: word lines carry one-bit inputs, whatever inputs.bits says."""

    ranged: ClassVar[bool] = True
    """Whether it takes its range from the hardware (inputs.range) rather than having one of its own."""

    whole_bias: ClassVar[bool] = False
    """Whether the layer's bias is rounded to the scale of its sums of products, as fixed point has it."""

    @property
    def signed(self) -> bool | None:
        """Whether codes have a sign; None: the hardware and calibration decide."""
        return None

    @property
    def gate(self) -> Tensor | None:
        """Thresholds of outputs, (groups or 1, outputs or 1, 1).

        Of two passes the second counts where the first's output is above them.
        """
        return None

    def note_gate(self, opened: Tensor) -> None:
        """Look at the outputs whose second pass counts, bool."""

    @property
    def passes(self) -> int:
        """How often an input is sent, at most."""
        return 1

    @property
    def ready(self) -> bool:
        """Whether it can encode: no range of its own is left to be fitted to data."""
        return True

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """The codes.

        Shapes: x (*any).

        Args:
            x: the input.
            span: its range where `ranged`.

        Returns:
            The codes.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """The value of the codes with a gradient to the input.

        Shapes: x, value (*any).

        Args:
            x: the input.
            value: what `encode` gave for it.
            span: its range where `ranged`.

        Returns:
            The value.
        """
        raise NotImplementedError

    def soft_value(self, x: Tensor, span: Span | None) -> Tensor:
        """What training sees where `soft`. Shapes: x (*any); returns the same."""
        raise NotImplementedError

    def update(self, x: Tensor) -> None:
        """Look at the input before a training step's forward pass."""

    def start_calibration(self) -> None:
        """Forget what earlier calibrations saw."""

    def observe(self, x: Tensor) -> None:
        """Look at a batch of calibration data, to choose a starting range."""

    def start(self, matrix: Tensor) -> None:
        """Choose what depends on the shape of the layer's weight; called by `convert`.

        Shapes: matrix (groups, outputs, inputs).
        """


class GradientQuantizer(Quantizer):
    """From the gradient of a layer's output to one of few values."""

    def forward(self, grad: Tensor) -> Tensor:
        """The quantized gradient. Shapes: grad (batch, ...); returns the same."""
        raise NotImplementedError


def array_hardware(hardware: Hardware, weight: WeightQuantizer, inputs: InputQuantizer) -> Hardware:
    """What a layer's arrays and word lines hold: one-bit codes where quantizers split theirs into planes.

    Args:
        hardware: the chip as described.
        weight: the layer's weight quantizer.
        inputs: its input quantizer.

    Returns:
        The chip, with weights.bits or inputs.bits of 1 for planes.

    Raises:
        MappingError: an encoding that has no -1 and 1 of one bit.
    """
    changes: dict[str, Any] = {}
    if weight.planes and hardware.weights.encoding not in ("xnor", "ternary"):
        if hardware.weights.encoding == "twos_complement":
            raise MappingError(
                f"{type(weight).__name__} stores planes of -1 and 1, but weights.encoding = "
                "'twos_complement' has no weight of one bit; use 'differential' or 'offset'"
            )
        changes |= {"weights.bits": 1, "weights.cell_bits": 1}
    if inputs.planes:
        changes |= {
            "inputs.bits": 1,
            "inputs.bits_per_cycle": 1,
            "inputs.signed": True,
            "inputs.signed_encoding": "sign_magnitude",
        }
    return hardware.replace(changes) if changes else hardware


class _StraightThrough(torch.autograd.Function):
    """Forward a given value, backward the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # so that torch notices a change of x between forward and backward
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (_,) = ctx.saved_tensors
        return grad, None


class _Scaled(torch.autograd.Function):
    """Forward a given value, backward the gradient times a mask or factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grad * factor, None, None


class _Clipped(torch.autograd.Function):
    """Forward a given value, backward the gradient where x is in its span."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, span: Span) -> Tensor:
        ctx.save_for_backward(x)
        ctx.span = span
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.span.inside(x), None, None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """A value whose gradient to x is the identity.

    Shapes: x, value (*any), alike.

    Args:
        x: where the gradient goes.
        value: the result.

    Returns:
        `value`.

    References: Y. Bengio, N. Leonard and A. Courville, "Estimating or propagating gradients through
        stochastic neurons for conditional computation", arXiv:1308.3432, 2013.
    """
    return _StraightThrough.apply(x, value)  # type: ignore[no-untyped-call]


def straight_through_where(x: Tensor, value: Tensor, factor: Tensor) -> Tensor:
    """A value whose gradient to x is ``grad x factor``, as a rule a mask of what is not clipped.

    Shapes: x, value, factor (*any), alike.

    Args:
        x: where the gradient goes.
        value: the result.
        factor: the local derivative; bool or of x's dtype.

    Returns:
        `value`.
    """
    return _Scaled.apply(x, value, factor)  # type: ignore[no-untyped-call]


def straight_through_inside(x: Tensor, value: Tensor, span: Span) -> Tensor:
    """A value whose gradient to x is the identity where x is inside its span, else 0.

    Shapes: x, value (*any), alike.

    Args:
        x: where the gradient goes.
        value: the result.
        span: the range.

    Returns:
        `value`.
    """
    return _Clipped.apply(x, value, span)  # type: ignore[no-untyped-call]
