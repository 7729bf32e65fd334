"""The hardware description.

Frozen, validated, TOML in and out. Imports no torch and nothing above `errors`.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from imcsim.adc_table import Adc
from imcsim.costs import Component, Tile
from imcsim.errors import FileMissingError, HardwareError, did_you_mean
from imcsim.hardware_tables import CardProgramming, Mitigation, Normalisation, Programming
from imcsim.schema import Table, tuple_if_list

MAX_BITS = 16
"""Widest weight or input code: products and sums stay exact in float64."""


class Device(Table):
    """The memory cell. Values given here override the card's."""

    card: str = Field("ideal", min_length=1, description="a device card's name, or the path of one (.toml)")
    g_max_S: float | None = Field(None, gt=0, description="conductance of a fully-on cell, siemens")
    on_off_ratio: Annotated[float, Field(gt=1, allow_inf_nan=True)] | None = Field(
        None, description="g_max / g_min; without it the card's (ideal: inf)"
    )
    programming: Programming = CardProgramming()
    stuck_on: float = Field(0.0, ge=0, le=1, description="fraction of cells stuck at g_max")
    stuck_off: float = Field(0.0, ge=0, le=1, description="fraction of cells stuck at g_min")
    temperature_K: float = Field(300.0, gt=0)


class Array(Table):
    """One physical crossbar."""

    rows: int = Field(128, ge=1, description="word lines")
    cols: int = Field(128, ge=1, description="bit lines")
    rows_active: int | None = Field(None, ge=1, description="word lines driven at a time; without it all")
    input_mode: Literal["voltage", "gate"] = "voltage"
    readout: Literal["current", "charge", "divider", "digital"] = "current"
    accumulator_bits: int | None = Field(
        None,
        ge=2,
        le=48,
        description="of readout = 'digital': width of the register, sign included, that adds one read after "
        "the other and saturates; without it sums are exact",
    )
    word_line_ohm: float = Field(0.0, ge=0, description="resistance of one wire segment")
    bit_line_ohm: float = Field(0.0, ge=0)
    column_clamp: float | None = Field(
        None,
        gt=0,
        description="largest current that the sensing circuit passes on, in units of one cell at g_max with "
        "its input fully on; of a pair with analog subtraction, largest difference",
    )
    output: Literal["digital", "analog"] = Field(
        "digital",
        description="analog: sums are not converted, they go to the circuits of [normalisation]; "
        "imcsim.normalise_in_analog sets it for the layers that do",
    )

    @property
    def active(self) -> int:
        """Word lines driven at a time."""
        return self.rows if self.rows_active is None else self.rows_active


Encoding = Literal["differential", "offset", "isaac", "twos_complement", "xnor", "ternary"]


