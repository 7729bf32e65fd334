"""Written copies of weight codes: distributed as the device writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import imcsim
from imcsim.convert import arrays
from imcsim.functional.noise import keyed_generator
from imcsim.hardware import Hardware
from imcsim.kernels.collapsed import effective_weight
from imcsim.train.written import COPIES, written_codes
from tests.tolerances import Z
from tests.train.small import CHIP, linear


def codes_of(hardware: Hardware, seconds: float = 0.0):
    sim = imcsim.convert(linear(8, 4), hardware.replace({"inputs.range": 1.0, "adc": None}))
    ((_, array),) = arrays(sim)
    array.age(seconds, None)
    return written_codes(array, None)


def test_range_error_of_a_differential_pair():
    """Theory: sigma (in levels) sqrt(2 sum gain^2), the same for all codes where nothing is cut at zero."""
    found = codes_of(CHIP.replace({"device.on_off_ratio": 2.0}))
    assert found.errors.shape == (255, COPIES)
    want = 0.03 * 3 * (2 * sum(16.0**s for s in range(4))) ** 0.5
    spread = found.errors.double().std(1)
    assert bool(((spread / want - 1).abs() < (Z + 1) / (2 * COPIES) ** 0.5).all())
    assert abs(float(spread.mean()) / want - 1) < Z / (2 * COPIES * 255) ** 0.5


def test_proportional_error_grows_with_the_code():
    """Theory: a cell at level l errs by sigma l; a code's slices add in quadrature."""
    error = {"device.programming": {"kind": "proportional", "sigma": 0.05}, "device.on_off_ratio": None}
    found = codes_of(CHIP.replace(error))
    for code in (0, 1, 27, 64, 127, -127):
        digits = [(abs(code) >> 2 * s) & 3 for s in range(4)]
        want = 0.05 * sum((4.0**s * d) ** 2 for s, d in enumerate(digits)) ** 0.5
        got = float(found.errors[code + 127].double().std())
        assert got == pytest.approx(want, rel=Z / (2 * COPIES) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("encoding", ["differential", "offset", "twos_complement"])
def test_as_a_programmed_layer(encoding):
    """Oracle: the same weights programmed on a real layer have errors of the same mean and deviation."""
    hardware = CHIP.replace({"weights.encoding": encoding, "device.card": "pcm_gst", "adc": None})
    hardware = hardware.replace({"device.programming": {"kind": "card"}, "device.on_off_ratio": None})
    sim = imcsim.convert(linear(400, 50), hardware.replace({"inputs.range": 1.0}))
    ((_, array),) = arrays(sim)
    array.age(3600.0, None)
    real = (effective_weight(array.job()) - array.written.w_int)[0].flatten()
    drawn = written_codes(array, None).draw(array.written.w_int, keyed_generator(0, "x", "y"))
    drawn = drawn.flatten().double()
    n = real.numel()
    deviation = float(real.std())
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.05)  # drift makes tails
    assert abs(float(real.mean() - drawn.mean())) < Z * deviation * (2 / n) ** 0.5


def test_stuck_cells_are_among_the_copies():
    found = codes_of(Hardware().replace({"device.stuck_on": 0.1, "weights.bits": 3, "weights.cell_bits": 2}))
    hit = (found.errors[3] != 0).double().mean()  # code 0: either cell stuck on
    p = 1 - 0.9**2
    assert abs(float(hit) - p) < Z * (p * (1 - p) / COPIES) ** 0.5


@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_wide_codes_share_copies_of_their_leading_bits(encoding):
    found = codes_of(CHIP.replace({"weights.bits": 12, "weights.encoding": encoding}))
    assert found.step == 8
    assert len(found.errors) <= 513
    w = torch.tensor([-2047.0, -2040.0, -8.0, -7.0, 0.0, 7.0, 8.0, 2047.0])
    rows = found.rows(w).tolist()
    assert rows == sorted(rows)
    assert 0 <= rows[0]
    assert rows[-1] == len(found.errors) - 1
    if encoding == "differential":
        assert rows[3] == rows[4] == rows[5]  # -7, 0 and 7 have all leading bits at zero
    full = found.errors.double().std(1)
    assert float(full.std() / full.mean()) < 0.2


def test_ideal_cells_are_silent_and_draws_are_keyed():
    assert not codes_of(Hardware()).errors.any()
    found, w = codes_of(CHIP), torch.arange(-127.0, 128.0)
    one, two = (found.draw(w, keyed_generator(seed, "a", "b")) for seed in (0, 1))
    assert torch.equal(one, found.draw(w, keyed_generator(0, "a", "b")))
    assert np.count_nonzero((one == two).numpy()) < 3
