"""From an `[adc]` table to the converters of a layer, each with its own draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from imcsim.adc_table import Adc
from imcsim.circuits.converters.curves import bent, inl_at_levels
from imcsim.circuits.converters.flash import ladder_error, logarithmic, middle_values, parallel_levels
from imcsim.circuits.converters.sar import capacitor_deviations, sar_levels
from imcsim.circuits.converters.spikes import counting_levels, spike_levels
from imcsim.circuits.converters.stages import stage_transfer
from imcsim.errors import CalibrationError
from imcsim.functional.adc import Converter
from imcsim.functional.bank import EVEN_SQUARE, Bank, Transfer, decision_levels, ties_to_even

Draw = Callable[[str], np.random.Generator]
"""The generator of a purpose, keyed by seed and layer."""

Values = tuple[float, ...]
"""What the codes of one stream stand for, in levels, ascending (k-means)."""


def converter_bank(
    adc: Adc,
    converters: tuple[Converter, ...],
    owner: Tensor,
    draw: Draw,
    learned: tuple[Values, ...] | None = None,
) -> Bank | None:
    """The converters of a layer as circuits.

    Every converter draws its own errors; converter i's are the i-th of the purpose's stream.

    Shapes: owner (reads, groups, streams, outputs), the converter of each column.

    Args:
        adc: the table.
        converters: nominal quantizer of each stream; they share number and place of their codes.
        owner: who reads what.
        draw: random generators by purpose.
        learned: k-means values of each stream, from calibration.

    Returns:
        The converters, or None where each equals its nominal quantizer.

    Raises:
        CalibrationError: k-means values are asked for and were not found yet.
        FileMissingError: the table of a non-linearity does not exist.
        HardwareError: it is not one.
    """
    count = int(owner.max()) + 1 if owner.numel() else 0
    gain, offset = _affine(adc, converters[0], count, draw)
    transfer, first_rows = _transfers(adc, converters, count, draw, learned)
    noise = adc.rms_noise_lsb
    if gain is None and offset is None and transfer is None and not noise:
        return None
    device, square = owner.device, EVEN_SQUARE
    if transfer is not None:
        if adc.uneven:
            ideal, _ = _transfers(adc.without_errors(), converters, 1, draw, learned)
            square = square if ideal is None else float(ideal.mean_square(converters[0].top).mean())
        transfer = Transfer(transfer.thresholds.to(device), transfer.codes.to(device))
    return Bank(owner, first_rows, _to(gain, device), _to(offset, device), noise, transfer, square)


def _to(values: Tensor | None, device: torch.device) -> Tensor | None:
    return None if values is None else values.to(device)


def _normals(draw: Draw, purpose: str, rows: int, columns: int) -> Tensor:
    return torch.from_numpy(draw(f"converter {purpose}").standard_normal((rows, columns)))


def _affine(adc: Adc, nominal: Converter, count: int, draw: Draw) -> tuple[Tensor | None, Tensor | None]:
    """Gain errors and offsets of the converters; None where there are none."""
    gain = torch.zeros(count, dtype=torch.float64)
    offset = torch.zeros(count, dtype=torch.float64)
    if adc.gain_error:
        gain += adc.gain_error * _normals(draw, "gain", count, 1)[:, 0]
    if adc.offset_lsb:
        offset += adc.offset_lsb * _normals(draw, "offset", count, 1)[:, 0]
    if adc.comparator_offset_lsb and adc.kind in ("sar", "ramp"):
        offset += adc.comparator_offset_lsb * _normals(draw, "comparator", count, 1)[:, 0]
    if adc.slope_error:
        slope = 1 / (1 + adc.slope_error * _normals(draw, "slope", count, 1)[:, 0]) - 1
        offset += slope * (nominal.origin + 0.5)  # a ramp starts half an LSB below code 0
        gain = (1 + gain) * (1 + slope) - 1
    if adc.threshold_mismatch:
        charge = 1 + adc.threshold_mismatch * _normals(draw, "threshold", count, 1)[:, 0]
        gain = (1 + gain) / charge - 1
    return (gain if bool(gain.any()) else None), (offset if bool(offset.any()) else None)


def _transfers(
    adc: Adc,
    converters: tuple[Converter, ...],
    count: int,
    draw: Draw,
    learned: tuple[Values, ...] | None,
) -> tuple[Transfer | None, tuple[int, ...]]:
    """Static transfers (None: evenly spaced codes), and the first row of each stream's."""
    shared = (0,) * len(converters)
    if not adc.uneven:
        return _even_transfer(adc, converters[0], count, draw), shared
    if adc.spacing != "kmeans":
        return _uneven_transfer(adc, *_fractions(adc, converters[0]), count, draw), shared
    if learned is None:
        raise CalibrationError(
            "adc.spacing = 'kmeans' takes its codes from the currents of calibration data, which were not "
            "seen yet; call imcsim.calibrate(sim, batches) first"
        )
    tables = [
        _uneven_transfer(adc, *_at_means(values, converter), count, draw)
        for values, converter in zip(learned, converters, strict=True)
    ]
    both = Transfer(torch.cat([t.thresholds for t in tables]), torch.cat([t.codes for t in tables]))
    return both, tuple(count * q for q in range(len(converters)))


