"""What of a chip a reading of its arrays includes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Conversion = Literal["real", "fine", "none"]


@dataclass(frozen=True)
class Effects:
    """Which of a chip's effects are there; by default all.

    Attributes:
        cells: programming error, spread and faults; without them cells are at their targets, for ever.
        drift: the arrays' age.
        wires: resistance of word and bit lines.
        circuits: errors of word-line drivers and clamps of columns.
        noise: read noise.
        converters: real; fine (the range of the real ones, but steps too small to matter); or none.
    """

    cells: bool = True
    drift: bool = True
    wires: bool = True
    circuits: bool = True
    noise: bool = True
    converters: Conversion = "real"


ALL = Effects()
CURRENTS = Effects(converters="none")
"""What converters see."""
TARGETS = Effects(cells=False, converters="none")
"""What they would see of cells at their targets."""
IDEAL = Effects(False, False, False, False, False, "none")
"""Nothing of a chip but its codes."""
