"""Cyclic and pipeline converters: 1.5-bit stages that hand an amplified residue on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imcsim.functional.bank import Transfer

Floats = NDArray[np.float64]


def stage_transfer(bits: int, gain_errors: Tensor, offsets: Tensor) -> Transfer:
    """Transfers of converters made of ``bits - 1`` 1.5-bit stages and a last comparator.

    On an input x in units of the reference, a stage decides d = -1, 0 or 1 at -1/4 and 1/4 and hands on
    ``(1 + gain error) (2 x - d)``; the code is ``2^(bits-1) + sum_i d_i 2^(bits-1-i)`` plus 0 or -1 of the
    last comparator, which decides at 0. Offsets of the comparators up to 1/4 are corrected by the redundancy;
    errors of the gain are not, and can turn the transfer back (codes that are not monotone).

    Shapes: gain_errors (converters, bits - 1), the first stage first; offsets (converters, 2 (bits - 1) + 1),
        a stage's lower comparator before its upper one, the last comparator's last.
    Units: offsets in LSB of the whole converter.

    Args:
        bits: resolution, 1 or more.
        gain_errors: relative; a cyclic converter's stages are one and have the same.
        offsets: of the comparators.

    Returns:
        The transfers.

    Notes: the amplifiers have no offset and no saturation, and the references no error of their own.

    References: S. H. Lewis et al., "A 10-b 20-Msample/s analog-to-digital converter", IEEE JSSC 27, 1992,
        doi 10.1109/4.121557 (1.5-bit stages and their correction).
    """
    lsb = 2.0 / (1 << bits)
    found = [
        _one(bits, gains, steps)
        for gains, steps in zip(gain_errors.numpy(), offsets.numpy() * lsb, strict=True)
    ]
    longest = max(len(breaks) for breaks, _ in found)
    thresholds = np.full((len(found), longest), np.inf)
    codes = np.empty((len(found), longest + 1))
    for i, (breaks, code) in enumerate(found):
        thresholds[i, : len(breaks)] = (breaks + 1) / lsb - 0.5
        codes[i, : len(code)], codes[i, len(code) :] = code, code[-1]
    return Transfer(torch.from_numpy(thresholds), torch.from_numpy(codes))


def _one(bits: int, gain_errors: Floats, offsets: Floats) -> tuple[Floats, Floats]:
    """Breaks (in units of the reference) and codes of one converter, from the last stage to the first."""
    breaks, codes = offsets[-1:].copy(), np.array([-1.0, 0.0])
    for stage in reversed(range(bits - 1)):
        lower, upper = sorted((offsets[2 * stage] - 0.25, offsets[2 * stage + 1] + 0.25))
        edges = (-np.inf, lower, upper, np.inf)
        weight = float(1 << (bits - 2 - stage))
        parts, values = [], []
        for d, low, high in zip((-1, 0, 1), edges[:-1], edges[1:], strict=True):
            at = (breaks / (1 + gain_errors[stage]) + d) / 2
            inside = (at > low) & (at < high)
            first = int(np.count_nonzero(at <= low))
            parts.append(at[inside] if low == -np.inf else np.concatenate([[low], at[inside]]))
            values.append(d * weight + codes[first : first + int(inside.sum()) + 1])
        breaks, codes = _merged(np.concatenate(parts), np.concatenate(values))
    return breaks, codes + (1 << (bits - 1))


def _merged(breaks: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """Without breaks at which the code stays."""
    changes = codes[1:] != codes[:-1]
    return breaks[changes], np.concatenate([codes[:1], codes[1:][changes]])
