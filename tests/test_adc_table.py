"""The [adc], [inputs] and [array] fields of peripheral circuits: what goes together, and what errors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import imcsim
from imcsim.adc_table import FIELDS_OF_KINDS, Adc
from imcsim.errors import HardwareError

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "field of another kind": (
        {"adc": {"kind": "flash", "capacitor_mismatch": 0.1}},
        r"adc\.capacitor_mismatch = 0\.1 is for kind 'sar', but kind = 'flash'; change the kind or leave "
        "capacitor_mismatch out",
    ),
    "levels of an even kind": ({"adc": {"levels": 11}}, "levels = 11 is for kind 'flash' or 'sense_amp'"),
    "too many levels": (
        {"adc": {"kind": "flash", "bits": 3, "levels": 11}},
        r"adc\.levels = 11: 11 codes, but bits = 3 hold 8; raise bits",
    ),
    "too many references": (
        {"adc": {"kind": "flash", "bits": 1, "references": [0.1, 0.2]}},
        r"adc\.references = \[0\.1, 0\.2\]: 3 codes, but bits = 1 hold 2",
    ),
    "references that fall": (
        {"adc": {"kind": "flash", "references": [0.2, 0.1]}},
        r"references = \[0\.2, 0\.1\] do not ascend",
    ),
    "references beyond the range": (
        {"adc": {"kind": "flash", "references": [0.2, 1.1]}},
        r"adc\.references\.1 = 1\.1: input should be less than or equal to 1",
    ),
    "references and levels": (
        {"adc": {"kind": "flash", "references": [0.2], "levels": 2}},
        "leave levels and spacing out",
    ),
    "values alone": ({"adc": {"kind": "flash", "values": [0.0, 1.0]}}, "values go with references"),
    "values of another number": (
        {"adc": {"kind": "flash", "references": [0.5], "values": [0.0, 0.5, 1.0]}},
        "3 of them, but 1 references make 2 codes",
    ),
    "uneven and snap": (
        {"adc": {"kind": "flash", "spacing": "kmeans", "snap": True}},
        "snap = True is for evenly",
    ),
    "uneven and inl": (
        {"adc": {"kind": "flash", "spacing": "logarithmic", "inl_table": [0.0, 1.0]}},
        "inl_table and dnl_table are for evenly spaced codes",
    ),
    "kmeans of many": (
        {"adc": {"kind": "flash", "bits": 9, "spacing": "kmeans"}},
        "spacing = 'kmeans' looks for up to 256 values, but there are 512 codes",
    ),
    "split": (
        {"adc": {"kind": "sar", "bits": 4, "split_bits": 4}},
        "split_bits = 4 leaves no upper half .* use 1 to 3",
    ),
    "bridge": ({"adc": {"kind": "sar", "bridge_parasitic": 0.1}}, r"bridge_parasitic = 0\.1 is for a split"),
    "two tables": ({"adc": {"inl_table": [0.0, 1.0], "dnl_table": [0.0, 1.0]}}, "say the same thing twice"),
    "no csv": (
        {"adc": {"inl_table": "inl.txt"}},
        r"'inl\.txt' is neither a list of numbers nor the path of a \.csv",
    ),
    "wide circuit": (
        {"adc": {"kind": "sar", "bits": 16, "capacitor_mismatch": 0.1}},
        "capacitor_mismatch moves decision levels one by one, which is done up to 14 bits, but bits = 16",
    ),
    "one-bit symmetric": (
        {"adc": {"kind": "sar", "bits": 1, "range": [-1.0, 1.0]}},
        "kind = 'sar' with lo < 0 is symmetric, which needs bits >= 2",
    ),
    "digits of a dac": (
        {"inputs": {"bits_per_cycle": 2, "dac_inl_lsb": [0.0, 0.1]}},
        r"dac_inl_lsb = \[0\.0, 0\.1\] is not a deviation for each of the 4 digits",
    ),
    "digit 0 of a dac": ({"inputs": {"dac_inl_lsb": [0.1, 0.0]}}, "with 0 for digit 0"),
    "clamp of a digital array": (
        {"array": {"readout": "digital", "column_clamp": 1.0}},
        r"array\.column_clamp is for column currents, but array\.readout = 'digital'",
    ),
}


@pytest.mark.parametrize(("tables", "says"), BAD.values(), ids=BAD)
def test_bad_descriptions(tables: dict[str, Any], says: str) -> None:
    with pytest.raises(HardwareError, match=says):
        imcsim.Hardware(**tables)


def test_everything_round_trips_through_a_file(tmp_path: Path) -> None:
    hardware = imcsim.Hardware(
        adc={
            "kind": "flash",
            "bits": 3,
            "references": [0.3, 0.5, 0.7],
            "values": [0.0, 0.4, 0.6, 1.0],
            "ladder_mismatch": 0.1,
            "noise_lsb": 0.2,
        },
        inputs={"dac_inl_lsb": [0.0, 0.1], "dac_noise_lsb": 0.1},
        array={"column_clamp": 20.0},
    )
    hardware.save(tmp_path / "chip.toml")
    assert imcsim.load_hardware(tmp_path / "chip.toml") == hardware


def test_fields_exist_and_kinds_too() -> None:
    assert set(FIELDS_OF_KINDS) <= set(Adc.model_fields)
    for kinds in FIELDS_OF_KINDS.values():
        for kind in kinds:
            Adc(kind=kind)


def test_default_converters_are_ideal() -> None:
    for kind in ("sar", "flash", "ramp", "cyclic", "pipeline", "integrate_fire"):
        assert Adc(kind=kind).ideal
    noisy = Adc(kind="sar", comparator_noise_lsb=3.0, noise_lsb=4.0)
    assert noisy.rms_noise_lsb == 5.0
    assert not noisy.ideal
    assert noisy.without_errors().ideal
