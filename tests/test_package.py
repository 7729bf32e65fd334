"""A wheel, installed elsewhere, finds its presets, device cards, networks and images."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import pathlib, sys
import imcsim, imcsim.zoo
where = pathlib.Path(imcsim.__file__).resolve()
assert where.is_relative_to(pathlib.Path(sys.argv[1]).resolve()), where
hardware = imcsim.load_hardware("isaac")
cards = imcsim.devices.available()
assert "ideal" in cards, cards
for card in cards:
    imcsim.devices.load(card)
benchmark = imcsim.zoo.load("resnet20", n=10)
hits = (benchmark.model(benchmark.images).argmax(1) == benchmark.labels).sum()
assert len(imcsim.zoo.load("resnet8").images) == 2000
assert len(imcsim.zoo.mnist_subset(train=True)[0]) == 2000
print(hardware.array.rows, len(cards), int(hits))
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_is_complete(tmp_path) -> None:
    dist, site, elsewhere = (tmp_path / name for name in ("dist", "site", "elsewhere"))
    elsewhere.mkdir()
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(dist),
        str(ROOT),
        cwd=elsewhere,
    )
    (wheel,) = dist.glob("imcsim-*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--target", str(site), str(wheel), cwd=elsewhere)
    script = elsewhere / "check.py"
    script.write_text(SCRIPT)
    rows, cards, hits = run(
        sys.executable, str(script), str(site), cwd=elsewhere, PYTHONPATH=str(site)
    ).split()
    assert int(rows) == 128
    assert int(cards) == len(list((ROOT / "device_models").glob("*.toml")))
    assert int(hits) >= 8
    assert (site / "imcsim" / "zoo" / "data" / "LICENSES.txt").is_file()
    first = elsewhere / "first_plot.py"
    first.write_text(first_example())
    run(sys.executable, str(first), cwd=elsewhere, PYTHONPATH=str(site))
    assert (elsewhere / "adc_bits.png").stat().st_size > 10_000


def first_example() -> str:
    """The README's path from nothing to a plot, which promises ten lines."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own network, in ten lines")[1]
    code = section.split("```python\n")[1].split("```")[0]
    assert "adc_bits.png" in code
    return code