def _even_transfer(adc: Adc, nominal: Converter, count: int, draw: Draw) -> Transfer | None:
    """Transfers of converters whose codes ought to be evenly spaced."""
    top = nominal.top
    transfer = _circuit(adc, nominal, count, draw)
    curve = None
    if adc.inl_table is not None or adc.dnl_table is not None:
        table = adc.inl_table if adc.inl_table is not None else adc.dnl_table
        curve = inl_at_levels(table or (), top + 1, dnl=adc.inl_table is None)
    if curve is not None:
        transfer = bent(
            _counted(decision_levels(top + 1).unsqueeze(0)) if transfer is None else transfer, curve
        )
    if transfer is None:
        return None
    rows = transfer.thresholds.expand(count, -1)
    levels = rows if nominal.ties_up else ties_to_even(rows)
    return Transfer(levels.contiguous(), transfer.codes.clamp(max=top).expand(count, -1).contiguous())


def _circuit(adc: Adc, nominal: Converter, count: int, draw: Draw) -> Transfer | None:
    """What the circuit of a kind makes of its parts' errors."""
    top = nominal.top
    if adc.kind == "sar" and (adc.capacitor_mismatch or adc.bridge_parasitic):
        deviations = torch.zeros(1, adc.bits + 1, dtype=torch.float64)
        if adc.capacitor_mismatch:
            normals = _normals(draw, "capacitors", count, adc.bits + 1)
            deviations = capacitor_deviations(adc.bits, adc.capacitor_mismatch, normals, adc.split_bits)
        levels = sar_levels(adc.bits, deviations, split_bits=adc.split_bits, parasitic=adc.bridge_parasitic)
        return _counted(levels[:, :top])
    if adc.kind in ("flash", "sense_amp") and (adc.ladder_mismatch or adc.comparator_offset_lsb):
        return _counted(_parallel(adc, decision_levels(top + 1).unsqueeze(0), top, count, draw))
    if adc.kind == "ramp" and adc.ramp_bow_lsb:
        levels = decision_levels(top + 1)
        along = (levels + 0.5) / (top + 1)
        return _counted((levels + adc.ramp_bow_lsb * 4 * along * (1 - along)).cummax(0).values.unsqueeze(0))
    if adc.kind in ("cyclic", "pipeline") and (adc.stage_gain_error or adc.comparator_offset_lsb):
        stages = adc.bits - 1
        gains = torch.zeros(count, stages, dtype=torch.float64)
        if adc.stage_gain_error:
            own = 1 if adc.kind == "cyclic" else stages
            gains += adc.stage_gain_error * _normals(draw, "stages", count, own)
        offsets = torch.zeros(count, 2 * stages + 1, dtype=torch.float64)
        if adc.comparator_offset_lsb:
            offsets += _stage_offsets(adc, count, draw)
        return stage_transfer(adc.bits, gains, offsets)
    if adc.kind == "integrate_fire" and (adc.leak or adc.initial_charge != 0.5):
        origin = max(nominal.zero, 0)
        counts = spike_levels(max(origin, top - origin), leak=adc.leak, initial_charge=adc.initial_charge)
        return _counted(counting_levels(top, origin, counts))
    return None


def _stage_offsets(adc: Adc, count: int, draw: Draw) -> Tensor:
    """Offsets of the stages' comparators; a cyclic converter has two, the upper decides its last bit."""
    stages = adc.bits - 1
    if adc.kind == "pipeline":
        return adc.comparator_offset_lsb * _normals(draw, "comparators", count, 2 * stages + 1)
    pair = adc.comparator_offset_lsb * _normals(draw, "comparators", count, 2)
    return torch.cat([pair.repeat(1, stages), pair[:, 1:]], dim=1)


def _parallel(adc: Adc, references: Tensor, top: int, count: int, draw: Draw) -> Tensor:
    """Decision levels of comparators on references, LSB."""
    if adc.ladder_mismatch:
        resistors = 1 + adc.ladder_mismatch * _normals(draw, "ladder", count, top + 1)
        error = ladder_error(resistors.clamp(min=1e-6)).numpy()
        at, where = decision_levels(top + 1).numpy(), references[0].numpy()
        references = references + torch.from_numpy(np.stack([np.interp(where, at, row) for row in error]))
    offsets = None
    if adc.comparator_offset_lsb:
        offsets = adc.comparator_offset_lsb * _normals(draw, "comparators", count, references.shape[1])
    return parallel_levels(references, offsets)


def _counted(thresholds: Tensor) -> Transfer:
    """Converters whose codes count their decision levels. Shapes: thresholds (converters, codes - 1)."""
    codes = torch.arange(thresholds.shape[1] + 1, dtype=torch.float64)
    return Transfer(thresholds, codes.expand(thresholds.shape[0], -1))


def _fractions(adc: Adc, nominal: Converter) -> tuple[Tensor, Tensor]:
    """References and values of uneven codes, LSB."""
    if adc.references is not None:
        references, values = adc.references, adc.values or middle_values(adc.references)
    else:
        bipolar = 0 < nominal.origin < nominal.top
        references, values = logarithmic(adc.codes, adc.log_base, bipolar=bipolar)
    top = float(nominal.top)
    return (
        torch.tensor(references, dtype=torch.float64) * top,
        torch.tensor(values, dtype=torch.float64) * top,
    )


def _at_means(values: Values, converter: Converter) -> tuple[Tensor, Tensor]:
    """References midway between learned values, and these, LSB."""
    at = torch.tensor(values, dtype=torch.float64) * converter.num / converter.den + converter.origin
    return (at[1:] + at[:-1]) / 2, at


def _uneven_transfer(adc: Adc, references: Tensor, values: Tensor, count: int, draw: Draw) -> Transfer:
    top = max(len(values) - 1, 1)
    levels = _parallel(adc, references.unsqueeze(0), top, count, draw).expand(count, -1)
    return Transfer(levels.contiguous(), values.expand(count, -1).contiguous())
