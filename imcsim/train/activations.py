"""Multiple activation quantization: a real input as a sum of few binary ones."""

from __future__ import annotations

from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.quant import straight_through_where


class BinaryPasses(nn.Module):
    """A layer driven several times by binary inputs, whose weighted sum approximates the real input.

    ``y = sum_m beta_m L(b_m) + bias``, ``b_m = sign(r_m)``, ``beta_m = mean|r_m|``,
    ``r_(m+1) = r_m - beta_m b_m``, ``r_1 = x``: each pass takes what the passes before left, with the sign
    of 0 being -1. On a chip of one-bit inputs a pass is a read of the arrays and beta a digital factor.

    The gradient is that of the layer at the sum, straight through where |x| <= 1.

    Shapes: input (batch, ...); output as ``layer`` gives it.

    Args:
        layer: linear or convolutional, a float one or one on crossbars.
        passes: M, at least 1.

    Raises:
        InputError: fewer than one pass.

    Notes:
        beta is fitted for each sample, so that a result does not depend on the batch; it goes through no
        gradient.

    References: W. Tang, G. Hua, L. Wang, "How to Train a Compact Binary Neural Network with High Accuracy?",
        AAAI 2017, section 4 (multiple binarizations of activations), doi:10.1609/aaai.v31i1.10862; Z. Li et
        al., "Performance Guaranteed Network Acceleration via High-Order Residual Quantization", ICCV 2017
        (the fit to residuals).
    """

    def __init__(self, layer: nn.Module, passes: int) -> None:
        super().__init__()
        if passes < 1:
            raise InputError(f"BinaryPasses: passes = {passes!r}; at least one is needed")
        self.layer, self.passes = layer, passes

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, one pass after the other."""
        inside = (x.abs() <= 1).to(x.dtype)
        terms = binary_terms(x, self.passes)
        out: Tensor | None = None
        constant = self._bias()
        for beta, code in terms:
            # each pass's gradient to b is beta times the layer's: an M-th of it reaches x from each
            b = straight_through_where(x, code, inside / (self.passes * beta))
            y = self.layer(b)
            if constant is not None:
                y = y - constant.view(-1, *[1] * (y.dim() - 2))
            y = beta.reshape(beta.shape[0], *[1] * (y.dim() - 1)) * y
            out = y if out is None else out + y
        assert out is not None
        return out if constant is None else out + constant.view(-1, *[1] * (out.dim() - 2))

    def _bias(self) -> Tensor | None:
        bias = getattr(self.layer, "bias", None)
        return bias if isinstance(bias, Tensor) else None


def binary_terms(x: Tensor, passes: int) -> list[tuple[Tensor, Tensor]]:
    """A real input as ``sum_m beta_m b_m``, residual by residual.

    Shapes: x (batch, ...); returns M pairs of beta (batch, 1...) and b like x.

    Args:
        x: the input.
        passes: M.

    Returns:
        The factors, positive, and the codes -1 and 1.
    """
    residual, terms = x.detach(), []
    for _ in range(passes):
        beta = residual.abs().mean(tuple(range(1, x.dim())), keepdim=True)
        beta = beta.clamp_min(1e-30)  # where nothing is left, a pass that adds nothing
        code = (residual > 0).to(x.dtype) * 2 - 1
        terms.append((beta, code))
        residual = residual - beta * code
    return terms
