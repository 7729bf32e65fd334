"""The hardware description: frozen, validated, TOML in and out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

import imcsim
from imcsim import presets
from imcsim.errors import HardwareError
from tests.strategies import chips, examples, hardware_of

DEFAULTS = """
schema = 1
name = "rram-128"

[device]
card = "ideal"
on_off_ratio = inf
programming = { kind = "card" }
stuck_on = 0.0
stuck_off = 0.0
temperature_K = 300.0

[array]
rows = 128
cols = 128
rows_active = 128
input_mode = "voltage"
readout = "current"
word_line_ohm = 0.0
bit_line_ohm = 0.0

[weights]
bits = 8
cell_bits = 2
encoding = "differential"
sided = "one"
scale = "per_tensor"
partition = "fill"
placement = "adjacent"
pair = "columns"

[inputs]
bits = 8
bits_per_cycle = 1
signed = "auto"
signed_encoding = "sign_magnitude"
range = "calibrated"

[adc]
bits = 8
kind = "auto"
range = "full"
per = "cycle"
subtract = "analog"
offset_correction = "digital"
columns_per_adc = 128
snap = false
"""


def test_the_contracts_example_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(DEFAULTS)
    hardware = imcsim.load_hardware(path)
    bare = imcsim.Hardware.model_validate({"adc": {}})
    written, default = hardware.model_dump(exclude={"name"}), bare.model_dump(exclude={"name"})
    written["array"]["rows_active"] = default["array"]["rows_active"]
    written["device"]["on_off_ratio"] = default["device"]["on_off_ratio"]
    assert written == default
    assert hardware.array.active == bare.array.active == 128


@examples(60)
@given(chips())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, chip) -> None:
    path = tmp_path_factory.mktemp("toml") / "chip.toml"
    hardware = hardware_of(chip)
    hardware.save(path)
    assert imcsim.load_hardware(path) == hardware
    assert imcsim.load_hardware(str(path)) == hardware
    assert imcsim.Hardware.model_validate(hardware.model_dump(by_alias=True)) == hardware
    assert imcsim.Hardware.model_validate(hardware) == hardware
    assert hash(hardware) == hash(imcsim.load_hardware(path))


@pytest.mark.parametrize("name", presets.available())
def test_presets_load_and_round_trip(name: str, tmp_path: Path) -> None:
    hardware = imcsim.load_hardware(name)
    assert hardware.name
    hardware.save(tmp_path / "a.toml")
    assert imcsim.load_hardware(tmp_path / "a.toml") == hardware


def test_isaac_is_isaac() -> None:
    isaac = imcsim.load_hardware("isaac")
    assert (isaac.array.rows, isaac.array.cols) == (128, 128)
    assert (isaac.weights.bits, isaac.weights.cell_bits, isaac.weights.encoding) == (16, 2, "isaac")
    assert (isaac.inputs.bits, isaac.inputs.bits_per_cycle) == (16, 1)
    assert isaac.adc.bits == 8


def test_replace_is_a_validated_copy() -> None:
    hardware = imcsim.load_hardware("isaac")
    other = hardware.replace({"adc.bits": 6, "array.rows": 64})
    assert (other.adc.bits, other.array.rows) == (6, 64)
    assert (hardware.adc.bits, hardware.array.rows) == (8, 128)
    assert other.adc.offset_correction == hardware.adc.offset_correction
    assert other.replace({"adc.bits": 8, "array.rows": 128}) == hardware


def test_replace_creates_and_removes_tables() -> None:
    bare = imcsim.Hardware()
    assert bare.adc is None
    assert bare.replace({"adc.bits": 6}).adc == imcsim.Hardware(adc={"bits": 6}).adc
    assert bare.replace({"adc": {"bits": 6}}).adc.bits == 6
    assert bare.replace({"adc.bits": 6}).replace({"adc": None}) == bare
    assert bare.replace({"weights.cell_bits": [3, 4]}).weights.cell_bits == (3, 4)
    assert bare.replace({"adc.bits": 4, "adc.range": [-1, 1]}).adc.range == (-1.0, 1.0)
    assert (
        bare.replace({"device.programming": {"kind": "range", "sigma": 0.1}}).device.programming.sigma == 0.1
    )
    assert bare.replace({}) == bare
    assert bare.replace({"name": "mine"}).name == "mine"


def test_whole_numbers_do_for_floats_as_in_toml() -> None:
    hardware = imcsim.Hardware.model_validate(
        {
            "device": {"on_off_ratio": 10, "temperature_K": 300},
            "inputs": {"range": 1},
            "adc": {"range": [0, 4]},
        }
    )
    assert hardware.device.on_off_ratio == 10.0
    assert hardware.inputs.range == 1.0
    assert hardware.adc.range == (0.0, 4.0)


def test_frozen() -> None:
    hardware = imcsim.Hardware()
    for change in (
        lambda: setattr(hardware, "name", "x"),
        lambda: setattr(hardware.array, "rows", 4),
        lambda: setattr(hardware.array, "rowz", 4),
    ):
        with pytest.raises(HardwareError, match=r"frozen.*Hardware\.replace"):
            change()
    assert hardware == imcsim.Hardware()


def test_the_schema_is_json() -> None:
    schema = json.loads(json.dumps(imcsim.Hardware.model_json_schema()))
    assert {"schema", "device", "array", "weights", "inputs", "adc"} <= set(schema["properties"])


def test_a_description_needs_no_torch() -> None:
    """`imcsim.hardware` imports nothing above `imcsim.errors`."""
    source = Path(imcsim.hardware.__file__).read_text()
    assert "torch" not in source.replace("imports no torch", "").replace("Imports no torch", "")
    code = (
        "import sys, types\n"
        "package = types.ModuleType('imcsim')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules['imcsim'] = package\n"
        "import imcsim.hardware\n"
        "assert imcsim.hardware.Hardware().array.rows == 128\n"
        "assert 'torch' not in sys.modules\n"
    )
    folder = str(Path(imcsim.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unsigned_preset_of_the_shipped_ones_evaluates() -> None:
    import torch
    from torch import nn

    for name in presets.available():
        hardware = imcsim.load_hardware(name)
        torch.manual_seed(0)
        sim = imcsim.convert(nn.Linear(150, 4), hardware)
        x = torch.randn(8, 150)
        imcsim.calibrate(sim, [x])
        assert sim(x).isfinite().all()
