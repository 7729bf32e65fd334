"""Codebooks and mixed formats as methods; activations are the hardware's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imcsim.errors import ConversionError
from imcsim.hardware import Hardware
from imcsim.quant.base import WeightQuantizer
from imcsim.quant.codebook import CodebookWeight
from imcsim.quant.methods.base import Method
from imcsim.quant.rows import IntraLayerWeight, MixAndMatchWeight


@dataclass(frozen=True)
class Codebook(Method):
    """A codebook a layer (Eqs. 5 and 6), see `imcsim.quant.codebook.CodebookWeight`.

    Args:
        size: entries.
        kind: "kmeans" (centroids) or "frequent" (most frequent values).
        refit: training steps between two fits; the originals fit once an epoch, or not again.

    References: Y. Gong et al., arXiv:1412.6115, 2014; S. Han et al., ICLR 2016; C.-F. Teng et al., ICASSP
        2019; the survey's Eqs. 5 and 6.
    """

    size: int = 16
    kind: Literal["kmeans", "frequent"] = "kmeans"
    refit: int = 100

    def __post_init__(self) -> None:
        if self.size < 2 or self.refit < 1 or self.kind not in ("kmeans", "frequent"):
            raise ConversionError(
                f"Codebook: size = {self.size!r} must be at least 2, refit = {self.refit!r} at least 1, "
                f"kind = {self.kind!r} 'kmeans' or 'frequent'"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """With entries of weights.bits."""
        return CodebookWeight(self.size, hardware.weights.bits, kind=self.kind, refit=self.refit)


@dataclass(frozen=True)
class MixAndMatch(Method):
    """Sums of two powers of two for outputs of small variance, uniform codes for the others.

    Args:
        bits: of a code, sign included; 3 to 6.
        share: of outputs in sums of powers, between 0 and 1.

    Notes:
        The original also trains scales and assigns outputs anew in training; here the assignment follows the
        weights, and an output's scale is its largest magnitude.

    References: S.-E. Chang et al., "Mix and match", HPCA 2021, algorithm 2.
    """

    bits: int = 4
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 3 <= self.bits <= 6 or not 0 <= self.share <= 1:
            raise ConversionError(
                f"MixAndMatch: bits = {self.bits!r} must be 3 to 6, share = {self.share!r} between 0 and 1"
            )

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Mixed by output."""
        return MixAndMatchWeight(self.bits, share=self.share, bits=hardware.weights.bits)


@dataclass(frozen=True)
class IntraLayer(Method):
    """4-bit weights, 8-bit ones for the outputs of largest quantization error.

    Args:
        share: of outputs with 8 bits, between 0 and 1.

    References: M. Sun et al., "FILM-QNN: efficient FPGA acceleration of deep neural networks with
        intra-layer, mixed-precision quantization", FPGA 2022; the survey's section 5.1.
    """

    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConversionError(f"IntraLayer: share = {self.share!r} is not between 0 and 1")

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """Mixed by output."""
        return IntraLayerWeight(share=self.share, bits=hardware.weights.bits)
