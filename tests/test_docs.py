"""What the documentation tells people to type runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs/quickstart.md", ROOT / "docs/sweeps.md", ROOT / "docs/diagnose.md"]
PAGES += sorted((ROOT / "docs/howto").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def with_code() -> list[Path]:
    return [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def test_pages_with_code_are_found() -> None:
    assert ROOT / "README.md" in with_code()
    assert len(with_code()) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("page", with_code(), ids=lambda page: page.stem)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": page.stem}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        exec(
            compile(block, f"{page.name} block {number}", "exec"), scope
        )  # a page's blocks share their names
