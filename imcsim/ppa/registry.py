"""Component models by name: what an event costs in joules, and an instance in square micrometres."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imcsim.costs import Confidence
from imcsim.errors import HardwareError, did_you_mean


@dataclass(frozen=True)
class Cost:
    """What one instance of a component costs.

    Attributes:
        energy_J: of one event.
        area_um2: of one instance.
        latency_s: of one event.
        leakage_W: of one instance, whatever it does.
    """

    energy_J: float
    area_um2: float
    latency_s: float = 0.0
    leakage_W: float = 0.0


@dataclass(frozen=True)
class Model:
    """A registered component model.

    Attributes:
        name: by which a `[components.*]` table names it.
        function: keyword parameters to a cost. Parameters that the caller does not give come from the chip
            (`bits`, `node_nm`, `rows`, ...) or have a default.
        source: where its numbers are from.
        confidence: A re-derives, B one secondary source, C recalled or assumed.
    """

    name: str
    function: Callable[..., Cost]
    source: str
    confidence: Confidence

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of its parameters."""
        return tuple(inspect.signature(self.function).parameters)


_MODELS: dict[str, Model] = {}


def register(
    name: str, *, source: str, confidence: Confidence
) -> Callable[[Callable[..., Cost]], Callable[..., Cost]]:
    """Register a component model.

    Args:
        name: its name in `[components.*]` tables.
        source: where its numbers are from.
        confidence: A, B or C.

    Returns:
        A decorator for the function.
    """

    def add(function: Callable[..., Cost]) -> Callable[..., Cost]:
        if name in _MODELS:
            raise HardwareError(f"a component model {name!r} is registered already; choose another name")
        _MODELS[name] = Model(name, function, source, confidence)
        return function

    return add


def available() -> tuple[str, ...]:
    """Names of the component models."""
    return tuple(sorted(_MODELS))


def model(name: str) -> Model:
    """A component model by name.

    Args:
        name: its name.

    Returns:
        The model.

    Raises:
        HardwareError: there is none of this name.
    """
    if name not in _MODELS:
        raise HardwareError(
            f"component model {name!r} does not exist.{did_you_mean(name, _MODELS)} Models: fixed, "
            f"{', '.join(available())}"
        )
    return _MODELS[name]


def cost(name: str, params: Mapping[str, Any], context: Mapping[str, float]) -> Cost:
    """Evaluate a component model.

    Args:
        name: its name.
        params: parameters that the caller sets.
        context: what the chip says; used for parameters of these names that the caller does not set.

    Returns:
        The cost of one instance.

    Raises:
        HardwareError: an unknown or missing parameter, or a value outside the model's range.
    """
    found = model(name)
    signature = inspect.signature(found.function).parameters
    for key in params:
        if key not in signature:
            raise HardwareError(
                f"component model {name!r} has no parameter {key!r}.{did_you_mean(key, signature)} "
                f"Parameters: {', '.join(signature)}"
            )
    given = {key: context[key] for key in signature if key in context} | dict(params)
    missing = [k for k, p in signature.items() if p.default is inspect.Parameter.empty and k not in given]
    if missing:
        raise HardwareError(f"component model {name!r} needs {', '.join(missing)}; give it in params")
    return found.function(**given)
