"""Searches: the front of a trade-off that is known, resuming, and what is refused."""

from __future__ import annotations

import pytest

from imcsim.errors import StudyError
from imcsim.sweep import Study
from imcsim.sweep.store import Store
from tests.sweep import toys

optuna = pytest.importorskip("optuna")

AXES = {"adc.bits": {"low": 4, "high": 8, "integer": True}, "array.rows": [32, 64, 128]}
GOALS = {"value": "maximize", "cost": "minimize"}


def study(file, **options):
    return Study(
        AXES, **{"hardware": {"adc": {"bits": 8}}, "evaluate": toys.trade_off, "file": file, **options}
    )


def test_the_front_is_that_of_the_trials_and_near_the_known_one(tmp_path):
    found = study(tmp_path / "s.sqlite").search(GOALS, 40)
    assert len(found.trials) == 40
    for one in found.front:
        assert not any(
            other.values["value"] >= one.values["value"]
            and other.values["cost"] <= one.values["cost"]
            and other.values != one.values
            for other in found.trials
        )
    cheap = [trial for trial in found.front if trial.settings["array.rows"] == 32]
    assert {trial.settings["adc.bits"] for trial in cheap} == {4, 5, 6, 7, 8}
    store = Store(tmp_path / "s.sqlite")
    assert len(store.rows()) == len({tuple(sorted(t.settings.items())) for t in found.trials})
    store.close()


def test_a_stopped_search_goes_on_to_the_same_trials(tmp_path):
    whole = study(tmp_path / "a.sqlite").search(GOALS, 12, seed=5)
    study(tmp_path / "b.sqlite").search(GOALS, 5, seed=5)
    assert study(tmp_path / "b.sqlite").search(GOALS, 12, seed=5).rows() == whole.rows()


@pytest.mark.slow
def test_two_workers_share_a_storage(tmp_path):
    found = study(tmp_path / "s.sqlite", workers=2).search(GOALS, 10)
    assert 10 <= len(found.trials) <= 11  # one may be under way when the other ends
    assert len({trial.number for trial in found.trials}) == len(found.trials)


def test_what_a_search_refuses(tmp_path):
    file = tmp_path / "s.sqlite"
    with pytest.raises(StudyError, match="give the study a file"):
        study(None).search(GOALS, 2)
    with pytest.raises(StudyError, match="with 'maximize' or 'minimize'"):
        study(file).search({"value": "max"}, 2)
    with pytest.raises(StudyError, match="trials = 0"):
        study(file).search(GOALS, 0)
    with pytest.raises(StudyError, match="energy_J, latency_s and area_mm2 need costs = true"):
        study(file, name="other").search({"energy_J": "minimize"}, 2)
    study(file).search(GOALS, 2)
    with pytest.raises(StudyError, match="was begun with other objectives or axes"):
        study(file).search({"value": "minimize", "cost": "minimize"}, 2)


def test_failed_points_are_failed_trials(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    made = Study({"seed": range(4)}, evaluate=toys.broken, file=tmp_path / "s.sqlite")
    found = made.search({"value": "maximize"}, 8)
    assert found.failed + len(found.trials) == 8
    assert all(trial.settings["seed"] < 2 for trial in found.trials)
