"""How busy the word lines are: the mean pulse over full scale, measured on a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from imcsim.convert import named_layers
from imcsim.functional.dac import digits
from imcsim.functional.quantize import quantize_input
from imcsim.nn.readout import pulse_train


class Activity:
    """Mean pulse of each crossbar layer of a converted model.

    The layer's input is quantized as its chip does (calibrated, given or, without either, to the sample's
    own maximum) and cut into digits. A value of the input counts once, however many windows of a
    convolution it is in: borders weigh a little too much.

    Args:
        model: a converted model whose layers compute their float products.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def measure(self, inputs: tuple[Any, ...]) -> dict[str, float]:
        """Run the sample.

        Args:
            inputs: the model's arguments.

        Returns:
            The mean ``|digit| / digit_max`` by layer name; layers that are not crossbar layers are left out.
        """
        sums: dict[str, list[float]] = {}
        handles = []
        for name, layer in named_layers(self._model).items():

            def look(module: nn.Module, args: Any, name: str = name) -> None:
                value, size = _mean_pulse(module, args[0])
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += value * size
                total[1] += size

            handles.append(layer.register_forward_pre_hook(look))
        try:
            with torch.no_grad():
                self._model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        return {name: total / size for name, (total, size) in sums.items() if size}


def _mean_pulse(layer: Any, x: Tensor) -> tuple[float, int]:
    array = layer.array
    inputs = array.hardware.inputs
    if array.hardware.weights.encoding == "xnor":
        return 0.5 * _driven(array, x), x.numel()
    if array.method is not None and array.inputs_known:
        codes = torch.stack(array.quantize(x, layer.sample_dims).codes)
        train = replace(array.pulses, accumulate=False)
        return float(digits(codes, train).abs().double().mean()) / train.digit_max, x.numel()
    full = array.input_range if inputs.range == "calibrated" else inputs.range
    if not isinstance(full, float | int):
        full = float(x.abs().max()) or 1.0
    signed = array.signed or bool((x < 0).any())
    codes, _ = quantize_input(x, full, inputs.bits, signed=signed)
    train = replace(pulse_train(array.hardware, signed=signed), accumulate=False)
    pulses = digits(codes, train)
    return float(pulses.abs().double().mean()) / train.digit_max, x.numel()


def _driven(array: Any, x: Tensor) -> float:
    """Fraction of xnor's pairs of word lines of which one is driven: all, but where ternary inputs are 0."""
    inputs = array.hardware.inputs
    if inputs.bits == 1:
        return 1.0
    full = array.input_range if inputs.range == "calibrated" else inputs.range
    codes, _ = quantize_input(x, full if isinstance(full, float | int) else 1.0, inputs.bits, signed=True)
    return float((codes != 0).double().mean())
