"""Reader of a session of the CRCNS data set pfc-1."""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray

from lightning_alrnn.datamodules import stimulus_trials as task

SAMPLE_RATE = 30_000  # of the spike times, in Hz
ARTEFACT, NOISE = 0, 1  # clusters that are not units, by the convention of Klusters
_INFO = ("stim_number", "stim_name", "correct_side", "nonrandom", "outcome", "go_or_nogo", "block")
_TIMINGS = ("cpoke_start", "stim_onset", "choice_made", "is_munged")
_CHOSEN = ("hit", "error", "wrong_port")  # the outcomes of a finished trial
_LONGEST_S = 30.0
_LONGEST_LINE = 1 << 12
_ROUNDING = 1e-6  # of a bin: times are decimals, and 0.3 s are 6 bins of 50 ms
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_Value = TypeVar("_Value")


class Session(NamedTuple):
    """The trials and units of a session."""

    trials: task.RecordedTrials
    trial: NDArray[np.int64]  # number of each trial in the files
    units: list[int]  # id of each unit, 100 · electrode group + cluster
    dropped: dict[str, int]  # number of trials that were left out, by reason


class _Trial(NamedTuple):
    trial: int
    stimulus: int
    choice: int
    start: float
    onset: float
    end: float


def find_session(folder: Path) -> Path:
    """The only session in a folder or below it."""
    sessions = sorted({path.parent for path in folder.rglob("*") if path.name in ("trials_info", "trials_info.csv")})
    if not sessions:
        raise FileNotFoundError(
            f"{folder} has no session: expected data/<rat>/<session>/ with trials_info, trial_timings and klusters*/ "
            "as CRCNS distributes pfc-1 (http://crcns.org/data-sets/pfc/pfc-1, after registration)"
        )
    if len(sessions) > 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in sessions)
        raise ValueError(f"{folder} has {len(sessions)} sessions with different units: set source to one of {listed}")
    return sessions[0]


def read_session(folder: Path, bin_ms: int) -> Session:
    """Read a session in bins of ``bin_ms``; docs/tasks/stimulus_selection.md says which trials and units are used."""
    info_path, info = _read_table(folder, "trials_info", _INFO)
    timings_path, timings = _read_table(folder, "trial_timings", _TIMINGS)
    valid_trials, blocks, dropped = _join(info_path, info, timings_path, timings)
    if not valid_trials:
        raise ValueError(f"{folder}: no trial is left ({_listed(dropped)}): choose another session")
    trial, stimulus, choice = (np.array([each[i] for each in valid_trials]) for i in range(3))
    start, onset, end = (np.array([each[i] for each in valid_trials]) for i in range(3, 6))
    bin_s = bin_ms / 1000  # bins start at the onset of the sounds
    hold = np.maximum(np.ceil((onset - start) / bin_s - _ROUNDING), 0).astype(np.int64)
    lengths = hold + np.maximum(np.ceil((end - onset) / bin_s - _ROUNDING), 1).astype(np.int64)
    steps = int(lengths.max())

    spike_times = _read_units(folder)
    edges = (onset - hold * bin_s)[:, None] + bin_s * np.arange(steps + 1)
    counts = np.empty((len(valid_trials), steps, len(spike_times)), dtype=np.int32)
    for unit, times in enumerate(spike_times.values()):
        counts[..., unit] = np.diff(np.searchsorted(times, edges), axis=1)
    counts *= (np.arange(steps) < lengths[:, None])[..., None]

    present, labels = np.unique(choice, return_inverse=True)
    if len(present) < 2:
        raise ValueError(f"{folder}: all trials have the choice {task.CHOICES[present[0]]!r}: choose another session")
    trials = task.RecordedTrials(
        spikes=task.compact_counts(counts),
        inputs=task.show_trials(stimulus, hold, lengths, steps, task.steps_of(task.SOUND_MS, bin_ms)),
        lengths=lengths,
        labels=labels,
        classes=len(present),
        class_names=[task.CHOICES[number] for number in present],
        group=stimulus,
        group_names=list(task.STIMULI),
        block=np.array([blocks[number] for number in trial]),
        kind=task.RULE_OF[stimulus],
    )
    rank_zero_info(
        f"{folder}: {len(valid_trials)} of {len(info)} trials and {len(spike_times)} units; left out: "
        f"{_listed(dropped)}"
    )
    return Session(trials, trial, list(spike_times), dropped)


def _join(
    info_path: Path, info: dict[int, dict[str, str]], timings_path: Path, timings: dict[int, dict[str, str]]
) -> tuple[list[_Trial], dict[int, int], dict[str, int]]:
    """The trials that are used, the block of every trial, and the number of dropped trials by reason."""
    valid_trials: list[_Trial] = []
    blocks: dict[int, int] = {}
    dropped: Counter[str] = Counter()
    half, block = None, -1
    rules: dict[int, int] = {}
    for index, row in info.items():
        where = f"{info_path}, trial {index}"
        number = _parse(where, "block", row, _integer, range(1, 5))
        if (number - 1) // 2 != half:
            half, block = (number - 1) // 2, block + 1
        blocks[index] = block
        if index not in timings:
            dropped["without timings"] += 1
            continue
        timed = f"{timings_path}, trial {index}"
        if _parse(timed, "is_munged", timings[index], _TRUTH.__getitem__):
            dropped["munged"] += 1
        elif _parse(where, "nonrandom", row, _integer) != 0:
            dropped["not random"] += 1
        elif row["outcome"].strip().lower() not in _CHOSEN:
            dropped["without a choice"] += 1
        else:
            valid_trials.append(
                _Trial(index, _stimulus(where, row), _choice(where, row), *_times(timed, timings[index]))
            )
            rule = int(task.RULE_OF[valid_trials[-1].stimulus])
            if rules.setdefault(block, rule) != rule:
                raise ValueError(f"{where}: stim_name {row['stim_name']!r} is not of the rule of block {number}")
    return valid_trials, blocks, dict(dropped)


