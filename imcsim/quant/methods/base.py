"""What a training method is: the quantizers it makes for each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from imcsim.errors import ConversionError, did_you_mean
from imcsim.hardware import Hardware
from imcsim.quant.base import GradientQuantizer, InputQuantizer, WeightQuantizer
from imcsim.quant.uniform import HardwareInput, HardwareWeight

_METHODS: dict[str, type[Method]] = {}


class Method:
    """A training method for `imcsim.convert(..., qat=method)`: it makes the quantizers of each layer.

    A subclass is a frozen dataclass whose fields are numbers, strings and booleans, so that files can hold
    it. Widths are the hardware's: weights.bits and inputs.bits.
    """

    def __init_subclass__(cls) -> None:
        """Files name a method by its class."""
        _METHODS[cls.__name__] = cls

    def weight_quantizer(self, hardware: Hardware) -> WeightQuantizer:
        """A layer's weight quantizer; by default the hardware's own, uniform."""
        return HardwareWeight(hardware.weights.bits, per_channel=hardware.weights.scale == "per_channel")

    def input_quantizer(self, hardware: Hardware) -> InputQuantizer:
        """A layer's input quantizer; by default the hardware's own, uniform."""
        return HardwareInput(hardware.inputs.bits)

    def gradient_quantizer(self, hardware: Hardware) -> GradientQuantizer | None:
        """What quantizes the gradient of a layer's output; None: nothing does."""
        return None

    def record(self) -> dict[str, Any]:
        """The method as JSON holds it."""
        return {"method": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]


def method_from_record(record: Mapping[str, Any]) -> Method:
    """The method that `Method.record` described.

    Args:
        record: what it returned.

    Returns:
        The method.

    Raises:
        ConversionError: no such method is known, or it does not take these options.
    """
    name, options = record.get("method"), {k: v for k, v in record.items() if k != "method"}
    if name not in _METHODS:
        raise ConversionError(
            f"the training method {name!r} is not known; import the module that defines it first. Known: "
            f"{', '.join(sorted(_METHODS))}.{did_you_mean(str(name), _METHODS)}"
        )
    try:
        return _METHODS[name](**options)
    except TypeError as error:
        raise ConversionError(f"the training method {name!r} does not take these options: {error}") from None


DEFAULT = Method()
"""No method: the hardware's own quantizers."""
