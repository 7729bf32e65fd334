"""`Study`: a design over axes, run point by point into one file."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from imcsim.errors import FileMissingError, StudyError, did_you_mean
from imcsim.hardware import Hardware
from imcsim.presets import load_hardware
from imcsim.progress import progress
from imcsim.sweep.axes import read_axes
from imcsim.sweep.design import Design, points_of
from imcsim.sweep.point import Base, Point, expand
from imcsim.sweep.rows import Results
from imcsim.sweep.search import Found, Objectives, search
from imcsim.sweep.store import Store
from imcsim.sweep.task import attempt
from imcsim.sweep.workers import Backend, run_points


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        points: in the design.
        done: of them, those that have a good row already.
        failed: those whose row is an error.
        seconds_each: of one point: the mean of the rows there are, else of one that was timed; None where
            nothing is left to do.
        seconds: that the run would take with its workers.
    """

    points: int
    done: int
    failed: int
    seconds_each: float | None
    seconds: float

    @property
    def to_do(self) -> int:
        """Points without a row."""
        return self.points - self.done - self.failed

    def __str__(self) -> str:
        each = "" if self.seconds_each is None else f", {self.seconds_each:.3g} s each"
        return (
            f"{self.points} points: {self.done} done, {self.failed} failed, {self.to_do} to do{each}: about "
            f"{self.seconds:.0f} s"
        )


