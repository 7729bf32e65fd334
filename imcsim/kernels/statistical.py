"""The statistical engine, for training: one product, and converters as the noise that they add."""

from __future__ import annotations

from dataclasses import replace

import torch

from imcsim.functional.bank import EVEN_SQUARE
from imcsim.kernels.collapsed import Collapsed, effective_weight, noise_variance, single_is_exact
from imcsim.kernels.job import Job

ConversionErrors = tuple[tuple[float, ...], ...]
"""Mean square error of one conversion in levels squared, by stream and input cycle."""


def statistical(job: Job, dtype: torch.dtype, errors: ConversionErrors | None) -> Collapsed | str:
    """A layer as one product of its cells' effective weights plus Gaussian noise.

    The errors of conversions are taken as independent, so that an output's variance is
    ``sum_q gain_q^2 sum_r sum_t weight_t^2 mse_qt``, with the mean square errors that calibration found
    (clipping included), or ``step^2 / 12`` where it was not run; converters that are not ideal add their own
    mean square error (`imcsim.functional.bank`). Read noise adds its own exact variance.

    Args:
        job: the layer.
        dtype: of the model.
        errors: from calibration; None: uniform rounding errors.

    Returns:
        The product with its noise, or the reason why there is none.
    """
    if job.complementary or job.columns.reshapes or job.train.drive is not None:
        return "the readout is not linear in the input code"
    if job.columns.disturbed is not None:
        return job.columns.disturbed
    # Converters' ranges do not enter the mean, so the corrections of ideal ones apply.
    weight = effective_weight(job)
    wide = torch.float64 if dtype == torch.float64 or not single_is_exact(weight.device) else torch.float32
    shift = job.train.shift
    constant = shift * (weight.sum(-1) - job.w_int.sum(-1, dtype=torch.float64)) if shift else None
    variance = None if job.columns.variance is None else noise_variance(job.columns).to(wide)
    product = Collapsed((weight.to(wide),), (0,), constant, variance, exact=False)
    if job.converters is None or job.loss is None:
        return product
    groups, outputs, _ = job.w_int.shape
    total = conversion_variance(job, errors)
    extra = torch.full((groups, outputs), total, dtype=wide, device=weight.device)
    return replace(product, extra_variance=extra)


def conversion_variance(job: Job, errors: ConversionErrors | None) -> float:
    """Variance that a layer's conversions add to an output, in units of one integer product squared.

    ``sum_q gain_q^2 R sum_t weight_t^2 mse_qt``, R the number of reads.

    Args:
        job: the layer.
        errors: mean square errors from calibration; None: uniform rounding errors, ``step^2 / 12``.

    Returns:
        The variance, 0 with ideal converters.
    """
    if job.converters is None:
        return 0.0
    by_cycle = torch.tensor([w * w for w in job.train.weights], dtype=torch.float64)
    total = 0.0
    for q, (gain, converter) in enumerate(zip(job.columns.gains, job.converters, strict=True)):
        nominal = EVEN_SQUARE if job.bank is None else job.bank.nominal_square
        mse = (
            torch.tensor(errors[q], dtype=torch.float64)
            if errors is not None
            else torch.full_like(by_cycle, converter.step**2 * nominal)
        )
        if job.bank is not None:
            mse = mse + converter.step**2 * job.bank.excess_square(converter)
        total += gain * gain * len(job.columns.reads) * float((by_cycle * mse).sum())
    return total
