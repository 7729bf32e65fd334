"""Figures of arrays."""

import numpy as np
import pytest
import torch

from imcsim import circuits, plot
from imcsim.errors import InputError


def test_histogram_counts_every_cell() -> None:
    target = torch.tensor([1e-6, 2e-6]).repeat(500)
    ax = plot.conductance_histogram(target * 1.01, target=target, bins=10)
    assert sum(patch.get_height() for patch in ax.patches) == 1000
    assert ax.get_xlabel() == "conductance (µS)"
    assert ax.get_ylabel() == "cells"
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.get_lines()], [1, 2])
    assert (
        plot.conductance_histogram([0.1, 1.0], normalised=True).get_xlabel()
        == "conductance (fraction of g_max)"
    )


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_histogram_refuses_what_it_cannot_draw(values) -> None:
    with pytest.raises(InputError, match="finite conductances of at least one cell"):
        plot.conductance_histogram(values)


def test_ir_drop_map_is_effective_over_true_conductance() -> None:
    g = torch.linspace(1e-6, 1e-4, 48, dtype=torch.float64).reshape(8, 6)
    ax = plot.ir_drop_map(g, word_line_ohm=5.0, bit_line_ohm=2.0)
    drawn = ax.get_images()[0].get_array()
    expected = circuits.effective_conductance(g, word_line_ohm=5.0, bit_line_ohm=2.0) / g
    np.testing.assert_allclose(drawn, expected.numpy())
    assert drawn.max() < 1  # every segment takes something
    assert ax.get_ylabel() == "word line"


@pytest.mark.parametrize(
    ("g", "ohm", "text"),
    [
        (torch.ones(3), 1.0, r"\(rows, cols\) matrix of conductances above 0, but got shape \(3,\)"),
        (torch.zeros(2, 2), 1.0, "a least value of 0 S"),
        (torch.ones(2, 2), 0.0, "without resistance nothing is lost"),
    ],
)
def test_ir_drop_map_refuses_what_has_no_drop(g, ohm, text) -> None:
    with pytest.raises(InputError, match=text):
        plot.ir_drop_map(g, word_line_ohm=ohm, bit_line_ohm=ohm)