class Weights(Table):
    """How a weight becomes cells."""

    bits: int = Field(8, ge=1, le=MAX_BITS, description="sign included; 1: binary")
    cell_bits: Annotated[
        Annotated[int, Field(ge=1, le=MAX_BITS)]
        | Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_BITS)], ...], Field(min_length=1)],
        BeforeValidator(tuple_if_list),
    ] = Field(2, description="bits a cell; or a list, widths of the slices from the least significant")
    encoding: Encoding = "differential"
    sided: Literal["one", "two"] = "one"
    scale: Literal["per_tensor", "per_channel"] = "per_tensor"
    partition: Literal["fill", "even"] = "fill"
    placement: Literal["adjacent", "separate"] = "adjacent"
    pair: Literal["columns", "arrays"] = "columns"

    @model_validator(mode="before")
    @classmethod
    def _binary_cells(cls, data: Any) -> Any:
        """Where no cell width is given, the default 2 gives way to what a narrow weight needs."""
        if isinstance(data, Mapping) and "cell_bits" not in data:
            bits, encoding = data.get("bits", 8), data.get("encoding", "differential")
            if bits == 1 or (bits == 2 and encoding not in ("offset", "isaac")):
                return {**data, "cell_bits": 1}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.encoding == "xnor" and self.bits != 1:
            raise ValueError(
                f"encoding 'xnor' stores binary weights, but bits = {self.bits}; set weights.bits = 1, or "
                "use another encoding"
            )
        if self.encoding == "ternary" and self.bits != 2:
            raise ValueError(
                f"encoding 'ternary' stores -1, 0 and 1, but bits = {self.bits}; set weights.bits = 2, or "
                "use another encoding"
            )
        if self.encoding in ("xnor", "ternary") and self.cell_bits not in (1, (1,)):
            raise ValueError(
                f"encoding {self.encoding!r} has cells that are on or off, but cell_bits = "
                f"{self.cell_bits}; set weights.cell_bits = 1"
            )
        if self.encoding == "twos_complement" and self.bits < 2:
            raise ValueError(
                "encoding 'twos_complement' needs a sign bit and a magnitude bit, but bits = 1; set "
                "weights.bits to 2 or more"
            )
        if self.sided == "two" and self.encoding not in ("differential", "ternary"):
            raise ValueError(
                f"sided = 'two' is for differential pairs, but encoding = {self.encoding!r}; set "
                "weights.sided = 'one'"
            )
        self._check_widths()
        return self

    def _check_widths(self) -> None:
        if isinstance(self.cell_bits, int):
            if self.cell_bits > self.bits:
                raise ValueError(
                    f"cell_bits = {self.cell_bits} is wider than the weight (bits = {self.bits}); use 1 "
                    f"to {self.bits}"
                )
            return
        need, total = self.sliced_bits, sum(self.cell_bits)
        if total < need or total - self.cell_bits[-1] >= need:
            raise ValueError(
                f"cell_bits = {list(self.cell_bits)} adds up to {total} bits, but encoding "
                f"{self.encoding!r} slices {need} bits of a "
                f"{self.bits}-bit weight; give widths that reach {need} with the last slice and not before"
            )

    @property
    def sliced_bits(self) -> int:
        """Bits that the slices hold: without the sign where it is stored otherwise."""
        if self.encoding in ("offset", "isaac"):
            return self.bits
        return max(self.bits - 1, 1)


class Inputs(Table):
    """How an input becomes pulses on a word line."""

    bits: int = Field(8, ge=1, le=MAX_BITS)
    bits_per_cycle: int = Field(1, ge=1, le=MAX_BITS, description="DAC resolution")
    signed: Literal["auto"] | bool = "auto"
    signed_encoding: Literal["sign_magnitude", "twos_complement", "offset"] = "sign_magnitude"
    range: Literal["calibrated", "dynamic"] | Annotated[float, Field(gt=0)] = "calibrated"
    analog: bool = Field(
        False,
        description="word lines are driven by analog values; bits only say how finely they are computed",
    )
    dac_inl_lsb: Annotated[tuple[float, ...] | None, BeforeValidator(tuple_if_list)] = Field(
        None, description="what each digit, from 0, drives beyond itself, in digits; the first is 0"
    )
    dac_offset_lsb: float = Field(
        0.0, ge=0, description="standard deviation over word lines of a constant drive, in digits"
    )
    dac_noise_lsb: float = Field(0.0, ge=0, description="rms of each pulse's drive, in digits")

    @property
    def ideal_dac(self) -> bool:
        """Whether every digit drives exactly itself."""
        return self.dac_inl_lsb is None and not self.dac_offset_lsb and not self.dac_noise_lsb

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        digits = 1 << self.bits_per_cycle
        if self.dac_inl_lsb is not None and (len(self.dac_inl_lsb) != digits or self.dac_inl_lsb[0]):
            raise ValueError(
                f"dac_inl_lsb = {list(self.dac_inl_lsb)} is not a deviation for each of the {digits} digits "
                f"of bits_per_cycle = {self.bits_per_cycle} with 0 for digit 0; give {digits} numbers, 0 "
                "first (dac_offset_lsb moves all digits)"
            )
        if self.bits_per_cycle > self.bits:
            raise ValueError(
                f"bits_per_cycle = {self.bits_per_cycle} is more than the input has (bits = {self.bits}); "
                f"use 1 to {self.bits}"
            )
        if self.bits == 1 and self.signed_encoding != "sign_magnitude":
            raise ValueError(
                f"1-bit inputs are +-1 pulses, which signed_encoding = {self.signed_encoding!r} cannot "
                "send; use 'sign_magnitude'"
            )
        one = self.bits_per_cycle == self.bits and self.signed_encoding == "sign_magnitude"
        if self.analog and not (one and self.ideal_dac):
            raise ValueError(
                f"analog = True is one amplitude a word line, but bits = {self.bits}, bits_per_cycle = "
                f"{self.bits_per_cycle}, signed_encoding = {self.signed_encoding!r}; use bits_per_cycle = "
                "bits and 'sign_magnitude', and leave out what a DAC does wrong (dac_inl_lsb, "
                "dac_offset_lsb, dac_noise_lsb)"
            )
        return self


