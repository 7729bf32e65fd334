"""The linear network of an array: rectangles of cells, joined in pairs until one is left.

A rectangle meets the rest of the array at four sides: left and right ends of its word lines, top and bottom
ends of its bit lines. It is described by what it answers to what its neighbours impose,

    (I_left, V_right, V_top, I_bottom) = H (V_left, J_right, J_top, V_bottom) + offset,

with every current counted in the direction from source to ground. Joining two rectangles along s wires
eliminates s voltages and s currents. The matrix to solve, ``1 - P Q``, is one plus the product of a
resistance and a conductance matrix, so its eigenvalues are at least one: no resistance is too small, zero
included, and none too large. Nothing is divided by a conductance either, so open cells need no special case.

Rectangles of one generation are equal in shape and joined in one batched operation: an array of n x n cells
takes 2 log2(n / 4) joins and O(n^3) work; eliminating it row by row takes n steps and O(n^4).

References:
    A. George, SIAM J. Numer. Anal. 10, 1973, doi:10.1137/0710032 (nested dissection). R. Redheffer, J. Math.
    Phys. 41, 1962, doi:10.1002/sapm19624111 (the star product, which is the joining step).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

_SIDES = "LRTB"
_LEAF_SIZES = (3, 4, 5)


@dataclass(frozen=True)
class Segments:
    """Every resistance of an array, float64.

    Attributes:
        word: (rows, cols) ohm, the piece of word line left of each cell; the first includes the source's
            resistance.
        bit: (rows, cols) ohm, the piece of bit line below each cell; the last includes that of the sense
            circuit.
        series: (rows, cols) ohm, in series with each cell.
        right: (rows,) ohm from the last cell to a second source of the same voltage; None: the right ends are
            open.
        top: (cols,) ohm from the first cell to a second ground; None: the top ends are open.
    """

    word: Tensor
    bit: Tensor
    series: Tensor
    right: Tensor | None = None
    top: Tensor | None = None

    def padded(self, rows: int, cols: int) -> Segments:
        """The same array with resistance-free segments added above and on the right."""
        above, beside = rows - self.word.shape[0], cols - self.word.shape[1]
        word, bit, series = (pad(t, (0, beside, above, 0)) for t in (self.word, self.bit, self.series))
        right = None if self.right is None else pad(self.right, (above, 0), value=1.0)
        top = None if self.top is None else pad(self.top, (0, beside), value=1.0)
        return Segments(word, bit, series, right, top)


@dataclass(frozen=True)
class Grid:
    """One generation: a grid of equal rectangles, `height` x `width` cells each.

    Attributes:
        height: rows of a rectangle.
        width: its columns.
        inputs: the sides that something is imposed on, in the order L R T B.
        outputs: the sides whose answer is known.
        response: (*batch, grid rows, grid cols, ports of outputs, ports of inputs + m); the last m columns
            are the offset.
        m: columns of the offset, 0 where there is none.
    """

    height: int
    width: int
    inputs: str
    outputs: str
    response: Tensor
    m: int

    def ports(self, side: str, of: str) -> slice:
        """Where the ports of one side lie in the layout `of`, which is `inputs` or `outputs`."""
        start = sum(self.size(s) for s in of[: of.index(side)])
        return slice(start, start + self.size(side))

    def size(self, side: str) -> int:
        """How many ports a side has."""
        return self.height if side in "LR" else self.width


@dataclass(frozen=True)
class Cells:
    """From ports of the first generation to its cells: junction = reach x - drop i, i = response x + free."""

    reach: Tensor
    drop: Tensor
    response: Tensor
    free: Tensor

    def junctions(self, imposed: Tensor) -> Tensor:
        """Voltage across each cell, without its series resistance.

        Shapes: imposed (*batch, grid rows, grid cols, ports, m); returns (..., height width, m).
        """
        current = self.response @ imposed
        if self.free.shape[-1]:
            current = current + self.free
        return self.reach @ imposed - self.drop @ current


@dataclass(frozen=True)
class Seam:
    """What leads from the ports of joined rectangles back to those of the two children."""

    along_rows: bool
    eliminated: tuple[Tensor, Tensor]
    sources: tuple[Tensor, Tensor]

    def imposed_on_children(self, imposed: Tensor) -> Tensor:
        """Shapes: imposed (*batch, grid rows, grid cols, ports, m); returns those of the children."""
        ports, children = imposed.shape[-2], []
        for eliminated, source in zip(self.eliminated, self.sources, strict=True):
            inner = eliminated[..., :ports] @ imposed
            if eliminated.shape[-1] > ports:
                inner = inner + eliminated[..., ports:]
            outer = imposed.expand(*inner.shape[:-2], *imposed.shape[-2:])
            children.append(pad(torch.cat((outer, inner), -2), (0, 0, 0, 1)).index_select(-2, source))
        if self.along_rows:
            return torch.stack(children, -3).flatten(-4, -3)
        return torch.stack(children[::-1], -4).flatten(-5, -4)


@dataclass(frozen=True)
class _Wiring:
    """Index tables of a join, one entry of each pair per child.

    Attributes:
        columns: for each input port of the parent, the child's port; one past its last port where it belongs
            to the other child.
        rows: the child's output ports that the parent keeps.
        order: puts the kept rows of both children into the parent's order.
        sources: for each input port of the child, the parent's port; past those, the eliminated wires; past
            those, nothing imposed.
    """

    columns: tuple[Tensor, Tensor]
    rows: tuple[Tensor, Tensor]
    order: Tensor
    sources: tuple[Tensor, Tensor]


def leaf_and_size(n: int) -> tuple[int, int]:
    """The side of a first-generation rectangle, and `n` rounded up to a power of two times it."""
    if n <= max(_LEAF_SIZES):
        return n, n
    sizes = ((p << (-(-n // p) - 1).bit_length(), -p) for p in _LEAF_SIZES)
    size, leaf = min(sizes)
    return -leaf, size


def _tiled(t: Tensor, height: int, width: int) -> Tensor:
    """(*batch, rows, cols) -> (*batch, grid rows, grid cols, height, width)."""
    return t.unflatten(-1, (-1, width)).unflatten(-3, (-1, height)).transpose(-3, -2)


def solve_cells(
    g: Tensor, segments: Segments, emf: Tensor | None, height: int, width: int
) -> tuple[Grid, Cells]:
    """Solve small rectangles for their cell currents, ``(1 + D Z) i = D (E x + emf)``.

    D are the conductances. With ``along`` the resistance between a cell and the left end of its word line and
    ``below`` that to the bottom of its bit line, two cells of a row share the smaller ``along`` and two of a
    column the smaller ``below``: these make Z, with the series resistance on its diagonal. E x is the voltage
    at each cell's position when no cell conducts.

    Shapes: g (*batch, rows, cols), emf (*batch, rows, cols, m), rows and cols multiples of height and width.
    """
    conductance = _tiled(g, height, width).flatten(-2).unsqueeze(-1)
    along = _tiled(segments.word, height, width).cumsum(-1)
    below = _tiled(segments.bit, height, width).flip(-2).cumsum(-2).flip(-2)
    reach, drop = _reach(along, below), _shared(along, below)
    drop = drop + torch.diag_embed(_tiled(segments.series, height, width).flatten(-2))
    ports, m = reach.shape[-1], 0 if emf is None else emf.shape[-1]
    right_hand = conductance * reach
    if emf is not None:
        own = _tiled(emf.movedim(-1, 0), height, width).flatten(-2).movedim(0, -1)
        right_hand = torch.cat((right_hand, conductance * own), -1)
    unit = torch.eye(height * width, dtype=g.dtype, device=g.device)
    solved = torch.linalg.solve(unit + conductance * drop, right_hand)
    sign = g.new_ones(ports, 1)
    sign[2 * height :] = -1.0
    response = pad(_wires(along, below), (0, m)) + (sign * reach.mT) @ solved
    cells = Cells(reach, drop, solved[..., :ports], solved[..., ports:])
    return Grid(height, width, _SIDES, _SIDES, response, m), cells


def _reach(along: Tensor, below: Tensor) -> Tensor:
    *grid, height, width = along.shape
    of_row = torch.eye(height, dtype=along.dtype, device=along.device)[:, None, :].expand(
        *grid, height, width, height
    )
    of_col = torch.eye(width, dtype=along.dtype, device=along.device).expand(*grid, height, width, width)
    return torch.cat((of_row, -along[..., None] * of_row, -below[..., None] * of_col, -of_col), -1).flatten(
        -3, -2
    )


def _shared(along: Tensor, below: Tensor) -> Tensor:
    """Resistance of the wire that two cells have in common, (*grid, height width, height width)."""
    *grid, height, width = along.shape
    i, j = torch.arange(height, device=along.device), torch.arange(width, device=along.device)
    eye_h, eye_w = i[:, None] == i, j[:, None] == j
    of_row = along[..., torch.minimum(j[:, None], j)]  # (*grid, height, width, width)
    of_col = below[..., torch.maximum(i[:, None], i), :].transpose(-1, -2)  # (*grid, height, width, height)
    shared = of_row[..., None, :] * eye_h[:, None, :, None] + of_col[..., None] * eye_w[None, :, None, :]
    return shared.reshape(*grid, height * width, height * width)


def _wires(along: Tensor, below: Tensor) -> Tensor:
    """The response of a rectangle whose cells are all open."""
    *grid, height, width = along.shape
    ports = 2 * (height + width)
    wires = along.new_zeros(*grid, ports, ports)
    left, right = slice(0, height), slice(height, 2 * height)
    top, bottom = slice(2 * height, 2 * height + width), slice(2 * height + width, ports)
    eye_h, eye_w = (torch.eye(n, dtype=along.dtype, device=along.device) for n in (height, width))
    wires[..., left, right] = wires[..., right, left] = eye_h
    wires[..., top, bottom] = wires[..., bottom, top] = eye_w
    wires[..., right, right] = -torch.diag_embed(along[..., -1])
    wires[..., top, top] = torch.diag_embed(below[..., 0, :])
    return wires


def join(grid: Grid, along_rows: bool, inputs: str, outputs: str) -> tuple[Grid, Seam]:
    """Join neighbours in each row of the grid (`along_rows`) or column; keep sides `inputs` and `outputs`.

    The first child answers with the voltages V of the wires between them, the second with their currents J:
    ``V = a1 + P J``, ``J = a2 + Q V``. Along rows the first is the left one, along columns the lower one.
    """
    h, m = grid.response, grid.m
    if along_rows:
        first, second, given, takes = h[..., 0::2, :, :], h[..., 1::2, :, :], "R", "L"
    else:
        first, second, given, takes = h[..., 1::2, :, :, :], h[..., 0::2, :, :, :], "T", "B"
    wiring = _wiring(
        grid.height, grid.width, grid.inputs, grid.outputs, inputs, outputs, along_rows, str(h.device)
    )
    n = h.shape[-1] - m
    offset = torch.arange(n + 1, n + 1 + m, device=h.device)
    columns = [torch.cat((c, offset)) for c in wiring.columns]
    spread1, spread2 = (
        _blank_at(child, n).index_select(-1, c) for child, c in zip((first, second), columns, strict=True)
    )
    in1, in2 = grid.ports(given, grid.inputs), grid.ports(takes, grid.inputs)
    out1, out2 = grid.ports(given, grid.outputs), grid.ports(takes, grid.outputs)
    p, q = first[..., out1, in1], second[..., out2, in2]
    own2 = spread2[..., out2, :]
    unit = torch.eye(grid.size(given), dtype=h.dtype, device=h.device)
    voltage = torch.linalg.solve(unit - p @ q, spread1[..., out1, :] + p @ own2)
    current = own2 + q @ voltage
    answers = [
        spread.index_select(-2, rows) + child[..., ports].index_select(-2, rows) @ eliminated
        for spread, child, ports, rows, eliminated in (
            (spread1, first, in1, wiring.rows[0], current),
            (spread2, second, in2, wiring.rows[1], voltage),
        )
    ]
    response = torch.cat(answers, -2).index_select(-2, wiring.order)
    height, width = (grid.height, 2 * grid.width) if along_rows else (2 * grid.height, grid.width)
    return Grid(height, width, inputs, outputs, response, m), Seam(
        along_rows, (current, voltage), wiring.sources
    )


def _blank_at(t: Tensor, n: int) -> Tensor:
    """Insert a column of zeros before column `n`."""
    return torch.cat((t[..., :n], t.new_zeros(*t.shape[:-1], 1), t[..., n:]), -1)


@lru_cache(maxsize=1024)
def _wiring(
    height: int,
    width: int,
    inputs: str,
    outputs: str,
    kept_in: str,
    kept_out: str,
    along_rows: bool,
    device: str,
) -> _Wiring:
    given, takes = ("R", "L") if along_rows else ("T", "B")
    joined = height if along_rows else width
    owner, port = _owners(height, width, inputs, kept_in, along_rows)
    sides = Grid(height, width, inputs, outputs, torch.empty(0), 0)
    blank, ports = sum(map(sides.size, inputs)), owner.numel()
    columns, sources = [], []
    for child, side in ((0, given), (1, takes)):
        columns.append(torch.where(owner == child, port, blank).to(device))
        source = torch.full((blank,), ports + joined)
        source[port[owner == child]] = torch.arange(ports)[owner == child]
        source[sides.ports(side, inputs)] = torch.arange(ports, ports + joined)
        sources.append(source.to(device))
    owner, port = _owners(height, width, outputs, kept_out, along_rows)
    order = torch.argsort(torch.cat([torch.arange(owner.numel())[owner == child] for child in (0, 1)]))
    rows = (port[owner == 0].to(device), port[owner == 1].to(device))
    return _Wiring((columns[0], columns[1]), rows, order.to(device), (sources[0], sources[1]))


def _owners(height: int, width: int, present: str, kept: str, along_rows: bool) -> tuple[Tensor, Tensor]:
    """For each port of the parent, which child has it (0 or 1) and where in the child's layout."""
    children = (
        {"L": (0,), "R": (1,), "T": (0, 1), "B": (0, 1)}
        if along_rows
        else {"L": (1, 0), "R": (1, 0), "T": (1,), "B": (0,)}
    )
    sides = Grid(height, width, present, present, torch.empty(0), 0)
    pieces = [
        (child, torch.arange(height + height + width + width)[sides.ports(s, present)])
        for s in kept
        for child in children[s]
    ]
    owner = torch.cat([torch.full_like(port, child) for child, port in pieces])
    return owner, torch.cat([port for _, port in pieces])
