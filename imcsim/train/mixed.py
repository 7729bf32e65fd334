"""Mixed precision: how many bits each layer gets, by sensitivity and within a budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from imcsim.batches import iterate
from imcsim.convert import convert, named_layers
from imcsim.errors import InputError
from imcsim.hardware import Hardware
from imcsim.mapping import placement_of
from imcsim.train.sensitivity import Loss, hessian_traces, layer_sqnr, weight_loss

Options = Mapping[str, Sequence[Any]]
"""What each layer may have: dotted names of the hardware with values, or any name with dicts of changes."""

Cost = Callable[[nn.Module], Mapping[str, float]]
"""What each layer of a converted model costs, by name."""

Measure = Literal["sqnr", "hessian"]


def array_count(sim: nn.Module) -> dict[str, float]:
    """Arrays of each layer. The default cost of `by_sensitivity` and `search`.

    Args:
        sim: a converted model.

    Returns:
        Physical arrays by layer name.
    """
    return {name: float(placement_of(layer.array).arrays) for name, layer in named_layers(sim).items()}


def weight_bits(sim: nn.Module) -> dict[str, float]:
    """Bits of each layer's weights: the size of the network in memory.

    Args:
        sim: a converted model.

    Returns:
        Weights times their width, by layer name.
    """
    layers = named_layers(sim)
    return {name: float(la.weight.numel() * la.array.hardware.weights.bits) for name, la in layers.items()}


def settings(hardware: Hardware, options: Options) -> list[Hardware]:
    """Every combination of options, as chips.

    Args:
        hardware: the chip that options change.
        options: dotted names with values, ``{"weights.bits": (2, 4, 8), "adc.bits": (5, 8)}``; a value that
            is a dict changes several fields at once.

    Returns:
        The chips, the last option varying fastest.

    Raises:
        InputError: no options, or one without values.
        HardwareError: a combination that is no chip.
    """
    if not options or not all(len(values) for values in options.values()):
        raise InputError(
            f"options = {dict(options)!r:.80}: at least one field with at least one value is needed, such as "
            "{'weights.bits': (2, 4, 8)}"
        )
    combinations = itertools.product(*options.values())
    return [hardware.replace(changes(dict(zip(options, values, strict=True)))) for values in combinations]


def changes(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Chosen values as the changes of `Hardware.replace`."""
    merged: dict[str, Any] = {}
    for name, value in chosen.items():
        merged.update(value if isinstance(value, Mapping) else {name: value})
    return merged


def by_sensitivity(
    model: nn.Module,
    hardware: Hardware,
    options: Options,
    batches: Iterable[Any],
    *,
    budget: float,
    cost: Cost = array_count,
    fixed: Mapping[str, Hardware | None] | None = None,
    measure: Measure = "sqnr",
    loss: Loss = nn.functional.cross_entropy,
    probes: int = 16,
    seed: int = 0,
) -> dict[str, Hardware | None]:
    """The bits of each layer that lose least within a budget.

    ``min sum_l L_l(o_l)`` subject to ``sum_l C_l(o_l) <= budget``, solved exactly as an integer program.
    L is, by `measure`, the layer's noise over its signal, ``10^(-SQNR / 10)`` of `layer_sqnr`, which takes
    weight, input and converter bits alike; or HAWQ-V2's ``tr(H) / n ||Q(w) - w||^2``, which takes weight bits
    alone.

    Args:
        model: a float model.
        hardware: the chip that options change.
        options: what each layer may have, as for `settings`.
        batches: (input, target) pairs for the Hessian, tensors will do for SQNR; calibration ranges come from
            them too.
        budget: on the sum of costs of the layers that are not fixed.
        cost: of each layer of a converted model; energy, say, from `imcsim.estimate`.
        fixed: patterns of layers that are not to be chosen, with their chips: first and last layer at 8 bits.
        measure: sqnr or hessian.
        loss: for the Hessian.
        probes: for the Hessian.
        seed: for the Hessian.

    Returns:
        Chips by pattern, for `imcsim.convert`.

    Raises:
        InputError: a budget that no choice meets (says what the cheapest costs), options other than weights.*
            with the Hessian, or an unknown measure.
        HardwareError: a combination of options that is no chip.

    References: Z. Dong et al., "HAWQ-V2", NeurIPS 2020; Z. Yao et al., "HAWQ-V3: Dyadic Neural Network
        Quantization", ICML 2021 (the integer program).
    """
    if measure not in get_args(Measure):
        raise InputError(f"measure = {measure!r} is not one of {', '.join(get_args(Measure))}")
    held = iterate(batches, "by_sensitivity")
    chips, fixed = settings(hardware, options), dict(fixed or {})
    names = free_layers(model, hardware, fixed)
    if measure == "hessian":
        losses = _curved_losses(model, names, chips, options, held, loss=loss, probes=probes, seed=seed)
    else:
        found = [layer_sqnr(model, {"*": chip, **fixed}, held) for chip in chips]
        losses = [[_noise_over_signal(sqnr[name]) for sqnr in found] for name in names]
    priced = [layer_costs(cost, convert(model, {"*": chip, **fixed}), names) for chip in chips]
    costs = [[prices[name] for prices in priced] for name in names]
    chosen = _least_loss(losses, costs, budget)
    return {**{name: chips[o] for name, o in zip(names, chosen, strict=True)}, **fixed}


