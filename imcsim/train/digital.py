"""Biases and BatchNorm parameters in few bits while a network trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.functional.quantize import quantize_weight
from imcsim.nn import CrossbarLayer, CrossbarMatrices, Projection
from imcsim.quant import Quantizer

_REAL_BITS = 32
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class QuantizedDigital:
    """Biases and normalisation parameters that are used quantized and learn in full precision.

    ``p_q = s rint(p / s)``, ``s = max|p| / (2^(bits-1) - 1)`` of each tensor. Inside `applied` the model
    holds p_q; outside it holds p, which the gradients taken inside are applied to: straight-through,
    without a change of the model. ::

        digital = QuantizedDigital(sim, bits=8)
        for x, y in batches:
            with digital.applied():
                loss = cross_entropy(sim(x), y)
                loss.backward()
            optimizer.step()
        with digital.applied():
            imcsim.evaluate(sim, test)

    Args:
        model: a float or converted model.
        bits: width of the codes, sign included, at least 2.
        biases: quantize biases of all layers.
        norms: quantize scale and shift of BatchNorm, LayerNorm and GroupNorm.

    Raises:
        InputError: bits out of range, or no such parameters.

    Notes:
        The survey's section 6.2 finds no published scheme; this is BinaryConnect's way of weights, applied to
        what stays digital on a crossbar chip. Running statistics are left alone: folded (Eq. 22) they are
        part of the scale and shift.

    References: L. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front.
        Electron. 6 (2025), section 6.2; M. Courbariaux et al., "BinaryConnect", NeurIPS 2015.
    """

    def __init__(self, model: nn.Module, bits: int, *, biases: bool = True, norms: bool = True) -> None:
        self.parameters = digital_parameters(model, biases=biases, norms=norms)
        if not 2 <= bits <= 16 or not self.parameters:
            raise InputError(
                f"QuantizedDigital: bits = {bits!r} for {len(self.parameters)} parameters; 2 to 16 bits and "
                f"at least one bias or normalisation parameter are needed"
            )
        self.bits = bits

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters quantized inside, as they were outside."""
        real = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(self.quantized(real[name]))
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(real[name])

    def quantized(self, parameter: Tensor) -> Tensor:
        """A parameter's quantized value. Shapes: (*any) both."""
        codes, scale = quantize_weight(parameter.detach().reshape(1, 1, -1), self.bits, per_channel=False)
        return (codes * scale).view(parameter.shape).to(parameter.dtype)


def digital_parameters(model: nn.Module, *, biases: bool, norms: bool) -> dict[str, nn.Parameter]:
    """Biases of layers and parameters of normalisations, by name.

    Args:
        model: the model.
        biases: include the layers' biases.
        norms: include the normalisations' scales and shifts.

    Returns:
        The parameters, each once.
    """
    found: dict[str, nn.Parameter] = {}
    for module_name, module in model.named_modules():
        is_norm = isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            wanted = norms if is_norm else biases and name.rpartition(".")[2].startswith("bias")
            if wanted and not any(parameter is other for other in found.values()):
                found[name] = parameter
    return found


def average_bit_width(model: nn.Module, *, digital_bits: int = 32, code_bits: float | None = None) -> float:
    """Size of a network over that of the same architecture at 1 bit without biases and affine parameters.

    ``BW = sum over all trainable parameters of their bits / number of the layers' weights``.

    Args:
        model: a converted model; a layer's weights have its hardware's weights.bits, weights of digital
            layers 32 bits.
        digital_bits: of biases and normalisation parameters.
        code_bits: of a weight of the layers that a training method trains, for methods whose codes are
            narrower than the numbers on the arrays (logarithms, codebooks); None: weights.bits.

    Returns:
        Bits a weight, biases and affine parameters shared out.

    Raises:
        InputError: a model without weights.

    Notes:
        The survey writes the denominator as the number of trainable parameters of the 1-bit network without
        bias and affine parameters: those are its weights. Scales and ranges of quantizers are not counted, as
        there.

    References: L. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front.
        Electron. 6 (2025), Eq. 19.
    """
    digital = digital_parameters(model, biases=True, norms=True).values()
    apart = {id(parameter) for parameter in digital}
    bits = float(digital_bits * sum(parameter.numel() for parameter in digital))
    weights = 0
    for module in model.modules():
        if isinstance(module, Quantizer):
            continue
        own = sum(p.numel() for p in module.parameters(recurse=False) if id(p) not in apart)
        on_arrays = _on_arrays(module)
        stored = sum(layer.weight.numel() for layer in on_arrays)
        bits += sum(layer.weight.numel() * _width(layer, code_bits) for layer in on_arrays)
        bits += _REAL_BITS * (own - stored)
        weights += own
    if not weights:
        raise InputError("average_bit_width: the model has no weights; give a network with layers")
    return bits / weights


def _width(layer: CrossbarLayer, code_bits: float | None) -> float:
    if code_bits is not None and layer.array.method is not None:
        return code_bits
    return layer.array.described.weights.bits


def _on_arrays(module: nn.Module) -> list[CrossbarLayer]:
    """The matrices on arrays that are a module's own parameters."""
    if isinstance(module, CrossbarMatrices):
        return [layer for layer in module.crossbars.values() if isinstance(layer, CrossbarLayer)]
    return [module] if isinstance(module, CrossbarLayer) and not isinstance(module, Projection) else []
