"""Bit planes of images, for the first layer of a binary chip (FBNA)."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.errors import ConversionError
from imcsim.hardware import MAX_BITS, Hardware
from imcsim.quant.base import InputQuantizer
from imcsim.quant.methods.base import Method
from imcsim.quant.planes import BitPlaneInput


@dataclass(frozen=True)
class BitPlanes(Method):
    """Inputs in planes of -1 and 1, see `imcsim.quant.planes.BitPlaneInput`; weights are the hardware's.

    For the layer that takes images: ``qat={"*": None, "conv1": BitPlanes()}``. Pixels of [0, 1] in 8 bits are
    exact.

    Args:
        bits: planes.
        high: inputs lie on [0, high].
        signed: they lie on [-high, high].

    References: P. Guo et al., "FBNA: a fully binarized neural network accelerator", FPL 2018, whose first
        layer is binary too; its text was not at hand.
    """

    bits: int = 8
    high: float = 1.0
    signed: bool = False

    def __post_init__(self) -> None:
        if not self.high > 0 or not 1 <= self.bits <= MAX_BITS:
            raise ConversionError(
                f"BitPlanes: high = {self.high!r} must be positive and bits = {self.bits!r} between 1 and "
                f"{MAX_BITS}"
            )

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """In planes."""
        return BitPlaneInput(self.bits, high=self.high, signed=self.signed)
