"""Records of measurements: what was run, on what machine and chip, what came out, and how sure it is."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit

import imcsim
from imcsim.errors import DataError, FileMissingError, InputError
from imcsim.evaluate import wilson_interval
from imcsim.hardware import Hardware, write_atomically

FORMAT = "imcsim record 1"

_NOT_IN_JSON = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


# ---- how sure ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: over the draws.
        low: lower end.
        high: upper end.
        draws: how many chips were drawn.
    """

    mean: float
    low: float
    high: float
    draws: int


def accuracy_interval(top1: Sequence[float], n: int) -> Interval:
    """The mean accuracy over draws of a chip, with a 95 % interval.

    ``mean +- t_(0.975, m - 1) s / sqrt(m)`` over m >= 2 draws, s their standard deviation, cut to [0, 1];
    Wilson's score interval over the n samples for one.

    Args:
        top1: fraction of samples right, one a draw.
        n: samples of each.

    Returns:
        The mean and its interval.

    Raises:
        InputError: no draws, a fraction outside [0, 1], or n below 1.

    Notes:
        The two answer different questions. Over draws: where the mean over all chips of this kind lies, on
        these samples. Of one draw: where this chip's accuracy over all samples lies.
    """
    if n < 1 or not top1 or not all(0 <= value <= 1 for value in top1):
        raise InputError(
            f"accuracy_interval: top1 = {list(top1)!r:.80}, n = {n!r}: fractions in [0, 1], at least one, of "
            "n >= 1 samples are needed"
        )
    if len(top1) == 1:
        return Interval(top1[0], *wilson_interval(round(top1[0] * n), n), 1)
    interval = mean_interval(top1)
    return Interval(interval.mean, max(0.0, interval.low), min(1.0, interval.high), interval.draws)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent draws of anything, with its 95 % t-interval.

    Args:
        values: at least two.

    Returns:
        The mean and ``mean +- t_(0.975, m - 1) s / sqrt(m)``.

    Raises:
        InputError: fewer than two values, or one that is not finite.

    References: Student (W. S. Gosset), "The probable error of a mean", Biometrika 6, 1908.
    """
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        raise InputError(
            f"mean_interval: values = {list(values)!r:.80}: at least two finite numbers are needed "
            "for an interval"
        )
    count = len(values)
    mean = math.fsum(values) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


# ---- records -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A measurement that someone else can repeat.

    Attributes:
        name: also of its file.
        command: makes the record again.
        commit: of the repository, or None outside one.
        dirty: whether tracked files differed from it.
        date: UTC, ISO 8601.
        machine: what it ran on.
        seeds: of the draws.
        n: samples.
        hardware: full descriptions, by the name that rows use.
        facts: what holds for all rows, such as the float network's accuracy.
        rows: what was measured.
    """

    name: str
    command: str
    commit: str | None
    dirty: bool | None
    date: str
    machine: dict[str, Any]
    seeds: tuple[int, ...]
    n: int
    hardware: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    rows: list[dict[str, Any]]


def write_record(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    folder: str | os.PathLike[str],
    command: str,
    seeds: Sequence[int],
    n: int,
    hardware: Mapping[str, Hardware],
    facts: Mapping[str, Any] | None = None,
    code: CodeState | None = None,
) -> Path:
    """Write ``folder/name.json`` at once: a reader never sees half of it.

    Args:
        name: of the record.
        rows: what was measured; numbers that JSON does not have become the strings "inf", "-inf", "nan".
        folder: where; must exist.
        command: makes the record again.
        seeds: of the draws.
        n: samples.
        hardware: chips by the name that rows use.
        facts: what holds for all rows.
        code: the source that ran, if taken by `code_state` at the start of a long run; None: as it is now.

    Returns:
        The file.

    Raises:
        InputError: the name is not a plain file name, there are no rows, or n is below 1.
        FileMissingError: there is no such folder.
    """
    if not name or Path(name).name != name:
        raise InputError(f"write_record: name = {name!r} is not a plain file name such as 'drift'")
    if not rows or n < 1:
        raise InputError(
            f"record {name!r}: {len(rows)} rows of n = {n} samples; at least one of each is needed"
        )
    code = code or code_state()
    head = {
        "format": FORMAT,
        "name": name,
        "command": command,
        "commit": code.commit,
        "dirty": code.dirty,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "seeds": list(seeds),
        "n": n,
        "hardware": {
            key: chip.model_dump(by_alias=True, exclude_none=True) for key, chip in hardware.items()
        },
        "facts": dict(facts or {}),
    }
    lines = ",\n".join(f"    {json.dumps(_plain(row), allow_nan=False)}" for row in rows)
    text = json.dumps(_plain(head), indent=2, allow_nan=False).removesuffix("\n}")
    file = Path(folder) / f"{name}.json"
    write_atomically(file, f'{text},\n  "rows": [\n{lines}\n  ]\n}}\n'.encode())
    return file


