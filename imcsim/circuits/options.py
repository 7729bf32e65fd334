"""What the circuit functions accept, checked, as tensors in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from torch import Tensor

from imcsim.circuits.network import Segments
from imcsim.errors import CircuitError

Ohm = float | Tensor
Drive = Literal["left", "both"]
Ground = Literal["bottom", "both"]
CellKind = Literal["linear", "sinh"]


class WireOptions(TypedDict, total=False):
    """Wires and terminals, as keyword arguments; all resistances are zero unless given.

    Attributes:
        word_line_ohm: one segment of a word line; a number, or a tensor that broadcasts to (rows, cols).
        bit_line_ohm: one segment of a bit line, alike.
        source_ohm: output resistance of a word line's driver; a number or (rows,). With ``drive = "both"``
            each end has its own.
        sense_ohm: input resistance of a bit line's virtual ground; a number or (cols,). With ``ground =
            "both"`` each end has its own.
        series_ohm: in series with each cell; a number or (rows, cols). The access transistor of 1T1R. A 1S1R
            cell is a selector as the (sinh) cell and the memory element, 1 / g, here.
        drive: "left" or "both" ends of the word lines are driven, through one more segment on the right.
        ground: "bottom" or "both" ends of the bit lines are grounded, through one more segment at the top;
            currents are summed.
    """

    word_line_ohm: Ohm
    bit_line_ohm: Ohm
    source_ohm: Ohm
    sense_ohm: Ohm
    series_ohm: Ohm
    drive: Drive
    ground: Ground


def checked_segments(
    g: Tensor,
    *,
    word_line_ohm: Ohm = 0.0,
    bit_line_ohm: Ohm = 0.0,
    source_ohm: Ohm = 0.0,
    sense_ohm: Ohm = 0.0,
    series_ohm: Ohm = 0.0,
    drive: Drive = "left",
    ground: Ground = "bottom",
) -> Segments:
    """The resistances of an array of g's size, see `WireOptions`.

    Raises:
        CircuitError: a negative or infinite resistance, a shape that does not fit, an unknown end.
    """
    one_of("drive", drive, ("left", "both"))
    one_of("ground", ground, ("bottom", "both"))
    rows, cols = g.shape[-2:]
    word = _resistance("word_line_ohm", word_line_ohm, (rows, cols), g)
    bit = _resistance("bit_line_ohm", bit_line_ohm, (rows, cols), g)
    source = _resistance("source_ohm", source_ohm, (rows,), g)
    sense = _resistance("sense_ohm", sense_ohm, (cols,), g)
    return Segments(
        word=torch.cat((word[:, :1] + source[:, None], word[:, 1:]), 1),
        bit=torch.cat((bit[:-1], bit[-1:] + sense), 0),
        series=_resistance("series_ohm", series_ohm, (rows, cols), g),
        right=word[:, -1] + source if drive == "both" else None,
        top=bit[0] + sense if ground == "both" else None,
    )


def checked_conductance(g: Tensor, name: str = "g") -> Tensor:
    """`g` in float64.

    Raises:
        CircuitError: fewer than two dimensions, an empty array, a negative, infinite or undefined value.
    """
    g = as_numbers(name, g)
    if g.dim() < 2 or 0 in g.shape:
        raise CircuitError(
            f"{name} has shape {tuple(g.shape)}; expected (*batch, rows, cols), none of them 0."
        )
    _not_negative(name, g, "conductances in siemens", f"Clip what was programmed, e.g. {name}.clamp(min=0).")
    return g.double()


def as_numbers(name: str, value: object) -> Tensor:
    """A tensor, an array or a number as a tensor of real numbers.

    Raises:
        CircuitError: it is nothing of these.
    """
    try:
        t = torch.as_tensor(value, dtype=None if hasattr(value, "dtype") else torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise CircuitError(
            f"{name} = {value!r:.60}: expected a tensor of real numbers, or a number."
        ) from None
    if t.is_complex():
        raise CircuitError(f"{name} holds complex numbers ({t.dtype}): expected a tensor of real numbers.")
    return t


def checked_voltage(v: Tensor, rows: int) -> Tensor:
    """`v` in float64.

    Raises:
        CircuitError: a last dimension that is not `rows`; an infinite or undefined value.
    """
    v = as_numbers("v", v)
    if v.dim() < 1 or v.shape[-1] != rows:
        raise CircuitError(
            f"v has shape {tuple(v.shape)}; its last dimension must be the {rows} rows of g, "
            "one voltage a word line: "
            "(vectors, rows), or (*batch, vectors, rows). Transpose it or pad idle rows with zeros."
        )
    bad = ~torch.isfinite(v)
    if bool(bad.any()):
        where, value = _first(v, bad)
        raise CircuitError(
            f"v{where} = {value}: voltages are finite numbers, in volts. Check what computed v."
        )
    return v.double()


def checked_batch(g: Tensor, v: Tensor) -> None:
    """Whether the leading dimensions of g (*batch, rows, cols) and v (*batch, vectors, rows) broadcast."""
    try:
        torch.broadcast_shapes(g.shape[:-2], v.shape[:-2])
    except RuntimeError:
        raise CircuitError(
            f"v has shape {tuple(v.shape)} and g {tuple(g.shape)}: the dimensions before "
            "(vectors, rows) and (rows, cols) must be equal or broadcast. "
            "Give v as (vectors, rows) to read every array with the same vectors."
        ) from None


def checked_v0(cell: str, v0_V: float | Tensor | None, g: Tensor) -> Tensor:
    """V0 of sinh cells in float64, one for linear cells (not used).

    Raises:
        CircuitError: an unknown kind of cell; V0 missing, not positive, or given for linear cells.
    """
    one_of("cell", cell, ("linear", "sinh"))
    if cell == "linear":
        if v0_V is not None:
            raise CircuitError(
                f"v0_V = {v0_V} has no meaning for linear cells. Leave it out or pass cell='sinh'."
            )
        return g.new_ones(())
    if v0_V is None:
        raise CircuitError(
            "cell = 'sinh' needs v0_V, the V0 of I = g V0 sinh(V / V0), in volts, e.g. v0_V=0.25."
        )
    v0 = as_numbers("v0_V", v0_V).to(g.device, torch.float64)
    if not bool((torch.isfinite(v0) & (v0 > 0)).all()):
        raise CircuitError(
            f"v0_V = {v0_V}: allowed are positive finite voltages. For ohmic cells pass cell='linear'."
        )
    return v0


def checked_read_voltage(read_voltage_V: float | Tensor, g: Tensor) -> Tensor:
    """One voltage in float64.

    Raises:
        CircuitError: more than one value; an infinite or undefined one.
    """
    read = as_numbers("read_voltage_V", read_voltage_V).to(g.device, torch.float64)
    if read.numel() != 1 or not bool(torch.isfinite(read).all()):
        raise CircuitError(
            f"read_voltage_V = {read_voltage_V}; allowed: one finite number, in volts, for all source lines."
        )
    return read.reshape(())


def checked_sigma(sigma_S: float | Tensor, g: Tensor) -> Tensor:
    """Standard deviations in float64, in g's shape.

    Raises:
        CircuitError: a negative, infinite or undefined value; a shape that does not broadcast to g's.
    """
    sigma = as_numbers("sigma_S", sigma_S).to(g.device, torch.float64)
    _not_negative("sigma_S", sigma, "standard deviations in siemens", "Check the noise model that gave them.")
    try:
        return sigma.expand(g.shape)
    except RuntimeError:
        raise CircuitError(
            f"sigma_S has shape {tuple(sigma.shape)}; allowed: one number, or a tensor that broadcasts to "
            f"g's {tuple(g.shape)}."
        ) from None


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises: CircuitError: `value` is not in `allowed`."""
    if value not in allowed:
        raise CircuitError(f"{name} = {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def result_dtype(given: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The dtype of results: as asked, else that of the conductances; float64 where those are integers."""
    if dtype is not None:
        return dtype
    given = torch.as_tensor(given)
    return given.dtype if given.dtype.is_floating_point else torch.float64


def _resistance(name: str, value: Ohm, shape: tuple[int, ...], g: Tensor) -> Tensor:
    ohm = as_numbers(name, value).to(g.device, torch.float64)
    _not_negative(name, ohm, "resistances in ohm", "Pass 0 for an ideal wire.")
    try:
        return ohm.expand(shape)
    except RuntimeError:
        meant = "(rows, cols)" if len(shape) == 2 else "(rows,)" if name == "source_ohm" else "(cols,)"
        raise CircuitError(
            f"{name} has shape {tuple(ohm.shape)}; allowed: one number, or a tensor that broadcasts to "
            f"{meant} = {shape}."
        ) from None


def _not_negative(name: str, t: Tensor, what: str, fix: str) -> None:
    bad = ~torch.isfinite(t) | (t < 0)
    if bool(bad.any()):
        where, value = _first(t, bad)
        raise CircuitError(f"{name}{where} = {value}: {what} must be finite and not negative. {fix}")


def _first(t: Tensor, bad: Tensor) -> tuple[str, float]:
    if t.dim() == 0:
        return "", t.item()
    index = tuple(bad.nonzero()[0].tolist())
    return str(list(index)), t[index].item()
