"""The command line: what it prints, and that bad input is one line and exit code 2."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import imcsim
from imcsim import cli, devices, presets, zoo

ROOT = Path(__file__).parents[1]
SMALL = ["--model", "resnet8", "--images", "16", "--batch", "8"]
EIGHT_BITS = ["--set", "weights.bits=8", "--set", "inputs.bits=8"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), prog_name="imcsim", catch_exceptions=False)


def good(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def error_of(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == cli.BAD_INPUT
    assert result.stdout == ""
    assert result.stderr.startswith("imcsim: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# ---- help


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["evaluate"],
        ["estimate"],
        ["report"],
        ["presets"],
        ["presets", "list"],
        ["presets", "show"],
        ["devices"],
        ["devices", "list"],
        ["devices", "show"],
    ],
    ids=" ".join,
)
def test_every_command_has_help(command) -> None:
    assert "Usage: imcsim" in good(*command, "--help")


def test_without_a_command_it_says_what_there_is() -> None:
    text = good()
    assert all(name in text for name in ("evaluate", "presets", "devices"))


def test_version() -> None:
    assert good("--version").strip() == imcsim.__version__


# ---- presets


@pytest.mark.parametrize("command", [["presets"], ["presets", "list"]], ids=" ".join)
def test_presets_are_listed(command) -> None:
    text = good(*command)
    assert all(name in text for name in presets.available())
    rows = json.loads(good(*command, "--json"))
    assert [row["name"] for row in rows] == presets.available()
    facts = {row["name"]: row["facts"] for row in rows}
    assert "128 x 128 array, isaac 16-bit weights in 2-bit cells" in facts["isaac"]


def test_preset_show_prints_the_file_with_its_sources() -> None:
    text = good("presets", "show", "isaac")
    assert text == (ROOT / "imcsim" / "presets" / "isaac.toml").read_text()
    assert "ISCA 2016" in text


@pytest.mark.parametrize("name", presets.available())
@pytest.mark.parametrize("order", [("show", "{}", "--json"), ("--json", "show", "{}")], ids=["last", "first"])
def test_preset_as_json_is_the_description(name, order) -> None:
    data = json.loads(good("presets", *(part.format(name) for part in order)))
    assert imcsim.Hardware.model_validate(data) == imcsim.load_hardware(name)


# ---- devices


def test_devices_are_listed() -> None:
    text = good("devices")
    assert all(name in text for name in devices.available())
    rows = {row["name"]: row for row in json.loads(good("devices", "list", "--json"))}
    assert list(rows) == devices.available()
    assert rows["pcm_gst"]["models"] == ["programming", "drift", "read_noise"]
    assert rows["ideal"]["models"] == []


@pytest.mark.parametrize("name", devices.available())
def test_device_show_tells_source_and_assumptions(name) -> None:
    text, card = good("devices", "show", name), devices.load(name)
    assert all(assumption in text for assumption in card.assumptions)
    assert all(source.venue in text for source in card.sources.values())
    assert json.loads(good("devices", "show", name, "--json"))["title"] == card.title


def test_device_show_has_the_numbers_of_the_noise() -> None:
    white = json.loads(good("devices", "show", "pcm_gst", "--json"))["read_noise"]["white"]
    assert white["amplitude"]["q"] == 0.0088
    assert "q 0.0088" in good("devices", "show", "pcm_gst")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_device_plot_is_a_picture(tmp_path, ending) -> None:
    file = tmp_path / f"card.{ending}"
    result = run("devices", "show", "pcm_gst", "--plot", str(file))
    assert result.exit_code == 0
    assert str(file) in result.stderr
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert file.read_bytes().startswith(starts[ending])
    assert list(tmp_path.iterdir()) == [file]


def test_device_from_a_file(tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('schema = 1\nname = "mine"\ntitle = "My cell"\ntechnology = "rram"\nconfidence = "C"\n')
    assert "My cell" in good("devices", "show", str(file))


# ---- evaluate


def test_evaluate_prints_float_and_chip() -> None:
    text = good("evaluate", *SMALL, *EIGHT_BITS, "--seed", "3")
    assert "resnet8 on isaac, seed 3, age 0 s" in text
    assert all(word in text for word in ("float", "chip", "95 % interval", "SQNR dB", "16"))


def test_evaluate_as_json_is_what_the_functions_give(tmp_path) -> None:
    benchmark = zoo.load("resnet8", n=16)
    hardware = imcsim.Hardware.model_validate(
        {
            "name": "mine",
            "device": {"programming": {"kind": "range", "sigma": 0.01}},
            "adc": {"bits": 6, "range": "calibrated"},
        }
    )
    sim = imcsim.convert(benchmark.model, hardware)
    imcsim.calibrate(sim, benchmark.calibration_batches())
    imcsim.program(sim, seed=5)
    want = imcsim.evaluate(sim, benchmark.batches(size=8), reference=benchmark.model)
    file = tmp_path / "mine.toml"
    hardware.replace({"adc.bits": 8}).save(file)
    arguments = ["--hardware", str(file), "--set", "adc.bits=6", "--seed", "5", "--json"]
    got = json.loads(good("evaluate", *SMALL, *arguments))
    assert imcsim.Hardware.model_validate(got["hardware"]).model_dump() == hardware.model_dump()
    assert (got["seed"], got["age_s"], got["model"]) == (5, 0.0, "resnet8")
    assert got["chip"]["n"] == got["float"]["n"] == 16
    assert got["chip"]["top1"] == want.top1
    assert got["chip"]["sqnr_db"] == pytest.approx(want.sqnr_db, abs=1e-3)
    assert got["chip"]["ci95"] == pytest.approx(list(want.ci95))
    assert got["float"]["sqnr_db"] is None


def test_evaluate_takes_toml_values_bare_words_and_no_converter() -> None:
    text = good(
        "evaluate",
        *SMALL,
        *EIGHT_BITS,
        "--set",
        "weights.encoding=offset",
        "--set",
        'device.programming={ kind = "proportional", sigma = 0.01 }',
        "--set",
        "adc=none",
        "--fold-batchnorm",
        "--engine",
        "collapsed",
        "--json",
    )
    got = json.loads(text)
    assert got["hardware"]["weights"]["encoding"] == "offset"
    assert got["hardware"]["device"]["programming"] == {"kind": "proportional", "sigma": 0.01}
    assert got["hardware"]["adc"] is None
    assert (got["engine"], got["fold_batchnorm"]) == ("collapsed", True)


def test_estimate_as_json_adds_up() -> None:
    found = json.loads(good("estimate", "--hardware", "isaac", "--model", "resnet8", "--json"))
    assert found["energy_J"] == pytest.approx(sum(layer["energy_J"] for layer in found["layers"]))
    assert found["energy_J"] == pytest.approx(sum(part["energy_J"] for part in found["components"]))
    assert found["edp_Js"] == pytest.approx(sum(part["edp_Js"] for part in found["components"]))
    assert found["area_mm2"] == pytest.approx(sum(layer["area_mm2"] for layer in found["layers"]))
    assert found["latency_s"] > 0
    assert found["programming_J"] > 0
    assert (found["level"], len(found["conventions"])) == ("network", 3)
    assert found["dominant"].startswith("adc takes")
    assert "adc" in good("estimate", "--model", "resnet8")


def test_estimate_measures_pulses() -> None:
    arguments = ["estimate", "--model", "resnet8", "--json"]
    full, measured = (json.loads(good(*arguments, *more)) for more in ([], ["--activity"]))
    pulses = [layer["activity"] for layer in measured["layers"] if layer["arrays"]]
    assert all(0 < pulse < 0.6 for pulse in pulses)
    for one, all_ in zip(measured["layers"], full["layers"], strict=True):
        assert one["dac_J"] == pytest.approx(all_["dac_J"] * one["activity"], abs=2e-18)
        assert one["adc_J"] == all_["adc_J"]


def test_estimate_draws_its_energy(tmp_path: Path) -> None:
    file = tmp_path / "bars.png"
    result = run("estimate", "--model", "resnet8", "--plot", str(file))
    assert result.exit_code == 0, result.output
    assert result.stderr == f"{file} written\n"
    assert "adc takes" in result.stdout
    assert file.read_bytes().startswith(b"\x89PNG")


def test_peak_is_the_papers() -> None:
    found = json.loads(good("estimate", "--peak", "--json"))
    assert found["power_w"] == pytest.approx(65.8, rel=0.01)
    assert "hyper_transport" in good("estimate", "--peak")


def test_ageing_beyond_a_card_is_one_line_of_warning() -> None:
    result = run(
        "evaluate", *SMALL, *EIGHT_BITS, "--set", "device.card=neurram_wan2022", "--set", "adc=none",
        "--age", "1e7",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("imcsim: warning: card 'neurram_wan2022': drift is known up to")
    assert result.stderr.count("\n") == 1
    assert "age 1e+07 s" in result.stdout


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "--hardware", "isac"], "there is no preset 'isac'. Did you mean 'isaac'?"),
        (["evaluate", "--hardware", "nowhere.toml"], "'nowhere.toml' does not exist"),
        (
            ["evaluate", "--model", "resnet21"],
            "there is no network named 'resnet21' in the zoo. Did you mean",
        ),
        (["evaluate", "--model", "lenet5"], "give the path of a checkpoint"),
        (["evaluate", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["evaluate", "--data", "nowhere"], "nowhere"),
        (["evaluate", "--images", "0"], "got n = 0"),
        (["evaluate", "--images", "many"], "--images"),
        (["evaluate", "--batch", "0"], "size = 0"),
        (["evaluate", "--age", "-1"], "--age"),
        (["evaluate", "--engine", "warp"], "engine = 'warp' is not one of"),
        (["evaluate", "--set", "adc.bitz=9"], "adc.bitz = 9: unknown key. Did you mean 'bits'?"),
        (["evaluate", "--set", "adc.bits"], "is not NAME=VALUE"),
        (["evaluate", "--set", "adc.bits=four"], "adc.bits = 'four'"),
        (["evaluate", "--set", "adc.range=[1, 2"], "is not a TOML value"),
        (["evaluate", "--set", "device.card=pcm"], "no device card 'pcm'"),
        (["evaluate", "--sett", "adc.bits=9"], "--sett"),
        (["evaluate", "resnet20"], "resnet20"),
        (["presets", "show", "isac"], "there is no preset 'isac'. Did you mean 'isaac'?"),
        (["presets", "show"], "argument"),
        (["presets", "hide"], "hide"),
        (["devices", "show", "pcm_gts"], "Did you mean 'pcm_gst'?"),
        (["devices", "show", "ideal", "--plot", "card.doc"], "has no known ending"),
        (["estimate", "--model", "resnet8", "--plot", "bars.doc"], "has no known ending"),
        (["estimate", "--peak", "--plot", "bars.png"], "leave one of them out"),
        (["estimate", "--peak", "--activity"], "leave one of them out"),
        (["estimate", "--model", "resnet8", "--activity", "--shape", "3,8,8"], "which --shape has not"),
        (["estimate", "--model", "resnett"], "no network of the zoo. Did you mean 'resnet8'?"),
        (
            ["estimate", "--model", "resnet8", "--shape", "1,8,8"],
            "does not run on an input of shape (1, 1, 8, 8)",
        ),
        (["estimate", "--model", "resnet8", "--batch", "0"], "batch = 0"),
        (["estimate", "--set", "tile.when_too_large=wait"], "tile.when_too_large = 'wait'"),
        (["estimate", "--peak", "--set", "components.adc.params.bitz=3"], "components.adc: component model"),
        (["estimate", "--peak", "--hardware", "wang2019", "--set", "tile.node_nm=5"], "use 7 to 180"),
        (["devices", "show", "ideal", "--plot", "no/where/card.png"], "does not exist; create it first"),
        (["simulate"], "simulate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says) -> None:
    assert says in error_of(*arguments)


@pytest.mark.slow
def test_as_a_process() -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "imcsim.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
        )

    done = process("evaluate", *SMALL, *EIGHT_BITS, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    assert json.loads(done.stdout)["chip"]["n"] == 16
    failed = process("evaluate", "--hardware", "isac")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1
    assert "Traceback" not in failed.stderr


# ---- the schema that docs/ holds


def test_the_committed_schema_is_the_code_s() -> None:
    spec = importlib.util.spec_from_file_location("write_schema", ROOT / "scripts" / "write_schema.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.FILE.read_text() == script.text(), "run make docs"


# ---- the words around it


def block(language: str) -> str:
    text = (ROOT / "README.md").read_text()
    return text.split(f"```{language}\n", 1)[1].split("```", 1)[0]


def test_the_readme_s_chip_is_valid(tmp_path) -> None:
    file = tmp_path / "chip.toml"
    file.write_text(block("toml"))
    assert imcsim.load_hardware(file).device.card == "neurram_wan2022"


def test_the_documentation_has_every_field() -> None:
    text = (ROOT / "docs" / "hardware.md").read_text()
    tables = imcsim.Hardware.model_json_schema()["$defs"]
    for table in ("Device", "Array", "Weights", "Inputs", "Adc"):
        for field in tables[table]["properties"]:
            assert f"| `{table.lower()}.{field}` |" in text


def test_links_of_the_documentation_lead_somewhere() -> None:
    missing = [
        (file.name, link)
        for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text())
        if not link.startswith("http") and not link.endswith(".png") and not (file.parent / link).exists()
    ]
    assert missing == []


# ---- report


def test_report_writes_one_file_and_says_what_costs_most(tmp_path) -> None:
    file = tmp_path / "chip.html"
    said = json.loads(
        good("report", "--model", "resnet8", "--images", "8", *EIGHT_BITS, "--out", str(file), "--json")
    )
    assert said["file"] == str(file)
    assert said["diagnosis"]["culprit"] in file.read_text(encoding="utf-8")
    assert "does not exist" in error_of(
        "report", "--model", "resnet8", "--images", "8", *EIGHT_BITS, "--out", str(tmp_path / "no" / "r.html")
    )
