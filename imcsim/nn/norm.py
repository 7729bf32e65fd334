"""Layer normalisation by circuits on analog column sums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.functional.noise import ReadStream, keyed_generator
from imcsim.functional.quantize import quantize_input
from imcsim.hardware_tables import Normalisation
from imcsim.nn.effects import ALL, IDEAL, Effects
from imcsim.quant.base import straight_through_where


class AnalogNorm(nn.Module):
    """A LayerNorm, or GroupNorm of one group, whose circuits have errors.

    ``z = (x - mean) / sqrt(var + eps)``, ``v = convert((1 + gain) z + offset + noise)``,
    ``y = weight v + bias``. Each channel (a column of the arrays) has a circuit of its own, with a gain and
    an offset drawn at `program`; noise is drawn for each value of each sample. Circuits without errors and
    converter give the norm's own result, bit for bit.

    Shapes: x (batch, ...); returns the same.

    Args:
        norm: the norm; its parameters, and their keys in a state_dict, stay.
        table: the circuits.
        name: the module's name, which keys its random draws.
        channel_axis: of x, where its channels are.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, norm: nn.LayerNorm | nn.GroupNorm, table: Normalisation, name: str, channel_axis: int
    ) -> None:
        super().__init__()
        self.shape = tuple(norm.normalized_shape) if isinstance(norm, nn.LayerNorm) else None
        self.eps, self.table, self.name, self.channel_axis = norm.eps, table, name, channel_axis
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self.seed = self.read_seed = self.samples_read = 0
        self.effects: Effects = ALL
        self.train(norm.training)

    def program(self, seed: int) -> None:
        """Draw the circuits of another chip."""
        self.seed = seed

    def seed_reads(self, seed: int) -> None:
        """Restart the stream of noise."""
        self.read_seed, self.samples_read = seed, 0

    def forward(self, x: Tensor) -> Tensor:
        """The normalised values, scaled and shifted by the norm's parameters."""
        circuits = self.effects.circuits and (self.table.gain_error > 0 or self.table.offset > 0)
        noise = self.effects.noise and self.table.noise > 0
        bits = self.table.bits if self.effects.converters == "real" else None
        if x.is_meta or not (circuits or noise or bits):
            return self._normalised(x, self.weight, self.bias)
        z = self._normalised(x, None, None)
        if circuits:
            gain, offset = (part.to(z) for part in self._circuits(x))
            z = z * gain + offset
        if noise:
            z = z + self.table.noise * self._normals(x).to(z)
        if bits is not None:
            codes, step = quantize_input(z.detach(), self.table.range, bits, signed=True)
            z = straight_through_where(z, codes * step, z.detach().abs() <= self.table.range)
        weight, bias = (None if part is None else self._aligned(part, x) for part in (self.weight, self.bias))
        z = z if weight is None else z * weight
        return z if bias is None else z + bias

    def circuits(self, channels: int) -> tuple[Tensor, Tensor]:
        """Relative gain and offset of each circuit of this chip.

        Shapes: returns (channels,) float64 twice.
        Units: offsets in standard deviations of the normalised value.
        """
        gain, offset = (
            torch.from_numpy(keyed_generator(self.seed, self.name, what).standard_normal(channels))
            for what in ("normalisation gain", "normalisation offset")
        )
        return 1 + self.table.gain_error * gain, self.table.offset * offset

    def _circuits(self, x: Tensor) -> Iterator[Tensor]:
        view = [1] * x.dim()
        view[self.channel_axis] = -1
        return (part.view(view) for part in self.circuits(x.shape[self.channel_axis]))

    def _normals(self, x: Tensor) -> Tensor:
        samples = x.shape[0] if x.dim() > 1 else 1
        stream = ReadStream(self.read_seed, self.name, self.samples_read, 1, purpose="normalisation")
        self.samples_read += samples
        return torch.from_numpy(stream.of_samples(samples, x.numel() // max(samples, 1))).view(x.shape)

    def _normalised(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.shape is None:
            return F.group_norm(x, 1, weight, bias, self.eps)
        return F.layer_norm(x, self.shape, weight, bias, self.eps)

    def _aligned(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A parameter of the norm in a shape that broadcasts to x."""
        return parameter if self.shape is not None else parameter.view(-1, *[1] * (x.dim() - 2))


def analog_norms(model: nn.Module) -> list[AnalogNorm]:
    """Every analog norm of a model once, in module order."""
    return [module for module in model.modules() if isinstance(module, AnalogNorm)]


@contextmanager
def ideal_norms(model: nn.Module) -> Iterator[None]:
    """Inside, a model's analog norms compute what the network's own do, and draw no noise."""
    norms = analog_norms(model)
    had = [norm.effects for norm in norms]
    for norm in norms:
        norm.effects = IDEAL
    try:
        yield
    finally:
        for norm, effects in zip(norms, had, strict=True):
            norm.effects = effects