def read_record(file: str | os.PathLike[str]) -> Record:
    """Read what `write_record` wrote; "inf" and the like are numbers again.

    Args:
        file: the path of the .json file.

    Returns:
        The record; ``Hardware.model_validate(record.hardware[name])`` gives a chip back.

    Raises:
        FileMissingError: there is no such file.
        DataError: it is not a record.
    """
    path = Path(file)
    if not path.is_file():
        raise FileMissingError(
            f"record {str(path)!r} does not exist; give the path of a .json file of write_record"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"record {str(path)!r} is not valid JSON: {error}; write it again") from None
    found = data.get("format") if isinstance(data, dict) else None
    fields = set(Record.__dataclass_fields__)
    if found != FORMAT or fields - set(data):
        missing = "" if found != FORMAT else f" and misses {', '.join(sorted(fields - set(data)))}"
        raise DataError(f"record {str(path)!r} has format = {found!r}{missing}; {FORMAT!r} is read here")
    values = {key: _numbers(data[key]) for key in fields}
    return Record(**{**values, "seeds": tuple(values["seeds"])})


def machine_facts() -> dict[str, Any]:
    """Processor, accelerator, threads and versions of the machine at hand."""
    return {
        "cpu": _cpu_model(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "imcsim": imcsim.__version__,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class CodeState:
    """The source that runs.

    Attributes:
        commit: of the repository, or None outside one.
        dirty: whether tracked files differ from it.
    """

    commit: str | None
    dirty: bool | None


def code_state() -> CodeState:
    """The commit that the package's source is at, and whether tracked files differ from it."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return CodeState(git("rev-parse", "HEAD"), dirty)
    except (OSError, subprocess.SubprocessError):
        return CodeState(None, None)


def _plain(value: Any) -> Any:
    """What JSON can hold: tuples as lists, numbers that are not finite as strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _numbers(value: Any) -> Any:
    """The inverse of `_plain`, as far as lists and numbers go."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return _NOT_IN_JSON.get(value, value) if isinstance(value, str) else value


# ---- pages -------------------------------------------------------------------------------------------


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column to the left, the others to the right.

    Args:
        header: the columns' names.
        rows: as many cells each.

    Returns:
        The text, without a newline at its end.

    Raises:
        InputError: a row of another length, or no columns.
    """
    if not header or any(len(row) != len(header) for row in rows):
        raise InputError(
            f"markdown_table: every row needs {len(header)} cells, one a column, and at least one column"
        )
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def put_between_markers(text: str, name: str, content: str) -> str:
    """A page with its part called `name` replaced.

    The part stands between the lines ``<!-- begin: name -->`` and ``<!-- end: name -->``.

    Args:
        text: the page.
        name: of the part.
        content: what goes there.

    Returns:
        The new page.

    Raises:
        DataError: the page does not have these two lines once each, in this order.
    """
    before, rest = _split_once(text, f"<!-- begin: {name} -->", name)
    _, after = _split_once(rest, f"<!-- end: {name} -->", name)
    return f"{before}<!-- begin: {name} -->\n{content}\n<!-- end: {name} -->{after}"


def between_markers(text: str, name: str) -> str:
    """The part of a page that `put_between_markers` put there.

    Args:
        text: the page.
        name: of the part.

    Returns:
        The part.

    Raises:
        DataError: as `put_between_markers` does.
    """
    _, rest = _split_once(text, f"<!-- begin: {name} -->", name)
    content, _ = _split_once(rest, f"<!-- end: {name} -->", name)
    return content.strip("\n")


def _split_once(text: str, mark: str, name: str) -> tuple[str, str]:
    if text.count(mark) != 1:
        raise DataError(
            f"the page has {text.count(mark)} lines {mark!r}; part {name!r} needs exactly one, with its end "
            "after its beginning"
        )
    before, _, after = text.partition(mark)
    return before, after
