"""The survey's FPGA and ASIC rows as chips: exact digital arithmetic in the row's number format."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from imcsim.errors import FileMissingError, HardwareError, did_you_mean
from imcsim.hardware import Hardware
from imcsim.quant.methods import (
    QUEST,
    BitPlanes,
    FixedPoint,
    FracBNN,
    IntraLayer,
    Method,
    MixAndMatch,
    NBitQNN,
)

_METHODS: dict[str, type[Method]] = {
    m.__name__: m for m in (FracBNN, IntraLayer, MixAndMatch, NBitQNN, QUEST)
}
FIXED_POINT = FixedPoint(fraction_bits=None, inputs=True)
"""Powers of two by layer, so that a sum is shifted, not multiplied, for the next layer."""


@dataclass(frozen=True)
class SurveyChip:
    """A digital design of the survey's Table 3.

    Attributes:
        key: of its row in `imcsim.survey`.
        hardware: for `imcsim.convert`; adder trees, no converters, ideal cells.
        qat: likewise, the quantizer of formats that are not uniform integers of a real scale; None where they
            are.
        departs: how its arithmetic differs from the paper's, as far as is known.
        first: the quantizer of the layer that takes images, where the design has one of its own.
    """

    key: str
    hardware: Hardware
    qat: Method | None
    departs: str
    first: Method | None = None

    @property
    def fold_batchnorm(self) -> bool:
        """For `imcsim.convert`: fixed point has no BatchNorm beside its shifts, others keep theirs."""
        return self.qat == FIXED_POINT


def survey_chips() -> list[str]:
    """Keys of the rows that `survey_chip` knows."""
    return sorted(_formats())


def survey_chip(name: str, *, weight_bits: int | None = None, input_bits: int | None = None) -> SurveyChip:
    """An FPGA or ASIC row of the survey's Table 3, to evaluate networks in its number format.

    Args:
        name: the row's key or the design's name: "finn", "FINN", "Eyeriss v2".
        weight_bits: where the design offers several widths; None: the first that `docs/survey.md` lists.
        input_bits: likewise; None: as the weights where the design offers it, else its first.

    Returns:
        The chip; ``imcsim.convert(model, chip.hardware, qat=chip.qat, fold_batchnorm=chip.fold_batchnorm)``.

    Raises:
        FileMissingError: there is no such row.
        HardwareError: the design does not offer these bits.
    """
    key = _key(name)
    row = _formats()[key]
    weights = _width(key, "weight_bits", weight_bits, row["weights"])
    wanted = input_bits if input_bits is not None or weights not in row["inputs"] else weights
    inputs = _width(key, "input_bits", wanted, row["inputs"])
    method = dict(row.get("methods", {}).get(str(weights), {}))
    first = BitPlanes() if row.get("bit_planes") else None
    if not method:
        fixed = row.get("fixed_point", False) and weights > 1
        hardware = _digital(key, weights, inputs)
        if fixed:
            hardware = hardware.replace({"inputs.signed": True, **row.get("chip", {})})
        return SurveyChip(key, hardware, FIXED_POINT if fixed else None, row["departs"], first)
    if inputs != row["inputs"][row["weights"].index(weights)]:
        raise HardwareError(
            f"survey_chip({key!r}): input_bits = {inputs!r} does not go with weight_bits = {weights}; leave "
            "it out"
        )
    make = _METHODS[method.pop("name")]
    hardware = _digital(key, method.pop("weights"), method.pop("inputs"))
    return SurveyChip(key, hardware, make(**method), row["departs"], first)


def _digital(key: str, weights: int, inputs: int) -> Hardware:
    """Two's complement, and XNOR where both are binary: exact either way, so only costs depend on it."""
    binary = weights == 1 and inputs == 1
    encoding = "xnor" if binary else "differential" if weights == 1 else "twos_complement"
    tables: dict[str, Any] = {
        "name": key,
        "device": {"card": "sram_digital"},
        "array": {"readout": "digital"},
        "weights": {"bits": weights, "cell_bits": 1, "encoding": encoding},
        "inputs": {"bits": inputs},
    }
    if binary:
        tables["inputs"]["range"] = 1.0
    return Hardware.model_validate(tables)


def _key(name: str) -> str:
    known = {key.casefold(): key for key in _formats()}
    for key, row in _formats().items():
        known.update({alias.casefold(): key for alias in row["names"]})
    if not isinstance(name, str) or name.casefold() not in known:
        names = [alias for row in _formats().values() for alias in row["names"]]
        raise FileMissingError(
            f"the survey has no digital design {name!r}.{did_you_mean(str(name), names)} Designs: "
            f"{', '.join(names)}; crossbars are presets, see imcsim.load_hardware"
        )
    return known[name.casefold()]


def _width(key: str, field: str, given: int | None, offered: list[int]) -> int:
    if given is None:
        return offered[0]
    if given not in offered:
        raise HardwareError(
            f"survey_chip({key!r}): {field} = {given!r}; the design offers "
            f"{', '.join(map(str, sorted(offered)))}"
        )
    return given


@cache
def _formats() -> dict[str, Any]:
    file = resources.files("imcsim.survey") / "formats.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