class Hardware(Table):
    """One chip: device, array, weight and input encoding, converter.

    Frozen; `replace` makes a validated copy.

    Raises:
        HardwareError: on construction, for an unknown key, a wrong type or value, or fields that contradict
            each other; it
            names the field, the value, what is allowed and the likely fix.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str = "custom"
    device: Device = Device()
    array: Array = Array()
    weights: Weights = Weights()
    inputs: Inputs = Inputs()
    adc: Adc | None = None
    mitigation: Mitigation = Mitigation()
    normalisation: Normalisation | None = None
    tile: Tile | None = None
    components: dict[str, Component] = Field(default_factory=dict)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise HardwareError(_explain(error)) from None

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """A description from a dict of tables, as in a TOML file.

        Args:
            obj: the tables, or a `Hardware` (returned as it is).
            **options: none is accepted; the description is always strict.

        Returns:
            The validated description.

        Raises:
            HardwareError: as the constructor does.
        """
        if options:
            raise HardwareError(
                f"Hardware.model_validate takes a dict alone, but got {sorted(options)}; leave them out"
            )
        if isinstance(obj, cls):
            return obj
        if not isinstance(obj, Mapping) or not all(isinstance(key, str) for key in obj):
            raise HardwareError(
                f"a hardware description is a dict of tables, but got {type(obj).__name__}; see "
                "Hardware.model_json_schema()"
            )
        return cls(**obj)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        device, array, weights, inputs, adc = self.device, self.array, self.weights, self.inputs, self.adc
        if device.stuck_on + device.stuck_off > 1:
            raise ValueError(
                f"device.stuck_on + device.stuck_off = {device.stuck_on + device.stuck_off} exceeds 1: a "
                "cell is stuck one way; lower one"
            )
        if array.active > array.rows:
            raise ValueError(
                f"array.rows_active = {array.rows_active} is more than array.rows = {array.rows}; use 1 "
                f"to {array.rows}, or leave it out"
            )
        if weights.encoding == "xnor":
            ternary = inputs.bits == 2 and inputs.signed is True
            if not ternary and (inputs.bits != 1 or inputs.signed is False):
                raise ValueError(
                    f"encoding 'xnor' needs +-1 inputs, but inputs.bits = {inputs.bits}, inputs.signed = "
                    f"{inputs.signed}; "
                    "set inputs.bits = 1 and leave inputs.signed out; or, for inputs of -1, 0 and 1, "
                    "inputs.bits = 2 and inputs.signed = true"
                )
            if array.rows % 2 or array.active % 2:
                raise ValueError(
                    f"encoding 'xnor' puts a weight on two word lines, but array.rows = {array.rows}, "
                    f"rows_active = {array.active}; use even numbers"
                )
        if adc is not None:
            self._check_adc(adc)
        self.mitigation.check(
            encoding=weights.encoding,
            readout=array.readout,
            columns=array.cols,
            wires=array.word_line_ohm > 0 or array.bit_line_ohm > 0,
        )
        self._check_readout()
        if array.output == "analog":
            self._check_analog()
        return self

    def _check_analog(self) -> None:
        """Sums that stay analog are one current each: there is no digital side that could add or correct."""
        weights, inputs, top = self.weights, self.inputs, self.weights.sliced_bits
        first = weights.cell_bits if isinstance(weights.cell_bits, int) else weights.cell_bits[0]
        one_cycle = inputs.bits_per_cycle >= inputs.bits - (inputs.signed is True)
        for name, value, fits, use in (
            ("normalisation", None, self.normalisation is not None, "a table"),
            ("adc", "given", self.adc is None, "none"),
            ("array.readout", self.array.readout, self.array.readout in ("current", "charge"), "'current'"),
            (
                "weights.encoding",
                weights.encoding,
                weights.encoding in ("differential", "ternary"),
                "'differential'",
            ),
            ("weights.cell_bits", weights.cell_bits, first >= top, f"{top}, a pair of cells a weight"),
            ("inputs.bits_per_cycle", inputs.bits_per_cycle, one_cycle, f"{inputs.bits}, one amplitude"),
            (
                "inputs.signed_encoding",
                inputs.signed_encoding,
                inputs.signed_encoding == "sign_magnitude",
                "'sign_magnitude'",
            ),
        ):
            if not fits:
                raise ValueError(
                    f"array.output = 'analog' leaves no digital sums, but {name} = {value!r}; use {use}, or "
                    "array.output = 'digital'"
                )

    def _check_adc(self, adc: Adc) -> None:
        encoding = self.weights.encoding
        if adc.subtract == "digital" and encoding not in ("differential", "ternary"):
            raise ValueError(
                "adc.subtract = 'digital' is for differential pairs, but weights.encoding = "
                f"{encoding!r}; leave adc.subtract out"
            )
        if adc.offset_correction == "unit_column" and encoding not in ("offset", "isaac"):
            raise ValueError(
                "adc.offset_correction = 'unit_column' is for encodings 'offset' and 'isaac', but "
                f"weights.encoding = {encoding!r}; leave it out"
            )

    def _check_readout(self) -> None:
        array, inputs = self.array, self.inputs
        if array.accumulator_bits is not None and array.readout != "digital":
            raise ValueError(
                f"array.accumulator_bits = {array.accumulator_bits} is for digital sums, but array.readout = "
                f"{array.readout!r} has converters, whose codes are added exactly; leave it out, or set "
                "array.readout = 'digital'"
            )
        if array.readout in ("digital", "divider"):
            for name, on in (
                ("array.column_clamp", array.column_clamp is not None),
                ("inputs.dac_inl_lsb", inputs.dac_inl_lsb is not None),
                ("inputs.dac_offset_lsb", inputs.dac_offset_lsb > 0),
                ("inputs.dac_noise_lsb", inputs.dac_noise_lsb > 0),
            ):
                if on:
                    raise ValueError(
                        f"{name} is for column currents, but array.readout = {array.readout!r}; leave it out "
                        "or set array.readout to 'current' or 'charge'"
                    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with some fields changed.

        Args:
            changes: dotted names and values, ``{"adc.bits": 6, "array.rows": 64}``. A field of an absent
                table creates the table with
                defaults; ``{"adc": None}`` removes it; a table's name takes a whole table.

        Returns:
            The changed copy; this one stays as it is.

        Raises:
            HardwareError: a name or value that is not allowed, or a contradiction.
        """
        if not isinstance(changes, Mapping):
            raise HardwareError(
                f"replace takes a dict of dotted names and values, but got {type(changes).__name__}; "
                f"write replace({{'adc.bits': 6}})"
            )
        data = self.model_dump(by_alias=True, exclude_unset=True)
        for path, value in changes.items():
            if not isinstance(path, str) or not path:
                raise HardwareError(f"replace: {path!r} is not a dotted name such as 'adc.bits'")
            *tables, field = path.split(".")
            owner = data
            for table in tables:
                if not isinstance(owner.get(table), dict):
                    owner[table] = {}
                owner = owner[table]
            if isinstance(value, BaseModel):
                value = value.model_dump(by_alias=True, exclude_unset=True)
            owner[field] = value
        return type(self).model_validate(data)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a description from a TOML file.

        Args:
            path: the file.

        Returns:
            The validated description.

        Raises:
            FileMissingError: there is no such file.
            HardwareError: it is not TOML, or not a valid description.
        """
        data = read_toml(path)
        try:
            return cls.model_validate(data)
        except HardwareError as error:
            raise HardwareError(f"hardware file {os.fspath(path)!r}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the description as TOML, every value included; ``load_hardware(path)`` gives it back.

        Args:
            path: the file; written beside it under a temporary name and renamed.

        Raises:
            FileMissingError: its folder does not exist.
        """
        write_atomically(
            Path(path),
            tomli_w.dumps(self.model_dump(by_alias=True, exclude_none=True, mode="python")).encode(),
        )


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a hardware file, not yet validated.

    Args:
        path: the file.

    Returns:
        The tables.

    Raises:
        FileMissingError: there is no such file.
        HardwareError: it is not TOML.
    """
    file = Path(path)
    if not file.is_file():
        raise FileMissingError(f"hardware file {str(file)!r} does not exist; give the path of a .toml file")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardwareError(f"hardware file {str(file)!r} is not valid TOML: {error}") from None


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it.

    Args:
        file: the file to write.
        data: its bytes.

    Raises:
        FileMissingError: its folder does not exist, or it is a folder itself.
    """
    if not file.parent.is_dir():
        raise FileMissingError(
            f"cannot write {str(file)!r}: the folder {str(file.parent)!r} does not exist; create it first"
        )
    if file.is_dir():
        raise FileMissingError(f"cannot write {str(file)!r}: it is a folder; give the path of a file in it")
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _explain(error: ValidationError) -> str:
    """One line for each thing that is wrong: field = value: what is wrong; what is allowed."""
    return "; ".join(dict.fromkeys(_explain_one(detail) for detail in error.errors(include_url=False)))


