"""Notebooks are pairs of one text: what the .py says is what the .ipynb holds, and it holds no output."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_every_notebook_has_its_pair() -> None:
    assert len(NOTEBOOKS) >= 5
    assert [path.stem for path in NOTEBOOKS] == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pairs_say_the_same(path: Path) -> None:
    held, text = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    cells = [(cell.cell_type, cell.source) for cell in held.cells]
    assert cells == [(cell.cell_type, cell.source) for cell in text.cells], (
        "run jupytext --sync notebooks/*.py"
    )
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in held.cells)
