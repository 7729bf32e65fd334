"""Studies that are killed, and studies on several workers: the same rows, each once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from imcsim.errors import StudyError
from imcsim.sweep import Study
from imcsim.sweep.store import Store
from tests.sweep import toys

ROOT = Path(__file__).parents[2]
POINTS = 200
AXES = {"adc.bits": [4, 5, 6, 7, 8], "array.rows": [32, 64], "seed": range(20)}
RUN = """
import sys
from imcsim.sweep import Study
from tests.sweep import toys
chip = {{"adc": {{"bits": 8}}}}
Study({axes!r}, hardware=chip, evaluate=toys.counted, file=sys.argv[1], workers={workers}).run()
"""


def study(**options):
    return Study(AXES, **{"hardware": {"adc": {"bits": 8}}, "evaluate": toys.metric, **options})


def measured(found):
    """Rows without the time they took."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found.rows()]


def started(file: Path, workers: int) -> subprocess.Popen[bytes]:
    text = RUN.format(axes=AXES, workers=workers)
    environment = {**os.environ, "MARKS": f"{file}.marks", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", text, str(file)], cwd=ROOT, env=environment)


def count(file: Path) -> int:
    if not file.is_file():
        return 0
    store = Store(file)
    try:
        return len(store.rows())
    finally:
        store.close()


@pytest.mark.slow
def test_killed_three_times_a_study_has_every_row_once_and_as_uninterrupted(tmp_path, monkeypatch):
    """SIGKILL after 40, 90 and 140 rows or soon after; then to the end."""
    file = tmp_path / "killed.sqlite"
    seen = [0]
    for at in (40, 90, 140):
        process = started(file, workers=1)
        try:
            while count(file) < at:
                assert process.poll() is None, "the study ended before it was killed"
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        seen.append(count(file))
        assert at <= seen[-1] < POINTS
    monkeypatch.setenv("MARKS", f"{file}.marks")
    whole = study(file=file, evaluate=toys.counted).run().require()
    assert len(whole) == POINTS
    assert count(file) == POINTS
    marks = Path(f"{file}.marks").read_text().split()
    assert len(set(marks)) == POINTS
    assert len(marks) <= POINTS + 3  # a kill loses the one point under way, and no row
    monkeypatch.setenv("MARKS", str(tmp_path / "marks"))
    assert measured(whole) == measured(study(evaluate=toys.counted).run().require())


@pytest.mark.slow
def test_workers_end_with_a_killed_study_and_leave_whole_rows(tmp_path, monkeypatch):
    """Local worker processes."""
    file = tmp_path / "killed.sqlite"
    process = started(file, workers=2)
    while count(file) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    workers = [
        child for child in psutil.Process(process.pid).children() if "popen_loky" in " ".join(child.cmdline())
    ]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert 20 <= count(file) < POINTS
    monkeypatch.setenv("MARKS", f"{file}.marks")
    whole = study(file=file, evaluate=toys.counted, workers=2).run().require()
    assert measured(whole) == measured(study(evaluate=toys.counted).run())


@pytest.mark.slow
def test_local_workers_give_the_rows_of_one_and_a_lost_worker_is_said(tmp_path):
    assert measured(study(workers=2).run().require()) == measured(study().run())
    with pytest.raises(StudyError, match="a worker died"):
        study(workers=2, evaluate=toys.die).run()


@pytest.mark.slow
def test_failures_cross_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    found = Study({"seed": range(4)}, evaluate=toys.broken, workers=2).run()
    assert [row["error"] is None for row in found.rows()] == [True, True, False, False]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_ray_cluster_of_two_nodes_gives_the_rows_of_one_process():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = str(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        found = study(backend="ray", workers=2, address=cluster.address).run().require()
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("PYTHONPATH")
    assert measured(found) == measured(study().run())