def _explain_one(detail: Any) -> str:
    path = _clean(detail["loc"])
    name = ".".join(path) or "hardware"
    given = detail["input"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        allowed = sorted(_fields_at(path[:-1]))
        hint = did_you_mean(path[-1], allowed)
        return f"{name} = {given!r}: unknown key.{hint} Allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"{name} is missing; give it a value"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        if not path:
            return message
        return f"{name}.{message}" if message.split(" = ")[0] in _fields_at(path) else f"{name}: {message}"
    hint = did_you_mean(given, _choices(message)) if isinstance(given, str) else ""
    return f"{name} = {given!r}: {message[0].lower()}{message[1:]}.{hint} Change {name} accordingly"


def _choices(message: str) -> list[str]:
    return message.split("'")[1::2]


_UNION_BRANCHES = {"int", "float", "bool", "card", "none", "range", "proportional", "write_verify"}


def _clean(loc: tuple[int | str, ...]) -> list[str]:
    """A pydantic location without the names of union branches."""
    out: list[str] = []
    for i, part in enumerate(loc):
        text = str(part)
        branch = i > 0 and (
            (text in _UNION_BRANCHES and text not in _fields_at(out)) or "[" in text or "-" in text
        )
        if not branch:
            out.append(text)
    return out


def known_field(name: str) -> bool:
    """Whether a dotted name is a table or a field of a description.

    Args:
        name: such as adc.bits.

    Returns:
        True where `Hardware.replace` knows the name.
    """
    *tables, last = name.split(".")
    return last in _fields_at(tables)


def _fields_at(path: list[str]) -> set[str]:
    """Names of the fields of the table at `path`."""
    models: list[type[BaseModel]] = [Hardware]
    if path[:1] == ["components"]:
        models, path = [Component], path[2:]
    for part in path:
        found: list[type[BaseModel]] = []
        for model in models:
            for key, field in model.model_fields.items():
                if part in (key, field.alias):
                    found += _models_in(field.annotation)
        models = found
    return {field.alias or key for model in models for key, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
