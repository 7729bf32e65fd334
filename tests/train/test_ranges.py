"""Learned ranges: their gradients, and what is left when the injection ends."""

from __future__ import annotations

import pytest
import torch

from imcsim import train
from imcsim.convert import arrays
from tests.train.small import CHIP, XNOR, calibrated, inputs, linear


def loss_of(sim, x, want) -> torch.Tensor:
    return (sim(x) - want).square().mean()


@pytest.mark.parametrize(
    ("fidelity", "learn", "hardware"),
    [
        ("statistical", "inputs", CHIP),
        ("exact", "inputs", CHIP),
        ("exact", "converters", CHIP.replace({"adc.bits": 4})),
        ("statistical", "converters", XNOR),
    ],
)
def test_a_range_that_is_too_wide_shrinks(fidelity, learn, hardware):
    """With four times the range that the data need, a few steps bring the loss and the range down."""
    net, x = linear(), inputs(64, signed=hardware is XNOR)
    few = hardware if learn == "converters" else hardware.replace({"inputs.bits": 4, "adc": None})
    sim = calibrated(net, few.replace({"device.programming": {"kind": "none"}}), x).train()
    ((_, array),) = arrays(sim)
    start = array.input_range if learn == "inputs" else array.adc_high[0]
    with torch.no_grad():
        want = net(x) if hardware is not XNOR else sim.eval()(x)
        sim.train()
    if learn == "inputs":
        array.input_range = 4 * start
    else:
        array.adc_high = tuple(4 * high for high in array.adc_high)
        array.forget_plans()
    with train.inject(sim, fidelity, learn=(learn,)):
        (parameter,) = [p for name, p in sim.named_parameters() if "learned" in name]
        optimizer = torch.optim.Adam([parameter], lr=0.1 * float(parameter.detach().max()))
        losses = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = loss_of(sim, x, want)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    end = array.input_range if learn == "inputs" else array.adc_high[0]
    assert losses[-1] < 0.7 * losses[0]
    assert end < 3 * start
    assert not any("learned" in name for name, _ in sim.named_parameters())


def test_gradient_of_converter_ranges_is_that_of_the_definition():
    """All samples are taken where they are few: then it is the sum over all conversions."""
    net, x = linear(40, 5, bias=False), inputs(6, 40)
    hardware = CHIP.replace({"adc.bits": 4, "inputs.bits": 2, "weights.bits": 3, "weights.cell_bits": 2})
    sim = calibrated(net, hardware.replace({"device.programming": {"kind": "none"}}), x).train()
    ((_, array),) = arrays(sim)
    with train.inject(sim, "exact", learn=("converters",)):
        y = sim(x)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        y.backward(grad)
        got = array.learned_adc_range.grad.double()
    codes = torch.round(x.double() / (array.input_range / 3)).clamp(0, 3)
    w_int, high = array.written.w_int[0].double(), array.adc_high[0]
    step = high / 7
    total = torch.zeros_like(y, dtype=torch.float64)
    for t in range(2):
        current = ((codes.long() >> t) & 1).double() @ w_int.T
        read = (torch.round(current / step).clamp(-7, 7)) * step
        slope = torch.where(current > high, 1.0, torch.where(current < -high, -1.0, (read - current) / high))
        total += 2**t * slope
    scale = float(array.written.scale.flatten()[0]) * array.input_range / 3
    want = (total * grad * scale).sum() / (y.numel() * 14) ** 0.5
    assert float(got[0]) == pytest.approx(float(want), rel=1e-5)


def test_ranges_do_not_go_to_zero():
    x = inputs(8)
    sim = calibrated(linear(), CHIP, x).train()
    ((_, array),) = arrays(sim)
    start = array.input_range
    with train.inject(sim, learn=("inputs",)):
        with torch.no_grad():
            array.learned_input_range.fill_(-1.0)
        sim(x)
    assert array.input_range == pytest.approx(1e-3 * start)
