"""What is timed: layers and networks of plain torch, and the chips that they run on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

import imcsim
from imcsim import zoo
from imcsim.convert import arrays
from imcsim.devices import DeviceValidityWarning
from imcsim.hardware import Hardware

SERIAL = Hardware.model_validate(
    {
        "name": "8 x 4",
        "array": {"rows": 128, "cols": 128},
        "weights": {"bits": 8, "cell_bits": 2},
        "inputs": {"bits": 8, "bits_per_cycle": 1},
        "adc": {"bits": 8, "range": "calibrated"},
    }
)
"""8 input cycles x 4 slices of 2-bit cells, 128 rows, an 8-bit ADC at every slice and cycle."""

PROGRAMMED = {"device.programming": {"kind": "range", "sigma": 0.02}}
WIRED = {
    "device.g_max_S": 1e-5,
    "device.on_off_ratio": 50.0,
    "array.word_line_ohm": 1.0,
    "array.bit_line_ohm": 1.0,
}
NOISY = {"device.card": "pcm_gst", "device.programming": {"kind": "none"}}
"""A card with noise at every read; what is programmed is left exact."""


@dataclass(frozen=True)
class Case:
    """A row of the comparison.

    Attributes:
        title: what the page calls it.
        hardware: the chip.
        bounds: work -> the most that its time over plain torch's may be; None: timed without a bound.
        others: work -> what the fastest published simulator that does the same takes, if any.
        engine: forced, or auto.
        step: time a training step (forward, backward, a change of every weight) in place of a forward pass.
        signed: inputs of both signs.
        against: another case in place of plain torch.
    """

    title: str
    hardware: Hardware
    bounds: Mapping[str, float | None]
    others: Mapping[str, float] = field(default_factory=dict)
    engine: str = "auto"
    step: bool = False
    signed: bool = False
    against: str | None = None


_NO_ADC = SERIAL.replace({"adc": None})
XNOR = imcsim.load_hardware("xnor_rram").replace({"adc.spacing": "uniform", "adc.range": "calibrated"})
"""With evenly spaced references, which tables and matrix products take."""

_ISAAC = imcsim.load_hardware("isaac")
_CURRENTS = SERIAL.replace(PROGRAMMED)

CASES: dict[str, Case] = {
    "collapsed": Case(
        "nothing lost, ideal",
        _NO_ADC,
        {"conv": 1.5, "resnet20": 1.8, "linear": None, "lstm": None},
        {"conv": 2.5, "resnet20": 3.1},
    ),
    "collapsed_programmed": Case(
        "nothing lost, programmed",
        _NO_ADC.replace(PROGRAMMED),
        {"conv": 1.5, "resnet20": 1.8},
        {"conv": 3.9, "resnet20": 5.8},
    ),
    "levels": Case(
        "8 x 4, 8-bit ADC, ideal levels, every code converted",
        SERIAL,
        {"conv": 5.0, "resnet20": 8.0, "linear": None, "lstm": None},
        {"conv": 182.0, "resnet20": 204.0},
        engine="table",
    ),
    "levels_full": Case(
        "8 x 4, 8-bit ADC of full range, ideal levels",
        SERIAL.replace({"adc.range": "full"}),
        {"conv": 5.0, "resnet20": 8.0},
        engine="table",
    ),
    "levels_auto": Case(
        "8 x 4, 8-bit ADC, ideal levels, as planned",
        SERIAL,
        {"conv": None, "resnet20": None},
    ),
    "currents": Case(
        "8 x 4, 8-bit ADC, programmed",
        _CURRENTS,
        {"conv": 10.0, "resnet20": 14.0, "linear": None, "lstm": None},
        {"conv": 270.0},
    ),
    "wires": Case("8 x 4, 8-bit ADC, wires", SERIAL.replace(WIRED), {"conv": 10.0, "resnet20": 14.0}),
    "noise": Case(
        "read noise, no converters", _NO_ADC.replace(NOISY), {"conv": 3.0, "resnet20": 3.0}, {"conv": 1920.0}
    ),
    "noise_over_noiseless": Case(
        "read noise, over the same layer without",
        _NO_ADC.replace(NOISY),
        {"conv": None, "resnet20": None},
        against="collapsed_programmed",
    ),
    "isaac": Case("16 x 8, 8-bit ADC (ISAAC), every code converted", _ISAAC, {"conv": 40.0}, engine="table"),
    "isaac_auto": Case("16 x 8, 8-bit ADC (ISAAC), as planned", _ISAAC, {"conv": None}),
    "xnor": Case("binary XNOR, 3-bit sense amplifier", XNOR, {"conv": 1.5}),
    "training": Case(
        "training step, 8 x 4, 8-bit ADC as noise",
        SERIAL,
        {"conv": 3.0, "resnet20": 3.0},
        engine="statistical",
        step=True,
    ),
    "levels_signed": Case("ideal levels, signed pulses", SERIAL, {"conv": 10.0}, engine="table", signed=True),
    "currents_signed": Case("programmed, signed pulses", _CURRENTS, {"conv": 20.0}, signed=True),
    "levels_digital": Case(
        "ideal levels, digital subtraction",
        SERIAL.replace({"adc.subtract": "digital"}),
        {"conv": 10.0},
        engine="table",
    ),
    "currents_digital": Case(
        "programmed, digital subtraction", _CURRENTS.replace({"adc.subtract": "digital"}), {"conv": 20.0}
    ),
    "levels_offset": Case(
        "ideal levels, offset encoding",
        SERIAL.replace({"weights.encoding": "offset"}),
        {"conv": None},
        engine="table",
    ),
    "currents_offset": Case(
        "programmed, offset encoding", _CURRENTS.replace({"weights.encoding": "offset"}), {"conv": None}
    ),
    "matmul": Case("ideal levels, engine matmul", SERIAL, {"conv": None}, engine="matmul"),
    "matmul_currents": Case("programmed, engine matmul", _CURRENTS, {"conv": None}, engine="matmul"),
}
"""Bounds of signed pulses and digital subtraction are twice those of what they are compared with."""


@dataclass(frozen=True)
class Work:
    """A layer or network of plain torch and what it is given.

    Attributes:
        title: what the page calls it.
        model: in eval mode.
        x: its input.
    """

    title: str
    model: nn.Module
    x: Tensor


@cache
def work(name: str, *, signed: bool = False, binary: bool = False, quick: bool = False) -> Work:
    """conv, resnet20, linear or lstm; layers' inputs are rectified unless `signed`, +-1 if `binary`."""
    if name == "resnet20":
        benchmark = zoo.load("resnet20")
        return Work("ResNet-20, batch 32", benchmark.model, benchmark.images[: 1 if quick else 32])
    draw = torch.Generator().manual_seed(0)
    if name == "conv":
        width, size = (8, (1, 8, 6, 6)) if quick else (64, (16, 64, 16, 16))
        model: nn.Module = nn.Conv2d(width, width, 3, padding=1)
        title = f"Conv2d({width}, {width}, 3, padding=1) on {size}"
    elif name == "lstm":
        width, steps, batch = (8, 2, 4) if quick else (256, 16, 64)
        model, size = nn.LSTM(width, width), (steps, batch, width)
        title = f"LSTM({width}, {width}), {steps} steps, batch {batch}"
    else:
        inputs, outputs, batch = (32, 8, 4) if quick else (2048, 1024, 256)
        model, size = nn.Linear(inputs, outputs), (batch, inputs)
        title = f"Linear({inputs}, {outputs}), batch {batch}"
    _fill(model, draw)
    x = torch.randn(size, generator=draw)
    x = x.sign() if binary else x if signed else x.relu()
    return Work(title, model.eval(), x)


