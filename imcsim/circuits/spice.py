"""The same arrays as a SPICE netlist, for checking and for adding what imcsim does not model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from torch import Tensor

from imcsim.circuits import options
from imcsim.circuits.network import Segments
from imcsim.circuits.options import CellKind, WireOptions
from imcsim.errors import CircuitError


def spice_netlist(
    g: Tensor,
    v: Tensor,
    *,
    cell: CellKind = "linear",
    v0_V: float | Tensor | None = None,
    gate_on: Tensor | None = None,
    **wires: Unpack[WireOptions],
) -> str:
    """A netlist that ``ngspice -b`` runs; it prints ``i(vsenseC) = ...``, the current into ground C.

    Nodes ``wR_C`` and ``bR_C`` are the two ends of cell (R, C), ``srcR`` the sources. A resistance of zero
    joins its nodes (ngspice would take 1 milliohm); an open cell is left out.

    Shapes: g (rows, cols), v (rows,), gate_on (rows,).
    Units: siemens, volts, ohm.

    Args:
        g: conductances.
        v: voltages of the word lines.
        cell: "linear", or "sinh": ``I = g V0 sinh(V / V0)``.
        v0_V: V0 of sinh cells.
        gate_on: rows whose cells are connected (gate input mode); default: all.
        **wires: wires and terminals, see `WireOptions`.

    Returns:
        The text of the netlist.

    Raises:
        CircuitError: a value or a shape that no array can have.
    """
    g = options.checked_conductance(g)
    if g.dim() != 2:
        raise CircuitError(
            f"g has shape {tuple(g.shape)}; a netlist is of one array, (rows, cols). Write one each."
        )
    v = options.checked_voltage(v, g.shape[0])
    if v.dim() != 1:
        raise CircuitError(
            f"v has shape {tuple(v.shape)}; a netlist is of one vector, (rows,). Write one for each vector."
        )
    v0 = options.checked_v0(cell, v0_V, g).expand(g.shape)
    if gate_on is not None:
        if gate_on.shape != v.shape:
            raise CircuitError(
                f"gate_on has shape {tuple(gate_on.shape)}; expected ({len(v)},), one entry a row."
            )
        g = g * (gate_on != 0).unsqueeze(-1)
    segments = options.checked_segments(g, **wires)
    rows, cols = g.shape
    lines = [f"* imcsim crossbar, {rows} word lines x {cols} bit lines, {cell} cells", *_terminals(v, cols)]
    names = _Nodes()
    lines += _wires(segments, names, rows, cols)
    for r, c in g.nonzero().tolist():
        lines += _cell(
            r,
            c,
            g[r, c].item(),
            segments.series[r, c].item(),
            v0[r, c].item() if cell == "sinh" else None,
            names,
        )
    lines += [
        ".options reltol=1e-12 abstol=1e-20 vntol=1e-15 gmin=1e-25 itl1=1000",
        ".control",
        "set numdgt=16",
        "op",
    ]
    lines += [f"print i(vsense{c})" for c in range(cols)]
    return "\n".join([*lines, "quit", ".endc", ".end", ""])


class _Nodes:
    """Names of nodes, of which those that an ideal wire joins are one."""

    def __init__(self) -> None:
        self._same: dict[str, str] = {}

    def join(self, a: str, b: str) -> None:
        a, b = self[a], self[b]
        if a != b:
            # Terminals keep their names: they are where the voltage sources are.
            keep, drop = (a, b) if a.startswith(("src", "sense")) else (b, a)
            self._same[drop] = keep

    def __getitem__(self, name: str) -> str:
        while name in self._same:
            name = self._same[name]
        return name


def _terminals(v: Tensor, cols: int) -> Iterator[str]:
    for r, volts in enumerate(v.tolist()):
        yield f"Vsrc{r} src{r} 0 {volts!r}"
    for c in range(cols):
        yield f"Vsense{c} sense{c} 0 0"


def _wires(segments: Segments, names: _Nodes, rows: int, cols: int) -> list[str]:
    pieces = []
    for r in range(rows):
        for c in range(cols):
            pieces.append(
                (f"Rw{r}_{c}", f"w{r}_{c - 1}" if c else f"src{r}", f"w{r}_{c}", segments.word[r, c].item())
            )
            below = f"b{r + 1}_{c}" if r + 1 < rows else f"sense{c}"
            pieces.append((f"Rb{r}_{c}", f"b{r}_{c}", below, segments.bit[r, c].item()))
    if segments.right is not None:
        pieces += [
            (f"Rright{r}", f"w{r}_{cols - 1}", f"src{r}", ohm)
            for r, ohm in enumerate(segments.right.tolist())
        ]
    if segments.top is not None:
        pieces += [(f"Rtop{c}", f"b0_{c}", f"sense{c}", ohm) for c, ohm in enumerate(segments.top.tolist())]
    for _, a, b, ohm in pieces:
        if ohm == 0.0:
            names.join(a, b)
    return [
        f"{name} {names[a]} {names[b]} {ohm!r}"
        for name, a, b, ohm in pieces
        if ohm > 0.0 and names[a] != names[b]
    ]


def _cell(
    r: int, c: int, siemens: float, series_ohm: float, v0: float | None, names: _Nodes
) -> Iterator[str]:
    start, end = names[f"w{r}_{c}"], names[f"b{r}_{c}"]
    if series_ohm > 0.0:
        yield f"Rs{r}_{c} {start} m{r}_{c} {series_ohm!r}"
        start = f"m{r}_{c}"
    if v0 is None:
        yield f"Rc{r}_{c} {start} {end} {1.0 / siemens!r}"
    else:
        yield f"Bc{r}_{c} {start} {end} I={siemens * v0!r}*sinh((V({start})-V({end}))/{v0!r})"
