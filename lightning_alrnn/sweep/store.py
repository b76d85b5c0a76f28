"""What a sweep leaves on the disk: a record for each run, a table made from them, and claims on runs.

    folder/sweep.json             what all runs share, and what was varied
    folder/runs/NAME/record.json  a run: its place in the sweep, its state and its metrics
    folder/runs/NAME/claim        locked by the process that runs it
    folder/runs/NAME/log.txt      what that process wrote, where it was started for the run on this machine
    folder/results.csv            a row for each run

Files are replaced as a whole: whoever reads meets the old one or the new one, also after a power cut. Processes on one
machine keep out of each other's way by locks that end with the process. On a network file system this holds where it
passes on ``flock`` (NFS of version 4, Lustre mounted with ``-o flock``).
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from lightning_alrnn.files import write_file
from lightning_alrnn.sweep.rules import Run, Value

Status = Literal["running", "done", "failed"]

RECORD = "record.json"
LOG = "log.txt"
_CLAIM = "claim"


class Record(NamedTuple):
    """A run of a sweep, as far as it has come."""

    name: str
    run: Run
    # "running", also where it was interrupted; "done", also where training diverged, as it would again; or "failed"
    status: Status
    tracebacks: tuple[str, ...] = ()  # one for each attempt that failed, the last one last
    seconds: float = math.nan  # wall time of the last attempt, from training to test; NaN while it runs
    epochs: int = 0  # how many it was trained for
    resumed: bool = False  # whether the last attempt went on from a checkpoint of another
    started: str = ""  # when the last attempt began, UTC, ISO 8601
    finished: str = ""  # when it ended; "" while it runs
    host: str = ""
    # git commit of the directory that the sweep was started in, with "+" behind it where that has changes; "" where it
    # is none of git's
    commit: str = ""
    versions: Mapping[str, str] = {}  # of the packages that matter, by name
    config_hash: str = ""  # of everything that the run was configured with, but for paths
    log_dir: str = ""  # TensorBoard's folder, relative to the sweep's
    checkpoint: str = ""  # best weights, relative to the sweep's folder; "" until they are known
    population: str = ""  # name of the population that the run was trained in; "" where it was trained by itself

    @property
    def error(self) -> str:
        """Last line of the last traceback; "" if no attempt failed."""
        return self.tracebacks[-1].strip().splitlines()[-1] if self.tracebacks else ""


def run_folder(folder: Path, name: str) -> Path:
    """Folder of a run."""
    return folder / "runs" / name


def read_runs(folder: str | os.PathLike[str]) -> list[Run]:
    """The finished runs of a sweep, those that diverged among them: what the verdict reads.

    Args:
        folder: of the sweep.

    Returns:
        Runs by core, P, settings and seed; metrics that are not finite are left out.

    Raises:
        ValueError: if there is no sweep in the folder.
    """
    runs = [record.run for record in read_records(folder) if record.status == "done"]
    return [
        run._replace(metrics={key: value for key, value in run.metrics.items() if math.isfinite(value)}) for run in runs
    ]


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """The records of all runs of a sweep that have begun, by core, P, settings and seed.

    A record that cannot be read, as it was edited or the disk is broken, is warned of and left out: the sweep runs it
    again.
    """
    root = Path(folder)
    if not (root / "runs").is_dir():
        raise ValueError(
            f"{root} holds no sweep: expected the folder {root / 'runs'}, which `alrnn sweep --output_dir {root}` makes"
        )
    found = [read_record(root, path.parent.name) for path in (root / "runs").glob(f"*/{RECORD}")]
    return sorted((record for record in found if record is not None), key=_order)


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a run; ``None`` where there is none, or, with a warning, where it cannot be read."""
    path = run_folder(folder, name) / RECORD
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        warnings.warn(f"{path} cannot be read and counts as not run: {error!r}", stacklevel=2)
        return None


def is_done(folder: Path, name: str) -> bool:
    """Whether a run came to its end or diverged, and did not fail."""
    record = read_record(folder, name)
    return record is not None and record.status == "done"


