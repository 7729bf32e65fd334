"""Multiple activation quantization (Tang et al. 2017): activations as a sum of scaled signs of residues."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.errors import ConversionError, MappingError
from imcsim.hardware import Hardware
from imcsim.quant.base import InputQuantizer, Span, WeightQuantizer, straight_through_where
from imcsim.quant.binary import BinaryWeight, sign
from imcsim.quant.codes import InputCodes
from imcsim.quant.methods.base import Method


@dataclass(frozen=True)
class MultipleActivations(Method):
    """Binary weights, activations ``sum_k beta_k h_k``, ``h_k = sign(x - sum_(j<k) beta_j h_j)``.

    As many terms as inputs.bits; ``beta_k = mean|residue|``, fitted to calibration data and averaged over
    training batches. Weights are clipped to [-1, 1] by `imcsim.quant.after_step(sim)`; add
    `imcsim.quant.binary_regulariser` to the loss.

    Args:
        momentum: of the old betas in the moving average.

    Notes:
        The original computes beta_k for each input; here they are a layer's: an input drives
        its word lines by one scale.

    References: W. Tang, G. Hua and L. Wang, AAAI 2017, section 3.3; the survey's section 4.5.2.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ConversionError(f"MultipleActivations: momentum = {self.momentum!r} is not in [0, 1)")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Binary and clipped."""
        if hardware.weights.bits != 1:
            raise MappingError(
                f"MultipleActivations has binary weights, but weights.bits = {hardware.weights.bits}; set "
                "weights.bits = 1"
            )
        return BinaryWeight(scaled=True, clip=True)

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """Of inputs.bits terms."""
        return ResidueInput(hardware.inputs.bits, momentum=self.momentum)


class ResidueInput(InputQuantizer):
    """See `MultipleActivations`. Reaches the word lines in as many passes of +-1 pulses.

    Gradients pass where ``|x| < 1``, as in Eq. 7.

    Args:
        terms: how many.
        momentum: of the old betas in the moving average.
    """

    planes, ranged = True, False
    betas: Tensor

    def __init__(self, terms: int, *, momentum: float) -> None:
        super().__init__()
        self.terms, self.momentum = terms, momentum
        self.register_buffer("betas", torch.zeros(terms, dtype=torch.float64))

    @property
    def signed(self) -> bool | None:
        """+-1 pulses."""
        return True

    @property
    def passes(self) -> int:
        """One a term."""
        return self.terms

    @property
    def ready(self) -> bool:
        """Whether the betas were fitted."""
        return bool(self.betas[0] > 0)

    def encode(self, x: Tensor, span: Span | None) -> InputCodes:
        """Shapes: x (*any)."""
        residue, codes, betas = x, [], self.betas.tolist()
        for beta in betas:
            codes.append(sign(residue) + x * 0)  # what is not finite stays so
            residue = residue - beta * codes[-1]
        return InputCodes(tuple(codes), tuple(betas))

    def forward(self, x: Tensor, value: Tensor, span: Span | None) -> Tensor:
        """Shapes: x, value (*any)."""
        return straight_through_where(x, value, x.abs() < 1)

    def update(self, x: Tensor) -> None:
        """Average in the mean residues; the first data's are taken as they are."""
        if x.numel() == 0:
            return
        residue, found = x.double(), []
        for _ in range(self.terms):
            found.append(residue.abs().mean())
            residue = residue - found[-1] * sign(residue)
        fitted = torch.stack(found)
        self.betas = self.momentum * self.betas + (1 - self.momentum) * fitted if self.ready else fitted

    def start_calibration(self) -> None:
        """Forget the betas."""
        self.betas = torch.zeros_like(self.betas)

    def observe(self, x: Tensor) -> None:
        """Fit the betas."""
        self.update(x)
