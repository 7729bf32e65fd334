"""BatchNorm statistics measured on the chip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from imcsim.batches import Forward, batch_input, evaluation_mode, iterate, to_model
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, ConversionError
from imcsim.progress import progress

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def recalibrate_batchnorm(sim: nn.Module, batches: Iterable[Any], forward: Forward | None = None) -> None:
    """Set the running statistics of every BatchNorm to those of the chip as it is programmed now.

    Mean over batches of each batch's mean and variance, with the layers before it on their arrays. Weights
    do not change: this is what can be done to a chip after it was programmed, in its digital part.

    Args:
        sim: a converted model, calibrated and programmed.
        batches: tensors or (input, target) pairs; a few hundred samples.
        forward: runs the network on anything else: ``forward(net, batch)``.

    Raises:
        ConversionError: the model was not converted, or has no BatchNorm with running statistics.
        CalibrationError: no batches.
        InputError: a batch of an unknown kind.
    """
    arrays(sim)
    norms = [m for m in sim.modules() if isinstance(m, NORMS) and m.running_mean is not None]
    if not norms:
        raise ConversionError(
            "the model has no BatchNorm with running statistics, so there is nothing to recalibrate"
        )
    held = iterate(batches, "recalibrate_batchnorm")
    if not held:
        raise CalibrationError(
            "recalibrate_batchnorm got no batches; give at least one, a few hundred samples are usual"
        )
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(sim):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for batch in progress(held, "recalibrating BatchNorm"):
                if forward is None:
                    sim(to_model(sim, batch_input(batch)))
                else:
                    forward(sim, batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
