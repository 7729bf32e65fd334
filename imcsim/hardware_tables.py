"""Tables of a hardware description that stand on their own.

How cells are written, what mends them, and circuits that normalise column sums.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imcsim.schema import Table


class CardProgramming(Table):
    """Programming error as the device card says."""

    kind: Literal["card"] = "card"


class NoProgramming(Table):
    """Cells take exactly the conductance asked for."""

    kind: Literal["none"] = "none"


class RangeProgramming(Table):
    """Normal error of standard deviation ``sigma (g_max - g_min)`` on every cell."""

    kind: Literal["range"] = "range"
    sigma: float = Field(ge=0)


class ProportionalProgramming(Table):
    """Normal error of standard deviation ``sigma g`` on every cell."""

    kind: Literal["proportional"] = "proportional"
    sigma: float = Field(ge=0)


class WriteVerifyProgramming(Table):
    """Pulses and reads of the card's switching model, until a cell is within tolerance of its target."""

    kind: Literal["write_verify"] = "write_verify"
    tolerance: float = Field(gt=0, le=1, description="half width, a fraction of g_max - g_min")
    max_pulses: int = Field(ge=1, description="pulses a cell may get in one try")
    retries: int = Field(0, ge=0, description="further tries, each from an erased cell")
    read_s: float = Field(1e-7, ge=0, description="time of one read, seconds")


Programming = Annotated[
    CardProgramming | NoProgramming | RangeProgramming | ProportionalProgramming | WriteVerifyProgramming,
    Field(discriminator="kind"),
]


class Mitigation(Table):
    """What a chip does against its faults, errors and wires. Each costs cells, columns or routing."""

    copies: int = Field(1, ge=1, le=64, description="arrays that hold the same weights, currents averaged")
    spare_columns: int = Field(0, ge=0, description="bit lines of each array that replace the worst ones")
    remap_rows: bool = Field(False, description="word lines assigned to inputs so that stuck cells do least")
    compensate_faults: bool = Field(False, description="a weight's other cells make up for a stuck one")
    shuffle: Literal["none", "rows", "columns", "both"] = "none"

    @property
    def of_faults(self) -> bool:
        """Whether something is done about stuck cells one by one."""
        return self.remap_rows or self.compensate_faults or self.spare_columns > 0

    def check(self, *, encoding: str, readout: str, columns: int, wires: bool) -> None:
        """Raise ValueError where the rest of a description does not allow it.

        Args:
            encoding: of the weights.
            readout: of the arrays.
            columns: bit lines of an array.
            wires: whether they have resistance.

        Raises:
            ValueError: says which field, and what to do.
        """
        if self == Mitigation():
            return
        if readout == "digital":
            raise ValueError(
                "mitigation is for analog cells, but array.readout = 'digital' is exact; leave the table out"
            )
        if self.of_faults and encoding == "xnor":
            raise ValueError(
                "mitigation.remap_rows, compensate_faults and spare_columns do not know the pairs of word "
                "lines "
                "of encoding 'xnor'; use mitigation.copies"
            )
        if self.compensate_faults and encoding == "isaac":
            raise ValueError(
                "mitigation.compensate_faults does not know the flipped columns of encoding 'isaac'; use "
                "'offset', or mitigation.remap_rows"
            )
        if wires and (self.remap_rows or self.spare_columns):
            raise ValueError(
                "mitigation.remap_rows and spare_columns move cells, and where a cell lies matters behind "
                "wires, "
                "which this version does not compute; set array.word_line_ohm and bit_line_ohm to 0, or use "
                "mitigation.compensate_faults and copies"
            )
        if self.spare_columns >= columns:
            raise ValueError(
                f"mitigation.spare_columns = {self.spare_columns} leaves none of array.cols = {columns}; use "
                "fewer"
            )


class Normalisation(Table):
    """Circuits that normalise column sums before a conversion. Their errors are in standard deviations.

    `imcsim.normalise_in_analog` puts a network's layer normalisations on them. Of the normalised value, which
    has mean 0 and standard deviation 1, one unit is one standard deviation.
    """

    gain_error: float = Field(0.0, ge=0, description="standard deviation over circuits of the relative gain")
    offset: float = Field(0.0, ge=0, description="standard deviation over circuits of a constant")
    noise: float = Field(0.0, ge=0, description="rms of one value of one sample")
    bits: int | None = Field(
        None, ge=2, le=24, description="converter of normalised values; without it they stay analog"
    )
    range: float = Field(4.0, gt=0, description="largest magnitude that the converter takes")

    @property
    def ideal(self) -> bool:
        """Whether values come out as they are normalised."""
        return not (self.gain_error or self.offset or self.noise) and self.bits is None
