"""Converters that are not ideal, a set of them: gain, offset, noise, and decision levels that lie elsewhere.

A converter's input is counted in LSB of its nominal quantizer, so that code c of an ideal one reaches from
c - 1/2 to c + 1/2 (`imcsim.functional.adc`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from imcsim.functional.adc import Converter


def decision_levels(codes: int) -> Tensor:
    """Where an ideal converter's code changes: c - 1/2. Shapes: returns (codes - 1,) float64."""
    return torch.arange(1, codes, dtype=torch.float64) - 0.5


def ties_to_even(thresholds: Tensor) -> Tensor:
    """Decision levels for ``code = number of levels at or below the input`` that round halves to even.

    An input exactly at c - 1/2 stays below an odd code c: that level moves by the last bit. Levels that lie
    elsewhere stay.

    Shapes: thresholds (..., codes - 1); returns the same.
    """
    code = torch.arange(1, thresholds.shape[-1] + 1, dtype=thresholds.dtype, device=thresholds.device)
    up = torch.nextafter(thresholds, torch.full_like(thresholds, torch.inf))
    return torch.where((code % 2 == 1) & (thresholds == code - 0.5), up, thresholds)


EVEN_SQUARE = 1 / 12
"""Mean square error of evenly spaced codes, LSB squared."""


@dataclass(frozen=True)
class Transfer:
    """Static transfers of some converters: steps, a row a converter.

    Attributes:
        thresholds: (rows, segments - 1) float64, ascending; a segment begins at its threshold. Rows with
            fewer end in inf.
        codes: (rows, segments) float64 what the digital side takes each segment for, in LSB from code 0.
    """

    thresholds: Tensor
    codes: Tensor

    @cached_property
    def counts(self) -> bool:
        """Whether segment k reads as code k, everywhere."""
        plain = torch.arange(self.codes.shape[1], dtype=self.codes.dtype, device=self.codes.device)
        return torch.equal(self.codes, plain.expand_as(self.codes))

    @cached_property
    def _search(self) -> _Search:
        return _Search(self.thresholds)

    def read(self, position: Tensor, row: Tensor) -> Tensor:
        """Codes of inputs.

        Shapes: position (*any) in LSB; row, integers that broadcast to it; returns position's shape, float64.

        Args:
            position: the inputs.
            row: the converter of each.

        Returns:
            The codes.
        """
        segment = self._search.segment(position, row)
        if self.counts:
            return segment.to(position.dtype)
        flat = segment + row * self.codes.shape[1]
        return self.codes.flatten()[flat].to(position.dtype)

    def mean_square(self, top: int) -> Tensor:
        """Mean square error of a conversion over inputs evenly spread over all codes, LSB squared.

        ``1 / (top + 1) integral (code(u) - u)^2 du`` from -1/2 to top + 1/2; 1 / 12 for an ideal converter.

        Shapes: returns (rows,).

        Args:
            top: the highest code.

        Returns:
            The errors.
        """
        edge = torch.full_like(self.thresholds[:, :1], 0.5)
        inner = self.thresholds.clamp(-0.5, top + 0.5)
        ends = torch.cat([-edge, inner, top + edge], dim=1)
        error = ends[:, 1:] - self.codes, ends[:, :-1] - self.codes
        return (error[0] ** 3 - error[1] ** 3).sum(1) / (3 * (top + 1))


