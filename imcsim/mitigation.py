"""What a chip's mitigation of faults, errors and wires costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from imcsim.convert import arrays
from imcsim.hardware_tables import Mitigation
from imcsim.mapping import place


@dataclass(frozen=True)
class MitigationCost:
    """What a chip's mitigation takes.

    Attributes:
        cells: cells that hold weights, unit columns or spares, of all layers.
        cells_without: the same of the chip without mitigation.
        arrays: physical arrays.
        arrays_without: likewise.
    """

    cells: int
    cells_without: int
    arrays: int
    arrays_without: int

    @property
    def cell_factor(self) -> float:
        """Cells over those without mitigation."""
        return self.cells / self.cells_without


def mitigation_cost(sim: nn.Module) -> MitigationCost:
    """Cells and arrays that `[mitigation]` adds to a converted model.

    Args:
        sim: a converted model.

    Returns:
        The counts, over all layers. Moving rows, mending weights and shuffling lines add no cells; they need
        the digital side to know where an input goes.

    Raises:
        ConversionError: the model was not converted.
    """
    counts = []
    for layer, array in arrays(sim):
        array.sync(layer.weight)
        groups, outputs, inputs = array.written.w_int.shape
        plain = array.hardware.replace({"mitigation": Mitigation()})
        pair = (
            place(chip, groups, outputs, inputs, unit_column=array.has_unit_column)
            for chip in (array.hardware, plain)
        )
        counts.append([number for where in pair for number in (where.cells, where.arrays)])
    cells, number, cells_without, number_without = (sum(column) for column in zip(*counts, strict=True))
    return MitigationCost(cells, cells_without, number, number_without)
