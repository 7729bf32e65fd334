"""The rows of a study on disk: one SQLite table, a row a point, written as each finishes."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imcsim.errors import DataError, FileMissingError

VERSION = 1
"""Of the table; kept in SQLite's user_version."""

BUSY_S = 60.0
"""How long a writer waits for another process's write."""

_TABLE = """
CREATE TABLE IF NOT EXISTS rows (
    key TEXT PRIMARY KEY,
    configuration TEXT NOT NULL,
    result TEXT,
    error TEXT,
    seconds REAL NOT NULL,
    finished TEXT NOT NULL,
    provenance TEXT NOT NULL
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET result = excluded.result, error = excluded.error, seconds = excluded.seconds,
    finished = excluded.finished, provenance = excluded.provenance
WHERE rows.error IS NOT NULL
"""


@dataclass(frozen=True)
class Row:
    """What one point gave.

    Attributes:
        key: of the point.
        configuration: of the point.
        result: what was measured, or None where it failed.
        error: what went wrong, or None.
        seconds: that it took.
        finished: UTC, ISO 8601.
        provenance: version, commit and machine.
    """

    key: str
    configuration: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    seconds: float
    finished: str
    provenance: dict[str, Any] = field(default_factory=dict)


class Store:
    """A study's file. Several processes may write to it at once.

    A row is one transaction: it is there whole, or not at all. A point that succeeded is never written
    again; a failed one is replaced when it is tried again.

    Args:
        path: the file, made when it is missing; None keeps the rows in memory.

    Raises:
        FileMissingError: its folder does not exist.
        DataError: it is not a study's file.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = path
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise FileMissingError(
                f"study file {os.fspath(path)!r}: its folder does not exist; create it first"
            )
        try:
            self._open(":memory:" if path is None else os.fspath(path))
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"study file {os.fspath(path or '')!r} is not a study's SQLite file ({error}); give "
                "another name"
            ) from None

    def _open(self, name: str) -> None:
        self.connection = sqlite3.connect(name, timeout=BUSY_S, isolation_level=None)
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            self.connection.close()
            raise sqlite3.DatabaseError(f"version {version}, this imcsim reads {VERSION}")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(_TABLE)
        self.connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Release the file."""
        self.connection.close()

    def add(self, row: Row) -> None:
        """Write a row at once; nothing happens if its point has succeeded before."""
        values = (
            row.key,
            json.dumps(row.configuration, sort_keys=True),
            None if row.result is None else json.dumps(row.result),
            row.error,
            row.seconds,
            row.finished,
            json.dumps(row.provenance),
        )
        self.connection.execute(_ADD, values)

    def rows(self, keys: Iterable[str] | None = None) -> dict[str, Row]:
        """Rows by key, in the order asked for.

        Args:
            keys: which; None: all.

        Returns:
            Those that are there.
        """
        with closing(self.connection.execute("SELECT * FROM rows")) as found:
            have = {
                key: Row(
                    key,
                    json.loads(configuration),
                    None if result is None else json.loads(result),
                    error,
                    seconds,
                    finished,
                    json.loads(provenance),
                )
                for key, configuration, result, error, seconds, finished, provenance in found
            }
        return have if keys is None else {key: have[key] for key in keys if key in have}