class _Search:
    """Counts the thresholds at or below an input: a table by whole LSB, then a binary search in it.

    Args:
        thresholds: (rows, n), ascending along n, inf where a row has fewer.
    """

    def __init__(self, thresholds: Tensor) -> None:
        rows, n = thresholds.shape
        finite = thresholds[torch.isfinite(thresholds)]
        first, last = (finite.min(), finite.max()) if finite.numel() else (torch.zeros(()), torch.zeros(()))
        self.first = float(first.floor())
        self.buckets = int(last.floor() - first.floor()) + 1
        edges = self.first + torch.arange(self.buckets, dtype=thresholds.dtype, device=thresholds.device)
        ordered = thresholds.contiguous()
        start = torch.searchsorted(ordered, edges.expand(rows, -1).contiguous(), right=True)
        self.start = torch.cat(
            [torch.zeros_like(start[:, :1]), start], dim=1
        )  # bucket 0 lies below all edges
        ends = torch.cat([start, torch.isfinite(thresholds).sum(1, keepdim=True)], dim=1)
        widest = int((ends - self.start).max())
        self.steps = [1 << b for b in reversed(range(widest.bit_length()))]
        tail = torch.full_like(thresholds[:, :1], torch.inf).expand(-1, 2 * sum(self.steps) + 1)
        self.width = n + tail.shape[1]
        self.padded = torch.cat([thresholds, tail], dim=1).flatten()

    def segment(self, position: Tensor, row: Tensor) -> Tensor:
        """The segment of each input. Shapes: position (*any), row broadcasts; returns position's shape."""
        padded = self.padded.to(position.dtype)
        bucket = (position - self.first).floor_().add_(1.0).clamp_(0, self.buckets).to(torch.int64)
        found = self.start.flatten()[bucket + row * self.start.shape[1]]
        base = row * self.width - 1
        for step in self.steps:
            ahead = found + step
            found = torch.where(padded[ahead + base] <= position, ahead, found)
        return found


@dataclass(frozen=True)
class Bank:
    """The converters of a layer's streams.

    ``code = transfer(origin + (u - origin) (1 + gain) + offset + noise n)``, ``u = v num / den + origin``.

    Attributes:
        owner: (reads, groups, streams, outputs) int64, the converter that reads each column.
        first_rows: row of `transfer` of converter 0 for each stream: all 0, or where streams have codes of
            their own, one block of rows each.
        gain: (converters,) relative gain error, or None.
        offset: (converters,) LSB, or None.
        noise: rms of every conversion, LSB.
        transfer: None: evenly spaced codes, as the nominal quantizer rounds.
        nominal_square: mean square error of the same converters made of ideal parts, LSB squared.
    """

    owner: Tensor
    first_rows: tuple[int, ...]
    gain: Tensor | None = None
    offset: Tensor | None = None
    noise: float = 0.0
    transfer: Transfer | None = None
    nominal_square: float = EVEN_SQUARE

    def at_read(self, read: int) -> Bank:
        """The converters of one read alone."""
        return replace(self, owner=self.owner[read : read + 1])

    def excess_square(self, converter: Converter) -> float:
        """Mean square error of a conversion beyond that of ideal parts, LSB squared.

        Over inputs evenly spread over all codes, noise included; to first order in gain and offset.

        Args:
            converter: the nominal quantizer.

        Returns:
            The mean over the converters.
        """
        total = self.noise**2
        if self.transfer is not None:
            total += float(self.transfer.mean_square(converter.top).mean()) - self.nominal_square
        if self.gain is not None:
            codes = torch.arange(converter.top + 1, dtype=torch.float64) - converter.origin
            total += float(self.gain.square().mean()) * float(codes.square().mean())
        if self.offset is not None:
            total += float(self.offset.square().mean())
        return max(total, 0.0)


def read_out(
    levels: Tensor,
    converter: Converter,
    bank: Bank,
    stream: int,
    owner: Tensor,
    normals: Tensor | None = None,
) -> Tensor:
    """Digitise column currents by converters that are not ideal.

    Shapes: levels (*any); owner broadcasts to it; normals like levels; returns levels' shape.

    Args:
        levels: column currents in levels.
        converter: the nominal quantizer.
        bank: the converters.
        stream: which stream the currents are of.
        owner: the converter of each current.
        normals: standard normal draws, where the bank has noise.

    Returns:
        Codes minus `Converter.zero`, in levels' dtype.
    """
    position = levels * converter.num / converter.den + converter.origin
    if bank.gain is not None:
        gain = bank.gain.to(position.dtype)[owner]
        position = converter.origin + (position - converter.origin) * (1 + gain)
    if bank.offset is not None:
        position = position + bank.offset.to(position.dtype)[owner]
    if normals is not None:
        position = position + bank.noise * normals.to(position.dtype)
    if bank.transfer is not None:
        return bank.transfer.read(position, owner + bank.first_rows[stream]) - converter.zero
    code = torch.floor(position + 0.5) if converter.ties_up else torch.round(position)
    return code.clamp(0, converter.top) - converter.zero
