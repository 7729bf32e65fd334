"""A report holds what was measured, needs nothing from elsewhere, and opens in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import imcsim
from imcsim import report
from imcsim.errors import CalibrationError, FileMissingError, InputError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def made() -> report.Report:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    chip = imcsim.Hardware.model_validate(
        {
            "name": "a <b>chip</b>",
            "device": {"programming": {"kind": "range", "sigma": 0.02}},
            "weights": {"bits": 8},
            "adc": {"bits": 5, "range": "calibrated"},
        }
    )
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = net(images).argmax(1)
    sim = imcsim.convert(net, chip)
    imcsim.calibrate(sim, [images])
    batches = ((images[i : i + 20], labels[i : i + 20]) for i in (0, 20))
    return report.collect(sim, batches, reference=net, seeds=(3, 1), seconds=60.0, title="small & <odd>")


def test_it_measures_every_chip_and_the_float_network(made) -> None:
    assert [chip.seed for chip in made.chips] == [3, 1]
    assert made.baseline.top1 == 1.0
    assert {chip.found.n for chip in made.chips} == {40}
    assert made.chips[0].found != made.chips[1].found
    assert [len(names) for _, names in made.hardware] == [2]
    assert len(made.diagnosis.layers) == 2
    assert made.costs.energy_J > 0


def test_the_page_holds_what_was_measured(made) -> None:
    page = report.render(made)
    assert "small &amp; &lt;odd&gt;" in page
    assert "<b>chip</b>" not in page
    for chip in made.chips:
        assert f"chip, seed {chip.seed}" in page
        assert f"{100 * chip.found.top1:.2f}" in page
    assert made.diagnosis.culprit in page
    assert 'kind = "range"' in page.replace("&#34;", '"')
    assert page.count("data:image/svg+xml;base64,") == 4
    assert report.render(made) == page  # the same measurements, the same bytes


def test_nothing_is_fetched_from_elsewhere(made) -> None:
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", report.render(made))
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "<script" not in report.render(made)


def test_the_model_is_left_as_the_first_chip() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    noisy = {"device": {"programming": {"kind": "range", "sigma": 0.05}}, "inputs": {"range": 1.0}}
    sim = imcsim.convert(net, imcsim.Hardware.model_validate(noisy))
    batch = (torch.rand(8, 3, 4), torch.zeros(8, dtype=torch.int64))
    report.collect(sim, [batch], seeds=(5, 6))
    left = sim(batch[0])
    imcsim.program(sim, seed=5)
    assert torch.equal(sim(batch[0]), left)


def test_bad_input(made, tmp_path) -> None:
    sim = imcsim.convert(nn.Linear(4, 2), imcsim.Hardware())
    batch = (torch.rand(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(CalibrationError, match=r"imcsim\.calibrate"):
        report.collect(sim, [batch])
    with pytest.raises(InputError, match="at least one seed"):
        report.collect(sim, [batch], seeds=())
    with pytest.raises(InputError, match="a report needs at least one"):
        report.collect(sim, [])
    with pytest.raises(FileMissingError, match="does not exist"):
        report.save(made, tmp_path / "nowhere" / "report.html")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_it_opens_in_a_browser_without_a_console_message(made, tmp_path) -> None:
    file, picture = tmp_path / "report.html", tmp_path / "page.png"
    report.save(made, file)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --enable-logging=stderr"
    quiet = "--disable-background-networking --disable-component-update --disable-sync"
    done = subprocess.run(
        [
            *(CHROMIUM, *options.split(), *quiet.split(), "--window-size=1200,3000"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={picture}",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 20_000
    assert Path(file).stat().st_size < 2_000_000
