"""The files of a sweep: a record of each run, a table of all records, and locks on runs.

    folder/sweep.json             the configuration that all runs share, and the keys that vary
    folder/runs/NAME/record.json  a run: its place in the sweep, its state and its metrics
    folder/runs/NAME/claim        locked by the process that trains the run
    folder/runs/NAME/log.txt      output of that process, if it was started on this machine
    folder/results.csv            a row for each run

A file is replaced as a whole, so a reader sees the old or the new one, also after a power cut. A record that is damaged
is left out with a warning, and its run counts as not begun; one that a newer version of the package has written is
refused. Locks end with their process. On a network file system they need ``flock`` (NFS 4, or Lustre mounted with
``-o flock``).
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypedDict

from lightning_alrnn.files import write_file
from lightning_alrnn.parsing import of_shape, read_json, shorten
from lightning_alrnn.sweep.rules import Run, sort_key

Status = Literal["running", "done", "failed"]

RECORD = "record.json"
SETTINGS = "sweep.json"
_SCHEMA_VERSION = 1  # of a record; with a higher number, an earlier version of the package must not read it
LOG = "log.txt"
_CLAIM = "claim"


class Record(NamedTuple):
    """The state of a run of a sweep."""

    name: str
    run: Run
    status: Status  # an interrupted run is "running"; a run that diverged is "done", because it would diverge again
    tracebacks: tuple[str, ...] = ()  # traceback of each attempt that failed
    seconds: float = math.nan  # wall time of the last attempt, from training to test; NaN while it runs
    epochs: int = 0  # number of epochs of training
    resumed: bool = False  # whether the last attempt resumed from a checkpoint
    started: str = ""  # start of the last attempt, UTC, ISO 8601
    finished: str = ""  # end of the last attempt; "" while it runs
    host: str = ""
    # git commit of the directory in which the sweep was started, followed by "+" if files differ; "" without a commit
    commit: str = ""
    versions: Mapping[str, str] = {}  # versions of the main packages, by name
    config_hash: str = ""  # hash of the whole configuration except paths
    log_dir: str = ""  # TensorBoard folder, relative to the folder of the sweep
    checkpoint: str = ""  # best weights, relative to the folder of the sweep; "" until they are known
    population: str = ""  # name of the population that trained the run; "" if it was trained alone

    @property
    def error(self) -> str:
        """Last line of the last traceback; "" if no attempt failed."""
        return self.tracebacks[-1].strip().splitlines()[-1] if self.tracebacks else ""


class _Planned(TypedDict):
    varied: list[str]  # varied keys other than core, P and seed
    configs: dict[str, dict[str, Any]]  # by core, the shared configuration that affects the result


class SweepSettings(_Planned, total=False):
    """The content of sweep.json; earlier versions wrote less."""

    looks: list[int]  # numbers of seeds at which a sweep that adds seeds looks at its runs
    stop_when: str | None
    tolerance: float | None
    arguments: list[str]
    judged: list[int]  # numbers of seeds that were judged before
    runs_per_seed: int


def read_settings(folder: Path) -> SweepSettings | None:
    """The settings of a sweep, or ``None`` if the folder has none; raise ``ValueError`` if they are damaged."""
    path = folder / SETTINGS
    try:
        settings: SweepSettings = read_json(path, SweepSettings)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{error}: put a copy of it in its place, or use another folder") from error
    return settings


def run_folder(sweep: Path, name: str, population: str = "") -> Path:
    """Folder of a run, or of the population that trains it."""
    return sweep / "populations" / population if population else sweep / "runs" / name


def read_runs(folder: str | os.PathLike[str]) -> list[Run]:
    """The finished runs of a sweep, including those that diverged.

    Args:
        folder: Folder of the sweep.

    Returns:
        Runs by core, P, settings and seed, without metrics that are not finite.

    Raises:
        ValueError: If the folder holds no sweep.
    """
    runs = [record.run for record in read_records(folder) if record.status == "done"]
    return [
        run._replace(metrics={key: value for key, value in run.metrics.items() if math.isfinite(value)}) for run in runs
    ]


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """The records of all runs that have begun, by core, P, settings and seed, without those that cannot be read."""
    root = Path(folder)
    if not (root / "runs").is_dir():
        raise ValueError(
            f"{root} holds no sweep: expected the folder {root / 'runs'}, which `alrnn sweep --output_dir {root}` makes"
        )
    records = [read_record(root, path.parent.name) for path in (root / "runs").glob(f"*/{RECORD}")]
    return sorted((record for record in records if record is not None), key=_order)


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a run; ``None`` if there is none, or, with a warning, if it is damaged.

    Raises:
        ValueError: If a newer version of the package has written it.
    """
    path = run_folder(folder, name) / RECORD
    try:
        content: dict[str, Any] = read_json(path, dict[str, Any])
    except FileNotFoundError:
        return None
    except ValueError as error:
        return _left_out(str(error))
    version = content.pop("schema_version", _SCHEMA_VERSION)
    if type(version) is int and version > _SCHEMA_VERSION:
        raise ValueError(
            f"{path} has the schema_version {shorten(str(version), 20)}, but this version of lightning_alrnn knows "
            f"{_SCHEMA_VERSION}: update lightning_alrnn, or use another folder"
        )
    try:
        return _from_json(content, name)
    except ValueError as error:
        return _left_out(f"{path} cannot be read: {error}")


