"""The portable bit-serial engine.

One matrix product a block of vectors, converters in place. Equals the reference.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from imcsim.functional.adc import Converter, convert
from imcsim.functional.bank import Bank
from imcsim.functional.dac import PulseTrain, digits, drive_of
from imcsim.functional.mvm import Columns, conversion_normals, line_normals, read_normals
from imcsim.functional.noise import ReadStream
from imcsim.kernels.banked import BankReader
from imcsim.kernels.job import reach

BLOCK_ELEMENTS = 1 << 22
"""Partial sums held at a time; bounds memory whatever the batch (16 MB in float32)."""

ROW_MULTIPLE = 8
"""Matrix products of real numbers are padded to a multiple of this many rows, so that their order of
summation is that of any batch.
"""

_EXACT_FLOAT32 = 1 << 24


def stream_sums(
    x_int: Tensor,
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None = None,
    stream: ReadStream | None = None,
    *,
    integer_cells: bool,
    bank: Bank | None = None,
) -> Tensor:
    """`imcsim.functional.mvm.stream_sums`, in float32 where that is exact and in blocks of vectors.

    Shapes: x_int (groups, vectors, rows); returns (groups, vectors, outputs) float64.

    Args:
        x_int: codes sent to the word lines.
        columns: the bit lines.
        train: the pulses.
        converters: one a stream, or None.
        snap: as in the reference.
        stream: as in the reference.
        integer_cells: the cells are whole levels.
        bank: as in the reference.

    Returns:
        The sums: equal to the reference bit for bit for integer cells, else to float32 rounding.
    """
    groups, vectors, _ = x_int.shape
    _, streams, _, outputs = columns.cells.shape
    constants = _constants(columns, train, converters, snap, integer_cells, x_int.dtype, bank)
    cells = columns.cells.to(constants.dtype)
    per_vector = groups * len(train.weights) * streams * outputs
    block = max(ROW_MULTIPLE, BLOCK_ELEMENTS // per_vector // ROW_MULTIPLE * ROW_MULTIPLE)
    out = torch.empty(groups, vectors, outputs, dtype=torch.float64, device=x_int.device)
    for first in range(0, vectors, block):
        part = slice(first, first + block)
        codes = x_int[:, part]
        sent = codes if integer_cells else F.pad(codes, (0, 0, 0, -codes.shape[1] % ROW_MULTIPLE))
        sums = _block(sent, cells, columns, train, converters, snap, constants, stream, first, bank)
        out[:, part] = sums[:, : codes.shape[1]]
    return out


class _Constants:
    """The converters' constants, broadcast over (streams, outputs), in the arithmetic's dtype.

    Of converters that are not ideal, their reader.
    """

    def __init__(
        self,
        converters: tuple[Converter, ...] | None,
        dtype: torch.dtype,
        device: torch.device,
        reader: BankReader | None = None,
    ) -> None:
        self.dtype, self.reader = dtype, reader
        if converters is None:
            return

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device).unsqueeze(-1)

        self.scale = column([c.num / c.den for c in converters])
        self.origin = column([c.origin + (0.5 if c.ties_up else 0.0) for c in converters])
        self.top = column([c.top for c in converters])
        self.zero = column([c.zero for c in converters])
        self.ties_up = converters[0].ties_up


def _constants(
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None,
    integer_cells: bool,
    dtype: torch.dtype,
    bank: Bank | None,
) -> _Constants:
    device = columns.cells.device

    def real(dtype: torch.dtype, *, exact: bool) -> _Constants:
        if bank is None or converters is None:
            return _Constants(converters, dtype, device)
        return _Constants(converters, dtype, device, BankReader(bank, converters, None, exact=exact))

    if not integer_cells:
        return real(torch.float64 if dtype == torch.float64 else torch.float32, exact=False)
    if snap is not None or any(columns.baseline) or columns.disturbed is not None:
        return real(torch.float64, exact=True)
    span = reach(columns, train)
    sums_fit = max(max(-low, high) for low, high in span) < _EXACT_FLOAT32
    weight = sum(abs(w) for w in train.weights)
    if bank is not None and converters is not None:
        whole = span if columns.variance is None else None
        reader = BankReader(bank, converters, whole, exact=True, weight=weight)
        return _Constants(converters, torch.float32 if sums_fit else torch.float64, device, reader)
    if converters is None:
        return _Constants(None, torch.float64, device)
    codes_fit = all(weight * max(abs(c.zero), abs(c.top - c.zero)) < _EXACT_FLOAT32 for c in converters)
    if sums_fit and codes_fit:
        fast = [float32_twin(c, int(low), int(high)) for c, (low, high) in zip(converters, span, strict=True)]
        if all(twin is not None for twin in fast):
            return _Constants(tuple(twin for twin in fast if twin is not None), torch.float32, device)
    return _Constants(converters, torch.float64, device)


@lru_cache(maxsize=4096)
def float32_twin(converter: Converter, low: int, high: int) -> Converter | None:
    """A converter whose float32 arithmetic gives the codes of `converter` for whole levels.

    Ties fall on the side of one rounding error; a slope an ulp or two away puts each on the right one.

    Args:
        converter: the exact converter.
        low: the lowest level.
        high: the highest.

    Returns:
        A converter with ``den = 1`` and a float32 slope, or None if none was found.
    """
    if high - low > 1 << 20:
        return None
    levels = torch.arange(low, high + 1, dtype=torch.float64)
    want = convert(levels, converter)
    levels32 = levels.float()
    exact = torch.tensor(converter.num / converter.den, dtype=torch.float32)
    up = torch.tensor(torch.inf)
    slopes = [exact]
    for direction in (-up, up):
        slope = exact
        for _ in range(4):
            slope = torch.nextafter(slope, direction)
            slopes.append(slope)
    for slope in slopes:
        twin = Converter(
            slope.item(),
            1.0,
            torch.tensor(converter.origin, dtype=torch.float32).item(),
            converter.top,
            converter.ties_up,
        )
        if twin.zero == converter.zero and torch.equal(
            _codes(levels32, _Constants((twin,), torch.float32, levels.device)), want.float()
        ):
            return twin
    return None


def _codes(current: Tensor, constants: _Constants) -> Tensor:
    """In-place conversion. Shapes: current (..., streams, outputs) or (levels,)."""
    scale, origin, top, zero = constants.scale, constants.origin, constants.top, constants.zero
    if current.dim() == 1:
        scale, origin, top, zero = (c.flatten() for c in (scale, origin, top, zero))
        current = current.clone()
    current.mul_(scale).add_(origin)
    current = current.floor_() if constants.ties_up else current.round_()
    return torch.minimum(current.clamp_(min=0), top, out=current).sub_(zero)


def _read(current: Tensor, constants: _Constants, read: int, normals: Tensor | None) -> Tensor:
    """Codes of the currents of one read. Shapes: current (groups, cycles x vectors, streams, outputs)."""
    if constants.reader is None:
        return _codes(current, constants)
    return constants.reader.codes(current, read, normals)


def _block(
    x_int: Tensor,
    cells: Tensor,
    columns: Columns,
    train: PulseTrain,
    converters: tuple[Converter, ...] | None,
    snap: tuple[float, ...] | None,
    constants: _Constants,
    stream: ReadStream | None,
    first: int,
    bank: Bank | None,
) -> Tensor:
    groups, vectors, _ = x_int.shape
    _, streams, _, outputs = cells.shape
    cycles = len(train.weights)
    pulses = (
        drive_of(digits(x_int, train).to(constants.dtype), train).transpose(0, 1).flatten(1, 2)
    )  # (groups, cycles x vectors, rows)
    weights = torch.tensor(train.weights, dtype=torch.float64, device=x_int.device)
    total = torch.zeros(groups, vectors, streams, outputs, dtype=torch.float64, device=x_int.device)
    for r, (start, stop) in enumerate(columns.reads):
        pulse = pulses[..., start:stop]
        matrix = cells[:, :, start:stop].transpose(1, 2).flatten(2)  # (groups, rows, streams x outputs)
        hiss = line_normals(columns, train, r, stream, first, vectors)
        sent = pulse if hiss is None else pulse + columns.line_noise * hiss.flatten(1, 2).to(pulse.dtype)
        current = (sent @ matrix).view(groups, -1, streams, outputs)
        drive = pulse.sum(-1)[..., None, None]
        if any(columns.baseline):
            current += sent.sum(-1)[..., None, None] * torch.tensor(
                columns.baseline, dtype=current.dtype, device=current.device
            ).unsqueeze(-1)
        if columns.pedestal is not None:
            current += columns.pedestal[r, :, None].to(current.dtype)
        normals = read_normals(columns, train, r, stream, first, vectors)
        if normals is not None and columns.variance is not None:
            spread = columns.variance[:, :, start:stop].to(pulse.dtype).transpose(1, 2).flatten(2)
            current.addcmul_(
                (pulse.square() @ spread).sqrt_().view_as(current), normals.flatten(1, 2).to(current.dtype)
            )
        if columns.clamp is not None:
            limit = torch.tensor(columns.clamp, dtype=current.dtype, device=current.device).unsqueeze(-1)
            current = torch.clamp(current, -limit, limit)
        if converters is not None:
            thermal = conversion_normals(columns, train, bank, r, stream, first, vectors)
            current = _read(current, constants, r, None if thermal is None else thermal.flatten(1, 2))
            if snap is not None:
                residue = torch.tensor(
                    [c.residue for c in converters], dtype=current.dtype, device=current.device
                ).unsqueeze(-1)
                step = torch.tensor(
                    [c.step for c in converters], dtype=current.dtype, device=current.device
                ).unsqueeze(-1)
                known = torch.tensor(snap, dtype=current.dtype, device=current.device).unsqueeze(-1)
                current = torch.round((current + residue) * step - known * drive)
        by_cycle = current.view(groups, cycles, -1)
        summed = torch.einsum("t,gtm->gm", weights.to(current.dtype), by_cycle).view_as(total).double()
        total += summed if columns.flip is None else summed * columns.flip[r][:, None]
    gains = torch.tensor(
        [
            gain * (1.0 if converters is None or snap is not None else converters[q].step)
            for q, gain in enumerate(columns.gains)
        ],
        dtype=torch.float64,
        device=x_int.device,
    )
    out = torch.zeros(groups, vectors, outputs, dtype=torch.float64, device=x_int.device)
    for q in range(streams):
        out += gains[q] * total[:, :, q]
    return out