def _fill(model: nn.Module, draw: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draw))


def layer(inputs: int, outputs: int, batch: int) -> Work:
    """A linear layer on rectified inputs."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Linear(inputs, outputs)
    _fill(model, draw)
    return Work(
        f"Linear({inputs}, {outputs})", model.eval(), torch.randn(batch, inputs, generator=draw).relu()
    )


def work_of(case: Case, name: str, *, quick: bool = False) -> Work:
    """The work of a case."""
    return work(name, signed=case.signed, binary=case.hardware.weights.bits == 1, quick=quick)


def on_chip(job: Work, hardware: Hardware, engine: str = "auto", *, quick: bool = False) -> nn.Module:
    """The work on a chip, calibrated on its own input and programmed."""
    where: Any = hardware
    if quick and not isinstance(job.model, nn.Conv2d | nn.Linear):  # a network: its first and last layer
        where = {"*": None, "conv1": hardware, "linear": hardware}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceValidityWarning)
        sim = imcsim.convert(job.model, where, engine=engine)
        imcsim.calibrate(sim, [job.x])
        imcsim.program(sim, seed=0)
    return sim


@cache
def chip_of(key: str, name: str, *, quick: bool = False) -> nn.Module:
    """A case's work on its chip, made once."""
    case = CASES[key]
    return on_chip(work_of(case, name, quick=quick), case.hardware, case.engine, quick=quick)


def runner(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A forward pass without gradients."""
    return partial(_run, model, x)


@torch.no_grad()
def _run(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def trainer(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """A step on a copy of the model: forward, backward to weights and a layer's input, new weights."""
    model = copy.deepcopy(model).train()
    x = x.detach().clone().requires_grad_(isinstance(model, nn.Conv2d))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        model(x).square().mean().backward()
        optimizer.step()

    return step


def engines_of(sim: nn.Module) -> list[str]:
    """Names of the engines in use."""
    return sorted({array.plan(torch.float32).engine for _, array in arrays(sim)})


def plan_bytes(sim: nn.Module) -> int:
    """Bytes of tables and other plans."""
    return sum(array.plan(torch.float32).nbytes for _, array in arrays(sim))


def cell_bytes(sim: nn.Module) -> int:
    """Bytes of programmed conductances."""
    held = [[*array.cells.values(), *array.unit_cells.values()] for _, array in arrays(sim)]
    return sum(t.numel() * t.element_size() for cells in held for t in cells)
