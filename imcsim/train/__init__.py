"""Training against the chip: noise injected in the forward pass, chips to select on, controls."""

from imcsim.train.injection import Injection, inject

__all__ = ["Injection", "inject"]
