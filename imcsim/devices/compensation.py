"""Drift compensation: digital factors from reference reads at programming and now."""

from __future__ import annotations

import torch
from torch import Tensor

from imcsim.errors import DeviceError


def _check(reference: Tensor, now: Tensor) -> None:
    if reference.shape != now.shape or reference.ndim < 2 or reference.numel() == 0:
        raise DeviceError(
            "compensation needs responses of one shape (..., vectors, columns), not empty; given "
            f"{tuple(reference.shape)} at programming and {tuple(now.shape)} now"
        )


def global_factor(reference: Tensor, now: Tensor) -> Tensor:
    """One digital factor for a whole layer.

    f = mean |reference| / mean |now|.

    Shapes: reference, now (..., vectors, columns); returns a scalar.
    Units: any, the same for both; returns a ratio.

    Args:
        reference: responses to the reference inputs read right after programming.
        now: responses to the same inputs read at the time of use.

    Returns:
        the factor to multiply outputs with; 1 where nothing responds now.

    Raises:
        DeviceError: shapes that differ or are empty.

    References: Joshi et al., Nature Communications 2020, DOI 10.1038/s41467-020-16108-9 (global drift
    compensation).
    """
    _check(reference, now)
    before, after = reference.abs().mean(), now.abs().mean()
    return torch.where(
        after > 0, before / after.clamp(min=torch.finfo(after.dtype).tiny), torch.ones_like(after)
    )


def column_factors(reference: Tensor, now: Tensor) -> Tensor:
    """One digital factor a column.

    f_j = mean_v |reference_vj| / mean_v |now_vj|.

    Shapes: reference, now (..., vectors, columns); returns (..., columns).
    Units: any, the same for both; returns ratios.

    Args:
        reference: responses to the reference inputs read right after programming.
        now: responses to the same inputs read at the time of use.

    Returns:
        the factors to multiply outputs with; 1 for a column that did not or does not respond (dead or empty).

    Raises:
        DeviceError: shapes that differ or are empty.
    """
    _check(reference, now)
    before, after = reference.abs().mean(dim=-2), now.abs().mean(dim=-2)
    live = (after > 0) & (before > 0)
    return torch.where(live, before / after.clamp(min=torch.finfo(after.dtype).tiny), torch.ones_like(after))
