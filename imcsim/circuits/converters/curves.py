"""Non-linearity from a table: INL or DNL, measured or made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imcsim.errors import FileMissingError, HardwareError
from imcsim.functional.bank import Transfer


def inl_at_levels(table: str | tuple[float, ...], codes: int, *, dnl: bool = False) -> Tensor:
    """INL of every decision level of a converter.

    ``INL_c = T_c - (c - 1/2)``; of a DNL table ``INL_c = sum_{k < c} DNL_k`` over the codes from 1.

    Shapes: returns (codes - 1,), LSB.

    Args:
        table: values at evenly spaced decision levels (DNL: codes) from the first to the last, or a CSV file
            with columns code and inl_lsb (dnl_lsb); between them it is interpolated linearly, beyond them it
            stays.
        codes: of the converter.
        dnl: the table holds widths of codes less one LSB.

    Returns:
        The INL.

    Raises:
        FileMissingError: there is no such file.
        HardwareError: it is not such a table.

    References: IEEE Std 1241-2010 (definitions).
    """
    name = "dnl_lsb" if dnl else "inl_lsb"
    last = codes - (2 if dnl else 1)
    want = np.arange(1, last + 1, dtype=np.float64)
    if isinstance(table, str):
        at, values = _read(Path(table), name)
    else:
        at, values = np.linspace(1, max(last, 1), len(table)), np.asarray(table, dtype=np.float64)
    found = np.interp(want, at, values)
    return torch.from_numpy(np.concatenate([[0.0], np.cumsum(found)]) if dnl else found)


def _read(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileMissingError(
            f"adc.{name[:3]}_table: {str(path)!r} does not exist; give the path of a CSV file with columns "
            f"code, {name}"
        )
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    header = [cell.strip() for cell in lines[0].split(",")] if lines else []
    problem = f"adc.{name[:3]}_table: {str(path)!r} is not a table"
    if header != ["code", name]:
        raise HardwareError(f"{problem}: its header is {header}; write 'code,{name}'")
    try:
        rows = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]], dtype=np.float64)
    except ValueError as error:
        raise HardwareError(f"{problem}: {error}; give two numbers a line") from None
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.isfinite(rows).all():
        raise HardwareError(f"{problem}: give two finite numbers a line, at least one line")
    if (np.diff(rows[:, 0]) <= 0).any():
        raise HardwareError(f"{problem}: its codes do not ascend; sort the lines by code")
    return rows[:, 0], rows[:, 1]


def bent(transfer: Transfer, inl: Tensor) -> Transfer:
    """Transfers with a non-linearity added to their decision levels, which go on ascending.

    Shapes: inl (levels,) at c - 1/2.

    Args:
        transfer: some converters.
        inl: LSB at each ideal decision level; interpolated where theirs lie between.

    Returns:
        The changed transfers.
    """
    at = np.arange(1, len(inl) + 1) - 0.5
    levels = transfer.thresholds.numpy()
    moved = torch.from_numpy(levels + np.interp(levels, at, inl.numpy()))
    return Transfer(moved.cummax(dim=1).values, transfer.codes)
