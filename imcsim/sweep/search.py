"""Multi-objective search over a study's axes with Optuna, several workers on one storage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from imcsim.errors import MissingPackageError, StudyError
from imcsim.functional.noise import keyed_generator
from imcsim.progress import progress
from imcsim.sweep.axes import Axis, Choices
from imcsim.sweep.point import expand
from imcsim.sweep.store import Row, Store
from imcsim.sweep.task import attempt

if TYPE_CHECKING:
    import optuna

    from imcsim.sweep.study import Study

Objectives = Mapping[str, str]

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Trial:
    """One point that a search tried.

    Attributes:
        number: in the order of trials.
        settings: what was chosen.
        values: of the objectives, means over the repeats.
    """

    number: int
    settings: Mapping[str, Any]
    values: Mapping[str, float]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        objectives: by name, their direction.
        trials: those that gave values.
        front: of them, those that no other beats in all objectives.
        failed: how many points failed; their errors are rows of the study's file.
    """

    objectives: dict[str, str]
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    failed: int

    def rows(self) -> list[dict[str, Any]]:
        """A dict a trial: number, settings, objectives, and whether it is on the front."""
        best = {trial.number for trial in self.front}
        return [
            {"trial": trial.number, **trial.settings, **trial.values, "front": trial.number in best}
            for trial in self.trials
        ]


def search(
    study: Study, objectives: Objectives, trials: int, *, storage: str | None = None, seed: int = 0
) -> Found:
    """See `Study.search`."""
    _check(study, objectives, trials)
    if study.file is None:
        raise StudyError("a search keeps its trials on disk: give the study a file")
    place = storage or f"sqlite:///{Path(study.file).with_suffix('.optuna.db').absolute()}"
    _open(study, objectives, place)  # once, before workers race to make it
    if study.workers == 1:
        work(study, dict(objectives), trials, place, seed)
    else:
        import joblib

        with joblib.parallel_config(backend="loky", inner_max_num_threads=study.threads):
            joblib.Parallel(n_jobs=study.workers)(
                joblib.delayed(work)(study, dict(objectives), trials, place, seed)
                for _ in range(study.workers)
            )
    return _found(_open(study, objectives, place), study, dict(objectives))


def work(study: Study, objectives: dict[str, str], trials: int, storage: str, seed: int) -> None:
    """Try points until the storage has as many as asked for; one of its workers.

    Each trial's sampler has a draw of its own, keyed by the seed and the trial's number.
    """
    package = _optuna()
    shared = _open(study, objectives, storage)
    states = package.trial.TrialState
    ended = (states.COMPLETE, states.FAIL)  # a trial of a killed worker stays RUNNING for ever
    rows = Store(study.file)
    try:
        for _ in progress(range(trials), f"searching {study.name}"):
            if len(shared.get_trials(deepcopy=False, states=ended)) >= trials:
                break
            trial = shared.ask()
            draw = int(keyed_generator(seed, f"trial {trial.number}", "study search").integers(1 << 31))
            shared.sampler = package.samplers.TPESampler(seed=draw, multivariate=False)
            try:
                settings = expand({name: _suggest(trial, name, axis) for name, axis in study.axes.items()})
                values = _values(study, rows, settings, objectives)
            except BaseException:
                shared.tell(trial, state=states.FAIL)
                raise
            if values is None:
                shared.tell(trial, state=states.FAIL)
            else:
                shared.tell(trial, values)
    finally:
        rows.close()


def _values(
    study: Study, store: Store, settings: dict[str, Any], objectives: dict[str, str]
) -> list[float] | None:
    """Means of the objectives over a point's repeats, from rows where they are; None where one failed."""
    points = study.chips_of(settings)
    have = store.rows(point.key for point in points)
    rows: list[Row] = []
    for point in points:
        row = have.get(point.key)
        if row is None:
            row = attempt(point)
            store.add(row)
        rows.append(row)
    if any(row.result is None for row in rows):
        return None
    out = []
    for name in objectives:
        values = [(row.result or {}).get(name) for row in rows]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise StudyError(
                f"objective {name!r} = {values[0]!r}: it must be a finite number that each point gives; "
                "energy_J, latency_s and area_mm2 need costs = true"
            )
        out.append(math.fsum(values) / len(values))  # type: ignore[arg-type]
    return out


def _suggest(trial: optuna.Trial, name: str, axis: Axis) -> Any:
    if isinstance(axis, Choices):
        labels = {json.dumps(value, default=str): value for value in axis.values}
        return labels[trial.suggest_categorical(name, list(labels))]
    if axis.integer:
        return trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(name, axis.low, axis.high, log=axis.log)


def _check(study: Study, objectives: Objectives, trials: int) -> None:
    if not isinstance(objectives, Mapping) or not objectives or set(objectives.values()) - set(DIRECTIONS):
        raise StudyError(
            f"objectives = {objectives!r:.80}: give names of what is measured with 'maximize' or 'minimize', "
            "such as top1 = 'maximize'"
        )
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise StudyError(f"trials = {trials!r} is not a whole number, 1 or more")


def _open(study: Study, objectives: Objectives, storage: str) -> optuna.Study:
    package = _optuna()
    loud = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.WARNING)  # it would announce the study on stderr
    try:
        found: optuna.Study = package.create_study(
            storage=storage,
            study_name=study.name,
            directions=list(objectives.values()),
            load_if_exists=True,
        )
    finally:
        package.logging.set_verbosity(loud)
    want = json.dumps([dict(objectives), {name: repr(axis) for name, axis in study.axes.items()}])
    have = found.user_attrs.get("study")
    if have is None:
        found.set_user_attr("study", want)
    elif have != want:
        raise StudyError(
            f"the search {study.name!r} in {storage!r} was begun with other objectives or axes; give the "
            "study another name or file"
        )
    return found


def _found(shared: optuna.Study, study: Study, objectives: dict[str, str]) -> Found:
    package = _optuna()
    trials = []
    for trial in shared.get_trials(deepcopy=False, states=(package.trial.TrialState.COMPLETE,)):
        chosen = {
            name: _value(axis, trial.params[name])
            for name, axis in study.axes.items()
            if name in trial.params
        }
        trials.append(Trial(trial.number, expand(chosen), dict(zip(objectives, trial.values, strict=True))))
    failed = len(shared.get_trials(deepcopy=False, states=(package.trial.TrialState.FAIL,)))
    best = {trial.number for trial in shared.best_trials} if trials else set()
    front = sorted((t for t in trials if t.number in best), key=lambda t: list(t.values.values()))
    return Found(objectives, tuple(trials), tuple(front), failed)


def _value(axis: Axis, stored: Any) -> Any:
    if isinstance(axis, Choices):
        return {json.dumps(value, default=str): value for value in axis.values}[stored]
    return stored


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError(
            "a search needs the package 'optuna'; install it with pip install 'imcsim[search]'"
        ) from error
    return optuna
