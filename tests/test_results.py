"""Records of measurements: intervals, round trips, pages."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

import imcsim
from imcsim.errors import DataError, FileMissingError, InputError
from imcsim.evaluate import wilson_interval
from imcsim.results import (
    CodeState,
    accuracy_interval,
    between_markers,
    code_state,
    machine_facts,
    markdown_table,
    mean_interval,
    put_between_markers,
    read_record,
    write_record,
)

CHIP = imcsim.Hardware.model_validate({"name": "x", "device": {"on_off_ratio": math.inf}})


def write(folder, **changes):
    words = {
        "command": "python x.py",
        "seeds": range(2),
        "n": 10,
        "hardware": {"base": CHIP},
        "facts": {"float_top1": 0.9},
    }
    return write_record(
        "x", [{"a": 1.5, "worst": -math.inf, "top1": (0.1, 0.2)}], folder=folder, **{**words, **changes}
    )


# ---- intervals


def test_interval_over_draws_is_students():
    values = [0.80, 0.83, 0.78, 0.86]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = accuracy_interval(values, 100)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-9)
    assert found.draws == 4


def test_interval_of_one_draw_is_wilsons():
    found = accuracy_interval([0.93], 100)
    assert (found.low, found.high) == wilson_interval(93, 100)


def test_interval_of_fractions_stays_in_range():
    found = accuracy_interval([1.0, 1.0, 0.5], 10)
    assert 0 <= found.low < found.high == 1


def test_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.Generator(np.random.Philox(3)).normal(0.3, 1.0, (4000, 5))
    found = [mean_interval(row.tolist()) for row in draws]
    covered = sum(i.low <= 0.3 <= i.high for i in found)
    assert abs(covered / 4000 - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / 4000)  # z = 3.5


@pytest.mark.parametrize(("top1", "n"), [([], 10), ([1.2], 10), ([0.5], 0), ([math.nan], 3)])
def test_interval_refuses_what_is_no_accuracy(top1, n):
    with pytest.raises(InputError, match="fractions in"):
        accuracy_interval(top1, n)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.inf]])
def test_interval_needs_two_finite_values(values):
    with pytest.raises(InputError, match="at least two finite"):
        mean_interval(values)


# ---- records


def test_record_comes_back(tmp_path):
    file = write(tmp_path)
    record = read_record(file)
    assert file.name == "x.json"
    assert record.rows == [{"a": 1.5, "worst": -math.inf, "top1": [0.1, 0.2]}]
    assert imcsim.Hardware.model_validate(record.hardware["base"]) == CHIP
    assert (record.name, record.command, record.seeds, record.n) == ("x", "python x.py", (0, 1), 10)
    assert record.facts == {"float_top1": 0.9}
    assert (
        set(record.machine) == {"cpu", "cuda", "threads", "python", "torch", "imcsim"} == set(machine_facts())
    )
    assert record.date.endswith("+00:00")
    assert record.commit is None or (len(record.commit) == 40 and isinstance(record.dirty, bool))


def test_record_keeps_the_code_it_is_given(tmp_path):
    record = read_record(write(tmp_path, code=CodeState("f" * 40, True)))
    assert (record.commit, record.dirty) == ("f" * 40, True)
    assert isinstance(code_state(), CodeState)


def test_record_is_plain_json_and_leaves_nothing_else(tmp_path):
    def refuse(name):
        raise AssertionError(name)

    file = write(tmp_path)
    json.loads(file.read_text(), parse_constant=refuse)
    assert list(tmp_path.iterdir()) == [file]


def test_record_names_what_is_wrong(tmp_path):
    with pytest.raises(FileMissingError, match="does not exist"):
        write(tmp_path / "absent")
    with pytest.raises(InputError, match="at least one of each"):
        write(tmp_path, n=0)
    with pytest.raises(InputError, match="plain file name"):
        write_record("a/b", [{}], folder=tmp_path, command="", seeds=(), n=1, hardware={})
    with pytest.raises(FileMissingError, match="does not exist"):
        read_record(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    for text, what in (
        ("{", "not valid JSON"),
        ("[]", "format = None"),
        ('{"format": "imcsim record 1"}', "misses"),
    ):
        bad.write_text(text)
        with pytest.raises(DataError, match=what):
            read_record(bad)


# ---- pages


def test_table_and_markers():
    table = markdown_table(["a", "b"], [["1", "2"]])
    assert table == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    page = put_between_markers("x\n<!-- begin: t -->\nold\n<!-- end: t -->\ny\n", "t", table)
    assert page == f"x\n<!-- begin: t -->\n{table}\n<!-- end: t -->\ny\n"
    assert between_markers(page, "t") == table


def test_pages_name_what_is_wrong():
    with pytest.raises(InputError, match="needs 2 cells"):
        markdown_table(["a", "b"], [["1"]])
    for page in (
        "",
        "<!-- begin: t -->",
        "<!-- end: t -->\n<!-- begin: t -->",
        2 * "<!-- begin: t -->\n<!-- end: t -->\n",
    ):
        with pytest.raises(DataError, match="exactly one"):
            put_between_markers(page, "t", "")
