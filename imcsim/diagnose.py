"""Where accuracy goes: what each cause costs each layer, in decibels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from imcsim.batches import evaluation_mode, to_model
from imcsim.convert import arrays, named_layers
from imcsim.errors import InputError
from imcsim.evaluate import decibels
from imcsim.nn import CrossbarLayer
from imcsim.nn.array import CrossbarArray
from imcsim.nn.effects import ALL, IDEAL, Effects
from imcsim.nn.norm import AnalogNorm, analog_norms, ideal_norms

STAGES: tuple[tuple[str, Effects], ...] = (
    ("cell and bit-line response", IDEAL),
    ("programming", replace(IDEAL, cells=True)),
    ("drift", replace(IDEAL, cells=True, drift=True)),
    ("wires", replace(IDEAL, cells=True, drift=True, wires=True)),
    ("drivers and clamps", replace(ALL, noise=False, converters="none")),
    ("read noise", replace(ALL, converters="none")),
    ("ADC clipping", replace(ALL, converters="fine")),
    ("ADC rounding", ALL),
)
"""The chip, one effect after the other; each cause is what its effect adds to those before it."""

CAUSES = ("weight quantization", "input quantization", *(name for name, _ in STAGES))

WITHOUT: dict[str, Effects] = {
    "cells as written": replace(ALL, cells=False),
    "drift": replace(ALL, drift=False),
    "wires": replace(ALL, wires=False),
    "drivers and clamps": replace(ALL, circuits=False),
    "read noise": replace(ALL, noise=False),
    "converters": replace(ALL, converters="none"),
}
"""What can be taken away from a whole network."""

ROUNDING = 1e-12
"""Errors of less than this part of the signal (120 dB below) are those of floating-point numbers."""

ELEMENTS = 1 << 22
"""Elements of a layer's input that are looked at: bounds time and memory."""


@dataclass(frozen=True)
class LayerDiagnosis:
    """What one layer loses.

    Attributes:
        name: of the layer.
        sqnr_db: of its output on the chip against the float product of the same input; inf: nothing is lost.
        alone_db: SQNR of each cause by itself, ``10 log10(signal / error it adds)``; causes that add nothing
            are left out.
        shares: part of the summed error power of each cause.
        parts_db: how far the sum of the parts is above the whole; 0 for independent errors.
    """

    name: str
    sqnr_db: float
    alone_db: dict[str, float]
    shares: dict[str, float]
    parts_db: float

    @property
    def adds_up(self) -> bool:
        """Whether the parts add up to the whole within 1 dB."""
        return abs(self.parts_db) <= 1.0

    @property
    def worst(self) -> str | None:
        """The cause of the largest error."""
        return max(self.shares, key=lambda cause: self.shares[cause]) if self.shares else None


