"""Studies: designs, rows that land once, resuming, failures, means and files."""

from __future__ import annotations

import json
import sqlite3

import pytest
from scipy import stats

import imcsim
from imcsim.errors import DataError, FileMissingError, StudyError
from imcsim.results import read_record
from imcsim.sweep import Choices, Range, Study
from imcsim.sweep.design import points_of
from imcsim.sweep.store import Store
from tests.sweep import toys

CHIP = {"adc": {"bits": 8}}


def toy(axes, **options):
    return Study(axes, **{"hardware": CHIP, "evaluate": toys.metric, **options})


# ---- designs


def test_a_grid_visits_every_combination_the_last_axis_fastest():
    points = toy({"adc.bits": [5, 6], "array.rows, array.cols": [64, 128]}, repeats=2).points()
    assert [dict(point.settings) for point in points[:3]] == [
        {"adc.bits": 5, "array.rows": 64, "array.cols": 64, "seed": 0},
        {"adc.bits": 5, "array.rows": 64, "array.cols": 64, "seed": 1},
        {"adc.bits": 5, "array.rows": 128, "array.cols": 128, "seed": 0},
    ]
    assert len(points) == 8
    assert points[2].hardware.array.cols == 128


def test_a_latin_hypercube_has_one_point_in_every_stratum_of_every_axis():
    axes = {"a": Range(0.0, 1.0), "b": Range(0.0, 1.0), "c": Choices((0, 1, 2, 3))}
    points = points_of(axes, "latin", 40, 7)
    for name in "ab":
        assert sorted(int(point[name] * 40) for point in points) == list(range(40))
    assert [sum(point["c"] == i for point in points) for i in range(4)] == [10] * 4
    assert points == points_of(axes, "latin", 40, 7) != points_of(axes, "latin", 40, 8)


