"""An array between its sources and its grounds: its exact map, and the voltages across its cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from imcsim.circuits.network import Cells, Grid, Seam, Segments, join, leaf_and_size, solve_cells


def transfer(g: Tensor, segments: Segments) -> Tensor:
    """Currents into the grounds for one volt at one source, ``i = v @ t``.

    Shapes: g (*batch, rows, cols); returns the same.
    Units: siemens.
    """
    rows, cols = g.shape[-2:]
    grid, padded, _ = _reduced(g, segments, None, None, grounds_driven=False)
    unit = torch.eye(padded.word.shape[0], dtype=g.dtype, device=g.device)
    _, current = _closed(grid, padded, unit, None)
    return current.squeeze(-3).squeeze(-3)[..., :cols, -rows:].mT


def junction_voltages(
    g: Tensor,
    segments: Segments,
    source_V: Tensor,
    ground_V: Tensor | None = None,
    emf_V: Tensor | None = None,
) -> Tensor:
    """Voltages across the cells, without the drop over their series resistance.

    Each cell conducts ``g (junction + emf)``.

    Shapes: g (*batch, rows, cols), source_V (*batch, rows, m), ground_V (*batch, cols, m), emf_V (*batch,
        rows, cols, m); returns (*batch, rows, cols, m).
    """
    rows, cols = g.shape[-2:]
    seams: list[Seam] = []
    grid, padded, cells = _reduced(g, segments, emf_V, seams, grounds_driven=ground_V is not None)
    above, beside = padded.word.shape[0] - rows, padded.word.shape[1] - cols
    source = pad(source_V, (0, 0, above, 0))
    ground = None if ground_V is None else pad(ground_V, (0, 0, 0, beside))
    imposed, _ = _closed(grid, padded, source, ground)
    while seams:
        imposed = seams.pop().imposed_on_children(imposed)
    inside = cells.junctions(imposed).unflatten(-2, (leaf_and_size(rows)[0], leaf_and_size(cols)[0]))
    inside = inside.transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)
    return inside[..., above:, :cols, :]


def _reduced(
    g: Tensor, segments: Segments, emf: Tensor | None, seams: list[Seam] | None, *, grounds_driven: bool
) -> tuple[Grid, Segments, Cells]:
    """Join everything into one rectangle; note the seams, if wanted, in the order they are made.

    The sides of the array at which nothing is imposed or asked are dropped as soon as rectangles reach across
    it.
    """
    (height, rows), (width, cols) = (leaf_and_size(n) for n in g.shape[-2:])
    above, beside = rows - g.shape[-2], cols - g.shape[-1]
    padded = segments.padded(rows, cols)
    emf = None if emf is None else pad(emf, (0, 0, 0, beside, above, 0))
    grid, cells = solve_cells(pad(g, (0, beside, above, 0)), padded, emf, height, width)
    while (grid.height, grid.width) != (rows, cols):
        along_rows = grid.height == rows or (grid.width < cols and grid.width < grid.height)
        wide = grid.width * (1 + along_rows) == cols
        tall = grid.height * (2 - along_rows) == rows
        inputs = "L" + _side("R", not wide or padded.right is not None)
        inputs += _side("T", not tall or padded.top is not None) + _side("B", not tall or grounds_driven)
        outputs = _side("L", not wide) + _side("R", not wide or padded.right is not None)
        outputs += _side("T", not tall or padded.top is not None) + "B"
        grid, seam = join(grid, along_rows, inputs, outputs)
        if seams is not None:
            seams.append(seam)
    return grid, padded, cells


def _side(name: str, wanted: bool) -> str:
    return name if wanted else ""


def _closed(grid: Grid, segments: Segments, source: Tensor, ground: Tensor | None) -> tuple[Tensor, Tensor]:
    """Connect the sources and the grounds.

    A second source of word line a imposes ``V_right - r J_right = source``, a second ground ``V_top + r J_top
    = ground``.

    Returns:
        What is imposed on the rectangle, and the current into the grounds of each column.
    """
    ports = sum(grid.size(s) for s in grid.inputs)
    response, offset = grid.response[..., :ports], grid.response[..., ports:]
    batch = torch.broadcast_shapes(response.shape[:-2], (*source.shape[:-2], 1, 1))
    given = {"L": source, "B": ground}
    parts = []
    for side in grid.inputs:
        value = given.get(side)
        if value is None:
            parts.append(source.new_zeros(*batch, grid.size(side), source.shape[-1]))
        else:
            parts.append(value[..., None, None, :, :].expand(*batch, *value.shape[-2:]))
    imposed = torch.cat(parts, -2)
    answer = response @ imposed
    if grid.m:
        answer = answer + offset
    ends = [(side, r) for side, r in (("R", segments.right), ("T", segments.top)) if r is not None]
    if ends:
        imposed, answer = _second_ends(grid, segments, ends, (imposed, answer), source, ground)
    current = answer[..., grid.ports("B", grid.outputs), :]
    if segments.top is not None:
        current = current - imposed[..., grid.ports("T", grid.inputs), :]
    return imposed, current


def _second_ends(
    grid: Grid,
    segments: Segments,
    ends: list[tuple[str, Tensor]],
    known: tuple[Tensor, Tensor],
    source: Tensor,
    ground: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Find the currents that second sources and second grounds carry, and add what they do."""
    imposed, answer = known
    index = torch.arange(max(grid.response.shape[-2:]), device=source.device)
    at_in = torch.cat([index[grid.ports(side, grid.inputs)] for side, _ in ends])
    at_out = torch.cat([index[grid.ports(side, grid.outputs)] for side, _ in ends])
    sign, target, resistance = [], [], []
    for side, end in ends:
        line = segments.word.sum(-1) if side == "R" else segments.bit.sum(-2)
        # A line without any resistance has no voltage between its ends: the second end may as well be open.
        resistance.append(torch.where(line + end == 0, 1.0, end))
        sign.append(torch.full_like(end, 1.0 if side == "R" else -1.0))
        wanted = source if side == "R" else ground
        target.append(source.new_zeros(grid.width, source.shape[-1]) if wanted is None else wanted)
    target = [t[..., None, None, :, :].expand(*answer.shape[:-2], *t.shape[-2:]) for t in target]
    signs = torch.cat(sign).unsqueeze(-1)
    kernel = grid.response.index_select(-2, at_out).index_select(-1, at_in)
    excess = signs * (answer.index_select(-2, at_out) - torch.cat(target, -2))
    current = torch.linalg.solve(torch.diag(torch.cat(resistance)) - signs * kernel, excess)
    added = grid.response.index_select(-1, at_in) @ current
    return imposed.index_add(-2, at_in, current), answer + added