@dataclass(frozen=True)
class NetworkDiagnosis:
    """What the network as a whole loses.

    Attributes:
        sqnr_db: of its output against the float network.
        quantized_db: with quantization of weights and inputs alone, on an otherwise ideal chip.
        without_db: with one effect taken away everywhere, by effect; only effects that this chip has.
        top1: accuracy on the chip; None without targets.
        without_top1: likewise with one effect taken away; empty without targets.
    """

    sqnr_db: float
    quantized_db: float
    without_db: dict[str, float]
    top1: float | None
    without_top1: dict[str, float]


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; `str` gives tables, `frame` the layers as a pandas one.

    Attributes:
        layers: in module order.
        network: the network as a whole.
    """

    layers: tuple[LayerDiagnosis, ...]
    network: NetworkDiagnosis

    @property
    def causes(self) -> tuple[str, ...]:
        """Causes that add an error somewhere, in the order of the signal's path."""
        return tuple(cause for cause in CAUSES if any(cause in layer.alone_db for layer in self.layers))

    @property
    def culprit(self) -> str:
        """One sentence: the cause of most noise over signal, summed over layers, and where it is worst."""
        hurt: dict[str, list[LayerDiagnosis]] = {
            cause: [layer for layer in self.layers if cause in layer.alone_db] for cause in self.causes
        }
        if not hurt:
            return "nothing is lost: every layer equals its float product"
        cause = max(hurt, key=lambda name: sum(10 ** (-la.alone_db[name] / 10) for la in hurt[name]))
        worst = sorted(hurt[cause], key=lambda layer: layer.alone_db[cause])[:4]
        names = ", ".join(f"{la.name or 'the model'} ({la.alone_db[cause]:.1f} dB)" for la in worst)
        first = sum(layer.worst == cause for layer in self.layers)
        of = f"{first} of {len(self.layers)} layers"
        return f"{cause} costs most and is the largest error in {of}; it is worst in {names}"

    def layer_sqnr_db(self) -> dict[str, float]:
        """SQNR of each layer by name."""
        return {layer.name or "(model)": layer.sqnr_db for layer in self.layers}

    def frame(self) -> pd.DataFrame:
        """One row a layer: its SQNR, that of each cause alone, and how the parts add up."""
        return pd.DataFrame(
            [
                {
                    "layer": layer.name,
                    "sqnr_db": layer.sqnr_db,
                    **{cause: layer.alone_db.get(cause, math.inf) for cause in self.causes},
                    "parts_db": layer.parts_db,
                }
                for layer in self.layers
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        network = self.network
        return {
            "culprit": self.culprit,
            "network": {
                "sqnr_db": network.sqnr_db,
                "quantized_db": network.quantized_db,
                "without_db": dict(network.without_db),
                "top1": network.top1,
                "without_top1": dict(network.without_top1),
            },
            "layers": self.frame().to_dict("records"),
        }

    def __str__(self) -> str:
        table = Table(title="SQNR of each layer's output, dB; of each cause alone", title_justify="left")
        for column in ("layer", "chip", *self.causes):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for layer in self.layers:
            cells = [_db(layer.alone_db.get(cause, math.inf)) for cause in self.causes]
            table.add_row(layer.name or "(model)", _db(layer.sqnr_db), *cells)
        console = Console(width=40 + 14 * (len(self.causes) + 1), no_color=True)
        with console.capture() as capture:
            console.print(table)
        lines = [self.culprit, *self._network_lines(), *self._remarks()]
        return capture.get() + "\n".join(lines) + "\n"

    def _network_lines(self) -> list[str]:
        network = self.network
        accuracy = "" if network.top1 is None else f", top-1 {100 * network.top1:.2f} %"
        lines = [
            f"whole network: {_db(network.sqnr_db)} dB{accuracy}; "
            f"with quantization alone {_db(network.quantized_db)} dB"
        ]
        for effect, value in network.without_db.items():
            top1 = network.without_top1.get(effect)
            lines.append(
                f"  without {effect}: {_db(value)} dB" + ("" if top1 is None else f", {100 * top1:.2f} %")
            )
        return lines

    def _remarks(self) -> list[str]:
        odd = [layer for layer in self.layers if not layer.adds_up]
        if not odd:
            return []
        names = ", ".join(f"{layer.name or 'the model'} ({layer.parts_db:+.1f} dB)" for layer in odd)
        return [
            "errors are correlated, so that the parts do not add up to the whole within 1 dB, in: "
            f"{names}. A converter whose LSB is a level rounds small errors of cells away"
        ]


@torch.no_grad()
def diagnose(sim: nn.Module, x: Tensor, targets: Tensor | None = None) -> Diagnosis:
    """What each cause costs each layer, and the network, on its present chip.

    Each layer is given the input it has on the chip, and computed once for each effect, added one after the
    other to the float product: weight quantization, input quantization, the cells' response, programming,
    drift, wires, drivers, read noise, clipping and rounding of the converters. The error of a cause is the
    difference that its effect makes; differences add up to the whole error exactly, their powers as far as
    they are uncorrelated. Errors of normalising circuits count, in the network alone, as those of drivers,
    reads and converters. The network as a whole is run with one effect taken away at a time. A layer
    that was trained in codes (`convert(qat=...)`) is held against its quantized product.

    Shapes: x (batch, ...), as the model takes it; targets (batch,).
    Units: decibels.

    Args:
        sim: a converted and calibrated model; left as it is.
        x: a batch of samples; a few dozen are enough.
        targets: their labels, for accuracies.

    Returns:
        The diagnosis.

    Raises:
        ConversionError: the model was not converted.
        CalibrationError: the model was not calibrated.
        InputError: x is not a batch, or targets do not go with it.
    """
    if not isinstance(x, Tensor) or x.dim() < 2 or not len(x):
        what = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"diagnose takes a batch of samples, a tensor (batch, ...), but got {what}")
    if targets is not None and targets.shape != (len(x),):
        raise InputError(f"targets are {tuple(targets.shape)}, but x has {len(x)} samples; give one a sample")
    arrays(sim)
    layers = named_layers(sim)
    x = to_model(sim, x)
    with evaluation_mode(sim), _reads_restored([*_arrays(layers), *analog_norms(sim)]):
        seen: dict[str, list[Tensor]] = {name: [] for name in layers}
        with _inputs_recorded(layers, seen):
            output = sim(x)
        found = tuple(_layer(name, layers[name], inputs) for name, inputs in seen.items() if inputs)
        return Diagnosis(found, _network(sim, layers, x, output, targets))


def _layer(name: str, layer: CrossbarLayer, inputs: list[Tensor]) -> LayerDiagnosis:
    """A layer's causes, on as many of its inputs as are looked at."""
    array = layer.array
    x = _some(inputs).double()
    layer.sync()
    codes = array.quantize(x, layer.sample_dims)
    matrix = layer.weight_matrix(layer.weight).double()
    quantized = array.weight_value(layer.weight_matrix(layer.weight)).double()
    in_codes = layer.multiply(codes.value(), quantized, steady=False)
    if array.method is None:
        exact = layer.multiply(x, matrix, steady=False)
        steps = [("weight quantization", layer.multiply(x, quantized, steady=False))]
        steps.append(("input quantization", in_codes))
    else:  # trained in codes: its quantization is no error
        exact, steps = in_codes, []
    bias = layer.output_bias()
    for cause, effects in STAGES:
        with _effects([layer], effects):
            out = layer.run_codes(codes)
        steps.append((cause, out if bias is None else out - bias.double()))
    signal = float(exact.square().sum())
    powers: dict[str, float] = {}
    before = exact
    for cause, after in steps:
        power = float((after - before).square().sum())
        if power > signal * ROUNDING:
            powers[cause] = power
        before = after
    whole = float((before - exact).square().sum())
    total = sum(powers.values())
    return LayerDiagnosis(
        name,
        decibels(signal, whole) if powers else math.inf,
        {cause: decibels(signal, power) for cause, power in powers.items()},
        {cause: power / total for cause, power in powers.items()},
        10 * math.log10(total / whole) if powers and whole else 0.0,
    )


def _network(
    sim: nn.Module, layers: dict[str, CrossbarLayer], x: Tensor, output: Tensor, targets: Tensor | None
) -> NetworkDiagnosis:
    every = list(layers.values())
    with _digital(every), ideal_norms(sim):
        want = sim(x).double()
    signal = float(want.square().sum())

    def run(effects: Effects) -> Tensor:
        with _effects(every, effects, analog_norms(sim)):
            return sim(x)

    def sqnr(value: Tensor) -> float:
        return decibels(signal, float((want - value.double()).square().sum()))

    def top1(value: Tensor) -> float | None:
        if targets is None:
            return None
        return float((value.argmax(-1) == targets.to(value.device)).double().mean())

    results = {name: run(effects) for name, effects in WITHOUT.items()}
    present = {name: value for name, value in results.items() if not torch.equal(value, output)}
    accuracies = {name: top1(value) for name, value in present.items()}
    return NetworkDiagnosis(
        sqnr(output),
        sqnr(run(IDEAL)),
        {name: sqnr(value) for name, value in present.items()},
        top1(output),
        {name: value for name, value in accuracies.items() if value is not None},
    )


def _some(inputs: list[Tensor]) -> Tensor:
    """The inputs of all calls as one batch, of a bounded size."""
    batch = torch.cat([x if x.dim() > 1 else x.unsqueeze(0) for x in inputs])
    each = batch[0].numel()
    return batch[: max(1, ELEMENTS // each)]


@contextmanager
def _inputs_recorded(layers: dict[str, CrossbarLayer], seen: dict[str, list[Tensor]]) -> Iterator[None]:
    """Keep what layers are given while the model runs."""

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, arguments: seen[name].append(arguments[0].detach().clone())

    handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _effects(
    layers: list[CrossbarLayer], effects: Effects, norms: Sequence[AnalogNorm] = ()
) -> Iterator[None]:
    """Read arrays with some of their effects, from the same read noise as every other time."""
    parts: list[CrossbarArray | AnalogNorm] = [*(layer.array for layer in layers), *norms]
    counts = [part.samples_read for part in parts]
    for part in parts:
        part.samples_read, part.effects = 0, effects
        _forget_plans(part)
    try:
        yield
    finally:
        for part, count in zip(parts, counts, strict=True):
            part.effects, part.samples_read = ALL, count
            _forget_plans(part)


def _forget_plans(part: CrossbarArray | AnalogNorm) -> None:
    if isinstance(part, CrossbarArray):
        part.forget_plans()


def _arrays(layers: dict[str, CrossbarLayer]) -> list[CrossbarArray]:
    return [layer.array for layer in layers.values()]


@contextmanager
def _digital(layers: list[CrossbarLayer]) -> Iterator[None]:
    """Compute layers in floats."""
    for layer in layers:
        layer.array.observer = lambda _: None
    try:
        yield
    finally:
        for layer in layers:
            layer.array.observer = None


@contextmanager
def _reads_restored(parts: Sequence[CrossbarArray | AnalogNorm]) -> Iterator[None]:
    """Leave the streams of read noise where they are; the diagnosis reads them from their start."""
    counts = [part.samples_read for part in parts]
    for part in parts:
        part.samples_read = 0
    try:
        yield
    finally:
        for part, count in zip(parts, counts, strict=True):
            part.samples_read = count


def _db(value: float) -> str:
    return "" if math.isinf(value) and value > 0 else f"{value:.1f}"
