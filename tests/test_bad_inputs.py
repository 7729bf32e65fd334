"""Everything a user can get wrong: one error, of a kind that plain Python code can catch too, and a text
that helps.

Each text names the field (or the layer, the file), the value that was given, what is allowed, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim import quant
from imcsim.errors import ImcsimError

GOOD = imcsim.Hardware(inputs={"range": "dynamic"})


def hardware(**tables: Any) -> Callable[[Path], Any]:
    return lambda folder: imcsim.Hardware.model_validate(tables)


def file(text: str) -> Callable[[Path], Any]:
    def load(folder: Path) -> Any:
        (folder / "chip.toml").write_text(text)
        return imcsim.load_hardware(folder / "chip.toml")

    return load


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 4))


def broken(value: float) -> nn.Module:
    model = net()
    with torch.no_grad():
        model[2].weight[0, 0] = value
    return model


def chip(change: dict[str, Any] | None = None) -> nn.Module:
    return imcsim.convert(net(), GOOD.replace(change or {}))


X = torch.zeros(1, 2, 6, 6)

# what is done; the parts of the text, in any order
CASES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    # Descriptions
    "misspelled table": (
        hardware(adcs={"bits": 8}),
        ("adcs", "unknown key", "Did you mean 'adc'", "weights"),
    ),
    "misspelled field": (
        hardware(adc={"bitz": 9}),
        (r"adc\.bitz = 9", "Did you mean 'bits'", "columns_per_adc"),
    ),
    "misspelled choice": (
        hardware(weights={"encoding": "diferential"}),
        (r"weights\.encoding = 'diferential'", "'offset'", "Did you mean 'differential'"),
    ),
    "text for a number": (hardware(array={"rows": "128"}), (r"array\.rows = '128'", "integer")),
    "a fraction for a whole number": (hardware(array={"rows": 12.5}), (r"array\.rows = 12\.5", "integer")),
    "true for a number": (hardware(adc={"bits": True}), (r"adc\.bits = True", "integer")),
    "zero rows": (hardware(array={"rows": 0}), (r"array\.rows = 0", "greater than or equal to 1")),
    "zero bits": (hardware(weights={"bits": 0}), (r"weights\.bits = 0", "greater than or equal to 1")),
    "too many bits": (hardware(inputs={"bits": 33}), (r"inputs\.bits = 33", "less than or equal to 16")),
    "cells wider than the weight": (
        hardware(weights={"bits": 4, "cell_bits": 6}),
        ("cell_bits = 6", "bits = 4", "use 1 to 4"),
    ),
    "slices that do not add up": (
        hardware(weights={"bits": 8, "cell_bits": [2, 2]}),
        (r"cell_bits = \[2, 2\]", "adds up to 4", "7 bits", "8-bit weight"),
    ),
    "one slice too many": (
        hardware(weights={"bits": 8, "cell_bits": [4, 4, 4]}),
        (r"\[4, 4, 4\]", "adds up to 12"),
    ),
    "no slices": (hardware(weights={"cell_bits": []}), (r"weights\.cell_bits = [\[(][\])]", "at least 1")),
    "more rows active than there are": (
        hardware(array={"rows": 64, "rows_active": 128}),
        (r"rows_active = 128", r"rows = 64", "use 1 to 64"),
    ),
    "negative sigma": (
        hardware(device={"programming": {"kind": "range", "sigma": -0.1}}),
        (r"device\.programming\.sigma = -0\.1", "greater than or equal to 0"),
    ),
    "missing sigma": (
        hardware(device={"programming": {"kind": "range"}}),
        (r"device\.programming\.sigma", "missing"),
    ),
    "unknown programming": (
        hardware(device={"programming": {"kind": "gaussian"}}),
        (r"device\.programming", "gaussian", "'range'", "'proportional'"),
    ),
    "fraction above 1": (
        hardware(device={"stuck_on": 1.5}),
        (r"device\.stuck_on = 1\.5", "less than or equal to 1"),
    ),
    "stuck both ways": (
        hardware(device={"stuck_on": 0.7, "stuck_off": 0.7}),
        ("stuck_on", "stuck_off", r"1\.4", "lower one"),
    ),
    "on/off ratio below 1": (
        hardware(device={"on_off_ratio": 0.5}),
        (r"device\.on_off_ratio = 0\.5", "greater than 1"),
    ),
    "temperature of zero": (
        hardware(device={"temperature_K": 0}),
        (r"device\.temperature_K = 0", "greater than 0"),
    ),
    "nan": (hardware(array={"word_line_ohm": float("nan")}), (r"array\.word_line_ohm = nan",)),
    "empty range": (hardware(adc={"range": [2.0, 1.0]}), (r"adc.*range = \[2\.0, 1\.0\]", "lo < hi")),
    "lopsided symmetric range": (
        hardware(adc={"kind": "symmetric", "range": [-1.0, 2.0]}),
        (r"range = \[-1\.0, 2\.0\]", r"\[-2\.0, 2\.0\]", "uniform"),
    ),
    "three range ends": (hardware(adc={"range": [0.0, 1.0, 2.0]}), (r"adc\.range = .0\.0, 1\.0, 2\.0.", "2")),
    "range that is no range": (
        hardware(adc={"range": "ful"}),
        (r"adc\.range = 'ful'", "'full'", "'calibrated'"),
    ),
    "symmetric with one bit": (
        hardware(adc={"kind": "symmetric", "bits": 1}),
        ("bits = 1", "bits >= 2", "sense_amp"),
    ),
    "input range of zero": (hardware(inputs={"range": 0.0}), (r"inputs\.range = 0\.0", "greater than 0")),
    "input range that is a word": (
        hardware(inputs={"range": "auto"}),
        (r"inputs\.range = 'auto'", "'dynamic'"),
    ),
    "dac wider than the input": (
        hardware(inputs={"bits": 4, "bits_per_cycle": 5}),
        ("bits_per_cycle = 5", "bits = 4", "use 1 to 4"),
    ),
    "signed is a word": (hardware(inputs={"signed": "yes"}), (r"inputs\.signed = 'yes'", "'auto'")),
    "xnor with wide weights": (
        hardware(weights={"encoding": "xnor", "bits": 4}),
        ("xnor", "bits = 4", r"weights\.bits = 1"),
    ),
    "xnor with wide inputs": (
        hardware(weights={"encoding": "xnor", "bits": 1}),
        ("xnor", r"inputs\.bits = 8", r"set inputs\.bits = 1"),
    ),
    "xnor on odd rows": (
        hardware(weights={"encoding": "xnor", "bits": 1}, inputs={"bits": 1}, array={"rows": 7}),
        ("xnor", r"array\.rows = 7", "even"),
    ),
    "ternary with wide weights": (
        hardware(weights={"encoding": "ternary", "bits": 8}),
        ("ternary", "bits = 8", r"= 2"),
    ),
    "two-sided offset": (
        hardware(weights={"encoding": "offset", "sided": "two"}),
        ("sided = 'two'", "'offset'", "'one'"),
    ),
    "digital subtraction of offset cells": (
        hardware(weights={"encoding": "offset"}, adc={"subtract": "digital"}),
        (r"adc\.subtract = 'digital'", "'offset'", "leave"),
    ),
    "unit column of pairs": (
        hardware(adc={"offset_correction": "unit_column"}),
        (r"adc\.offset_correction = 'unit_column'", "'differential'", "leave"),
    ),
    "another schema": (hardware(schema=2), ("schema = 2", "1")),
    "two things at once": (
        hardware(adc={"bitz": 9}, array={"rows": 0}),
        (r"adc\.bitz = 9", r"array\.rows = 0"),
    ),
    "a table that is no table": (hardware(adc=8), ("adc = 8",)),
    "not a dict": (lambda _: imcsim.Hardware.model_validate([1, 2]), ("dict of tables", "list")),
    "keyword arguments": (lambda _: imcsim.Hardware(array={"rows": -3}), (r"array\.rows = -3",)),
    "replace: misspelled": (
        lambda _: GOOD.replace({"adc.bitz": 9}),
        (r"adc\.bitz = 9", "Did you mean 'bits'"),
    ),
    "replace: no dict": (lambda _: GOOD.replace([("adc.bits", 9)]), ("list", "replace")),
    "replace: no name": (lambda _: GOOD.replace({"": 3}), ("''", r"adc\.bits")),
    "replace: below a value": (lambda _: GOOD.replace({"name.first": "x"}), ("name",)),
    "a constructed positional": (lambda _: GOOD.replace({"weights": 8}), ("weights = 8",)),
    # Files
    "unknown preset": (
        lambda _: imcsim.load_hardware("isaak"),
        ("'isaak'", "Did you mean 'isaac'", "puma", r"\.toml"),
    ),
    "no such file": (lambda f: imcsim.load_hardware(f / "none.toml"), (r"none\.toml", "does not exist")),
    "no name": (lambda _: imcsim.load_hardware(""), ("''", "preset")),
    "a number for a name": (lambda _: imcsim.load_hardware(7), ("7", "preset")),
    "not TOML": (file("[adc\nbits = 8"), (r"chip\.toml", "not valid TOML")),
    "truncated TOML": (file('schema = 1\n[weights]\nencoding = "off'), (r"chip\.toml", "not valid TOML")),
    "wrong value in a file": (file("[adc]\nbits = 0"), (r"chip\.toml", r"adc\.bits = 0")),
    "unknown card": (file('[device]\ncard = "idael"'), ("idael", "Did you mean 'ideal'")),
    "saving into nowhere": (
        lambda f: GOOD.save(f / "no" / "a.toml"),
        (r"a\.toml", "does not exist", "create it"),
    ),
    "saving over a folder": (lambda f: GOOD.save(f), ("cannot write", "it is a folder", "path of a file")),
    "saving a model over a folder": (lambda f: imcsim.save(chip(), f), ("cannot write", "it is a folder")),
    "loading into another architecture": (
        lambda f: (
            imcsim.save(chip(), f / "a.safetensors"),
            imcsim.load(f / "a.safetensors", nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Linear(48, 4))),
        ),
        (r"a\.safetensors' belongs to another architecture", "size mismatch for 0"),
    ),
    "measured points that are no text": (
        lambda f: (
            (f / "m.csv").write_bytes(b"\x00\xff\n"),
            imcsim.devices.fit(f / "m.csv", equation="levels"),
        ),
        (r"m\.csv' is not a CSV file in UTF-8",),
    ),
    "saving a model into nowhere": (
        lambda f: imcsim.save(chip(), f / "no" / "a.safetensors"),
        ("does not exist",),
    ),
    "saving a float model": (
        lambda f: imcsim.save(net(), f / "a"),
        ("no crossbar layer", r"imcsim\.convert"),
    ),
    "loading nothing": (
        lambda f: imcsim.load(f / "a.safetensors", net()),
        (r"a\.safetensors", r"imcsim\.save"),
    ),
    # Conversion
    "not a model": (lambda _: imcsim.convert(torch.zeros(3), GOOD), ("torch.nn.Module", "Tensor")),
    "not a hardware": (lambda _: imcsim.convert(net(), "isaac"), ("'isaac'", "load_hardware")),
    "a preset's name in a map": (
        lambda _: imcsim.convert(net(), {"*": "isaac"}),
        (r"\['\*'\] = 'isaac'", "load_hardware"),
    ),
    "no hardware at all": (lambda _: imcsim.convert(net(), {}), ("{}", "Hardware")),
    "pattern that matches nothing": (
        lambda _: imcsim.convert(net(), {"*": GOOD, "conv": None}),
        ("'conv' matches no module", "Layers: 0, 2"),
    ),
    "pattern that matches no layer": (
        lambda _: imcsim.convert(net(), {"1": GOOD}),
        ("'1' matches no", "Layers: 0, 2"),
    ),
    "nothing to convert": (lambda _: imcsim.convert(nn.ReLU(), GOOD), ("nothing would run on crossbars",)),
    "all kept digital": (
        lambda _: imcsim.convert(net(), {"*": None}),
        ("nothing would run on crossbars", "0:"),
    ),
    "NaN weights": (
        lambda _: imcsim.convert(broken(float("nan")), GOOD),
        ("'2'", "not finite", "checkpoint"),
    ),
    "infinite weights": (lambda _: imcsim.convert(broken(float("inf")), GOOD), ("'2'", "not finite")),
    "a model without values": (
        lambda _: imcsim.convert(nn.Linear(3, 3, device="meta"), GOOD),
        ("meta device", "load its weights"),
    ),
    "complex weights": (
        lambda _: imcsim.convert(nn.Linear(3, 3, dtype=torch.complex64), GOOD),
        ("nothing would run on crossbars", "complex numbers"),
    ),
    "misspelled engine": (
        lambda _: imcsim.convert(net(), GOOD, engine="mat_mul"),
        ("'mat_mul'", "Did you mean 'matmul'"),
    ),
    "unknown training method": (lambda _: imcsim.convert(net(), GOOD, qat="lsqq"), ("qat = 'lsqq'",)),
    "unknown card in a description": (
        lambda _: imcsim.convert(net(), GOOD.replace({"device.card": "pcm_gts"})),
        ("pcm_gts", "Did you mean 'pcm_gst'"),
    ),
    "one-bit automatic converter for both signs": (
        lambda _: chip({"adc.bits": 1})(X),
        (r"adc\.bits = 1", "sense_amp"),
    ),
    "the same, calibrated": (
        lambda _: imcsim.calibrate(chip({"adc": {"bits": 1, "range": "calibrated"}}), [X + 1]),
        (r"adc\.bits = 1", "sense_amp"),
    ),
    # Running
    "wrong number of channels": (lambda _: chip()(torch.zeros(1, 5, 6, 6)), ("'0'", "2", r"\(1, 5, 6, 6\)")),
    "wrong number of features": (lambda _: chip()[2](torch.zeros(1, 7)), ("'2'", "48", r"\(1, 7\)")),
    "integers": (lambda _: chip()(X.long()), ("'0'", "int64", r"\.float\(\)")),
    "a sparse tensor": (
        lambda _: chip()[2](torch.eye(48).to_sparse()),
        ("'2'", r"sparse_coo", r"\.to_dense\(\)"),
    ),
    "image smaller than the kernel": (lambda _: chip()(torch.zeros(1, 2, 2, 2)), ("'0'", "2")),
    "transposed convolution whose padding leaves nothing": (
        lambda _: imcsim.convert(nn.ConvTranspose1d(2, 3, 3, padding=4, dilation=2), GOOD)(
            torch.ones(1, 2, 4)
        ),
        ("would give 0 samples", r"\(1, 2, 4\)", r"padding = \(4,\)", "use a larger input or less padding"),
    ),
    "not calibrated": (
        lambda _: chip({"inputs.range": "calibrated"})(X),
        ("'0'", "calibrate", 'range = "dynamic"'),
    ),
    # Whole-model functions
    "calibrating a float model": (
        lambda _: imcsim.calibrate(net(), [X]),
        ("no crossbar layer", r"imcsim\.convert"),
    ),
    "empty calibration": (lambda _: imcsim.calibrate(chip(), []), ("no batches", "at least one")),
    "calibrating on a tensor": (
        lambda _: imcsim.calibrate(chip(), X),
        (r"\(1, 2, 6, 6\)", r"pass \[tensor\]"),
    ),
    "calibrating on a number": (lambda _: imcsim.calibrate(chip(), 3), ("int", "iterable")),
    "calibrating on dicts": (lambda _: imcsim.calibrate(chip(), [{"x": X}]), ("dict", "forward=")),
    "calibrating on triples": (lambda _: imcsim.calibrate(chip(), [(X, X, X)]), ("tuple of 3", "forward=")),
    "calibrating on NaN": (lambda _: imcsim.calibrate(chip(), [X * float("nan")]), ("'0'", "not finite")),
    "calibrating without samples": (lambda _: imcsim.calibrate(chip(), [X[:0]]), ("sample",)),
    "a layer that calibration never reaches": (
        lambda _: imcsim.calibrate(chip(), [X], forward=lambda model, batch: model[0](batch)),
        ("never reached layer '2'", "None"),
    ),
    "unknown criterion": (
        lambda _: imcsim.calibrate(chip(), [X], criterion="mean"),
        ("'mean'", "'mse'", "'percentile'"),
    ),
    "percentile in words": (
        lambda _: imcsim.calibrate(chip(), [X], percentile="all"),
        ("percentile = 'all'", "at most 100"),
    ),
    "calibrating on integers": (lambda _: imcsim.calibrate(chip(), [X.long()]), ("'0'", r"\.float\(\)")),
    "a forward that is no function": (
        lambda _: imcsim.calibrate(chip(), [X], forward=3),
        ("forward = 3", "lambda net, batch"),
    ),
    "no model": (lambda _: imcsim.program(None), ("NoneType", r"imcsim\.convert")),
    "evaluating no model": (lambda _: imcsim.evaluate(None, [(X, X)]), ("model", "NoneType")),
    "a reference that is no model": (
        lambda _: imcsim.evaluate(chip(), [(X, X)], reference=3),
        ("reference", "int"),
    ),
    "percentile above 100": (
        lambda _: imcsim.calibrate(chip(), [X], criterion="percentile", percentile=101),
        ("percentile = 101", "at most 100"),
    ),
    "negative time": (lambda _: imcsim.age(chip(), seconds=-5), ("seconds = -5", "0 or a positive")),
    "seed that is a fraction": (lambda _: imcsim.program(chip(), seed=0.5), (r"seed = 0\.5", "integer")),
    "seeding reads with text": (lambda _: imcsim.seed_reads(chip(), "a"), ("seed = 'a'", "integer")),
    "summary of a float model": (lambda _: imcsim.summary(net()), ("no crossbar layer", r"imcsim\.convert")),
    "evaluating nothing": (lambda _: imcsim.evaluate(chip(), []), ("no samples", "at least one")),
    "evaluating without labels": (
        lambda _: imcsim.evaluate(chip(), [X]),
        (r"\(input, label\) pairs", "Tensor"),
    ),
    "labels of another length": (
        lambda _: imcsim.evaluate(chip(), [(X, torch.zeros(3, dtype=torch.long))]),
        (r"\(1, 2, 6, 6\)", r"\(3,\)"),
    ),
    "a model without logits": (
        lambda _: imcsim.evaluate(nn.Flatten(0), [(X, torch.zeros(len(X), dtype=torch.long))]),
        (r"logits \(batch, classes\)", r"tensor of \(\d+,\)", "wrap the model"),
    ),
    "a model that gives logits by position": (
        lambda _: imcsim.evaluate(nn.Flatten(2), [(X, torch.zeros(len(X), dtype=torch.long))]),
        (r"logits \(batch, classes\)", "tensor of", "wrap the model"),
    ),
    "a reference with other classes": (
        lambda _: imcsim.evaluate(
            net(),
            [(X, torch.zeros(len(X), dtype=torch.long))],
            reference=nn.Flatten(),
        ),
        ("logits of one shape", "same classes"),
    ),
    "evaluating on a number": (lambda _: imcsim.evaluate(chip(), 5), ("int", "pairs")),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name: str, tmp_path: Path) -> None:
    act, parts = CASES[name]
    with pytest.raises(ImcsimError) as caught:
        act(tmp_path)
    error = caught.value
    assert isinstance(error, ValueError | FileNotFoundError)
    text = str(error)
    for part in parts:
        assert re.search(part, text), f"{part!r} is not in: {text}"
    assert "\n" not in text, text
    assert "pydantic" not in text, text
    assert text.strip() == text
    assert len(text) < 600, text


@pytest.mark.parametrize(
    ("missing", "act"),
    [
        ("preset", lambda f: imcsim.load_hardware("isaak")),
        ("file", lambda f: imcsim.load_hardware(f / "none.toml")),
        ("model", lambda f: imcsim.load(f / "none.safetensors", net())),
    ],
)
def test_what_is_not_there_is_file_not_found(
    missing: str, act: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        act(tmp_path)


@pytest.mark.parametrize("qat", [None, quant.LSQ(), quant.PACT()], ids=lambda qat: type(qat).__name__)
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_failed_calibration_leaves_the_model_as_it_was(qat, calibrated) -> None:
    x = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    changes = {"adc": {"bits": 6, "range": "calibrated"}, "inputs.range": "calibrated"} if calibrated else {}
    sim = imcsim.convert(net(), GOOD.replace(changes), qat=qat)
    if calibrated or qat is not None:
        imcsim.calibrate(sim, [x])
    before = sim(x)
    with pytest.raises(ImcsimError):
        imcsim.calibrate(sim, [-3 * x, "nothing"])
    assert torch.equal(sim(x), before)
    with pytest.raises(ImcsimError, match="not finite"):
        imcsim.calibrate(sim, [5 * x, torch.full_like(x, float("nan"))])
    assert torch.equal(sim(x), before)
    assert sim[0].array.observer is None


def test_errors_of_the_users_own_code_pass_through() -> None:
    def forward(model: nn.Module, batch: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        imcsim.calibrate(chip(), [X], forward=forward)


def test_a_type_error_in_the_users_generator_passes_through() -> None:
    def broken_batches() -> Iterator[Tensor]:
        yield X
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        imcsim.calibrate(chip(), broken_batches())