class Study:
    """A network over many chips: a design of points, measured one by one into a file.

    Run it again to go on where it stopped: a point is known by the hash of its whole configuration, its row
    is written when it finishes, and what has a row is not measured again. Points that fail leave their error
    as their row.

    Args:
        axes: what varies, by name: a list of values, or a `Range` (also ``{"low": ..., "high": ...}``) for
            random and Latin designs and for searches. A name is a dotted field of the hardware, one of
            hardware, model, checkpoint, data, seed, age, compensation, engine, fold_batchnorm; or several
            joined by commas, which then take the same value.
        name: of the study, its records and searches.
        file: SQLite file of the rows; None: in memory.
        hardware: the chip that axes change: a preset, a .toml file, a dict or a `Hardware`.
        design: grid, random or latin.
        samples: points of a random or Latin design.
        design_seed: of these draws.
        repeats: chips for each point: seeds seed, seed + 1, ...
        workers: processes.
        threads: of each worker process.
        backend: joblib (this machine) or ray (a cluster).
        address: of a Ray cluster; None: one on this machine.
        **base: what holds for all points; see `imcsim.sweep.point.Base`: model, checkpoint, data, folder,
            images, batch, seed, age, compensation, engine, fold_batchnorm, costs, and evaluate: a function
            of a `Point` that returns a dict of numbers, in place of accuracy on a chip.

    Raises:
        StudyError: a name, an axis or an option is wrong.
        HardwareError, FileMissingError: the chip.
    """

    def __init__(
        self,
        axes: Mapping[str, Any],
        *,
        name: str = "study",
        file: str | os.PathLike[str] | None = None,
        hardware: str | os.PathLike[str] | Mapping[str, Any] | Hardware = "isaac",
        design: Design = "grid",
        samples: int | None = None,
        design_seed: int = 0,
        repeats: int = 1,
        workers: int = 1,
        threads: int = 1,
        backend: Backend = "joblib",
        address: str | None = None,
        **base: Any,
    ) -> None:
        allowed = [item.name for item in fields(Base) if item.name != "hardware"]
        for key in base:
            if key not in allowed:
                raise StudyError(
                    f"Study got an unknown option {key!r}.{did_you_mean(key, allowed)} Options: "
                    f"{', '.join(allowed)}"
                )
        if not name or Path(name).name != name:
            raise StudyError(f"name = {name!r} is not a plain name such as 'adc_bits'")
        chip = load_hardware(hardware) if isinstance(hardware, str | os.PathLike) else hardware
        self.base = Base(hardware=Hardware.model_validate(chip), **base)
        self.axes = read_axes(axes, free=self.base.evaluate is not None)
        self.name, self.file = name, file
        self.design, self.samples, self.design_seed = design, samples, design_seed
        self.repeats = _count(repeats, "repeats")
        if self.repeats > 1 and "seed" in self.axes:
            raise StudyError("repeats are seeds of their own: give repeats or an axis 'seed', not both")
        self.workers, self.threads, self.backend, self.address = workers, threads, backend, address

    searching: Mapping[str, Any] | None = None
    """The [search] table of a file."""

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Study:
        """A study from a file: [study] with the options, [axes], and [hardware] or ``hardware`` in [study].

        Args:
            path: the .toml file; a relative `file` of rows lies beside it.

        Returns:
            The study.

        Raises:
            FileMissingError: there is no such file.
            StudyError: it is not TOML, or an option is wrong.
        """
        source = Path(path)
        if not source.is_file():
            raise FileMissingError(
                f"study file {str(source)!r} does not exist; give the path of a .toml file"
            )
        try:
            data = tomllib.loads(source.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"study file {str(source)!r} is not valid TOML: {error}") from None
        allowed = ("study", "axes", "hardware", "search")
        for key in data:
            if key not in allowed:
                raise StudyError(
                    f"study file {str(source)!r} has an unknown table [{key}].{did_you_mean(key, allowed)} "
                    f"Tables: {', '.join(allowed)}"
                )
        options = {"name": source.stem, "file": f"{source.stem}.sqlite", **data.get("study", {})}
        options["file"] = source.parent / options["file"]
        if "hardware" in data:
            options["hardware"] = data["hardware"]
        try:
            study = cls(data.get("axes", {}), **options)
        except TypeError as error:
            raise StudyError(f"study file {str(source)!r}: {error}") from None
        study.searching = data.get("search")
        return study

    def points(self) -> tuple[Point, ...]:
        """The design's points, each once, with a seed each."""
        chosen = points_of(self.axes, self.design, self.samples, self.design_seed)
        found: dict[str, Point] = {}
        for values in chosen:
            for point in self.chips_of(expand(values)):
                found.setdefault(point.key, point)
        return tuple(found.values())

    def chips_of(self, settings: dict[str, Any]) -> list[Point]:
        """The repeats of one choice of settings."""
        if "seed" in settings:
            return [Point(self.base, settings)]
        first = self.base.seed
        return [Point(self.base, {**settings, "seed": first + i}) for i in range(self.repeats)]

    def run(self, *, retry: bool = False) -> Results:
        """Measure every point that has no row yet.

        Args:
            retry: points that failed are measured again.

        Returns:
            The rows of all points.

        Raises:
            StudyError: a worker died; rows that were there are kept.
        """
        points = self.points()
        store = Store(self.file)
        try:
            have = store.rows(point.key for point in points)
            left = [
                point
                for point in points
                if point.key not in have or (retry and have[point.key].error is not None)
            ]
            rows = run_points(
                left,
                workers=self.workers,
                threads=self.threads,
                backend=self.backend,
                address=self.address,
            )
            for row in progress(rows, self.name, total=len(left)):
                store.add(row)
            return Results(self.name, points, store.rows(point.key for point in points))
        finally:
            store.close()

    def results(self) -> Results:
        """The rows there are, without measuring anything."""
        points = self.points()
        store = Store(self.file)
        try:
            return Results(self.name, points, store.rows(point.key for point in points))
        finally:
            store.close()

    def plan(self) -> Plan:
        """What `run` would do and about how long: measures one point, unless rows tell; writes nothing.

        Returns:
            The plan.
        """
        found = self.results() if self.file is not None and Path(self.file).is_file() else None
        stored = {} if found is None else found.stored
        points = self.points()
        failed = sum(row.error is not None for row in stored.values())
        left = [point for point in points if point.key not in stored]
        good = [row.seconds for row in stored.values() if row.error is None]
        each = None
        if left:
            each = sum(good) / len(good) if good else _timed(left[0])
        total = len(left) * (each or 0.0) / self.workers
        return Plan(len(points), len(stored) - failed, failed, each, total)

    def search(
        self,
        objectives: Objectives,
        trials: int,
        *,
        storage: str | None = None,
        seed: int = 0,
    ) -> Found:
        """Look for points that no other beats in all objectives, with Optuna.

        Args:
            objectives: by what is measured, "maximize" or "minimize":
                ``{"top1": "maximize", "energy_J": "minimize"}``.
            trials: points to try in all, those of earlier runs and of other workers included.
            storage: an Optuna storage URL, shared by all workers; None: an SQLite file beside the rows.
            seed: of the sampler.

        Returns:
            The trials and their front; rows land in the study's file as in `run`.

        Raises:
            StudyError: objectives, trials, or a study without a file.
            MissingPackageError: Optuna is not installed.
        """
        return search(self, objectives, trials, storage=storage, seed=seed)


def _timed(point: Point) -> float:
    started = time.perf_counter()
    attempt(point)
    return time.perf_counter() - started


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StudyError(f"{name} = {value!r} is not a whole number, 1 or more")
    return value
