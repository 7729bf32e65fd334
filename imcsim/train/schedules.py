"""Learning rates of quantized networks: decaying exponentially, or assigned by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from imcsim.errors import InputError


def exponential_decay(ratio: float) -> Callable[[float], float]:
    """A learning rate that decays by the same factor every epoch.

    ``eta(t) = eta_0 ratio^t``, t the part of training that is done.

    Args:
        ratio: of the last learning rate to the first, above 0 up to 1; BinaryConnect goes from 3e-3 to 2e-6.

    Returns:
        The factor of the first learning rate by the part that is done: for `imcsim.train.fit` as
        ``lr_schedule``, or for ``torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: f(step /
        steps))``.

    Raises:
        InputError: a ratio that is not in (0, 1].

    References: M. Courbariaux et al., "BinaryConnect", NeurIPS 2015, section 3.1; L. Zhang et al., "Quantized
        convolutional neural networks: a hardware perspective", Front. Electron. 6 (2025), section 4.5.1.
    """
    if not 0 < ratio <= 1:
        raise InputError(f"exponential_decay: ratio = {ratio!r} is not above 0 and at most 1")
    return lambda done: math.pow(ratio, min(1.0, done))


def assigned(factors: Mapping[float, float]) -> Callable[[float], float]:
    """A learning rate assigned by hand: constant between given points of training.

    Args:
        factors: of the first learning rate, by the part of training from which each holds; one from 0 on.
            ``{0: 1, 0.5: 0.1, 0.75: 0.01}`` divides it by ten at half and again at three quarters.

    Returns:
        The factor by the part that is done, as `exponential_decay` does.

    Raises:
        InputError: none from 0 on, a part outside [0, 1), or a factor that is not positive.

    References: S. Zhou et al., "DoReFa-Net", arXiv:1606.06160, 2016; L. Zhang et al., "Quantized
        convolutional neural networks: a hardware perspective", Front. Electron. 6 (2025), section 4.5.1.
    """
    held = dict(sorted(factors.items()))
    if 0 not in held or not all(0 <= at < 1 and 0 < f < math.inf for at, f in held.items()):
        raise InputError(
            f"assigned: factors = {dict(factors)!r:.80}; positive factors by parts of training in [0, 1) are "
            "needed, one of them from 0 on: {0: 1.0, 0.5: 0.1}"
        )
    return lambda done: next(f for at, f in reversed(held.items()) if done >= at)