def test_a_random_design_is_uniform():
    axes = {"a": Range(1.0, 100.0, log=True), "k": Range(3, 6, integer=True)}
    points = points_of(axes, "random", 1000, 0)
    logs = [stats.loguniform(1, 100).cdf(point["a"]) for point in points]
    assert stats.kstest(logs, "uniform").pvalue > 0.001
    counts = [sum(point["k"] == k for point in points) for k in (3, 4, 5, 6)]
    assert sum(counts) == 1000
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("axes", "options", "says"),
    [
        ({"adc.bitz": [5]}, {"evaluate": None}, "axis 'adc.bitz' is no field"),
        ({"adc.bitz": [5]}, {"evaluate": None}, "Did you mean 'adc.bits'?"),
        ({}, {}, "give a table of names with values"),
        ({"adc.bits": []}, {}, "at least one value"),
        ({"adc.bits": "56"}, {}, "at least one value"),
        ({"adc.bits": {"low": 5}}, {}, "a range has low and high"),
        ({"adc.bits": {"low": 8, "high": 5}}, {}, "low must be below high"),
        ({"adc.bits": {"low": 0, "high": 5, "log": True}}, {}, "above 0 where log = true"),
        ({"adc.bits": {"low": 5, "high": 8}}, {}, "which a grid cannot visit"),
        ({"adc.bits": [5]}, {"samples": 3}, "leave samples out"),
        ({"adc.bits": [5]}, {"design": "latin"}, "needs a number of points"),
        ({"adc.bits": [5]}, {"design": "cube"}, "design = 'cube' is not one of grid, random, latin"),
        ({"adc.bits": [5]}, {"repeats": 0}, "repeats = 0 is not a whole number"),
        ({"seed": [5]}, {"repeats": 2}, "give repeats or an axis 'seed', not both"),
        ({"adc.bits": [5]}, {"imgaes": 4}, "Did you mean 'images'?"),
        ({"adc.bits": [5]}, {"name": "a/b"}, "is not a plain name"),
        ({"adc.bits": [5]}, {"workers": 0}, "workers = 0 is not a number of workers"),
        ({"adc.bits": [5]}, {"backend": "dask"}, "backend = 'dask' is not one of joblib, ray"),
        ({"device.card": [object()]}, {}, "settings are numbers, words, lists"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(axes, options, says):
    with pytest.raises(StudyError) as error:
        toy(axes, **options).run()
    assert says in str(error.value)


# ---- rows


def test_rows_hold_settings_and_results_and_are_not_measured_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("MARKS", str(tmp_path / "marks"))
    study = toy({"adc.bits": [5, 6]}, repeats=2, file=tmp_path / "s.sqlite", evaluate=toys.counted)
    first = study.run()
    more = toy({"adc.bits": [5, 6, 7]}, repeats=2, file=tmp_path / "s.sqlite", evaluate=toys.counted)
    assert (more.plan().done, more.plan().to_do) == (4, 2)
    again = more.run()
    marks = (tmp_path / "marks").read_text().split()
    assert len(marks) == len(set(marks)) == 6
    assert again.rows()[:4] == first.rows()
    assert again.frame()["adc.bits"].tolist() == [5, 5, 6, 6, 7, 7]


def test_a_key_depends_on_all_that_the_result_depends_on(tmp_path):
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"one")
    base = {"axes": {"adc.bits": [5]}, "evaluate": None}
    keys = {
        toy(**{**base, **change}).points()[0].key
        for change in (
            {},
            {"axes": {"adc.bits": [6]}},
            {"hardware": {"adc": {"bits": 8}, "name": "other"}},
            {"images": 8},
            {"seed": 1},
            {"age": 1.0},
            {"evaluate": toys.metric},
            {"evaluate": toys.slow_metric},
            {"checkpoint": str(file)},
        )
    }
    assert len(keys) == 9
    held = toy(**base, checkpoint=str(file)).points()[0].key
    file.write_bytes(b"two!")
    assert toy(**base, checkpoint=str(file)).points()[0].key != held


def test_failures_are_rows_and_are_tried_again_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    study = toy({"seed": range(4)}, file=tmp_path / "s.sqlite", evaluate=toys.broken)
    found = study.run()
    assert [row["error"] for row in found.rows()] == [
        None,
        None,
        "RuntimeError: no luck with seed 2",
        "RuntimeError: no luck with seed 3",
    ]
    assert "toys.py" in found.failures()[0]["error"]
    with pytest.raises(StudyError, match=r"2 points failed and 0 have not run: RuntimeError: no luck"):
        found.require()
    (tmp_path / "mended").touch()
    assert len(study.run().failures()) == 2
    assert (study.plan().failed, study.plan().to_do) == (2, 0)
    mended = study.run(retry=True).require()
    assert len(mended) == 4
    assert mended.rows()[:2] == found.rows()[:2]


def test_a_chip_that_cannot_be_is_a_failed_row():
    found = Study(
        {"weights.encoding": ["xnor"], "adc.subtract": ["digital"]}, hardware=CHIP, evaluate=toys.metric
    ).run()
    assert found.rows()[0]["error"].startswith("HardwareError: ")


@pytest.mark.parametrize("result", [None, {}, {"x": object()}])
def test_a_function_must_give_plain_values(result):
    found = toy({"adc.bits": [5]}, evaluate=lambda point: result).run()
    assert found.rows()[0]["error"].startswith("StudyError: evaluate gave")


def test_a_study_s_file_is_checked(tmp_path):
    with pytest.raises(FileMissingError, match="its folder does not exist"):
        Store(tmp_path / "no" / "s.sqlite")
    text = tmp_path / "text.sqlite"
    text.write_text("not a data base, but a text that is long enough to be looked at" * 20)
    with pytest.raises(DataError, match="is not a study's SQLite file"):
        Store(text)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match="version 99, this imcsim reads 1"):
        Store(newer)


# ---- what comes out


def test_means_over_seeds_have_t_intervals():
    found = toy({"adc.bits": [5, 6]}, repeats=5).run()
    for mean in found.means("value"):
        values = [row["value"] for row in found.rows() if row["adc.bits"] == mean["adc.bits"]]
        want = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
        assert mean["mean"] == pytest.approx(sum(values) / 5)
        assert (mean["low"], mean["high"]) == pytest.approx(want)
        assert mean["draws"] == 5
    with pytest.raises(StudyError, match=r"'valeu' was not measured\. Did you mean 'value'\?"):
        found.means("valeu")


