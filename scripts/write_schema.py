"""Write docs/hardware.schema.json, the JSON schema of a hardware description. `make docs` runs it."""

from __future__ import annotations

import json
from pathlib import Path

from imcsim import Hardware
from imcsim.hardware import write_atomically

FILE = Path(__file__).resolve().parents[1] / "docs" / "hardware.schema.json"


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(Hardware.model_json_schema(), indent=2) + "\n"


def main() -> None:
    """Write the file."""
    FILE.parent.mkdir(exist_ok=True)
    write_atomically(FILE, text().encode())
    print(f"{FILE} written")


if __name__ == "__main__":
    main()
