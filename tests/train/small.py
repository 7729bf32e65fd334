"""Small layers, networks and chips for the tests of training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import imcsim
from imcsim import zoo
from imcsim.hardware import Hardware

ADC = {"adc": {"bits": 8, "range": "calibrated"}}
ERROR = {"device.programming": {"kind": "range", "sigma": 0.03}, "device.on_off_ratio": 10.0}
CHIP = Hardware.model_validate(ADC).replace(ERROR)
XNOR = imcsim.load_hardware("xnor_rram").replace({"adc.spacing": "uniform", "adc.range": "calibrated"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(inputs: int = 150, outputs: int = 30, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator(seed)))
    return layer


def inputs(n: int = 64, width: int = 150, *, signed: bool = False, seed: int = 1) -> Tensor:
    x = torch.rand(n, width, generator=generator(seed))
    return 2 * x - 1 if signed else x


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(6 * 14 * 14, 10),
    )


def perceptron(hidden: int = 24) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def digits(n: int, size: int = 32, *, train: bool = True) -> list[tuple[Tensor, Tensor]]:
    return list(zoo.batches(*zoo.mnist_subset(n, train=train), size))


def calibrated(
    model: nn.Module,
    hardware: Hardware,
    x: Tensor,
    *,
    seed: int | None = None,
    qat: object = None,
    engine: str = "auto",
) -> nn.Module:
    sim = imcsim.convert(model, hardware, qat=qat, engine=engine)
    if seed is not None:
        imcsim.program(sim, seed)
    imcsim.calibrate(sim, [x])
    return sim
