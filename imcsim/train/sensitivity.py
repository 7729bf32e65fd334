"""How much each layer suffers from fewer bits: quantization error, and curvature of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.batches import batch_input, batch_pair, evaluation_mode, iterate, to_model
from imcsim.calibrate import calibrate
from imcsim.convert import HardwareMap, convert, named_layers
from imcsim.errors import InputError
from imcsim.evaluate import decibels
from imcsim.functional.noise import keyed_generator
from imcsim.functional.quantize import quantize_weight
from imcsim.hardware import Hardware
from imcsim.nn import CrossbarLayer

Loss = Callable[[Tensor, Tensor], Tensor]


def layer_sqnr(
    model: nn.Module, hardware: Hardware | HardwareMap, batches: Iterable[Any]
) -> dict[str, float]:
    """SQNR of each layer's output on its arrays, in dB, for the inputs that the float network gives it.

    ``10 log10(sum y^2 / sum (y - y_chip)^2)``, y the float layer's output without its bias. What earlier
    layers lose does not count: the figure is the layer's own, weights, inputs, cells and converters together.

    Args:
        model: a float model.
        hardware: the chip, or chips by pattern as for `imcsim.convert`.
        batches: tensors or (input, target) pairs; they also calibrate the ranges.

    Returns:
        Decibels by layer name.

    Raises:
        CalibrationError: no batches, or data that never reach a layer.
    """
    held = iterate(batches, "layer_sqnr")
    sim = convert(model, hardware)
    calibrate(sim, held)
    layers = named_layers(sim)
    powers = {name: [0.0, 0.0] for name in layers}
    with evaluation_mode(sim):
        for name, layer in layers.items():
            layer.array.observer = partial(_compare, layer, powers[name])
        try:
            for batch in held:
                sim(to_model(sim, batch_input(batch)))
        finally:
            for layer in layers.values():
                layer.array.observer = None
    return {name: decibels(signal, noise) for name, (signal, noise) in powers.items()}


def _compare(layer: CrossbarLayer, powers: list[float], x: Tensor) -> None:
    """Add a batch's power of the layer's float product and of its error on the chip."""
    with torch.no_grad():
        want = layer.multiply(x, layer.weight_matrix(layer.weight).to(x.dtype), steady=False).double()
        bias = layer.output_bias()
        got = layer.run_chip(x).double() - (0.0 if bias is None else bias.double())
        powers[0] += float(want.square().sum())
        powers[1] += float((want - got).square().sum())


def hessian_traces(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss = nn.functional.cross_entropy,
    probes: int = 16,
    seed: int = 0,
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Trace of each layer's Hessian of the loss, by Hutchinson's estimator.

    ``tr(H_l) = E[v_l^T (H v)_l]``, v of independent signs in all layers: one Hessian-vector product a probe
    serves every layer, since E[v_l^T H_lm v_m] is zero for other layers m.

    Shapes: returns (probes,) float64 by layer: the estimates, whose mean is the trace and whose spread says
        how sure it is.

    Args:
        model: a float model; runs in eval mode, its mode is restored.
        batches: (input, target) pairs; the loss is averaged over all samples.
        loss: of outputs and targets, a mean over samples.
        probes: sign vectors.
        seed: of the signs, keyed by layer and probe.
        layers: names of modules with a ``weight``; None: all linear and convolutional ones.

    Returns:
        The estimates of every probe by layer name.

    Raises:
        InputError: no batches, fewer than one probe, or a name that is no module with a weight.

    References: M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix", Comm.
        Statist. Simulation Comput. 19 (1990), doi:10.1080/03610919008812866; Z. Dong et al., "HAWQ-V2:
        Hessian Aware trace-Weighted Quantization of neural networks", NeurIPS 2020.
    """
    held = iterate(batches, "hessian_traces")
    if not held or probes < 1:
        raise InputError(
            f"hessian_traces got {len(held)} batches and probes = {probes}; at least one of each is needed"
        )
    weights = _weights(model, layers)
    total = sum(len(batch_pair(batch)[0]) for batch in held)
    signs = [[_signs(seed, name, probe, w) for name, w in weights.items()] for probe in range(probes)]
    traces = {name: torch.zeros(probes, dtype=torch.float64) for name in weights}
    with evaluation_mode(model), torch.enable_grad():
        for batch in held:
            x, y = (to_model(model, part) for part in batch_pair(batch))
            sources = list(weights.values())
            grads = torch.autograd.grad(loss(model(x), y), sources, create_graph=True)
            for probe, vectors in enumerate(signs):
                products = torch.autograd.grad(grads, sources, vectors, retain_graph=True)
                for name, v, hv in zip(weights, vectors, products, strict=True):
                    traces[name][probe] += float((v * hv).double().sum()) * len(x) / total
    return traces


def weight_loss(weight: Tensor, bits: int, trace: float) -> float:
    """What rounding a weight to fewer bits is expected to cost, after HAWQ-V2.

    ``tr(H) / n ||Q(w) - w||^2``, n the number of weights.

    Shapes: weight (*any).

    Args:
        weight: the layer's weight.
        bits: of the hardware's uniform quantizer, one scale for the tensor.
        trace: of its Hessian.

    Returns:
        The sensitivity, in units of the loss (times two).

    References: Z. Dong et al., "HAWQ-V2", NeurIPS 2020, Eq. 7.
    """
    matrix = weight.detach().reshape(1, 1, -1)
    codes, scale = quantize_weight(matrix, bits, per_channel=False)
    return trace / weight.numel() * float((codes * scale - matrix.double()).square().sum())


def _signs(seed: int, name: str, probe: int, weight: Tensor) -> Tensor:
    """Independent -1 and 1 in the shape of a weight."""
    drawn = keyed_generator(seed, name, f"hutchinson {probe}").integers(0, 2, tuple(weight.shape)) * 2 - 1
    return torch.from_numpy(drawn).to(weight)


def _weights(model: nn.Module, layers: Sequence[str] | None) -> Mapping[str, Tensor]:
    """Weights by layer name, in module order unless `layers` says another."""
    modules = dict(model.named_modules())
    if layers is None:
        layers = [n for n, m in modules.items() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    weights = {name: getattr(modules.get(name), "weight", None) for name in layers}
    wrong = [name for name, w in weights.items() if not (isinstance(w, Tensor) and w.requires_grad)]
    if wrong or not weights:
        named = f"{wrong[0]!r} has no weight that takes gradients" if wrong else "the model has no layers"
        raise InputError(
            f"hessian_traces: {named}; give names of linear or convolutional modules whose weights have "
            f"requires_grad = True"
        )
    return {name: w for name, w in weights.items() if isinstance(w, Tensor)}