def _stimulus(where: str, row: dict[str, str]) -> int:
    number = _parse(where, "stim_number", row, _integer, range(1, len(task.STIMULI) + 1))
    if row["stim_name"].strip() != task.STIMULI[number - 1]:
        raise ValueError(f"{where}: stim_number {number} is not the one of stim_name {row['stim_name']!r}")
    return number - 1


def _choice(where: str, row: dict[str, str]) -> int:
    side = _parse(where, "correct_side", row, str, ("left", "right"))
    go = _parse(where, "go_or_nogo", row, str, ("go", "nogo")) == "go"
    outcome = row["outcome"].strip().lower()
    if outcome == "wrong_port":
        return task.CHOICES.index("right" if side == "left" else "left")
    return task.CHOICES.index(side if (outcome == "hit") == go else "no-go")


def _times(where: str, row: dict[str, str]) -> tuple[float, float, float]:
    start, onset, end = (_parse(where, name, row, float) for name in ("cpoke_start", "stim_onset", "choice_made"))
    if not (start <= onset <= end and end - start <= _LONGEST_S):  # NaN fails too
        raise ValueError(
            f"{where}: expected cpoke_start ≤ stim_onset ≤ choice_made, in seconds and within {_LONGEST_S:g} s, got "
            f"{start}, {onset} and {end}; set is_munged to True to leave the trial out"
        )
    return start, onset, end


def _read_table(folder: Path, name: str, columns: tuple[str, ...]) -> tuple[Path, dict[int, dict[str, str]]]:
    """Rows of a table by the number in its first column."""
    path = next((folder / file for file in (name, f"{name}.csv") if (folder / file).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: there is no {name}, which is part of every session of CRCNS pfc-1")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restval="")
        header = list(reader.fieldnames or [])
        missing = [column for column in columns if column not in header]
        if missing:
            got = ", ".join(header) or "of an empty file"
            raise ValueError(f"{path}: missing columns {', '.join(missing)}; got the header {got}")
        rows: dict[int, dict[str, str]] = {}
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise ValueError(f"{where}: more fields than the {len(header)} of the header")
            index = _parse(where, "the first column", {"the first column": row[header[0]]}, _integer)
            if index in rows:
                raise ValueError(f"{where}: trial {index} occurs twice")
            rows[index] = row
    return path, rows


def _read_units(folder: Path) -> dict[int, NDArray[np.float64]]:
    """Sorted spike times, in seconds, of each unit."""
    paths: dict[int, Path] = {}
    for path in sorted(folder.glob("klusters*/*.clu.*")):
        if path.suffix[1:].isdecimal():
            group = int(path.suffix[1:])
            if group in paths:
                raise ValueError(f"electrode group {group} is in both {paths[group]} and {path}: remove one of them")
            paths[group] = path
    units: dict[int, NDArray[np.float64]] = {}
    for group, path in sorted(paths.items()):
        samples_path = path.with_name(path.name.removesuffix(f".clu{path.suffix}") + f".res{path.suffix}")
        if not samples_path.is_file():
            raise FileNotFoundError(f"{path} needs the spike times in {samples_path}, which is not there")
        numbers, samples = read_numbers(path), read_numbers(samples_path)
        if len(numbers) == 0:
            raise ValueError(f"{path} is empty: expected the number of clusters in its first line")
        clusters = numbers[1:]
        if len(samples) != len(clusters):
            raise ValueError(f"{samples_path} and {path} have {len(samples)} and {len(clusters)} spikes, one is cut")
        present = np.unique(clusters)
        if len(present) > numbers[0]:
            raise ValueError(f"{path}: the first line says {numbers[0]} clusters, but there are {len(present)}")
        for cluster in present[~np.isin(present, (ARTEFACT, NOISE))].tolist():
            if cluster >= 100:
                raise ValueError(f"{path}: clusters must be below 100, or ids would not be unique, got {cluster}")
            units[100 * group + cluster] = np.sort(samples[clusters == cluster]) / SAMPLE_RATE
    if not units:
        raise FileNotFoundError(f"{folder} has no unit: expected klusters*/*.res.N and *.clu.N with clusters from 2 on")
    return units


def read_numbers(path: Path) -> NDArray[np.int64]:
    """A file with a whole number from 0 in each line, such as a ``.res`` file."""
    numbers = array("q")  # a list would take seven times the memory
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
            word = line.strip()
            if word and not (word.isdigit() and len(word) <= 18):
                got = word[:40].decode(errors="replace")
                raise ValueError(f"{path}, line {number}: expected a whole number that is not negative, got {got!r}")
            if word:
                numbers.append(int(word))
    return np.array(numbers, dtype=np.int64)


def _parse(
    where: str, name: str, row: dict[str, str], convert: Callable[[str], _Value], allowed: Sequence[Any] = ()
) -> _Value:
    text = row[name].strip()
    try:
        value = convert(text.lower())
    except (ValueError, OverflowError, KeyError):
        kind = "a number" if convert is float else "a whole number" if convert is _integer else "True or False"
        raise ValueError(f"{where}: {name} must be {kind}, got {text!r}") from None
    if allowed and value not in allowed:
        raise ValueError(f"{where}: {name} must be one of {', '.join(map(str, allowed))}, got {text!r}")
    return value


def _integer(text: str) -> int:
    number = float(text)  # pandas writes whole numbers as 1.0 if one is missing
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"
