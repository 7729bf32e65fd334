"""docs/quant.md names every method and function, and its code runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from imcsim import quant

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "quant.md").read_text(encoding="utf-8")


def test_every_method_has_a_row() -> None:
    methods = {
        name
        for name in quant.__all__
        if inspect.isclass(getattr(quant, name)) and issubclass(getattr(quant, name), quant.Method)
    } - {"Method"}
    rows = set(re.findall(r"^\|[^|]*\| `(\w+)`", PAGE, re.MULTILINE))
    assert methods <= rows
    assert len(methods) >= 23


def test_every_name_of_the_page_exists() -> None:
    named = set(re.findall(r"`quant\.(\w+)", PAGE)) | set(re.findall(r"quant\.(\w+)\(", PAGE))
    assert named
    assert named <= set(quant.__all__)


def test_the_code_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(block, "quant.md", "exec"), {})
