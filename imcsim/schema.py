"""What the tables of a hardware description share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from imcsim.errors import HardwareError


def tuple_if_list(value: Any) -> Any:
    """TOML and JSON have lists where a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


class Table(BaseModel):
    """A table of the description: frozen, strict types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __setattr__(self, name: str, value: Any) -> None:
        raise HardwareError(
            f"a hardware description is frozen, but {name} = {value!r} was assigned; make a changed copy "
            "with Hardware.replace"
        )