def test_csv_and_record_hold_rows_configuration_and_provenance(tmp_path):
    found = toy({"device.programming": [{"kind": "range", "sigma": 0.1}]}, repeats=2, name="toy").run()
    text = found.to_csv(tmp_path / "toy.csv").read_text()
    assert text.splitlines()[0] == "device.programming,seed,value,rows,error,seconds"
    record = read_record(found.to_record(tmp_path, command="none"))
    assert record.seeds == (0, 1)
    assert imcsim.Hardware.model_validate(record.hardware["base"]).adc.bits == 8
    assert record.facts["base"]["imcsim"] == imcsim.__version__
    assert record.facts["base"]["evaluate"] == "tests.sweep.toys:metric"
    assert [row["seed"] for row in record.rows] == [0, 1]
    assert record.rows[0]["device.programming"] == {"kind": "range", "sigma": 0.1}


# ---- accuracy on a chip


def test_a_point_is_what_the_functions_give():
    hardware = {"device": {"card": "pcm_gst"}, "adc": {"bits": 8, "range": "calibrated"}}
    axes = {"model": ["tests.sweep.toys:net"], "age": [0.0, 3600.0], "compensation": [None, "global"]}
    study = Study(
        axes, hardware=hardware, data="tests.sweep.toys:images", images=40, batch=8, seed=3, costs=True
    )
    found = study.run().require()
    images, labels = toys.images()
    model, chip = toys.net().eval(), imcsim.Hardware.model_validate(hardware)
    sim = imcsim.convert(model, chip)
    imcsim.calibrate(sim, [images])
    imcsim.program(sim, seed=3)
    for row in found.rows():
        imcsim.age(sim, row["age"], compensation=row["compensation"])
        imcsim.seed_reads(sim, 3)
        want = imcsim.evaluate(sim, zip(images.split(8), labels.split(8), strict=True), reference=model)
        assert (row["top1"], row["sqnr_db"], row["n"]) == (want.top1, want.sqnr_db, 40)
    assert len({row["sqnr_db"] for row in found.rows()}) == 3  # at age 0 there is nothing to compensate
    assert found.rows()[0]["energy_J"] == imcsim.estimate(model, images[:1], chip).energy_J
    assert found.means()[0]["n"] == 40


def test_warnings_of_a_point_are_in_its_row():
    study = Study(
        {"age": [0.0, 1e7]},
        hardware={"device": {"card": "neurram_wan2022"}},
        model="tests.sweep.toys:net",
        data="tests.sweep.toys:images",
        images=4,
    )
    young, old = study.run().require().rows()
    assert "warnings" not in young
    assert "drift is known up to" in old["warnings"][0]


def test_a_study_from_a_file(tmp_path):
    file = tmp_path / "bits.toml"
    file.write_text(
        '[study]\nevaluate = "tests.sweep.toys:metric"\nrepeats = 2\n'
        '[axes]\n"adc.bits" = [5, 6]\n"array.rows" = { low = 32, high = 64, integer = true }\n'
    )
    with pytest.raises(StudyError, match="which a grid cannot visit"):
        Study.from_toml(file).run()
    file.write_text(file.read_text().replace("[axes]", 'design = "latin"\nsamples = 3\n[axes]'))
    found = Study.from_toml(file).run().require()
    assert len(found) == 6
    assert (tmp_path / "bits.sqlite").is_file()
    assert json.loads(json.dumps(found.rows())) == found.rows()
    for text, says in (("[axis]\nx = 1", "Did you mean 'axes'?"), ("[axes", "is not valid TOML")):
        file.write_text(text)
        with pytest.raises(StudyError, match=says.replace("?", r"\?")):
            Study.from_toml(file)
    with pytest.raises(FileMissingError, match="does not exist"):
        Study.from_toml(tmp_path / "none.toml")
