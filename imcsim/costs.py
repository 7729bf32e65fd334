"""The tables that say what a chip costs: `[tile]` and `[components.<name>]`.

Imports nothing of imcsim but errors, so that `Hardware` can hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from imcsim.errors import HardwareError

Event = Literal[
    "array_read",
    "cell_read",
    "cell_write",
    "dac",
    "sample_hold",
    "adc",
    "adder_tree",
    "shift_add",
    "add",
    "input_register_byte",
    "output_register_byte",
    "buffer_byte",
    "bus_byte",
    "flit_hop",
    "link_byte",
    "dram_byte",
    "activation",
    "pool",
    "vector_op",
    "neuron",
    "digital_mac",
    "busy",
    "static",
]
"""What a component does once; `imcsim.ppa.events` says how each is counted.

busy: a second of one array at work, for what draws power while its arrays do; static: power all the time.
"""

EVENTS: tuple[Event, ...] = get_args(Event)

Per = Literal["chip", "tile", "unit", "array", "row", "column", "converter"]
Confidence = Literal["A", "B", "C"]


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Tile(_Table):
    """Arrays in units (ISAAC's IMA, PUMA's core), units in tiles, tiles in a chip; and their time."""

    node_nm: float = Field(32.0, gt=0, description="technology node of the periphery")
    arrays_per_unit: int = Field(8, ge=1)
    units_per_tile: int = Field(12, ge=1)
    tiles: int | None = Field(
        None, ge=1, description="tiles of a chip; without it as many as a network needs"
    )
    cycle_s: float = Field(1e-7, gt=0, description="one input cycle: pulse, sample and conversion, pipelined")
    clock_Hz: float = Field(1e9, gt=0, description="of the digital side")
    pipeline_cycles: int = Field(0, ge=0, description="cycles of a vector's way besides its input cycles")
    headline_factor: float | None = Field(
        None,
        gt=0,
        description="vectors that a published headline counts for each that the chip's own timing allows; "
        "derived from the headline, so the throughput is then calibrated",
    )
    subtotal_mW: float | None = Field(
        None, gt=0, description="published power of a tile where its rows add up otherwise"
    )
    subtotal_mm2: float | None = Field(None, gt=0, description="likewise its area")
    activity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="mean pulse on a word line over full scale where none was measured; without it 1, and "
        "0.5 for xnor, which drives one line of each pair",
    )
    tiles_per_router: int = Field(4, ge=1)
    flit_bytes: int = Field(4, ge=1)
    write_row_s: float | None = Field(
        None,
        gt=0,
        description="writing one word line of an array, arrays in parallel; without it what its cells take",
    )
    when_too_large: Literal["chips", "reload"] = Field(
        "chips",
        description="a network that a chip cannot hold: as many chips as it takes, or one in passes, weights "
        "written anew before each",
    )
    rest: Literal["none", "library"] = Field(
        "none",
        description="what these tables do not account for: nothing does, or in estimates the library's "
        "generic tile; a published headline of a macro covers the macro alone",
    )

    @property
    def arrays(self) -> int:
        """Arrays of one tile."""
        return self.arrays_per_unit * self.units_per_tile


class Component(_Table):
    """One kind of component: how many there are, what an event of it costs, and who says so.

    `model` names a model of the library, which takes `params`; "fixed" takes the numbers given here. Numbers
    given here override a model's.
    """

    model: str = Field("fixed", min_length=1)
    per: Per = Field("array", description="what there are `count` of it in")
    count: float = Field(1.0, gt=0, description="a fraction where several share one")
    event: Event = "static"
    includes: Annotated[tuple[Event, ...], BeforeValidator(_tuple_if_list)] = Field(
        (), description="events whose cost is part of this component's"
    )
    energy_pJ: float | None = Field(None, ge=0, description="of one event")
    power_mW: float | None = Field(None, ge=0, description="of one instance at its full rate")
    area_um2: float | None = Field(None, ge=0, description="of one instance")
    events_per_s: float | None = Field(None, gt=0, description="full rate of one instance")
    params: dict[str, float | str] = Field(default_factory=dict, description="of the model")
    alternatives: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="energy_pJ under other readings of its source, by the reading: a line each of `peak`",
    )
    source: str = ""
    confidence: Confidence = "C"
    calibrated: bool = Field(False, description="fitted to the figure it is compared with: proves nothing")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.alternatives and self.energy_pJ is None:
            raise ValueError("alternatives are other readings of energy_pJ, which is not given; give it")
        if self.model != "fixed":
            return self
        if self.params:
            raise ValueError(f"model 'fixed' takes no params, but got {sorted(self.params)}; name a model")
        if self.event in ("static", "busy"):
            if self.power_mW is None:
                raise ValueError(f"a fixed component with event = {self.event!r} needs power_mW; give it")
        elif self.energy_pJ is None and (self.power_mW is None or self.events_per_s is None):
            raise ValueError(
                f"a fixed component with event = {self.event!r} needs energy_pJ, or power_mW and events_per_s"
            )
        return self


class Costs(_Table):
    """Both tables of a chip."""

    tile: Tile = Tile()
    components: dict[str, Component] = Field(min_length=1)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise HardwareError("; ".join(_one_line(detail) for detail in error.errors())) from None


def costs_from(tables: Mapping[str, Any]) -> Costs:
    """Costs from a dict with `tile` and `components`, as in a TOML file; other tables are left alone.

    Args:
        tables: the dict.

    Returns:
        The validated tables.

    Raises:
        HardwareError: something in them is wrong.
    """
    return Costs(**{key: tables[key] for key in ("tile", "components") if key in tables})


def _one_line(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"]) or "costs"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{name} = {detail['input']!r}: unknown key; see imcsim.costs for what is allowed"
    if detail["type"] == "value_error":
        return f"{name}: {message}"
    return f"{name} = {detail['input']!r}: {message[0].lower()}{message[1:]}; change {name} accordingly"
