"""What a fit found: parameters with intervals, residuals, the blocks of a device card, a figure."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from imcsim.devices.card import DeviceCard
from imcsim.errors import DeviceError
from imcsim.hardware import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Z95 = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Estimate:
    """A fitted number with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, error: float) -> Estimate:
        """``value +- 1.96 standard errors``."""
        return cls(float(value), float(value - Z95 * error), float(value + Z95 * error))

    @classmethod
    def deviation(cls, value: float, freedom: int) -> Estimate:
        """A standard deviation of normal numbers, with its interval from chi-square."""
        low, high = (value * np.sqrt(freedom / chi2.ppf(q, freedom)) for q in (0.975, 0.025))
        return cls(float(value), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True)
class Picture:
    """What a fit looks like: measured points and the equation through them.

    Attributes:
        x: of the points.
        y: likewise.
        line_x: of the curves.
        lines: label -> curve over line_x.
        x_label: with unit.
        y_label: with unit.
        log_x: a logarithmic axis.
    """

    x: Floats
    y: Floats
    line_x: Floats
    lines: dict[str, Floats]
    x_label: str
    y_label: str
    log_x: bool = False


@dataclass(frozen=True)
class Fit:
    """An equation fitted to measured points.

    Attributes:
        equation: block and equation, "programming.proportional".
        csv: the file.
        rows: rows that were used.
        parameters: name -> estimate with its 95 % interval.
        residuals: of the rows used, in units of their fitted standard deviation: N(0, 1) where the equation
            is right.
        blocks: tables of a device card.
        picture: for `plot`.
        notes: what a user should know, such as rows left out.
    """

    equation: str
    csv: str
    rows: int
    parameters: dict[str, Estimate]
    residuals: Floats
    blocks: dict[str, dict[str, Any]]
    picture: Picture
    notes: tuple[str, ...] = field(default=())

    @property
    def residual_rms(self) -> float:
        """Root mean square of the residuals: near 1 where the equation is right."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))

    def __str__(self) -> str:
        head = f"{self.equation} from {self.rows} rows of {self.csv} (95 % intervals)"
        found = [f"  {name} = {estimate}" for name, estimate in self.parameters.items()]
        tail = f"  residuals: rms {self.residual_rms:.3f} of what the equation says"
        return "\n".join([head, *found, tail, *(f"  note: {note}" for note in self.notes)])

    def card(self, name: str, *, technology: str = "rram") -> DeviceCard:
        """A device card with this fit alone.

        Args:
            name: of the card.
            technology: rram, pcm, fefet or sram.

        Returns:
            The card.

        Raises:
            DeviceError: the name or technology is not one.
        """
        return DeviceCard.parse(self._merged({}, name, technology), name)

    def save(self, path: str | os.PathLike[str], *, technology: str = "rram") -> Path:
        """Write a device card, or put this fit's tables into one that is there; other tables stay.

        ``fit(...).save("mine.toml")`` for one equation after the other makes a whole card, whose name is the
        file's.

        Args:
            path: a .toml file.
            technology: rram, pcm, fefet or sram; that of a card that is there stays.

        Returns:
            The path.

        Raises:
            DeviceError: the path does not end in .toml, or the file there is not a device card.
            FileMissingError: the folder does not exist.
        """
        file = Path(path)
        if file.suffix != ".toml":
            raise DeviceError(f"a device card is a .toml file, but path = {str(file)!r}; end it in .toml")
        there: dict[str, Any] = {}
        if file.is_file():
            try:
                there = tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise DeviceError(
                    f"{str(file)!r} is not TOML: {error}; give a device card or a new path"
                ) from None
        data = self._merged(there, file.stem, technology)
        if "points" not in there:
            DeviceCard.parse(data, repr(str(file)))
        write_atomically(file, tomli_w.dumps(data).encode())
        return file

    def _merged(self, there: dict[str, Any], name: str, technology: str) -> dict[str, Any]:
        """The tables of a card with this fit's added; a range that is there stays unless it was fitted."""
        data: dict[str, Any] = {
            "schema": 1,
            "name": name,
            "title": f"fitted to {Path(self.csv).name}",
            "technology": technology,
            "confidence": "A",
            **there,
        }
        source = f"fit_{self.equation.replace('.', '_')}"
        sources = dict(data.get("sources", {}))
        sources[source] = {
            "authors": "measured",
            "venue": f"{Path(self.csv).name}, fitted by imcsim.devices.fit as {self.equation}",
            "year": 0,
            "note": "; ".join([*(f"{k} = {v}" for k, v in self.parameters.items()), *self.notes]),
        }
        data["sources"] = sources
        block_of = self.equation.split(".")[0]
        for block, values in self.blocks.items():
            given = block == block_of or (block_of == "levels" and block == "conductance")
            if given or block not in data:
                data[block] = {**values, "source": source, "confidence": "A"}
        return data

    def plot(self, ax: Axes | None = None) -> Axes:
        """The measured points and the equation through them.

        Args:
            ax: where to draw; None: a new figure.

        Returns:
            The axes; ``ax.figure.savefig("fit.png")``.
        """
        from matplotlib.figure import Figure  # only where it is asked for

        if ax is None:
            ax = Figure(figsize=(5.0, 3.6), layout="constrained").subplots()
        p = self.picture
        ax.plot(p.x, p.y, ".", markersize=3, alpha=0.4, color="0.5", label="measured")
        for label, line in p.lines.items():
            ax.plot(p.line_x, line, linewidth=1.5, label=label)
        if p.log_x:
            ax.set_xscale("log")
        ax.set(xlabel=p.x_label, ylabel=p.y_label, title=self.equation)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize="small")
        return ax