def write_record(folder: Path, record: Record, durable: bool = True) -> None:
    """Write the record of a run in place of an earlier one, and wait until it is on the disk if it is to be durable."""
    content = record._asdict() | {"run": record.run._asdict()}
    content["seconds"] = _or_none(record.seconds)
    del content["run"]["epochs"]  # those of the record
    content["run"]["metrics"] = {key: _or_none(value) for key, value in record.run.metrics.items()}
    path = run_folder(folder, record.name) / RECORD
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n", durable)


def write_table(folder: Path) -> None:
    """Make results.csv from the records."""
    with locked(folder / ".table"):  # so that what was read last is written last
        columns = _columns(read_records(folder))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_file(folder / "results.csv", text.getvalue())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, after waiting for whoever has it."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Claim:
    """The right to run a run: a locked file. It ends when it is given back or its process ends, however that ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = run_folder(folder, name) / _CLAIM
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take it; ``False`` if another has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        while not _try_lock(file, fcntl.LOCK_EX):
            if not _try_lock(file, fcntl.LOCK_SH):
                file.close()
                return False
            fcntl.flock(file, fcntl.LOCK_UN)  # somebody looked who has it, which takes a moment
            time.sleep(0.01)
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def holder(self) -> tuple[str, int] | None:
        """Machine and process that have it; ``None`` if nobody has."""
        try:
            with self._path.open("r", encoding="utf-8") as file:
                if _try_lock(file, fcntl.LOCK_SH):
                    return None
                host, _, process = file.read().strip().partition(" ")
        except FileNotFoundError:
            return None
        return (host, int(process)) if process.isdigit() else ("", 0)  # it may just be about to write it


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _from_json(content: Mapping[str, Any]) -> Record:
    values = dict(content)
    run = dict(values.pop("run"))
    run["metrics"] = {key: _or_nan(value) for key, value in run["metrics"].items()}
    # records of earlier versions do not say when, or whether, a run reached the threshold
    run["epochs"] = (values.get("epochs") or None) if "epochs_to_threshold" in run else None
    values["seconds"] = _or_nan(values["seconds"])
    values["tracebacks"] = tuple(values["tracebacks"])
    return Record(run=Run(**run), **values)


def _order(record: Record) -> tuple[Any, ...]:
    run = record.run
    units = -1 if run.nonlinear_units is None else run.nonlinear_units
    settings = tuple((key, _sortable(value)) for key, value in sorted(run.settings.items()))
    return (run.core != "ALRNN", run.core, units, settings, run.seed)


def _sortable(value: Value) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return not number, float(value) if isinstance(value, int | float) else 0.0, "" if number else str(value)


def _columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The table: a list for each column."""
    fixed: dict[str, Callable[[Record], Any]] = {
        "name": lambda record: record.name,
        "status": lambda record: record.status,
        "core": lambda record: record.run.core,
        "nonlinear_units": lambda record: record.run.nonlinear_units,
        "seed": lambda record: record.run.seed,
        "hidden_size": lambda record: record.run.hidden_size,
        "diverged": lambda record: record.run.diverged,
    }
    columns = {key: [get(record) for record in records] for key, get in fixed.items()}
    for key in _keys(record.run.settings for record in records):
        columns[key] = [record.run.settings.get(key) for record in records]
    for key in _keys(record.run.metrics for record in records):
        values = [record.run.metrics.get(key) for record in records]
        columns[key] = [None if value is None else float(value) for value in values]
    rest = ("epochs", "resumed", "started", "finished", "host", "commit", "config_hash", "log_dir", "checkpoint")
    columns["epochs_to_threshold"] = [record.run.epochs_to_threshold for record in records]
    columns["seconds"] = [_or_none(record.seconds) for record in records]
    columns |= {key: [getattr(record, key) for record in records] for key in (*rest, "population")}
    for key in _keys(record.versions for record in records):
        columns[f"version/{key}"] = [record.versions.get(key) for record in records]
    columns["error"] = [record.error for record in records]
    return columns


def _keys(mappings: Iterator[Mapping[str, Any]] | Any) -> list[str]:
    """All keys, in the order of their first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