def free_layers(
    model: nn.Module, hardware: Hardware, fixed: Mapping[str, Hardware | None]
) -> tuple[str, ...]:
    """Names of the layers that no pattern of `fixed` names."""
    return tuple(named_layers(convert(model, {"*": hardware, **dict.fromkeys(fixed)})))


def layer_costs(cost: Cost, sim: nn.Module, names: Sequence[str]) -> dict[str, float]:
    """What a cost function says of these layers.

    Raises:
        InputError: it leaves one out, or gives something that is not a finite number.
    """
    found = cost(sim)
    wrong = [name for name in names if not math.isfinite(found.get(name, math.nan))]
    if wrong:
        raise InputError(
            f"cost gave {found.get(wrong[0])!r} for layer {wrong[0]!r}; a finite number for every layer is "
            f"needed: {', '.join(names)}"
        )
    return {name: float(found[name]) for name in names}


def _noise_over_signal(sqnr: float) -> float:
    """Finite also where a layer has no signal at all."""
    return 10.0 ** (-max(sqnr, -60.0) / 10)


def _curved_losses(
    model: nn.Module,
    names: Sequence[str],
    chips: Sequence[Hardware],
    options: Options,
    batches: Sequence[Any],
    *,
    loss: Loss,
    probes: int,
    seed: int,
) -> list[list[float]]:
    """HAWQ-V2's sensitivity of each layer at each option."""
    touched = {key for name, values in options.items() for v in values for key in changes({name: v})}
    other = sorted(key for key in touched if not key.startswith("weights."))
    if other:
        raise InputError(
            f"measure = 'hessian' is about weights only, but options change {other[0]!r}; leave it out, or "
            f"use measure = 'sqnr'"
        )
    traces = hessian_traces(model, batches, loss=loss, probes=probes, seed=seed, layers=names)
    modules = dict(model.named_modules())

    def of(name: str, bits: int) -> float:
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        return weight_loss(weight, bits, max(0.0, float(traces[name].mean())))

    return [[of(name, chip.weights.bits) for chip in chips] for name in names]


def _least_loss(
    losses: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float
) -> list[int]:
    """The option of each layer: an integer program with one binary variable a layer and option."""
    cheapest = math.fsum(min(row) for row in costs)
    if not budget >= cheapest:
        raise InputError(
            f"budget = {budget:g} is below {cheapest:g}, what the cheapest options of all layers cost "
            f"together; raise it or offer cheaper options"
        )
    layers, options = len(losses), len(losses[0])
    one_each = np.kron(np.eye(layers), np.ones(options))
    weights = np.asarray(losses, dtype=float).ravel()
    found = milp(
        weights / max(weights.max(), np.finfo(float).tiny),
        integrality=np.ones(layers * options),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(np.asarray(costs, dtype=float).reshape(1, -1), -np.inf, budget),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:  # a budget that only rounding keeps from being met
        raise InputError(f"budget = {budget:g}: no choice of options meets it ({found.message}); raise it")
    return [int(row.argmax()) for row in found.x.reshape(layers, options)]
