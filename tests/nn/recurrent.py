"""Recurrent layers, chips and comparisons that the tests of recurrent layers share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import imcsim

FINE = imcsim.Hardware(weights={"bits": 12}, inputs={"bits": 12, "range": "dynamic"})
COARSE = imcsim.Hardware(
    array={"rows": 4},
    weights={"bits": 6, "scale": "per_channel"},
    inputs={"bits": 5, "range": "dynamic"},
    adc={"bits": 4},
)
"""Ideal cells, lossy converters, nothing to calibrate."""

FIXED = imcsim.Hardware(weights={"bits": 5}, inputs={"bits": 6, "range": 1.5, "signed": True})
NOISY = COARSE.replace({"device.card": "pcm_gst"})
"""Programmed cells with read noise."""

QUANTIZATION = 4e-3
"""12-bit weights and inputs, a few steps: relative to the largest output."""

CASES: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "RNN": (nn.RNN, {}),
    "RNN-relu-no-bias": (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    "RNN-two-ways": (nn.RNN, {"bidirectional": True, "num_layers": 2}),
    "GRU": (nn.GRU, {}),
    "GRU-batch-first-no-bias": (nn.GRU, {"batch_first": True, "bias": False}),
    "GRU-deep-two-ways": (nn.GRU, {"num_layers": 3, "bidirectional": True, "batch_first": True}),
    "LSTM": (nn.LSTM, {}),
    "LSTM-no-bias": (nn.LSTM, {"bias": False, "batch_first": True}),
    "LSTM-deep-two-ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "LSTM-projected": (nn.LSTM, {"proj_size": 3}),
    "LSTM-everything": (
        nn.LSTM,
        {"num_layers": 2, "bidirectional": True, "batch_first": True, "proj_size": 2, "dropout": 0.3},
    ),
}
CELLS = {
    "RNNCell": (nn.RNNCell, {}),
    "RNNCell-relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "LSTMCell": (nn.LSTMCell, {}),
    "LSTMCell-no-bias": (nn.LSTMCell, {"bias": False}),
    "GRUCell": (nn.GRUCell, {}),
    "GRUCell-no-bias": (nn.GRUCell, {"bias": False}),
}
STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6


def each(cases: dict[str, Any]) -> Any:
    return pytest.mark.parametrize(("kind", "options"), cases.values(), ids=cases)


def build(kind: type[nn.Module], options: dict[str, Any], dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return kind(INPUTS, HIDDEN, **options, dtype=dtype).eval()


def inputs(layer: Any, dtype: torch.dtype = torch.float64, batch: int = BATCH) -> Tensor:
    x = torch.randn(batch, STEPS, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (x if layer.batch_first else x.transpose(0, 1)).to(dtype)


def states(layer: Any, dtype: torch.dtype = torch.float64, batch: int = BATCH) -> Any:
    generator = torch.Generator().manual_seed(2)
    stacked = layer.num_layers * (2 if layer.bidirectional else 1)

    def draw(width: int) -> Tensor:
        return torch.rand(stacked, batch, width, dtype=torch.float64, generator=generator).to(dtype) - 0.5

    h = draw(layer.proj_size or HIDDEN)
    return (h, draw(HIDDEN)) if isinstance(layer, nn.LSTM) else h


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [tensor for part in result for tensor in tensors(part)]


def close(got: Any, want: Any, tolerance: float) -> None:
    for a, b in zip(tensors(got), tensors(want), strict=True):
        assert a.shape == b.shape
        assert (a.double() - b.double()).abs().max() <= tolerance * max(1.0, float(b.detach().abs().max()))


def equal(got: Any, want: Any) -> None:
    assert all(torch.equal(a, b) for a, b in zip(tensors(got), tensors(want), strict=True))


def batch_of(layer: Any, x: Tensor, rows: slice) -> Tensor:
    return x[rows] if layer.batch_first else x[:, rows]


class Net(nn.Module):
    """A recurrent layer and a classifier."""

    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.lstm = kind(INPUTS, HIDDEN, batch_first=True, **options)
        self.head = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def network(kind: type[nn.Module] = nn.LSTM, **options: Any) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Net(kind, **options).eval(), torch.randn(7, STEPS, INPUTS)


CALIBRATED = imcsim.Hardware(
    array={"rows": 8}, adc={"bits": 5, "range": "calibrated"}, device={"card": "pcm_gst"}
)
KINDS = pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
