"""Converters that are not ideal, read fast: whole levels by looking up what each converter makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.functional.adc import Converter
from imcsim.functional.bank import Bank, read_out

EXACT_FLOAT32 = 1 << 24

TABLE_ELEMENTS = 1 << 22
"""Largest look-up table, 32 MB; beyond it every current is searched for among its converter's levels. Its
places are counted in float32, exactly.
"""


class BankReader:
    """Reads blocks of currents by the converters of a layer, as `imcsim.functional.bank.read_out` does.

    Args:
        bank: the converters.
        converters: nominal quantizer of each stream.
        span: lowest and highest current of each stream where all are whole levels and free of noise; None:
            they are real numbers.
        exact: search in float64 whatever the currents' dtype.
        weight: sum of the magnitudes of the cycles' weights, by which codes are added up.
    """

    def __init__(
        self,
        bank: Bank,
        converters: tuple[Converter, ...],
        span: list[tuple[float, float]] | None,
        *,
        exact: bool,
        weight: int = 1,
    ) -> None:
        self.bank, self.converters, self.exact = bank, converters, exact
        self.table: Tensor | None = None
        if span is None or bank.noise or not bank.owner.numel():
            return
        low, high = min(int(a) for a, _ in span), max(int(b) for _, b in span)
        width, count = high - low + 1, int(bank.owner.max()) + 1
        if width * count * len(converters) > TABLE_ELEMENTS:
            return
        device = bank.owner.device
        levels = torch.arange(low, high + 1, dtype=torch.float64, device=device)
        owner = torch.arange(count, device=device).unsqueeze(1)
        codes = [
            read_out(levels.expand(count, -1), converter, bank, q, owner)
            for q, converter in enumerate(converters)
        ]
        table = torch.stack(codes).flatten()
        sums_fit = bool((table == table.round()).all()) and float(table.abs().max()) * weight < EXACT_FLOAT32
        self.table = table.float() if sums_fit else table
        stream = torch.arange(len(converters), device=device).view(1, 1, -1, 1)
        self.base = ((stream * count + bank.owner) * width - low).to(torch.float32)

    def codes(self, current: Tensor, read: int, normals: Tensor | None) -> Tensor:
        """Codes of the currents of one read.

        Shapes: current (groups, cycles x vectors, streams, outputs); normals likewise; returns current's.

        Args:
            current: in levels.
            read: index of the read.
            normals: standard normal draws where the bank has noise.

        Returns:
            Codes minus `Converter.zero`.
        """
        if self.table is not None:
            place = (current + self.base[read, :, None]).to(torch.int32)
            return self.table.index_select(0, place.flatten()).view_as(current)
        out = torch.empty_like(current, dtype=torch.float64) if self.exact else torch.empty_like(current)
        for q, converter in enumerate(self.converters):
            owner = self.bank.owner[read, :, None, q]
            noise = None if normals is None else normals[:, :, q]
            levels = current[:, :, q].to(out.dtype)
            out[:, :, q] = read_out(levels, converter, self.bank, q, owner, noise)
        return out
