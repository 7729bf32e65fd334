"""The full-precision bypass of binary networks."""

from __future__ import annotations

from torch import Tensor, nn


class Bypass(nn.Module):
    """A layer whose real-valued input is added to its output, around the quantizer.

    ``z_l = L(W_l, AF(z_(l-1))) + z_(l-1)``, so that the next layer's arrays see ``AF(z_l)``: activation and
    quantizer AF belong to the body, what passes by keeps its full precision.

    Shapes:
        Input (N, ...); output as ``body`` gives it.

    Args:
        body: activation, layer, and its BatchNorm if it has one; the quantizer comes with the layer's arrays.
        shortcut: applied to the input where its shape is not that of the output; an identity otherwise.

    References:
        Z. Liu et al., "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational
        Capability and Advanced Training Algorithm", ECCV 2018, section 3.1, doi:10.1007/978-3-030-01267-0_44;
        L. Zhang et al., "Quantized convolutional neural networks: a hardware perspective", Front. Electron.
        6 (2025), Eq. 20, doi:10.3389/felec.2025.1469802.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The layer and what passes by it."""
        return self.body(x) + self.shortcut(x)
