from __future__ import annotations

import math

import pytest
import torch

from imcsim.circuits import effective_conductance, gated_conductance_approx, solve_crossbar
from imcsim.errors import CircuitError, ImcsimError

G = torch.full((4, 3), 1e-5)
V = torch.full((2, 4), 0.1)


def with_value(t, index, value):
    t = t.clone()
    t[index] = value
    return t


@pytest.mark.parametrize(
    ("g", "v", "options", "message"),
    [
        (
            with_value(G, (1, 2), -1.0),
            V,
            {},
            r"g\[1, 2\] = -1.0: conductances in siemens must be .* not negative.*clamp\(min=0\)",
        ),
        (with_value(G, (3, 0), math.nan), V, {}, r"g\[3, 0\] = nan"),
        (with_value(G, (3, 0), math.inf), V, {}, r"g\[3, 0\] = inf"),
        ("abc", V, {}, r"g = 'abc': expected a tensor of real numbers"),
        (G, None, {}, r"v = None: expected a tensor of real numbers"),
        (G, V, {"word_line_ohm": "1"}, r"word_line_ohm = '1': expected .* or a number"),
        (G + 0j, V, {}, r"g holds complex numbers \(torch\.complex64\)"),
        (G[0], V, {}, r"g has shape \(3,\); expected \(\*batch, rows, cols\)"),
        (G[:0], V, {}, r"g has shape \(0, 3\)"),
        (G, V.T, {}, r"v has shape \(4, 2\); its last dimension must be the 4 rows of g.*Transpose"),
        (G, with_value(V, (0, 1), math.nan), {}, r"v\[0, 1\] = nan: voltages are finite numbers"),
        (G.expand(2, 4, 3), V.expand(3, 2, 4), {}, r"v has shape \(3, 2, 4\) and g \(2, 4, 3\).*broadcast"),
        (
            G,
            V,
            {"word_line_ohm": -1.0},
            "word_line_ohm = -1.0: resistances in ohm .* Pass 0 for an ideal wire",
        ),
        (G, V, {"bit_line_ohm": math.inf}, "bit_line_ohm = inf"),
        (G, V, {"series_ohm": torch.full((4, 3), math.nan)}, r"series_ohm\[0, 0\] = nan"),
        (
            G,
            V,
            {"source_ohm": torch.ones(3)},
            r"source_ohm has shape \(3,\); .* broadcasts to \(rows,\) = \(4,\)",
        ),
        (
            G,
            V,
            {"sense_ohm": torch.ones(4)},
            r"sense_ohm has shape \(4,\); .* broadcasts to \(cols,\) = \(3,\)",
        ),
        (
            G,
            V,
            {"word_line_ohm": torch.ones(4)},
            r"word_line_ohm has shape \(4,\); .* \(rows, cols\) = \(4, 3\)",
        ),
        (G, V, {"drive": "right"}, "drive = 'right'; allowed: 'left', 'both'"),
        (G, V, {"ground": "top"}, "ground = 'top'; allowed: 'bottom', 'both'"),
        (G, V, {"cell": "exp"}, "cell = 'exp'; allowed: 'linear', 'sinh'"),
        (G, V, {"cell": "sinh"}, "cell = 'sinh' needs v0_V"),
        (G, V, {"cell": "sinh", "v0_V": 0.0}, "v0_V = 0.0: allowed are positive finite voltages"),
        (G, V, {"v0_V": 0.1}, "v0_V = 0.1 has no meaning for linear cells"),
    ],
)
def test_bad_input_says_what_and_where(g, v, options, message):
    with pytest.raises(CircuitError, match=message) as caught:
        solve_crossbar(g, v, **options)
    assert isinstance(caught.value, ImcsimError)
    assert isinstance(caught.value, ValueError)


def test_the_map_checks_its_input_too():
    with pytest.raises(CircuitError, match=r"g\[0, 0\] = -1.0"):
        effective_conductance(with_value(G, (0, 0), -1.0))


def test_a_misspelt_option_is_an_error():
    with pytest.raises(TypeError, match="sence_ohm"):
        effective_conductance(G, sence_ohm=1.0)
    with pytest.raises(TypeError, match="sence_ohm"):
        gated_conductance_approx(G, sence_ohm=1.0)
