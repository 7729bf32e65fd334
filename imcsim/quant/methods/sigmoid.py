"""Quantization networks: a staircase of sigmoids that steepen (Eqs. 17 and 18)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imcsim.errors import ConversionError
from imcsim.functional.quantize import top_code
from imcsim.hardware import Hardware
from imcsim.quant.annealed import SteppedWeight
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_where
from imcsim.quant.codes import InputCodes, WeightCodes
from imcsim.quant.grids import Staircase, input_staircase
from imcsim.quant.methods.base import Method
from imcsim.quant.methods.pact import SMALLEST


@dataclass(frozen=True)
class SigmoidQN(Method):
    """``alpha [sum_i s_i sigmoid(T (beta w - b_i)) - o]``, ``o = sum_i s_i / 2``, T growing; hard in the end.

    Codes are those of the hardware's widths, one apart (binary: -1 and 1), thresholds b_i midway; alpha and
    beta are learned. Three phases, by `imcsim.quant.set_progress`: before convert the float network; up to
    progress `phase` weights are quantized ever harder while activations stay float; then weights are hard and
    fixed and activations harden. T goes from `start` to `end` in each.

    Args:
        start: T where a phase starts, in steps of the staircase.
        end: T where it ends.
        phase: progress at which weights are done; 1: activations are the hardware's and the whole training is
            for weights.

    Notes:
        The survey's Eq. 17 does not say what o is; it is half the sum of s_i, which centres the codes. At
        beta w = b_i the unit step is 0, so that sign(0) = -1. Thresholds and code distances are fixed, as in
        the original; it sets b_i by k-means of the weights, here they are uniform. Unsigned activations have
        o = 0.

    References: J. Yang et al., "Quantization networks", CVPR 2019, Eqs. 4-6 and algorithm 1; the survey's
        Eqs. 17 and 18.
    """

    start: float = 5.0
    end: float = 100.0
    phase: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.end or not 0 < self.phase <= 1:
            raise ConversionError(
                f"SigmoidQN: start = {self.start!r} must be positive and at most end = {self.end!r}, phase = "
                f"{self.phase!r} above 0 and at most 1"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Hard at `phase`."""
        weights = hardware.weights
        return SigmoidWeight(
            weights.bits, weights.scale == "per_channel", (self.start, self.end), until=self.phase
        )

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Float until `phase`, then harder."""
        if self.phase == 1:
            return super().input_quantizer(hardware)
        inputs = hardware.inputs
        signed = inputs.signed is True or (inputs.bits == 1 and inputs.signed == "auto")
        return SigmoidInput(inputs.bits, signed, (self.start, self.end), begin=self.phase)


def sigmoid_staircase(u: Tensor, stairs: Staircase, temperature: float) -> Tensor:
    """``sum_i s_i sigmoid(T (u - b_i)) - o``, ``-o`` the lowest code.

    Shapes: u (*any); returns the same.

    Args:
        u: ``beta w``.
        stairs: b_i and s_i.
        temperature: T.

    Returns:
        The soft codes.

    References: J. Yang et al., CVPR 2019, Eq. 6; the survey's Eq. 18.
    """
    return stairs.smoothed(u, lambda distance: torch.sigmoid(temperature * distance))


class SigmoidWeight(SteppedWeight):
    """See `SigmoidQN`. Reaches the array as it is, with scale alpha.

    Args:
        bits: width, sign included.
        per_channel: one alpha and beta an output.
        temperatures: first and last.
        until: progress at which it is hard and fixed.
    """

    def __init__(
        self, bits: int, per_channel: bool, temperatures: tuple[float, float], *, until: float
    ) -> None:
        super().__init__(bits, per_channel=per_channel)
        self.temperatures, self.until = temperatures, until
        self.alpha = nn.Parameter(torch.ones(1, 1, 1))
        self.beta = nn.Parameter(torch.ones(1, 1, 1))

    @property
    def soft(self) -> bool:
        """In training, up to its phase's end."""
        return self.training and self.progress < self.until

    def start(self, matrix: Tensor) -> None:
        """Alpha is the step that fits best, beta its inverse."""
        super().start(matrix)
        self.alpha.data, self.beta.data = self.step.to(self.alpha), (1 / self.step).to(self.beta)

    def encode(self, matrix: Tensor) -> WeightCodes:
        """Shapes: matrix (groups, outputs, inputs)."""
        codes = self.stairs.codes(matrix.double() * self.beta.detach().double())
        return WeightCodes.single(codes, self.alpha.detach().double())

    def soft_value(self, matrix: Tensor) -> Tensor:
        """Shapes: (groups, outputs, inputs)."""
        first, last = self.temperatures
        temperature = first + (last - first) * self.progress / self.until
        return self.alpha * sigmoid_staircase(matrix * self.beta, self.stairs, temperature)


class SigmoidInput(InputQuantizer):
    """See `SigmoidQN`. Reaches the word lines as it is, with scale alpha.

    Args:
        bits: width, sign included where there is one.
        signed: whether there is one.
        temperatures: first and last.
        begin: progress until which training sees float activations.
    """

    ranged = False
    fitted: Tensor

    def __init__(self, bits: int, signed: bool, temperatures: tuple[float, float], *, begin: float) -> None:
        super().__init__()
        self.stairs, self.has_sign = input_staircase(bits, signed=signed), signed
        self.top = top_code(bits, signed=signed)
        self.temperatures, self.begin, self.progress = temperatures, begin, 0.0
        self.alpha, self.beta = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        self.register_buffer("fitted", torch.tensor(False))
        self._seen = 0.0

    @property
    def signed(self) -> bool | None:
        """As given."""
        return self.has_sign

    @property
    def ready(self) -> bool:
        """Whether alpha and beta were fitted."""
        return bool(self.fitted)

    @property
    def soft(self) -> bool:
        """In training, until its end."""
        return self.training and self.progress < 1

    def set_progress(self, fraction: float) -> None:
        """Harden."""
        self.progress = fraction

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        codes = self.stairs.codes(x * float(self.beta.detach())) + x * 0
        return InputCodes((codes,), (float(self.alpha.detach()),))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_where(x, value, torch.zeros_like(x))

    def soft_value(self, x: Tensor, span: Span | None) -> Tensor:
        """Shapes: x (*any)."""
        if self.progress < self.begin:
            return x
        first, last = self.temperatures
        temperature = first + (last - first) * (self.progress - self.begin) / (1 - self.begin)
        return self.alpha * sigmoid_staircase(x * self.beta, self.stairs, temperature)

    def update(self, x: Tensor) -> None:
        """Fit to the first training batch, unless calibration did."""
        if not self.ready and x.numel():
            self.observe(x)

    def start_calibration(self) -> None:
        """Forget."""
        self._seen = 0.0
        self.fitted.fill_(False)

    def observe(self, x: Tensor) -> None:
        """The top code is the largest magnitude seen, of one signed bit the mean one."""
        one_bit = len(self.stairs.thresholds) == 1 and self.has_sign
        self._seen = max(self._seen, float(x.abs().mean() if one_bit else x.abs().max()))
        step = max(self._seen, SMALLEST) / self.top
        with torch.no_grad():
            self.alpha.fill_(step)
            self.beta.fill_(1 / step)
        self.fitted.fill_(True)
