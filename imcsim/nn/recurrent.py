"""Recurrent layers on crossbars: input, recurrent and projection matrices on arrays, gates digital."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from imcsim.errors import InputError
from imcsim.nn.projection import CrossbarMatrices

State = tuple[Tensor, ...]
"""(h,), of an LSTM (h, c); each (batch, features)."""

Step = Callable[[Tensor, Tensor, State], State]


VECTOR = 64
"""Numbers that CPU kernels take at once, or a multiple."""

SHARE = (1 << 15) - 1
"""Numbers that a CPU kernel does not yet spread over threads."""


def steady(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of each number whose last bit does not depend on the batch around it.

    Torch's CPU kernels end a run of numbers, and each thread's share of it, with another formula: rows are
    filled up to whole vectors and taken a few at a time.

    Shapes: x (batch, features).
    """
    if x.device.type != "cpu":
        return function(x)
    rows = F.pad(x, (0, -x.shape[-1] % VECTOR))
    parts = [function(part) for part in rows.split(max(1, SHARE // rows.shape[-1]))]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[:, : x.shape[-1]]


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function, `steady`."""
    return steady(torch.sigmoid, x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, `steady`."""
    return steady(torch.tanh, x)


def tanh_step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``. Shapes: all (batch, hidden)."""
    return (tanh(from_input + from_hidden),)


def relu_step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """``h' = relu(W_ih x + b_ih + W_hh h + b_hh)``. Shapes: all (batch, hidden)."""
    return (torch.relu(from_input + from_hidden),)


def lstm_step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """``c' = sigmoid(f) c + sigmoid(i) tanh(g)``, ``h' = sigmoid(o) tanh(c')``.

    Gates i, f, g, o are rows of ``W_ih x + b_ih + W_hh h + b_hh``.

    Shapes: products (batch, 4 hidden); state (h, c); returns (h', c') (batch, hidden) each.
    """
    i, f, g, o = (from_input + from_hidden).chunk(4, -1)
    cell = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(cell), cell


def gru_step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """``h' = (1 - z) n + z h``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``.

    Gates r and z are the logistic functions of the first two thirds of ``W_ih x + b_ih + W_hh h + b_hh``.

    Shapes: products (batch, 3 hidden); state (h,); returns (h',) (batch, hidden).
    """
    r_x, z_x, n_x = from_input.chunk(3, -1)
    r_h, z_h, n_h = from_hidden.chunk(3, -1)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    n = tanh(n_x + r * n_h)
    return (n + z * (state[0] - n),)


_STEPS: dict[str, Step] = {
    "RNN_TANH": tanh_step,
    "RNN_RELU": relu_step,
    "LSTM": lstm_step,
    "GRU": gru_step,
    "tanh": tanh_step,
    "relu": relu_step,
}


class _Recurrent(CrossbarMatrices):
    """What sequence layers and cells share."""

    states: ClassVar[int] = 1
    """Tensors of a state: 2 of an LSTM."""

    hidden_size: int
    input_size: int

    def matrix(self, key: str) -> tuple[Tensor, Tensor | None]:
        """A weight by its parameter's name, and the bias of the same name; `weight_hr` has none."""
        bias = None if key.startswith("weight_hr") else getattr(self, key.replace("weight", "bias", 1), None)
        return getattr(self, key), bias

    def _check_tensor(self, x: Any, what: str) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"layer {self.module_name!r} takes a floating-point tensor as {what}, but got {kind}; "
                "convert it with .float()"
            )

    def _check_size(self, x: Tensor, dims: tuple[int, ...], form: str) -> None:
        if x.dim() not in dims or x.shape[-1] != self.input_size:
            raise InputError(
                f"layer {self.module_name!r} takes {form} inputs of {self.input_size} features, but got "
                f"{tuple(x.shape)}; check the layer before it"
            )

    def _given_state(self, hx: Any, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype) -> State:
        """The initial state the caller gave, checked."""
        parts = (hx,) if self.states == 1 else hx
        if not isinstance(parts, tuple | list) or len(parts) != self.states:
            raise InputError(
                f"layer {self.module_name!r} takes a pair (h, c) as its initial state, but got "
                f"{type(hx).__name__}"
            )
        for part, shape in zip(parts, shapes, strict=True):
            self._check_tensor(part, "its initial state")
            if tuple(part.shape) != shape:
                raise InputError(
                    f"layer {self.module_name!r} takes an initial state of {shape} for this input, but got "
                    f"{tuple(part.shape)}"
                )
        return tuple(part.to(dtype) for part in parts)

    def _dtypes(self, x: Tensor) -> tuple[torch.dtype, torch.dtype]:
        """Of the arithmetic, at least float32, and of the results, autocast's where it is on."""
        own = self.matrix(self.matrix_keys(self)[0])[0].dtype
        device = x.device.type
        result = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return own if own.itemsize >= 4 else torch.float32, result


class _Sequence(_Recurrent):
    """`nn.RNN`, `nn.LSTM` and `nn.GRU`: products with inputs for all steps at once, the others by step.

    Inside, sequences are (batch, steps, features) in the caller's order, packed ones padded: a sample's
    random numbers depend on its place and the step alone.
    """

    mode: str
    num_layers: int
    batch_first: bool
    bidirectional: bool
    dropout: float
    proj_size: int

    @staticmethod
    def matrix_keys(module: nn.Module) -> tuple[str, ...]:
        """The weights' names, such as weight_hh_l0_reverse."""
        names: Any = module._flat_weights_names
        return tuple(name for name in names if name.startswith("weight"))

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The layer on its chip, with torch's arguments and results."""
        packed = input if isinstance(input, PackedSequence) else None
        self._check_tensor(input if packed is None else packed.data, "its input")
        x, valid = self._batch_first(input)
        unbatched = packed is None and input.dim() == 2
        inner, outer = self._dtypes(x)
        start = self._start(x, hx, inner, unbatched=unbatched)
        with torch.autocast(x.device.type, enabled=False):
            out, finals = self._layers(x.to(inner), start, valid)
        out, finals = out.to(outer), tuple(state.to(outer) for state in finals)
        if unbatched:
            finals = tuple(state.squeeze(1) for state in finals)
        hidden = finals[0] if self.states == 1 else finals
        if packed is not None:
            return self._packed(out, packed), hidden
        if unbatched:
            return out.squeeze(0), hidden
        return out if self.batch_first else out.transpose(0, 1), hidden

    def _batch_first(self, input: Any) -> tuple[Tensor, Tensor | None]:
        """Any input as (batch, steps, features), and which steps (batch, steps) are not padding."""
        if isinstance(input, PackedSequence):
            self._check_size(input.data, (2,), "packed")
            x, lengths = pad_packed_sequence(input, batch_first=True)
            return x, (torch.arange(x.shape[1]) < lengths[:, None]).to(x.device)
        form = "(batch, steps, features)" if self.batch_first else "(steps, batch, features)"
        self._check_size(input, (2, 3), f"{form} or one sequence's (steps, features)")
        unbatched = input.dim() == 2
        x = input.unsqueeze(0) if unbatched else input if self.batch_first else input.transpose(0, 1)
        if x.shape[1] == 0:
            raise InputError(
                f"layer {self.module_name!r} got sequences without a step, {tuple(input.shape)}; give at "
                "least one step"
            )
        return x, None

    def _start(self, x: Tensor, hx: Any, dtype: torch.dtype, *, unbatched: bool) -> State:
        """Initial states, (layers x directions, batch, features) each."""
        stacked = self.num_layers * (2 if self.bidirectional else 1)
        widths = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        if hx is None:
            return tuple(x.new_zeros(stacked, x.shape[0], width, dtype=dtype) for width in widths)
        middle = () if unbatched else (x.shape[0],)
        state = self._given_state(hx, tuple((stacked, *middle, width) for width in widths), dtype)
        return tuple(part.unsqueeze(1) for part in state) if unbatched else state

    def _packed(self, out: Tensor, like: PackedSequence) -> PackedSequence:
        """(batch, steps, features) in the caller's order, packed as the input was."""
        ordered = out if like.sorted_indices is None else out.index_select(0, like.sorted_indices)
        active = (torch.arange(out.shape[0]) < like.batch_sizes[:, None]).to(out.device)
        data = ordered.transpose(0, 1)[active]
        return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)

    def _layers(self, x: Tensor, start: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """All layers and directions.

        Shapes: x (batch, steps, features); start and the final states (layers x directions, batch, features);
        valid (batch, steps).
        """
        directions = ("", "_reverse") if self.bidirectional else ("",)
        finals: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in directions:
                state = tuple(part[len(finals)] for part in start)
                out, final = self._direction(f"_l{layer}{direction}", x, state, valid)
                outputs.append(out)
                finals.append(final)
            x = torch.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _direction(self, tail: str, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """One layer in one direction; a sequence that has ended, or not yet begun, keeps its state.

        Shapes: x (batch, steps, features); returns (batch, steps, outputs) and the final state.
        """
        advance = _STEPS[self.mode]
        recurrent, smaller = f"weight_hh{tail}", f"weight_hr{tail}"
        from_input = self.project(f"weight_ih{tail}", x, valid=valid)
        steps = range(x.shape[1])
        outputs: dict[int, Tensor] = {}
        with ExitStack() as reading:
            for key in (recurrent, smaller):
                if (projection := self.projection(key)) is not None:
                    reading.enter_context(projection.sequence(x.shape[0], valid))
            for t in reversed(steps) if tail.endswith("_reverse") else steps:
                from_hidden = self.project(recurrent, state[0], step=t)
                after = advance(from_input[:, t], from_hidden, state)
                if self.proj_size:
                    after = (self.project(smaller, after[0], step=t), *after[1:])
                if valid is not None:
                    now = valid[:, t, None]
                    after = tuple(torch.where(now, b, a) for a, b in zip(state, after, strict=True))
                state = after
                outputs[t] = state[0]
        return torch.stack([outputs[t] for t in steps], 1), state


class _Cell(_Recurrent):
    """`nn.RNNCell`, `nn.LSTMCell` and `nn.GRUCell`: one step of samples that count anew at every call."""

    step_kind: ClassVar[str]

    @staticmethod
    def matrix_keys(module: nn.Module) -> tuple[str, ...]:
        """The weights' names."""
        return ("weight_ih", "weight_hh")

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The cell on its chip, with torch's arguments and results."""
        self._check_tensor(input, "its input")
        self._check_size(input, (1, 2), "(batch, features) or one sample's (features,)")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        inner, outer = self._dtypes(x)
        shape = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            state = tuple(x.new_zeros(x.shape[0], self.hidden_size, dtype=inner) for _ in range(self.states))
        else:
            given = self._given_state(hx, (shape,) * self.states, inner)
            state = tuple(part.view(x.shape[0], -1) if input.dim() == 1 else part for part in given)
        with torch.autocast(x.device.type, enabled=False):
            from_input = self.project("weight_ih", x.to(inner))
            kind = getattr(self, "nonlinearity", self.step_kind)
            after = _STEPS[kind](from_input, self.project("weight_hh", state[0]), state)
        done = tuple(part.to(outer).view(shape) for part in after)
        return done[0] if self.states == 1 else done


class CrossbarRNN(_Sequence, nn.RNN):
    """`nn.RNN` on crossbars."""


class CrossbarLSTM(_Sequence, nn.LSTM):
    """`nn.LSTM` on crossbars."""

    states: ClassVar[int] = 2


class CrossbarGRU(_Sequence, nn.GRU):
    """`nn.GRU` on crossbars."""


class CrossbarRNNCell(_Cell, nn.RNNCell):
    """`nn.RNNCell` on crossbars."""

    step_kind: ClassVar[str] = "tanh"


class CrossbarLSTMCell(_Cell, nn.LSTMCell):
    """`nn.LSTMCell` on crossbars."""

    states: ClassVar[int] = 2
    step_kind: ClassVar[str] = "LSTM"


class CrossbarGRUCell(_Cell, nn.GRUCell):
    """`nn.GRUCell` on crossbars."""

    step_kind: ClassVar[str] = "GRU"
