"""Inputs on the word lines: an integer code becomes one pulse (digit) per input cycle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class PulseTrain:
    """How an input code is sent to the word lines.

    ``x_int + shift = sum_t weights[t] digit_t``; a digit ``d`` drives its word line at ``d / digit_max`` of
    full scale.

    Attributes:
        magnitude_bits: bits that the ordinary cycles carry.
        bits_per_cycle: DAC resolution, at least 1.
        polarity: digits carry the sign of the code (sign-magnitude pulses).
        sign_cycle: two's complement: a last cycle of weight ``-2^magnitude_bits`` sends the sign bit.
        shift: added to the code before it is sent (offset encoding of signed inputs).
        accumulate: the cycles are accumulated in analog before one conversion (``adc.per = "vector"``): one
            digit, the code
            itself, with ``digit_max = 2^magnitude_bits - 1``.
        drive: what each digit from 0 to digit_max drives, in digits, where cells are not linear in amplitude;
            None: the digit.
    """

    magnitude_bits: int
    bits_per_cycle: int
    polarity: bool = False
    sign_cycle: bool = False
    shift: int = 0
    accumulate: bool = False
    drive: tuple[float, ...] | None = None

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """Digital weight of each converted cycle, least significant first."""
        if self.accumulate:
            return (1,)
        ordinary = [1 << b for b in range(0, self.magnitude_bits, self.bits_per_cycle)]
        return (*ordinary, -(1 << self.magnitude_bits)) if self.sign_cycle else tuple(ordinary)

    @property
    def digit_max(self) -> int:
        """The digit that drives a word line fully on."""
        return (1 << (self.magnitude_bits if self.accumulate else self.bits_per_cycle)) - 1

    @property
    def signed_digits(self) -> bool:
        """Whether a digit can be negative, so that column currents have both signs."""
        return self.polarity or (self.accumulate and self.sign_cycle)


def digits(x_int: Tensor, train: PulseTrain) -> Tensor:
    """Split input codes into the digits of each cycle.

    ``x_int + shift = sum_t weights[t] digit_t``.

    Shapes: x_int (*any); returns (cycles, *any), of x_int's dtype.

    Args:
        x_int: integer codes in any dtype that holds them exactly.
        train: how they are sent.

    Returns:
        The digits, least significant cycle first.
    """
    if train.accumulate:
        return (x_int + train.shift).unsqueeze(0)
    code = x_int.to(torch.int32) + train.shift
    sign = code.sign() if train.polarity else None
    if sign is not None:
        code = code.abs()
    mask = train.digit_max
    low = code & ((1 << train.magnitude_bits) - 1)
    out = [(low >> b) & mask for b in range(0, train.magnitude_bits, train.bits_per_cycle)]
    if sign is not None:
        out = [d * sign for d in out]
    if train.sign_cycle:
        out.append((code < 0).to(torch.int32))
    return torch.stack(out).to(x_int.dtype)


def drive_of(pulses: Tensor, train: PulseTrain) -> Tensor:
    """What the digits drive: themselves, or their amplitude as non-linear cells see it, odd in the digit.

    Shapes: pulses (*any); returns the same.

    Args:
        pulses: digits in a float dtype.
        train: the pulse train.

    Returns:
        The drives, in digits.
    """
    if train.drive is None:
        return pulses
    table = torch.tensor(train.drive, dtype=pulses.dtype, device=pulses.device)
    return table[pulses.abs().to(torch.int64)] * pulses.sign()


def complementary_lines(x_int: Tensor) -> Tensor:
    """Codes on pairs of word lines: +1 drives the first, -1 the second, 0 neither.

    Shapes: x_int (..., inputs); returns (..., 2 x inputs).

    Args:
        x_int: codes -1, 0 and 1.

    Returns:
        The pulses, 0 or 1.
    """
    return torch.stack([x_int > 0, x_int < 0], dim=-1).flatten(-2).to(x_int.dtype)
