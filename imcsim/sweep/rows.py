"""What a study found: rows as tables, means with intervals, files."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imcsim.errors import StudyError, did_you_mean
from imcsim.hardware import write_atomically
from imcsim.results import CodeState, accuracy_interval, mean_interval, write_record
from imcsim.sweep.point import Point
from imcsim.sweep.store import Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """The rows of a study, in the order of its points.

    Attributes:
        name: of the study.
        points: what was asked for.
        stored: rows by the points' keys.
    """

    name: str
    points: tuple[Point, ...]
    stored: dict[str, Row]

    def __len__(self) -> int:
        return len(self.stored)

    def rows(self) -> list[dict[str, Any]]:
        """A dict a point that has run: its settings, what was measured, its error (or None) and seconds."""
        return [
            {**point.settings, **(row.result or {}), "error": _headline(row.error), "seconds": row.seconds}
            for point in self.points
            if (row := self.stored.get(point.key)) is not None
        ]

    def failures(self) -> list[dict[str, Any]]:
        """Settings and full error text of the points that failed."""
        return [
            {**point.settings, "error": row.error}
            for point in self.points
            if (row := self.stored.get(point.key)) is not None and row.error is not None
        ]

    def frame(self) -> pd.DataFrame:
        """`rows` as a table; tables and lists among the settings as JSON text."""
        import pandas as pd

        return pd.DataFrame([{key: _cell(value) for key, value in row.items()} for row in self.rows()])

    def means(self, of: str = "top1") -> list[dict[str, Any]]:
        """Means over the seeds, with 95 % intervals.

        Args:
            of: what was measured.

        Returns:
            A dict for every combination of settings other than the seed, in order: the settings, ``mean``,
            ``low`` and ``high`` of the 95 % interval, ``draws`` (seeds), and ``n`` where that was measured.
            Of top1 the interval is that of `imcsim.results.accuracy_interval`: over the samples where there
            is one seed. Of anything else it is a t-interval, and absent with one seed.

        Raises:
            StudyError: nothing of that name was measured.
        """
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            if row["error"] is None:
                if of not in row:
                    raise StudyError(
                        f"means: {of!r} was not measured.{did_you_mean(of, row)} There are {', '.join(row)}"
                    )
                chosen = {name: row[name] for name in self.axes if name != "seed"}
                groups.setdefault(json.dumps(chosen, default=str), []).append(row)
        return [self._mean(of, rows) for rows in groups.values()]

    def _mean(self, of: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        values = [float(row[of]) for row in rows]
        chosen = {name: rows[0][name] for name in self.axes if name != "seed"}
        out = {**chosen, "mean": math.fsum(values) / len(values), "low": None, "high": None}
        if of == "top1" and "n" in rows[0]:
            interval = accuracy_interval(values, rows[0]["n"])
            out |= {"low": interval.low, "high": interval.high, "n": rows[0]["n"]}
        elif len(values) > 1 and all(map(math.isfinite, values)):
            interval = mean_interval(values)
            out |= {"low": interval.low, "high": interval.high}
        return {**out, "draws": len(values)}

    @property
    def axes(self) -> list[str]:
        """Names of the settings."""
        return list(dict.fromkeys(name for point in self.points for name in point.settings))

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `frame` as csv, at once."""
        file = Path(path)
        write_atomically(file, self.frame().to_csv(index=False).encode())
        return file

    def to_record(
        self, folder: str | os.PathLike[str], *, command: str, code: CodeState | None = None
    ) -> Path:
        """Write a record with the rows, the exact configuration, seeds, version, commit and machine.

        Args:
            folder: where; the file is called after the study.
            command: makes the record again.
            code: the source that ran, where it was noted before a long run.

        Returns:
            The file.

        Raises:
            StudyError: no point has run.
        """
        rows = self.rows()
        if not rows:
            raise StudyError(f"study {self.name!r} has no rows yet; run it first")
        base = self.points[0].base
        configuration = self.points[0].configuration()
        shared = {
            key: configuration[key] for key in configuration if key not in ("hardware", "settings", "seed")
        }
        return write_record(
            self.name,
            [{key: _json(value) for key, value in row.items()} for row in rows],
            folder=folder,
            command=command,
            seeds=sorted({point.get("seed") for point in self.points}),
            n=int(rows[0].get("n") or base.images),
            hardware={"base": base.hardware},
            facts={"base": shared, "failed": len(self.failures())},
            code=code,
        )

    def require(self) -> Results:
        """These results, if every point succeeded.

        Returns:
            The results.

        Raises:
            StudyError: a point failed or has not run; says the first.
        """
        missing = sum(point.key not in self.stored for point in self.points)
        failed = self.failures()
        if missing or failed:
            first = f": {_headline(failed[0]['error'])}" if failed else ""
            raise StudyError(
                f"study {self.name!r}: {len(failed)} points failed and {missing} have not run{first}; look "
                "at failures(), and run again with retry = True"
            )
        return self


def _headline(error: str | None) -> str | None:
    return None if error is None else error.splitlines()[0]


def _json(value: Any) -> Any:
    """Descriptions of chips as tables."""
    return value.model_dump(by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value


def _cell(value: Any) -> Any:
    value = _json(value)
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
