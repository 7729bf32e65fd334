"""Points on this process, on local worker processes (joblib), or on a cluster (Ray)."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from imcsim.errors import MissingPackageError, StudyError
from imcsim.sweep.point import Point
from imcsim.sweep.store import Row
from imcsim.sweep.task import attempt

Backend = Literal["joblib", "ray"]

AHEAD = 2
"""Points handed out for each worker: one runs, one waits."""

WATCH_S = 1.0
"""How often a worker looks whether its study still lives; loky's own would wait for five minutes."""


def run_points(
    points: Sequence[Point],
    *,
    workers: int = 1,
    threads: int = 1,
    backend: Backend = "joblib",
    address: str | None = None,
) -> Iterator[Row]:
    """Measure points and give each row as soon as it is there.

    Args:
        points: what to measure.
        workers: processes; 1 with joblib is this process, with as many threads as it has.
        threads: of each worker process.
        backend: joblib or ray.
        address: of a Ray cluster; None: one of this machine, for the time of the study.

    Yields:
        Rows in the order they finish.

    Raises:
        StudyError: a wrong option, or a worker that died.
        MissingPackageError: joblib or Ray is not installed.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise StudyError(f"{name} = {value!r} is not a number of {name}, 1 or more")
    if backend not in get_args(Backend):
        raise StudyError(f"backend = {backend!r} is not one of {', '.join(get_args(Backend))}")
    if backend == "ray":
        yield from _on_ray(_in_lanes(points, workers), workers, threads, address)
    elif workers == 1:
        yield from map(attempt, points)
    else:
        yield from _on_joblib(_in_lanes(points, workers), workers, threads)


def bounded(point: Point, threads: int) -> Row:
    """`attempt` in a worker process with its share of the cores."""
    torch.set_num_threads(threads)
    return attempt(point)


def _end_with(parent: int) -> None:
    """Watch from a thread, and end this process soon after its parent, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_lanes(points: Sequence[Point], workers: int) -> list[Point]:
    """An order in which workers tend to get different chips, and each the seeds and ages of its own."""
    chips: dict[str, list[Point]] = {}
    for point in points:
        chips.setdefault(point.chip_key, []).append(point)
    lanes: list[list[Point]] = [[] for _ in range(workers)]
    for group in chips.values():
        min(lanes, key=len).extend(group)
    return [point for step in zip_longest(*lanes) for point in step if point is not None]


def _on_joblib(points: list[Point], workers: int, threads: int) -> Iterator[Row]:
    joblib = _package("joblib", "imcsim")
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        with joblib.parallel_config(
            backend="loky", inner_max_num_threads=threads, initializer=_end_with, initargs=(os.getpid(),)
        ):
            run = joblib.Parallel(
                n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=AHEAD * workers
            )
            yield from run(joblib.delayed(bounded)(point, threads) for point in points)
    except TerminatedWorkerError as error:
        raise StudyError(
            f"a worker died ({str(error).splitlines()[0]}), often for lack of memory; the rows that were "
            "there are kept: run the study again, with fewer workers or a smaller batch"
        ) from error


def _on_ray(points: list[Point], workers: int, threads: int, address: str | None) -> Iterator[Row]:
    ray = _package("ray", "imcsim[cluster]")
    own = not ray.is_initialized()
    if own:
        environment = {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        options: dict[str, Any] = {"runtime_env": {"env_vars": environment}}
        if address is None:  # workers find what this process finds
            environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
            options |= {"num_cpus": workers * threads, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    try:
        task = ray.remote(num_cpus=threads, max_retries=1)(bounded)
        waiting, running = iter(points), {}
        for point in waiting:
            running[task.remote(point, threads)] = point
            if len(running) >= AHEAD * workers:
                yield _next(ray, running)
        while running:
            yield _next(ray, running)
    finally:
        if own:
            ray.shutdown()


def _next(ray: ModuleType, running: dict[Any, Point]) -> Row:
    """The next row; a worker that Ray lost twice over the same point ends the study."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    point = running.pop(done)
    try:
        row: Row = ray.get(done)
    except ray.exceptions.RayError as error:
        raise StudyError(
            f"a worker was lost at {dict(point.settings)!r} ({str(error).splitlines()[0]}); the rows that "
            "were there are kept: run the study again, with fewer workers or a smaller batch"
        ) from error
    return row


def _package(name: str, extra: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingPackageError(
            f"this needs the package {name!r}; install it with pip install '{extra}'"
        ) from error
