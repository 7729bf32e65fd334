"""Torch layers with every option they have, and inputs for them: one table for exactness, gradients and the
contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerCase:
    """A layer and the shape of its input, batch first."""

    name: str
    kind: type[nn.Module]
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return self.kind(*self.args, **self.options, dtype=dtype)

    def whole_numbers(
        self, top_weight: int, top_input: int, *, signed: bool, seed: int = 0
    ) -> tuple[nn.Module, Tensor]:
        """A layer with whole weights up to exactly `top_weight` in every output (scales 1) and whole inputs
        up to `top_input`.

        Magnitude 1 alone means +-1, without zeros.
        """
        generator = torch.Generator().manual_seed(seed)
        layer = self.build()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(whole(parameter.shape, top_weight, generator, signed=True))
            matrix = layer.weight.view(1, *layer.weight.shape)
            if "Transpose" in type(layer).__name__:
                matrix = layer.weight.unflatten(0, (layer.groups, -1)).transpose(1, 2)
            matrix.unsqueeze(-1).flatten(3)[:, :, 0, 0] = (
                top_weight  # in every output, for scales per channel
            )
        return layer, whole(self.shape, top_input, generator, signed=signed)

    def inputs(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        return torch.randn(self.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(
            dtype
        )


def whole(shape: Any, top: int, generator: torch.Generator, *, signed: bool) -> Tensor:
    if top == 1 and signed:
        return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1
    return torch.randint(-top if signed else 0, top + 1, shape, generator=generator).double()


def _spatial(n: int) -> list[LayerCase]:
    conv = getattr(nn, f"Conv{n}d")
    turn = getattr(nn, f"ConvTranspose{n}d")
    size = {1: (11,), 2: (7, 6), 3: (5, 4, 5)}[n]
    odd = {1: 3, 2: (3, 2), 3: (2, 3, 1)}[n]
    steps = {1: 2, 2: (2, 1), 3: (1, 2, 1)}[n]
    gaps = {1: 2, 2: (1, 2), 3: (2, 1, 1)}[n]
    pads = {1: 1, 2: (2, 1), 3: (1, 0, 1)}[n]
    extra = {1: 1, 2: (1, 0), 3: (0, 1, 0)}[n]

    def case(name: str, kind: type[nn.Module], channels: tuple[int, int], **options: Any) -> LayerCase:
        kernel = options.pop("kernel", odd)
        return LayerCase(
            f"{kind.__name__}-{name}", kind, (*channels, kernel), (2, channels[0], *size), options
        )

    direct = [
        case("plain", conv, (3, 4)),
        case("no-bias", conv, (3, 4), bias=False),
        case("pointwise", conv, (5, 3), kernel=1),
        case("stride-padding", conv, (3, 4), stride=steps, padding=pads),
        case("dilation", conv, (3, 2), dilation=gaps, padding=pads),
        case("same", conv, (2, 3), padding="same", dilation=gaps),
        case("valid", conv, (2, 3), padding="valid"),
        case("groups", conv, (4, 6), groups=2, padding=pads),
        case("depthwise", conv, (3, 3), groups=3, padding=pads),
        case("depthwise-multiplier", conv, (3, 6), groups=3, stride=steps, bias=False),
    ]
    for mode in ("reflect", "replicate", "circular"):
        direct.append(case(mode, conv, (2, 3), padding=pads, padding_mode=mode, stride=steps))
        direct.append(case(f"{mode}-same", conv, (2, 2), padding="same", padding_mode=mode))
    transposed = [
        case("plain", turn, (3, 4)),
        case("no-bias", turn, (3, 4), bias=False),
        case("stride-padding", turn, (3, 2), stride=steps, padding=extra),
        case("output-padding", turn, (3, 2), stride=2, output_padding=extra),
        case("dilation", turn, (2, 3), dilation=gaps, stride=steps, padding=extra),
        case("groups", turn, (4, 6), groups=2, stride=steps),
        case("depthwise", turn, (3, 3), groups=3, stride=2, output_padding=extra, bias=False),
        case("deep-padding", turn, (2, 2), kernel=2, padding=1),
    ]
    return direct + transposed


LINEAR_CASES = [
    LayerCase("Linear-plain", nn.Linear, (13, 5), (4, 13)),
    LayerCase("Linear-no-bias", nn.Linear, (13, 5), (4, 13), {"bias": False}),
    LayerCase("Linear-sequence", nn.Linear, (7, 3), (2, 5, 7)),
    LayerCase("Linear-one-output", nn.Linear, (9, 1), (3, 9)),
]
CASES = LINEAR_CASES + [case for n in (1, 2, 3) for case in _spatial(n)]

PLAIN = [case for case in CASES if case.name.endswith("plain")]
"""One of each kind."""


def named(cases: list[LayerCase]) -> dict[str, Any]:
    """Arguments of `pytest.mark.parametrize` for a parameter called case."""
    return {"argnames": "case", "argvalues": cases, "ids": [case.name for case in cases]}
