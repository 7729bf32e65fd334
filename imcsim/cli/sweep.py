"""`imcsim sweep`: a study from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

import imcsim
from imcsim.cli.output import AsJson, show, show_json
from imcsim.errors import StudyError
from imcsim.sweep import Found, Results, Study
from imcsim.sweep.workers import Backend

FAILED = 1
"""Exit code where points failed."""


def sweep(
    study: Annotated[Path, typer.Argument(help="The study, a .toml file: [study], [axes], [hardware].")],
    rows: Annotated[Path | None, typer.Option(help="SQLite file of the rows; else beside the study.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each worker process.")] = None,
    backend: Annotated[str | None, typer.Option(help="joblib (this machine) or ray (a cluster).")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, such as auto.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure points that failed again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do and about how long it takes.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the rows as csv too.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for a JSON record: configuration, seeds, version, commit."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a study, or go on with one that was stopped; with a [search] table, search.

    Exit code 1 where points failed: their errors are rows.
    """
    made = Study.from_toml(study)
    given: dict[str, Any] = {"file": rows, "workers": workers, "threads": threads, "address": address}
    if backend is not None:
        given["backend"] = _backend(backend)
    for name, value in given.items():
        if value is not None:
            setattr(made, name, value)
    if dry_run:
        _show_plan(made, as_json)
        return
    started = time.perf_counter()
    if made.searching is not None:
        _show_search(made.search(**_search_options(made)), as_json)
        return
    found = made.run(retry=retry)
    if csv is not None:
        found.to_csv(csv)
    if record is not None:
        found.to_record(record, command=f"imcsim sweep {study}")
    failed = found.failures()
    if as_json:
        seconds = round(time.perf_counter() - started, 3)
        show_json(
            {
                "study": made.name,
                "file": str(made.file),
                "rows": found.rows(),
                "failed": len(failed),
                "seconds": seconds,
                "imcsim": imcsim.__version__,
            }
        )
    else:
        show(_table(found))
        show(f"{len(found)} rows in {made.file}, {len(failed)} failed")
    if failed:
        raise typer.Exit(FAILED)


def _backend(name: str) -> Backend:
    if name == "ray":
        return "ray"
    if name == "joblib":
        return "joblib"
    raise StudyError(f"--backend {name!r} is not one of joblib, ray")


def _search_options(study: Study) -> dict[str, Any]:
    options = dict(study.searching or {})
    unknown = set(options) - {"objectives", "trials", "storage", "seed"}
    if unknown or not {"objectives", "trials"} <= set(options):
        raise StudyError(
            f"[search] has {', '.join(options) or 'nothing'}; it needs objectives and trials, and may have "
            "storage and seed"
        )
    return options


def _show_plan(study: Study, as_json: bool) -> None:
    if study.searching is not None:
        options = _search_options(study)
        show(f"a search of {options['trials']} trials over {', '.join(study.axes)}")
        return
    plan = study.plan()
    if as_json:
        facts = {"points": plan.points, "done": plan.done, "failed": plan.failed, "to_do": plan.to_do}
        show_json({"study": study.name, **facts, "seconds_each": plan.seconds_each, "seconds": plan.seconds})
    else:
        axes = ", ".join(study.axes)
        show(f"{study.name}: {plan} with {study.workers} workers")
        show(f"{study.design} over {axes}; rows in {study.file}")


def _show_search(found: Found, as_json: bool) -> None:
    if as_json:
        show_json({"objectives": found.objectives, "failed": found.failed, "trials": found.rows()})
        return
    rows = [row for row in found.rows() if row["front"]]
    table = Table(title=f"front of {len(found.trials)} trials, {found.failed} failed", title_justify="left")
    for name in rows[0] if rows else ():
        if name != "front":
            table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(*(_shown(value) for name, value in row.items() if name != "front"))
    show(table)


def _table(found: Results) -> Table:
    """One row a point."""
    table = Table(title=escape(found.name), title_justify="left")
    rows = found.rows()
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("seconds", "warnings")))
    if not any(row["error"] for row in rows):
        names.remove("error")
    for name in names:
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(*(_shown(row.get(name)) for name in names))
    return table


def _shown(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return escape(text)
