"""Layers on crossbars: subclasses of torch's, plumbing only."""

from __future__ import annotations

from torch import nn

from imcsim.nn.attention import CrossbarMultiheadAttention
from imcsim.nn.conv import (
    CrossbarConv1d,
    CrossbarConv2d,
    CrossbarConv3d,
    CrossbarConvTranspose1d,
    CrossbarConvTranspose2d,
    CrossbarConvTranspose3d,
)
from imcsim.nn.layer import CrossbarLayer
from imcsim.nn.linear import CrossbarLinear
from imcsim.nn.norm import AnalogNorm
from imcsim.nn.projection import CrossbarMatrices, Projection
from imcsim.nn.recurrent import (
    CrossbarGRU,
    CrossbarGRUCell,
    CrossbarLSTM,
    CrossbarLSTMCell,
    CrossbarRNN,
    CrossbarRNNCell,
)

CROSSBAR_OF: dict[type[nn.Module], type[CrossbarLayer | CrossbarMatrices]] = {
    nn.Linear: CrossbarLinear,
    nn.Conv1d: CrossbarConv1d,
    nn.Conv2d: CrossbarConv2d,
    nn.Conv3d: CrossbarConv3d,
    nn.ConvTranspose1d: CrossbarConvTranspose1d,
    nn.ConvTranspose2d: CrossbarConvTranspose2d,
    nn.ConvTranspose3d: CrossbarConvTranspose3d,
    nn.RNN: CrossbarRNN,
    nn.LSTM: CrossbarLSTM,
    nn.GRU: CrossbarGRU,
    nn.RNNCell: CrossbarRNNCell,
    nn.LSTMCell: CrossbarLSTMCell,
    nn.GRUCell: CrossbarGRUCell,
    nn.MultiheadAttention: CrossbarMultiheadAttention,
}
"""Which crossbar layer replaces which torch layer."""

__all__ = [
    "CROSSBAR_OF",
    "AnalogNorm",
    "CrossbarConv1d",
    "CrossbarConv2d",
    "CrossbarConv3d",
    "CrossbarConvTranspose1d",
    "CrossbarConvTranspose2d",
    "CrossbarConvTranspose3d",
    "CrossbarGRU",
    "CrossbarGRUCell",
    "CrossbarLSTM",
    "CrossbarLSTMCell",
    "CrossbarLayer",
    "CrossbarLinear",
    "CrossbarMatrices",
    "CrossbarMultiheadAttention",
    "CrossbarRNN",
    "CrossbarRNNCell",
    "Projection",
]
