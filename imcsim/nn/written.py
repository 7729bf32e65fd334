"""What the arrays of a layer were last written for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from imcsim.errors import MappingError
from imcsim.functional.encode import Slicing
from imcsim.hardware import Hardware
from imcsim.nn.tiles import has_unit_column
from imcsim.quant.codes import WeightCodes


@dataclass(frozen=True)
class Written:
    """What the arrays were last written for.

    Attributes:
        weight: the layer's weight then.
        state: what else its quantizer's codes depended on.
        codes: the quantized weight, codes int16.
        digit_max: the digit that drives a word line fully on, which ISAAC's flipping depends on.
    """

    weight: Tensor
    state: tuple[Tensor, ...]
    codes: WeightCodes
    digit_max: int

    @cached_property
    def w_int(self) -> Tensor:
        """(groups, terms x outputs, inputs) codes, int16; terms are further columns."""
        return self.codes.stacked(self.codes.codes)

    @cached_property
    def scale(self) -> Tensor:
        """(groups or 1, terms x outputs or 1, 1) float64."""
        return self.codes.stacked(self.codes.scale)

    @cached_property
    def zero(self) -> Tensor | None:
        """Zero points like `scale`, None: 0."""
        return None if self.codes.zero is None else self.codes.stacked(self.codes.zero)

    def holds(self, weight: Tensor, state: tuple[Tensor, ...], digit_max: int) -> bool:
        """Whether it is still the same."""
        return (
            self.digit_max == digit_max
            and _same(self.weight, weight)
            and all(_same(seen, now) for seen, now in zip(self.state, state, strict=True))
        )

    def moved(self, move: Callable[[Tensor], Tensor]) -> Written:
        """The same on another device."""
        codes = self.codes
        zero = None if codes.zero is None else move(codes.zero)
        moved = WeightCodes(move(codes.codes), move(codes.scale), zero)
        return Written(move(self.weight), tuple(map(move, self.state)), moved, self.digit_max)


def check_codes(codes: WeightCodes, hardware: Hardware, slices: Slicing, name: str) -> None:
    """Refuse codes that a weight's cells cannot hold, which a training method may make.

    Args:
        codes: the quantized weight.
        hardware: what the arrays hold.
        slices: how it slices weights.
        name: the layer's.

    Raises:
        MappingError: codes outside; says which are allowed.
    """
    weights = hardware.weights
    if slices.paired:
        high = sum(top * gain for top, gain in zip(slices.top_levels, slices.gains, strict=True))
        low = -high
    else:
        low, high = -(1 << (weights.bits - 1)), (1 << (weights.bits - 1)) - 1
    if weights.bits == 1:
        low, high = -1, 1
    least, most = int(codes.codes.min()), int(codes.codes.max())
    if least < low or most > high:
        raise MappingError(
            f"layer {name!r}: its quantizer makes weights of {least} to {most}, but weights.bits = "
            f"{weights.bits} with weights.cell_bits = {weights.cell_bits} and weights.encoding = "
            f"{weights.encoding!r} hold {low} to {high}; use weights.encoding = 'offset', wider cells or "
            "more bits"
        )


def _same(seen: Tensor, weight: Tensor) -> bool:
    if seen.device != weight.device or seen.shape != weight.shape:
        return False
    if seen.dtype == weight.dtype:
        return torch.equal(seen, weight)
    wide = torch.promote_types(seen.dtype, weight.dtype)
    return torch.equal(seen.to(wide), weight.detach().to(wide))


def fingerprint(hardware: Hardware, digit_max: int, *tensors: Tensor) -> Tensor:
    """SHA-256 of what programmed cells were written for: the chip's cells, a weight, its quantizer's state.

    How arrays are read, converters, inputs and costs do not matter, but for a unit column and, where columns
    are flipped by it, the largest digit.

    It is the same for float32 and float64 of equal values.

    Shapes: tensors (*any) each; returns (32,) uint8.

    Args:
        hardware: the chip.
        digit_max: the digit that drives a word line fully on.
        tensors: the weight, then the quantizer's state.

    Returns:
        The digest.
    """
    cells = [
        hardware.device.model_dump(exclude={"temperature_K"}, exclude_defaults=True),
        hardware.array.model_dump(include={"rows", "cols"}, exclude_defaults=True),
        hardware.weights.model_dump(exclude_defaults=True),
        hardware.mitigation.model_dump(exclude_defaults=True),
    ]
    flipped_by = digit_max if hardware.weights.encoding == "isaac" else None
    digest = hashlib.sha256(repr((cells, flipped_by, has_unit_column(hardware))).encode())
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu", torch.float64).contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def packed(facts: dict[str, Any]) -> Tensor:
    """Facts as a tensor that a state_dict holds: the bytes of their JSON. Shapes: returns (bytes,) uint8."""
    return torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)


def unpacked(tensor: Tensor) -> dict[str, Any]:
    """The inverse of `packed`. Shapes: tensor (bytes,) uint8."""
    facts: dict[str, Any] = json.loads(bytes(tensor.tolist()))
    return facts
