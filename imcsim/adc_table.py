"""The `[adc]` table: the converter at the foot of a column, and what is wrong with it.

Imports nothing of imcsim but errors and what tables share, so that `Hardware` can hold it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from imcsim.schema import Table, tuple_if_list

AdcKind = Literal[
    "auto",
    "uniform",
    "symmetric",
    "sar",
    "flash",
    "ramp",
    "cyclic",
    "pipeline",
    "sense_amp",
    "integrate_fire",
]

CIRCUITS = ("sar", "flash", "ramp", "cyclic", "pipeline", "integrate_fire")
"""Kinds that are circuits; without errors each equals `auto`."""

MAX_CIRCUIT_BITS = 14
"""Widest converter whose decision levels are held one by one."""

MAX_KMEANS_BITS = 8

_STAGES = ("cyclic", "pipeline")
_PARALLEL = ("flash", "sense_amp")

FIELDS_OF_KINDS: dict[str, tuple[str, ...]] = {
    "levels": _PARALLEL,
    "references": _PARALLEL,
    "values": _PARALLEL,
    "spacing": _PARALLEL,
    "log_base": _PARALLEL,
    "capacitor_mismatch": ("sar",),
    "split_bits": ("sar",),
    "bridge_parasitic": ("sar",),
    "ladder_mismatch": ("flash",),
    "comparator_offset_lsb": ("sar", "flash", "ramp", "cyclic", "pipeline", "sense_amp"),
    "comparator_noise_lsb": ("sar", "flash", "ramp", "cyclic", "pipeline", "sense_amp", "integrate_fire"),
    "slope_error": ("ramp",),
    "ramp_bow_lsb": ("ramp",),
    "stage_gain_error": _STAGES,
    "threshold_mismatch": ("integrate_fire",),
    "leak": ("integrate_fire",),
    "initial_charge": ("integrate_fire",),
}
"""Kinds that use a field; fields that are not here go with every kind."""

_ERRORS = (
    "gain_error",
    "offset_lsb",
    "noise_lsb",
    "inl_table",
    "dnl_table",
    "capacitor_mismatch",
    "bridge_parasitic",
    "ladder_mismatch",
    "comparator_offset_lsb",
    "comparator_noise_lsb",
    "slope_error",
    "ramp_bow_lsb",
    "stage_gain_error",
    "threshold_mismatch",
    "leak",
    "initial_charge",
)
"""Fields that, away from their defaults, make a converter other than its nominal quantizer."""

_BY_DECISION_LEVEL = (
    "capacitor_mismatch",
    "ladder_mismatch",
    "ramp_bow_lsb",
    "stage_gain_error",
    "leak",
    "inl_table",
    "dnl_table",
)

Fraction = Annotated[float, Field(ge=0, le=1)]
Fractions = Annotated[tuple[Fraction, ...], Field(min_length=1)]


def _curve(value: object) -> object:
    if isinstance(value, str) and not value.endswith(".csv"):
        raise ValueError(
            f"{value!r} is neither a list of numbers nor the path of a .csv file; give one of them"
        )
    return tuple_if_list(value)


Curve = Annotated[str | Annotated[tuple[float, ...], Field(min_length=2)] | None, BeforeValidator(_curve)]
"""A non-linearity in LSB: numbers, or the path of a CSV file."""


class Adc(Table):
    """The converter at the foot of a column.

    Spreads (`..._mismatch`, `..._error`, `..._offset_lsb`) are standard deviations of normal draws, one for
    each converter, at `program`; noise is drawn at each conversion. One LSB is a step of the converter.
    """

    bits: int = Field(8, ge=1, le=32)
    kind: AdcKind = "auto"
    range: Annotated[
        Literal["full", "calibrated"] | tuple[float, float],
        BeforeValidator(tuple_if_list),
    ] = Field(
        "full",
        description="full | calibrated | [lo, hi] in units of one cell at g_max with its input fully on",
    )
    per: Literal["cycle", "vector"] = "cycle"
    subtract: Literal["analog", "digital"] = "analog"
    offset_correction: Literal["digital", "unit_column"] = "digital"
    columns_per_adc: int = Field(128, ge=1, description="bit lines that share a converter and its errors")
    snap: bool = False

    levels: int | None = Field(
        None, ge=2, description="flash, sense_amp: codes, where not 2^bits: 11 for an 11-level flash"
    )
    references: Annotated[Fractions | None, BeforeValidator(tuple_if_list)] = Field(
        None,
        description="flash, sense_amp: decision levels, ascending fractions of the range (0: lo, 1: hi); "
        "n references make n + 1 codes",
    )
    values: Annotated[Fractions | None, BeforeValidator(tuple_if_list)] = Field(
        None,
        description="flash, sense_amp: what each code stands for, fractions of the range; without it 0, the "
        "middles between references, 1",
    )
    spacing: Literal["uniform", "logarithmic", "kmeans"] = Field(
        "uniform",
        description="flash, sense_amp: codes evenly spaced | powers of log_base | k-means of the currents "
        "that calibration sees",
    )
    log_base: float = Field(2.0, gt=1, description="ratio of neighbouring values of logarithmic spacing")

    gain_error: float = Field(0.0, ge=0, description="relative, about zero current")
    offset_lsb: float = Field(0.0, ge=0)
    noise_lsb: float = Field(0.0, ge=0, description="rms at the input, every conversion")
    inl_table: Curve = Field(
        None,
        description="shape that all converters share, LSB: a list at evenly spaced decision levels from the "
        "first to the last, or a CSV file with columns code, inl_lsb",
    )
    dnl_table: Curve = Field(
        None, description="the same as widths of the codes less one LSB: a list or columns code, dnl_lsb"
    )

    capacitor_mismatch: float = Field(0.0, ge=0, description="sar: relative, of a unit capacitor")
    split_bits: int | None = Field(
        None, ge=1, description="sar: bits of the lower half of a split capacitor array"
    )
    bridge_parasitic: float = Field(
        0.0, ge=0, description="sar: parasitic capacitance of the lower half over its own"
    )
    ladder_mismatch: float = Field(0.0, ge=0, description="flash: relative, of a reference resistor")
    comparator_offset_lsb: float = Field(0.0, ge=0, description="of each comparator")
    comparator_noise_lsb: float = Field(0.0, ge=0, description="rms, every conversion")
    slope_error: float = Field(0.0, ge=0, description="ramp: relative")
    ramp_bow_lsb: float = Field(0.0, description="ramp: curvature, its largest deviation at mid-range")
    stage_gain_error: float = Field(
        0.0, ge=0, lt=1, description="cyclic, pipeline: relative, of the residue amplifiers' gain of 2"
    )
    threshold_mismatch: float = Field(0.0, ge=0, lt=1, description="integrate_fire: relative")
    leak: float = Field(
        0.0, ge=0, description="integrate_fire: conversion time over the integrator's time constant"
    )
    initial_charge: float = Field(
        0.5, ge=0, lt=1, description="integrate_fire: charge at the start over that of a spike; 0.5 rounds"
    )

    @property
    def codes(self) -> int:
        """Codes of a unipolar or literal converter of this table."""
        if self.references is not None:
            return len(self.references) + 1
        return 1 << self.bits if self.levels is None else self.levels

    @property
    def uneven(self) -> bool:
        """Whether codes are not evenly spaced."""
        return self.references is not None or self.values is not None or self.spacing != "uniform"

    @property
    def errors(self) -> tuple[str, ...]:
        """Fields that make a conversion other than the nominal quantizer's."""
        return tuple(field for field in _ERRORS if self.given(field))

    @property
    def ideal(self) -> bool:
        """Whether every conversion is that of the nominal quantizer."""
        return not self.uneven and not self.errors

    def without_errors(self) -> Adc:
        """The same converter, made of ideal parts."""
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].default for name in _ERRORS})

    @property
    def rms_noise_lsb(self) -> float:
        """Noise of a conversion, the comparator's included."""
        return float((self.noise_lsb**2 + self.comparator_noise_lsb**2) ** 0.5)

    def given(self, field: str) -> bool:
        """Whether a field differs from its default."""
        return bool(getattr(self, field) != type(self).model_fields[field].default)

    @model_validator(mode="after")
    def _fields_go_with_kind(self) -> Self:
        for field, kinds in FIELDS_OF_KINDS.items():
            if self.given(field) and self.kind not in kinds:
                raise ValueError(
                    f"{field} = {_short(getattr(self, field))} is for kind {_or(kinds)}, but kind = "
                    f"{self.kind!r}; change the kind or leave {field} out"
                )
        if self.split_bits is not None and self.split_bits >= self.bits:
            raise ValueError(
                f"split_bits = {self.split_bits} leaves no upper half of a {self.bits}-bit converter; use 1 "
                f"to {self.bits - 1}"
            )
        if self.bridge_parasitic and self.split_bits is None:
            raise ValueError(
                f"bridge_parasitic = {self.bridge_parasitic} is for a split capacitor array; set "
                "adc.split_bits or leave it out"
            )
        if self.inl_table is not None and self.dnl_table is not None:
            raise ValueError("dnl_table and inl_table say the same thing twice; leave one of them out")
        by_level = [field for field in _BY_DECISION_LEVEL if self.given(field)]
        if by_level and self.bits > MAX_CIRCUIT_BITS:
            raise ValueError(
                f"{by_level[0]} moves decision levels one by one, which is done up to {MAX_CIRCUIT_BITS} "
                f"bits, but bits = {self.bits}; use fewer bits"
            )
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if self.kind in _PARALLEL and self.bits > MAX_CIRCUIT_BITS and (self.uneven or self.levels):
            raise ValueError(f"bits = {self.bits} is more comparators than fit; use up to {MAX_CIRCUIT_BITS}")
        if self.codes > 1 << self.bits:
            references = list(self.references or ())
            given = f"levels = {self.levels}" if self.references is None else f"references = {references}"
            raise ValueError(
                f"{given}: {self.codes} codes, but bits = {self.bits} hold {1 << self.bits}; raise bits"
            )
        if self.references is not None:
            if self.levels is not None or self.spacing != "uniform":
                raise ValueError(
                    "references say where every code lies; leave levels and spacing out beside them"
                )
            if any(a >= b for a, b in pairwise(self.references)):
                raise ValueError(
                    f"references = {list(self.references)} do not ascend; give ascending fractions of the "
                    "range"
                )
        if self.values is not None:
            if self.references is None:
                raise ValueError("values go with references, which are not given; give references")
            if len(self.values) != len(self.references) + 1:
                raise ValueError(
                    f"values: {len(self.values)} of them, but {len(self.references)} references make "
                    f"{len(self.references) + 1} codes; give one value a code"
                )
        if self.uneven and (self.inl_table is not None or self.dnl_table is not None):
            raise ValueError(
                "inl_table and dnl_table are for evenly spaced codes; leave them out beside references and "
                "spacing"
            )
        if self.uneven and self.snap:
            raise ValueError(
                "snap = True is for evenly spaced codes; leave it out beside references and spacing"
            )
        if self.spacing == "kmeans" and self.codes > 1 << MAX_KMEANS_BITS:
            raise ValueError(
                f"spacing = 'kmeans' looks for up to {1 << MAX_KMEANS_BITS} values, but there are "
                f"{self.codes} codes; use bits up to {MAX_KMEANS_BITS}, or levels"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "symmetric" and self.bits < 2:
            raise ValueError(
                "a symmetric converter has 2^bits - 1 codes, but bits = 1 leaves one; use bits >= 2 or "
                "kind = 'sense_amp'"
            )
        if isinstance(self.range, tuple):
            lo, hi = self.range
            if not lo < hi:
                raise ValueError(f"range = [{lo}, {hi}] is empty; give [lo, hi] with lo < hi")
            symmetric = self.kind == "symmetric" or (self.kind in ("auto", *CIRCUITS) and lo < 0)
            if symmetric and lo != -hi:
                raise ValueError(
                    f"a symmetric converter spans [-hi, hi], but range = [{lo}, {hi}]; give "
                    f"[{-max(-lo, hi)}, {max(-lo, hi)}] or set kind = 'uniform'"
                )
            if symmetric and self.codes < 3:
                raise ValueError(
                    f"kind = {self.kind!r} with lo < 0 is symmetric, which needs bits >= 2; set adc.kind = "
                    "'sense_amp' for a 1-bit converter"
                )
        return self


def _or(names: tuple[str, ...]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _short(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
