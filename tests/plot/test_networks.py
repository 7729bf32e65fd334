"""Figures of networks on chips."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import nn

import imcsim
from imcsim import plot
from imcsim.errors import InputError


def test_sqnr_bars_leave_out_what_loses_nothing() -> None:
    ax = plot.layer_sqnr({"conv1": 30.0, "fc": float("inf")})
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[0] == 30
    assert np.isnan(heights[1])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["conv1", "fc"]
    with pytest.raises(InputError, match="there are no layers to draw"):
        plot.layer_sqnr({})


def test_every_array_of_a_network_has_a_square() -> None:
    net = nn.Sequential(*[nn.Linear(300, 40) for _ in range(9)])
    summary = imcsim.summary(imcsim.convert(net, imcsim.Hardware()))
    counts = [row.arrays for row in summary.rows]
    ax = plot.tile_map(summary, Figure().subplots(), across=7)
    grid = ax.get_images()[0].get_array()
    assert grid.shape == (-(-sum(counts) // 7), 7, 3)
    squares = grid.reshape(-1, 3)
    colours, first = np.unique(squares[: sum(counts)], axis=0, return_index=True)
    assert len(colours) == len(counts)  # nine layers take more colours than the palette has
    assert sorted(first) == list(np.cumsum([0, *counts[:-1]]))
    assert (squares[sum(counts) :] == 1).all()
    assert len(ax.get_legend().get_texts()) == len(counts)


def test_a_map_needs_arrays_and_a_width() -> None:
    summary = imcsim.summary(imcsim.convert(nn.Linear(4, 2), imcsim.Hardware()))
    with pytest.raises(InputError, match="across = 0 is below 1"):
        plot.tile_map(summary, across=0)
    with pytest.raises(InputError, match="no layer of this summary is on arrays"):
        plot.tile_map(type(summary)(()))