@cache  # a record is read many times
def _left_out(said: str) -> None:
    warnings.warn(f"{said}, so its run counts as not begun", stacklevel=3)


def is_done(folder: Path, name: str) -> bool:
    """Whether a run has finished or diverged."""
    record = read_record(folder, name)
    return record is not None and record.status == "done"


def write_record(folder: Path, record: Record, durable: bool = True) -> None:
    """Write the record of a run, and wait until it is on the disk if it is to be durable."""
    content: dict[str, Any] = {"schema_version": _SCHEMA_VERSION} | record._asdict() | {"run": record.run._asdict()}
    content["seconds"] = _or_none(record.seconds)
    del content["run"]["epochs"]  # the record has them
    content["run"]["metrics"] = {key: _or_none(value) for key, value in record.run.metrics.items()}
    path = run_folder(folder, record.name) / RECORD
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n", durable)


def write_table(folder: Path) -> None:
    """Write results.csv from the records."""
    with locked(folder / ".table"):  # the records that are read last must be written last
        columns = _columns(read_records(folder))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_file(folder / "results.csv", text.getvalue())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, and hold it."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Claim:
    """The exclusive right to train a run: a locked file. It ends when it is released or its process ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = run_folder(folder, name) / _CLAIM
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take the claim; ``False`` if another process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        while not _try_lock(file, fcntl.LOCK_EX):
            if not _try_lock(file, fcntl.LOCK_SH):
                file.close()
                return False
            fcntl.flock(file, fcntl.LOCK_UN)  # another process is just looking up the holder
            time.sleep(0.01)
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Release the claim."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def holder(self) -> tuple[str, int] | None:
        """Machine and process that hold the claim, or ``None``."""
        try:
            with self._path.open("r", encoding="utf-8") as file:
                if _try_lock(file, fcntl.LOCK_SH):
                    return None
                host, _, process = file.read().strip().partition(" ")
        except FileNotFoundError:
            return None
        return (host, int(process)) if process.isdigit() else ("", 0)  # the holder may not have written its name yet


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _from_json(content: Mapping[str, Any], name: str) -> Record:
    record: Record = of_shape(content, Record)
    if record.name != name:
        raise ValueError(f"it is the record of {record.name!r}")
    # records of earlier versions do not say whether a run reached the threshold
    epochs = (record.epochs or None) if "epochs_to_threshold" in content["run"] else None
    return record._replace(run=record.run._replace(epochs=epochs))


def _order(record: Record) -> tuple[Any, ...]:
    run = record.run
    units = -1 if run.nonlinear_units is None else run.nonlinear_units
    settings = tuple((key, sort_key(value)) for key, value in sorted(run.settings.items()))
    return (run.core != "ALRNN", run.core, units, settings, run.seed)


def _columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """The columns of the table by name."""
    columns = {key: [getattr(record, key) for record in records] for key in ("name", "status")}
    for key in ("core", "nonlinear_units", "seed", "hidden_size", "diverged"):
        columns[key] = [getattr(record.run, key) for record in records]
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


def _keys(mappings: Iterator[Mapping[str, Any]]) -> list[str]:
    """All keys, in the order of their first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
