"""Whether torch's float32 products may be relied on to the last bit."""

from __future__ import annotations

import torch


def single_is_exact(device: torch.device) -> bool:
    """Whether float32 matrix products keep all 24 bits of their factors.

    They do unless the user lets torch round them first (to TF32 on a GPU, to bfloat16 on a CPU). Convolutions
    on a GPU are another matter: cuDNN takes TF32 by default, and algorithms that round in between (Winograd);
    there a product must be one of matrices.

    Args:
        device: where the product is computed.

    Returns:
        True where sums of whole numbers below 2^24 come out exact.
    """
    if device.type not in ("cpu", "cuda"):
        return False
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set for one backend alone, which this function of torch then refuses to sum up
        return False
