"""Writing around stuck cells: rows moved, spare columns, weights mended; and the mean over copies.

Which cells are stuck is known before writing, as a test of the chip would find it: their draw is that of the
same chip without mitigation, so gains are those of the same faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from imcsim.devices import DeviceModel, WriteReport
from imcsim.devices.faults import stuck_masks
from imcsim.devices.model import RngFor
from imcsim.functional.compensate import compensate
from imcsim.functional.encode import Slicing
from imcsim.hardware import Hardware
from imcsim.nn.device import level_conductance
from imcsim.nn.tiles import from_tiles, to_tiles


@dataclass(frozen=True)
class Faults:
    """Stuck cells as tiles, one tensor a row block.

    Shapes: (*, apart, blocks, rows, columns) float32, 1 where stuck.
    """

    on: list[Tensor]
    off: list[Tensor]


def write_cells(
    model: DeviceModel,
    hardware: Hardware,
    levels: Tensor,
    slices: Slicing,
    arrays: tuple[tuple[int, int], ...],
    draw: RngFor,
    log: Callable[[WriteReport], None],
) -> dict[str, Tensor]:
    """Write a layer's cells as `[mitigation]` says.

    Shapes: levels (groups, planes, slices, rows, outputs); buffers have that shape, with more than one copy
        (copies, groups, planes, slices, rows, outputs).

    Args:
        model: the bound device.
        hardware: the chip.
        levels: target levels.
        slices: how weights are spread over cells.
        arrays: word lines of each row block, (start, stop).
        draw: purpose -> a fresh generator.
        log: gets reports of write-verify.

    Returns:
        What `DeviceModel.program` returns, in the order of the weights, wherever their cells lie.
    """
    how = hardware.mitigation
    if how.copies > 1:
        levels = levels.expand(how.copies, *levels.shape)
    if not how.of_faults or not (model.stuck_on or model.stuck_off):
        return _program(model, hardware, level_conductance(model, levels, slices.top_levels), draw, log)
    return _Writer(model, hardware, levels, slices, arrays, draw, log).write()


def write_unit_column(
    model: DeviceModel,
    hardware: Hardware,
    target_S: Tensor,
    draw: RngFor,
    log: Callable[[WriteReport], None],
) -> dict[str, Tensor]:
    """Write the unit column of each copy; faults in it are not mended.

    Shapes: target_S (groups, 1, 1, rows, 1); buffers with a leading dimension of copies where there are more.

    Args:
        model: the bound device.
        hardware: the chip.
        target_S: of the column.
        draw: purpose -> a fresh generator, that of the layer.
        log: gets reports of write-verify.

    Returns:
        What `DeviceModel.program` returns.
    """
    copies = hardware.mitigation.copies
    each = target_S.expand(copies, *target_S.shape) if copies > 1 else target_S
    return _program(model, hardware, each, lambda purpose: draw(f"unit column {purpose}"), log)


def _program(
    model: DeviceModel,
    hardware: Hardware,
    target_S: Tensor,
    draw: RngFor,
    log: Callable[[WriteReport], None],
) -> dict[str, Tensor]:
    rows, cols = hardware.array.rows, hardware.array.cols
    return model.program(target_S, draw, array_rows=rows, array_cols=cols, log=log)


class _Writer:
    """One layer being written around its stuck cells."""

    def __init__(
        self,
        model: DeviceModel,
        hardware: Hardware,
        levels: Tensor,
        slices: Slicing,
        arrays: tuple[tuple[int, int], ...],
        draw: RngFor,
        log: Callable[[WriteReport], None],
    ) -> None:
        self.model, self.hardware, self.levels, self.slices = model, hardware, levels, slices
        self.arrays, self.draw, self.log = arrays, draw, log
        gain = torch.tensor(slices.gains, dtype=torch.float32, device=levels.device).view(-1, 1, 1)
        top = torch.tensor(slices.top_levels, dtype=torch.float32, device=levels.device).view(-1, 1, 1)
        self.top = top
        # what a stuck cell does to its weight, squared
        self.if_on = self._tiles((gain * (top - levels)).square())
        self.if_off = self._tiles((gain * levels).square())
        masks = stuck_masks(levels.shape, model.stuck_on, model.stuck_off, draw("faults"), levels.device)
        self.faults = Faults(*([t.float() for t in self._tiles(mask)] for mask in masks))

    def write(self) -> dict[str, Tensor]:
        """The buffers, in the order of the weights."""
        how = self.hardware.mitigation
        places = self._places() if how.remap_rows else None
        faults = self._seen(self.faults, places)
        spares = self._spare_faults() if how.spare_columns else None
        replaced = None if spares is None else self._replaced(faults, self._seen(spares, places))
        if replaced is not None and spares is not None:
            faults = _with_spares(faults, self._seen(spares, places), replaced)
        levels = self._mended(faults) if how.compensate_faults else self.levels
        target = level_conductance(self.model, levels, self.slices.top_levels)
        state = self._lines(
            _program(self.model, self.hardware, self._cells(target, places), self.draw, self.log), places
        )
        if replaced is None:
            return state
        return self._from_spares(state, target, replaced, places)

    # ---- layout --------------------------------------------------------------------------------------------

    def _tiles(self, cells: Tensor) -> list[Tensor]:
        return to_tiles(cells, self.hardware, self.arrays)

    def _cells(self, cells: Tensor, places: list[Tensor] | None) -> Tensor:
        """From the order of the weights to where their cells lie."""
        if places is None:
            return cells
        moved = [
            _rows(tile, torch.argsort(at, -1)) for tile, at in zip(self._tiles(cells), places, strict=True)
        ]
        return from_tiles(moved, self.levels, self.hardware)

    def _lines(self, state: dict[str, Tensor], places: list[Tensor] | None) -> dict[str, Tensor]:
        """The inverse of `_cells`, for every buffer."""
        if places is None:
            return state
        return {
            key: from_tiles(
                [_rows(tile, at) for tile, at in zip(self._tiles(value), places, strict=True)],
                self.levels,
                self.hardware,
            )
            for key, value in state.items()
        }

    @staticmethod
    def _seen(faults: Faults, places: list[Tensor] | None) -> Faults:
        """Faults in the order of the weights."""
        if places is None:
            return faults
        return Faults(
            *(
                [_rows(tile, at) for tile, at in zip(way, places, strict=True)]
                for way in (faults.on, faults.off)
            )
        )

    # ---- rows ----------------------------------------------------------------------------------------------

    def _places(self) -> list[Tensor]:
        """For each tile the word line of each input: the assignment of least total damage."""
        places = []
        for on, off, if_on, if_off in zip(
            self.faults.on, self.faults.off, self.if_on, self.if_off, strict=True
        ):
            cost = if_on @ on.transpose(-1, -2) + if_off @ off.transpose(-1, -2)
            flat = cost.double().cpu().numpy().reshape(-1, *cost.shape[-2:])
            best = np.stack([_assign(one) for one in flat])
            places.append(torch.from_numpy(best).view(cost.shape[:-1]).to(cost.device))
        return places

    # ---- spare columns -------------------------------------------------------------------------------------

    def _spare_shape(self) -> tuple[int, ...]:
        """(*, apart, blocks, rows of all row blocks, spare columns)."""
        first = self.faults.on[0]
        return (*first.shape[:-2], self.arrays[-1][1], self.hardware.mitigation.spare_columns)

    def _spare_draw(self, purpose: str) -> np.random.Generator:
        return self.draw(f"spare {purpose}")

    def _by_block(self, spare: Tensor) -> list[Tensor]:
        return [spare[..., start:stop, :] for start, stop in self.arrays]

    def _spare_faults(self) -> Faults:
        rng, model = self._spare_draw("faults"), self.model
        masks = stuck_masks(self._spare_shape(), model.stuck_on, model.stuck_off, rng, self.levels.device)
        return Faults(*(self._by_block(mask.float()) for mask in masks))

    def _replaced(self, faults: Faults, spares: Faults) -> list[Tensor]:
        """For each tile the column that each of its spare ones stands in for, -1 where it is idle."""
        chosen = []
        for on, off, s_on, s_off, if_on, if_off in zip(
            faults.on, faults.off, spares.on, spares.off, self.if_on, self.if_off, strict=True
        ):
            now = (on * if_on + off * if_off).sum(-2)
            there = s_on.transpose(-1, -2) @ if_on + s_off.transpose(-1, -2) @ if_off
            gain = (now.unsqueeze(-2) - there).clamp(min=0).double().cpu().numpy()
            flat = gain.reshape(-1, *gain.shape[-2:])
            best = np.full(flat.shape[:2], -1)
            for k, one in enumerate(flat):
                spare, column = linear_sum_assignment(one, maximize=True)
                good = one[spare, column] > 0
                best[k, spare[good]] = column[good]
            chosen.append(torch.from_numpy(best).view(gain.shape[:-1]).to(now.device))
        return chosen

    def _from_spares(
        self, state: dict[str, Tensor], target: Tensor, replaced: list[Tensor], places: list[Tensor] | None
    ) -> dict[str, Tensor]:
        """Buffers with those of spare columns in the place of what they replace."""
        aims = [
            tile.gather(-1, _columns(tile, at.clamp(min=0)))
            for tile, at in zip(self._tiles(target), replaced, strict=True)
        ]
        if places is not None:
            aims = [_rows(aim, torch.argsort(at, -1)) for aim, at in zip(aims, places, strict=True)]
        written = _program(self.model, self.hardware, torch.cat(aims, -2), self._spare_draw, self.log)
        out = {}
        for key, value in state.items():
            spare = self._by_block(written[key])
            if places is not None:
                spare = [_rows(tile, at) for tile, at in zip(spare, places, strict=True)]
            tiles = [
                _put(tile, new, at) for tile, new, at in zip(self._tiles(value), spare, replaced, strict=True)
            ]
            out[key] = from_tiles(tiles, self.levels, self.hardware)
        return out

    # ---- weights -------------------------------------------------------------------------------------------

    def _mended(self, faults: Faults) -> Tensor:
        """Levels with which the free cells of a weight make up for its stuck ones."""
        on, off = (from_tiles(way, self.levels, self.hardware) > 0 for way in (faults.on, faults.off))
        stuck = torch.full_like(self.levels, torch.nan)
        stuck = torch.where(on, self.top.expand_as(stuck), stuck).masked_fill(off, 0.0)
        return compensate(self.levels, stuck, self.slices.top_levels, self.slices.gains)


def _assign(cost: np.ndarray) -> np.ndarray:
    """Row -> line of least total cost; as they lie where that is no worse."""
    row, line = linear_sum_assignment(cost)
    stay = np.arange(len(cost))
    return line if cost[row, line].sum() < cost[stay, stay].sum() else stay


def _rows(tile: Tensor, order: Tensor) -> Tensor:
    """Rows of a tile by index. Shapes: tile (*, rows, columns); order (*, rows)."""
    return tile.gather(-2, order.unsqueeze(-1).expand(*order.shape, tile.shape[-1]))


def _columns(tile: Tensor, index: Tensor) -> Tensor:
    """An index of columns for every row. Shapes: index (*, k) -> (*, rows, k)."""
    return index.unsqueeze(-2).expand(*index.shape[:-1], tile.shape[-2], index.shape[-1])


def _put(tile: Tensor, new: Tensor, at: Tensor) -> Tensor:
    """Columns of a tile replaced by new ones where `at` names one. Shapes: new (*, rows, k); at (*, k)."""
    # idle spares write into a column beyond the last, which is dropped
    wide = torch.cat([tile, tile[..., :1]], dim=-1)
    index = torch.where(at < 0, tile.shape[-1], at)
    return wide.scatter(-1, _columns(tile, index), new)[..., :-1]


def _with_spares(faults: Faults, spares: Faults, replaced: list[Tensor]) -> Faults:
    """The faults that weights see once spare columns stand in."""
    return Faults(
        *(
            [_put(tile, new, at) for tile, new, at in zip(old, fresh, replaced, strict=True)]
            for old, fresh in ((faults.on, spares.on), (faults.off, spares.off))
        )
    )


def average(copies: tuple[Tensor | None, ...]) -> Tensor | None:
    """The mean over copies, exactly their value where all are equal; None where there is nothing."""
    there = [copy for copy in copies if copy is not None]
    if not there:
        return None
    return there[0] + torch.stack([copy - there[0] for copy in there]).mean(0)
