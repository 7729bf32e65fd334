"""What the circuits around a layer's arrays do to it: converters, drivers of word lines, column clamps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imcsim.circuits.converters import Draw, Values, converter_bank
from imcsim.errors import CalibrationError
from imcsim.functional.bank import Bank
from imcsim.functional.mvm import Columns
from imcsim.functional.partition import split_reads
from imcsim.hardware import Hardware
from imcsim.kernels.job import Job, reach
from imcsim.nn.effects import ALL, Effects
from imcsim.nn.layout import converter_owners
from imcsim.nn.readout import array_rows, streams


def has_noise(hardware: Hardware) -> bool:
    """Whether peripheral circuits draw noise at every conversion."""
    adc = hardware.adc
    return hardware.inputs.dac_noise_lsb > 0 or (adc is not None and adc.rms_noise_lsb > 0)


def periphery_effects(hardware: Hardware) -> list[str]:
    """What is not ideal around the arrays, for `summary`."""
    adc, inputs, out = hardware.adc, hardware.inputs, []
    if adc is not None and adc.errors:
        out.append(f"converter errors ({', '.join(adc.errors)})")
    if adc is not None and adc.uneven:
        out.append(f"unevenly spaced codes ({adc.spacing if adc.references is None else 'references'})")
    if not inputs.ideal_dac:
        out.append("word lines driven with errors")
    if hardware.array.column_clamp is not None:
        out.append(f"columns clamped at {hardware.array.column_clamp:g} cells")
    return out


@dataclass(frozen=True)
class Periphery:
    """A layer's peripheral circuits.

    Attributes:
        hardware: the chip.
        name: of the layer, for errors.
        draw: random generators by purpose, of the chip's seed.
        learned: k-means values of each stream and of the unit column, in levels; None: not found yet.
        effects: what is there of them.
    """

    hardware: Hardware
    name: str
    draw: Draw
    learned: tuple[Values, ...] | None
    effects: Effects = ALL

    def around(self, job: Job, on_off_ratio: float) -> Job:
        """The layer with its peripheral circuits.

        Args:
            job: the layer with ideal ones.
            on_off_ratio: g_max / g_min.

        Returns:
            The layer; the same where the circuits are ideal.
        """
        if self.effects.circuits:
            unit = None if job.unit is None else self._lines(job.unit, job)
            job = replace(job, columns=self._lines(job.columns, job), unit=unit)
            job = self._clamped(job, on_off_ratio)
        adc = self.hardware.adc
        if adc is None or adc.ideal or self.effects.converters != "real":
            return job
        return self._converters(job)

    def _lines(self, columns: Columns, job: Job) -> Columns:
        """Word lines driven with offset and noise."""
        inputs = self.hardware.inputs
        if not (inputs.dac_offset_lsb or inputs.dac_noise_lsb):
            return columns
        cycles = replace(job.train, accumulate=False).weights if job.train.accumulate else (1,)
        noise = inputs.dac_noise_lsb * sum(w * w for w in cycles) ** 0.5
        pedestal = None
        if inputs.dac_offset_lsb:
            groups, _, rows, _ = columns.cells.shape
            normals = torch.from_numpy(self.draw("word line offsets").standard_normal((groups, rows)))
            offset = inputs.dac_offset_lsb * sum(cycles) * normals.to(columns.cells.device)
            pedestal = _pedestal(columns, offset)
        return replace(columns, line_noise=noise, pedestal=pedestal)

    def _clamped(self, job: Job, on_off_ratio: float) -> Job:
        clamp = self.hardware.array.column_clamp
        if clamp is None:
            return job
        full = job.train.digit_max / (1 - 1 / on_off_ratio)
        limits = tuple(clamp * kind.top * full for kind in streams(self.hardware, job.train, on_off_ratio))
        columns = replace(job.columns, clamp=limits)
        if _never(job.columns, job, limits):
            columns = job.columns
        unit = None if job.unit is None else replace(job.unit, clamp=limits[:1])
        return replace(job, columns=columns, unit=unit)

    def _converters(self, job: Job) -> Job:
        adc = self.hardware.adc
        if adc is None or job.converters is None:
            return job
        groups, outputs, inputs = job.w_int.shape
        blocks = array_rows(self.hardware, inputs)
        _, array_of_read = split_reads(blocks, self.hardware.array.active)
        owner, unit_owner = converter_owners(
            self.hardware,
            (groups, outputs, inputs),
            array_of_read,
            unit_column=adc.offset_correction == "unit_column",
        )
        device = job.columns.cells.device
        if adc.spacing == "kmeans" and self.learned is None:
            raise CalibrationError(
                f"layer {self.name!r} has adc.spacing = 'kmeans' but was not calibrated; call "
                "imcsim.calibrate(sim, batches) first, or set adc.spacing = 'logarithmic' or 'uniform'"
            )
        count = len(job.converters)
        bank = converter_bank(adc, job.converters, owner.to(device), self.draw, _first(self.learned, count))
        unit_bank: Bank | None = None
        if job.unit_converter is not None:
            last = None if self.learned is None else self.learned[-1:]
            unit_bank = converter_bank(adc, (job.unit_converter,), unit_owner.to(device), self.draw, last)
        return replace(job, bank=bank, unit_bank=unit_bank)


def _first(values: tuple[Values, ...] | None, count: int) -> tuple[Values, ...] | None:
    return None if values is None else values[:count]


def _pedestal(columns: Columns, offset: Tensor) -> Tensor:
    """Current of constant drives.

    Shapes: offset (groups, rows) in digits; returns (reads, groups, streams, outputs) in levels.
    """
    base = torch.tensor(columns.baseline, dtype=torch.float64, device=offset.device).view(1, -1, 1, 1)
    cells = columns.cells.double() + base
    parts = [
        torch.einsum("gk,gqko->gqo", offset[:, start:stop], cells[:, :, start:stop])
        for start, stop in columns.reads
    ]
    return torch.stack(parts)


def _never(columns: Columns, job: Job, limits: tuple[float, ...]) -> bool:
    """Whether no input reaches the clamp."""
    if columns.disturbed is not None or columns.variance is not None or job.train.drive is not None:
        return False
    spans = reach(columns, job.train)
    return all(max(-low, high) <= limit for (low, high), limit in zip(spans, limits, strict=True))
