"""Mixed precision by search: accuracy against a cost, resumable, several workers on one storage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import nn

from imcsim.batches import iterate
from imcsim.calibrate import calibrate
from imcsim.convert import convert
from imcsim.errors import InputError, MissingPackageError
from imcsim.evaluate import evaluate
from imcsim.functional.noise import keyed_generator
from imcsim.hardware import Hardware
from imcsim.progress import progress
from imcsim.train.mixed import Cost, Options, array_count, changes, free_layers, layer_costs

if TYPE_CHECKING:
    import optuna

Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Candidate:
    """One choice of bits for all layers, and what it gave.

    Attributes:
        number: of the trial.
        chosen: by layer, the value of each option.
        score: top-1 unless another score was asked for; more is better.
        cost: of the layers that are not fixed.
    """

    number: int
    chosen: Mapping[str, Mapping[str, Any]]
    score: float
    cost: float


@dataclass(frozen=True)
class MixedSearch:
    """What `search` found.

    Attributes:
        hardware: the chip that options change.
        fixed: chips of the layers that were not chosen.
        candidates: in the order of their trials.
    """

    hardware: Hardware
    fixed: Mapping[str, Hardware | None]
    candidates: tuple[Candidate, ...]

    @property
    def front(self) -> tuple[Candidate, ...]:
        """Candidates that no other one beats in score and cost both, the cheapest first."""
        out: list[Candidate] = []
        for one in sorted(self.candidates, key=lambda c: (c.cost, -c.score, c.number)):
            if not out or one.score > out[-1].score:
                out.append(one)
        return tuple(out)

    def best(self, budget: float = math.inf) -> Candidate:
        """The candidate of the highest score within a budget; of equals the cheapest.

        Args:
            budget: on the cost.

        Returns:
            The candidate.

        Raises:
            InputError: none is within it.
        """
        within = [c for c in self.front if c.cost <= budget]
        if not within:
            cheapest = min((c.cost for c in self.candidates), default=math.nan)
            raise InputError(
                f"budget = {budget:g}: the cheapest of {len(self.candidates)} candidates costs {cheapest:g}; "
                f"raise it or search on"
            )
        return within[-1]

    def chips(self, candidate: Candidate) -> dict[str, Hardware | None]:
        """A candidate as chips by pattern, for `imcsim.convert`."""
        own = {name: self.hardware.replace(changes(values)) for name, values in candidate.chosen.items()}
        return {**own, **self.fixed}


def search(
    model: nn.Module,
    hardware: Hardware,
    options: Options,
    batches: Iterable[Any],
    *,
    calibration: Iterable[Any],
    trials: int,
    cost: Cost = array_count,
    score: Score | None = None,
    fixed: Mapping[str, Hardware | None] | None = None,
    storage: str | None = None,
    name: str = "mixed",
    seed: int = 0,
) -> MixedSearch:
    """Search the bits of every layer for high accuracy at low cost, with Optuna's multi-objective TPE.

    A storage keeps the trials: call again with the same storage and name to go on where a search stopped, or
    from several processes at once to share one. The draws of trial n are keyed by seed and n, so that a
    search that was stopped and went on equals one that was not (with a single worker).

    Args:
        model: a float model.
        hardware: the chip that options change.
        options: what each layer may have: dotted names of the hardware with values.
        batches: (input, label) pairs for the accuracy.
        calibration: batches that set the ranges of each candidate.
        trials: completed trials of the study, earlier and other workers' ones included.
        cost: of each layer of a converted model; their sum is minimised.
        score: of a calibrated candidate, maximised; None: top-1 on `batches`. A score that trains first works
            too.
        fixed: patterns of layers that are not to be chosen, with their chips.
        storage: an Optuna storage URL such as "sqlite:///search.db"; None: in memory.
        name: of the study in the storage.
        seed: of the sampler.

    Returns:
        All candidates, their Pareto front, and chips for `imcsim.convert`.

    Raises:
        InputError: fewer than one trial, no options, or a storage whose study has other options.
        MissingPackageError: Optuna is not installed.

    References: T. Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019,
        doi:10.1145/3292500.3330701; Y. Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator",
        J. Artif. Intell. Res. 73 (2022), doi:10.1613/jair.1.13188.
    """
    if trials < 1 or not options or not all(len(values) for values in options.values()):
        raise InputError(
            f"search got trials = {trials} and options = {dict(options)!r:.80}; at least one trial, and one "
            "option with at least one value, are needed"
        )
    optuna = _optuna()
    fixed = dict(fixed or {})
    names = free_layers(model, hardware, fixed)
    held, ranges = iterate(batches, "search"), iterate(calibration, "search")
    study = _study(optuna, storage, name, {"layers": names, "options": dict(options)})

    def tried(chosen: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
        own = {layer: hardware.replace(changes(values)) for layer, values in chosen.items()}
        sim = convert(model, {**own, **fixed})
        price = math.fsum(layer_costs(cost, sim, names).values())
        calibrate(sim, ranges)
        return (evaluate(sim, held).top1 if score is None else float(score(sim))), price

    for _ in progress(range(trials), "searching"):
        done = _candidates(study, names, options)
        if len(done) >= trials:
            break
        known = {json.dumps(c.chosen): (c.score, c.cost) for c in done}
        trial = study.ask()
        try:
            chosen = _suggested(optuna, study, trial, names, options, seed)
            study.tell(trial, known.get(json.dumps(chosen)) or tried(chosen))
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
    return MixedSearch(hardware, fixed, tuple(_candidates(study, names, options)[:trials]))


def _suggested(
    package: ModuleType,
    study: optuna.Study,
    trial: optuna.Trial,
    names: Sequence[str],
    options: Options,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """A trial's choice. Its sampler is its own, so that draws depend on the trial's number alone."""
    draw = int(keyed_generator(seed, f"trial {trial.number}", "mixed-precision search").integers(1 << 31))
    study.sampler = package.samplers.TPESampler(seed=draw, multivariate=False)

    def one(layer: str, option: str) -> Any:
        labels = {json.dumps(value): value for value in options[option]}
        return labels[trial.suggest_categorical(f"{layer} {option}", list(labels))]

    return {layer: {option: one(layer, option) for option in options} for layer in names}


def _candidates(study: optuna.Study, names: Sequence[str], options: Options) -> list[Candidate]:
    """The study's completed trials, whoever ran them."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "COMPLETE":
            chosen = {la: {o: json.loads(trial.params[f"{la} {o}"]) for o in options} for la in names}
            found.append(Candidate(trial.number, chosen, *trial.values))
    return found


def _study(package: ModuleType, storage: str | None, name: str, what: dict[str, Any]) -> optuna.Study:
    """The study of this name, new or as it was left."""
    loud = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.WARNING)  # it would announce the study on stderr
    try:
        study: optuna.Study = package.create_study(
            storage=storage, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
        )
    finally:
        package.logging.set_verbosity(loud)
    want = json.loads(json.dumps(what))
    for key, value in want.items():
        have = study.user_attrs.get(key)
        if have is None:
            study.set_user_attr(key, value)
        elif have != value:
            raise InputError(
                f"the study {name!r} in {storage!r} was made for {key} = {have!r:.80}, not {value!r:.80}; "
                f"give another name or storage"
            )
    return study


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError(
            "imcsim.train.search needs the package 'optuna'; install it with pip install 'imcsim[search]'"
        ) from error
    return optuna
