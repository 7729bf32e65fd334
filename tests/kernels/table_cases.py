"""Random small layers for the table engine: every kind of cell, pulse, read and converter it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from imcsim.functional.adc import Converter
from imcsim.functional.dac import PulseTrain
from imcsim.functional.mvm import Columns

CONVERTERS = [
    Converter(1, 1, 127, 254),  # loses nothing on few rows
    Converter(1, 1, 0, 30),  # clips
    Converter(127, 384, 127, 254),  # levels +-192 are exact ties
    Converter(85, 128, 0, 255),  # ties at 64, 192 and 320, down, up, down
    Converter(1, 2, 16, 31),  # every odd level is a tie
    Converter(1, 12, 7, 14),
    Converter(15, 7, 3, 15),  # finer than a level
    Converter(255, 100.0, 63.75, 255),  # zero between two codes
    Converter(7, 20, 3.5, 7, ties_up=True),  # sense amplifiers
    Converter(4095, 700.5, 2048, 4095),
    Converter(1, 3, -5, 6),  # the range excludes zero
]


@dataclass(frozen=True)
class Case:
    """A layer and inputs for it."""

    columns: Columns
    train: PulseTrain
    converters: tuple[Converter, ...]
    x_int: Tensor


@st.composite
def trains(draw: st.DrawFn) -> PulseTrain:
    kind = draw(st.sampled_from(["unsigned", "unsigned", "polarity", "sign_cycle", "offset"]))
    bits = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 8, 8, 11, 16]))
    per_cycle = draw(st.integers(1, 3 if kind == "polarity" else 4))
    if kind == "sign_cycle":
        return PulseTrain(min(bits, 15), per_cycle, sign_cycle=True)
    return PulseTrain(
        bits, per_cycle, polarity=kind == "polarity", shift=1 << (bits - 1) if kind == "offset" else 0
    )


@st.composite
def cases(draw: st.DrawFn, real: bool = False, train: PulseTrain | None = None) -> Case:
    groups, streams = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.sampled_from([1, 3, 4, 16, 23, 40, 128, 256]), min_size=1, max_size=3))
    outputs = draw(st.sampled_from([1, 2, 5, 17, 34]))
    vectors = draw(st.sampled_from([1, 3, 33, 64, 70]))
    stops = np.cumsum(sizes).tolist()
    reads = tuple(zip([0, *stops[:-1]], stops, strict=True))
    train = train or draw(trains())
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    low, high, half = draw(
        st.sampled_from(
            [(-3, 3, False), (0, 3, False), (-1, 1, False), (0, 15, False), (-3, 3, True), (0, 255, False)]
        )
    )
    cells = torch.randint(low, high + 1, (groups, streams, stops[-1], outputs), generator=generator).double()
    if draw(st.booleans()):  # a column that always gives the most there is
        cells[:, :, :, 0] = high
    if half:
        cells = cells / 2
    if real:
        cells = cells + 0.1 * torch.randn(cells.shape, generator=generator).double()
    flip = None
    if draw(st.booleans()):
        flip = torch.randint(0, 2, (len(reads), groups, streams, outputs), generator=generator) * 2 - 1
    columns = Columns(cells, reads, tuple(4**q for q in range(streams)), (0.0,) * streams, flip)
    converters = tuple(draw(st.sampled_from(CONVERTERS)) for _ in range(streams))
    most = (1 << train.magnitude_bits) - 1
    least = -most if train.polarity else -most - 1 if train.sign_cycle else -train.shift
    most -= train.shift
    shape = (groups, vectors, stops[-1])
    x_int = torch.randint(least, most + 1, shape, generator=generator, dtype=torch.int32)
    x_int[:, 0] = most  # every digit on: the highest currents
    if train == PulseTrain(8, train.bits_per_cycle):
        x_int = x_int.to(torch.uint8)
    return Case(columns, train, converters, x_int)
