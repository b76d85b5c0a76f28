"""The progress of a sweep: a table that is redrawn on a terminal, or a line from time to time elsewhere."""

from __future__ import annotations

import math
import os
import re
import shutil
import statistics
import sys
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Self, TextIO

from lightning_alrnn.sweep.grouping import Work
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.progress import ProgressFile, RunState, shown_score
from lightning_alrnn.sweep.store import read_record, run_folder, write_table
from lightning_alrnn.sweep.words import counted

_REDRAW_SECONDS = 0.5
_TABLES_SECONDS = 60  # writing results.csv takes longer the more runs there are
_LINE_SECONDS = 10  # shortest time between two lines without a terminal
_SILENT_SECONDS = 30
_ESTIMATE_SECONDS, _ESTIMATE_SHARE = 3, 0.05  # progress that the first estimate of the remaining time needs
_LONGEST_LABEL = 20
_CELL = 5  # characters of a score
_MARKS = {"diverged": "×", "failed": "!", "stopped": "–"}
_ENDED = ("done", *_MARKS)


class SweepMonitor:
    """Shows the progress of a sweep, and writes results.csv once a minute."""

    def __init__(self, folder: Path, specs: Sequence[Spec]) -> None:
        self._folder = folder
        before = {spec.name: self._ended_state(spec.name) for spec in specs}
        # a run that failed is tried again
        self._states = {
            name: RunState("waiting") if state is None or state.status == "failed" else state
            for name, state in before.items()
        }
        self._works: Sequence[Work] = ()
        self._table = LiveTable(specs)
        self._began = time.time()
        self._polled = -math.inf
        self._written = monotonic()
        self._table.show(self._states)
        self.write = self._table.write

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._table.show(self._states)
        self._table.close()

    def watch(self, works: Sequence[Work]) -> None:
        """Show the progress of these works from now on."""
        self._works = works

    def ended(self, name: str) -> None:
        """Show that a run has ended, with a message if it failed or was interrupted."""
        state = self._ended_state(name) or RunState("stopped")
        if state.status in ("failed", "stopped"):
            self.write(f"{name}: {'failed' if state.status == 'failed' else 'stopped before the end'}")
        if name in self._states:  # not so for a member of a population that another command began
            self._states[name] = state
        if monotonic() - self._written > _TABLES_SECONDS:
            write_table(self._folder)
            self._written = monotonic()

    def poll(self) -> None:
        """Read the progress of the runs, at most twice a second."""
        if monotonic() - self._polled < _REDRAW_SECONDS:
            return
        self._polled = monotonic()
        for work in self._works:
            names = [spec.name for spec in work.specs if spec.name in self._states]
            names = [name for name in names if self._states[name].status not in _ENDED]
            progress = self._read(work.folder(self._folder)) if names else {}
            for name in names:
                # the members of a population may be trained one by one
                states = (self._read(run_folder(self._folder, name)) if work.population else {}) or progress
                self._states[name] = states.get(name, self._states[name])
        self._table.show(self._states)

    def _read(self, folder: Path) -> dict[str, RunState]:
        """The progress in a folder, unless an earlier attempt wrote it."""
        file = ProgressFile(folder)
        return file.read() if file.written_after(self._began) else {}

    def _ended_state(self, name: str) -> RunState | None:
        record = read_record(self._folder, name)
        if record is None or record.status == "running":
            return None
        if record.run.diverged:
            return RunState("diverged", record.epochs, record.epochs)
        scores = {key.replace("test/", "val/", 1): value for key, value in record.run.metrics.items() if "test/" in key}
        return RunState(record.status, record.epochs, record.epochs, shown_score(scores))


class LiveTable:
    """A headline, and a table with a row for each core, P and setting and a column for each seed.

    Example:
        >>> specs = [Spec(f"P{p}", "ALRNN", p, 0, {}, ()) for p in (0, 5)]
        >>> with LiveTable(specs, "val/accuracy", sys.stdout) as table:
        ...     table.show({"P0": RunState("done"), "P5": RunState("running", 3, 20, 0.91)})
        1 of 2 runs done, 1 running at epoch 3 of 20 · val/accuracy · 0:00 elapsed
        1 of 2 runs done, 1 running at epoch 3 of 20 · val/accuracy · 0:00 elapsed
    """

    def __init__(self, specs: Sequence[Spec], score: str = "", file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._score = score
        self._in_place = self._file.isatty() and os.environ.get("TERM") != "dumb"
        self._names = [spec.name for spec in specs]
        self._seeds = sorted({spec.seed for spec in specs})
        self._rows = _rows(specs)
        self._first: dict[str, RunState] = {}  # states at the start of this session
        self._states: dict[str, RunState] = {}
        self._opened = monotonic()
        self._drawn = -math.inf
        self._ended = 0  # number of ended runs at the last redraw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def show(self, states: Mapping[str, RunState]) -> None:
        """Redraw the table, unless it was just drawn. A run without a state is waiting."""
        self._states = {name: states.get(name, RunState("waiting")) for name in self._names}
        self._first = self._first or self._states
        changed = self._ended != self._count_ended()
        pause = _REDRAW_SECONDS if self._in_place else _LINE_SECONDS if changed else _SILENT_SECONDS
        if monotonic() - self._drawn >= pause:
            self._draw()

    def write(self, line: str) -> None:
        """Write a message above the table."""
        if self._in_place and self._states:
            self._draw(before=line)
        else:
            self._print(f"{line}\n")

    def close(self) -> None:
        """Draw the table for the last time and leave the cursor below it."""
        if self._states:
            self._draw(last=True)
        self._states = {}

    def _draw(self, before: str = "", last: bool = False) -> None:
        self._drawn = monotonic()
        self._ended = self._count_ended()
        if not self._in_place:
            self._print(f"{self._headline()}\n")
            return
        lines = self._lines()
        message = f"\x1b[J{before}\n" if before else ""
        # the cursor rests at the headline: from below the table, the way up would change if a narrower terminal wraps
        back = "\n" if last else f"\r\x1b[{len(lines) - 1}A" if len(lines) > 1 else "\r"
        # the rest of each line is erased after the line is written, because erasing the table first would flicker
        self._print(f"\r{message}" + "\x1b[K\n".join(lines) + f"\x1b[J{back}")

    def _print(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _count_ended(self) -> int:
        return sum(state.status in _ENDED for state in self._states.values())

    def _headline(self) -> str:
        counts: Counter[str] = Counter(state.status for state in self._states.values())
        parts = [f"{counts['done']} of {counted(len(self._names), 'run')} done"]
        running = [state for state in self._states.values() if state.status == "running"]
        if running:
            epochs = sorted({state.epochs for state in running})
            goals = {state.max_epochs for state in running}
            text = f" at epoch {epochs[0]}" + (f"–{epochs[-1]}" if len(epochs) > 1 else "")
            text += f" of {max(goals)}" if len(goals) == 1 and max(goals) else ""
            parts.append(f"{len(running)} running" + (text if epochs[-1] or max(goals) else ""))
        for status, mark in _MARKS.items():
            if counts[status]:
                parts.append(f"{counts[status]} {status}" + (f" ({mark})" if self._in_place else ""))
        seconds = self._drawn - self._opened
        remaining = self._seconds_left(seconds)
        elapsed = f"{_clock(seconds)} elapsed" + (f", about {_clock(remaining)} left" if remaining else "")
        return " · ".join(part for part in (", ".join(parts), self._score, elapsed) if part)

    def _seconds_left(self, seconds: float) -> float:
        """Remaining time, estimated from the epochs of this session; 0 if it cannot be estimated yet."""
        # a run of unknown length counts as the longest run, or as one epoch
        longest = max((1, *(state.max_epochs for state in self._states.values())))
        sizes = {name: state.max_epochs or longest for name, state in self._states.items()}

        def trained(name: str, state: RunState) -> int:
            """Epochs of a run; one that diverged says nothing about how long the others take."""
            whole = state.status in _ENDED and state.status != "diverged"
            return sizes[name] if whole else min(state.epochs, self._states[name].max_epochs)

        now = {name: trained(name, state) for name, state in self._states.items()}
        done = sum(now.values()) - sum(trained(name, state) for name, state in self._first.items())
        left = sum(sizes[name] - now[name] for name, state in self._states.items() if state.status not in _ENDED)
        enough = seconds >= _ESTIMATE_SECONDS or done >= _ESTIMATE_SHARE * (done + left)
        return seconds * left / done if done > 0 and enough else 0

    def _lines(self) -> list[str]:
        """The lines of the table, fewer and shorter than the terminal, so that nothing scrolls or wraps."""
        width, height = _size(self._file)
        lines = textwrap.wrap(self._headline(), max(width - 1, 1))
        (titles, _), *rows = self._rows
        space = height - 1 - len(lines) - 1
        running = [any(self._states[name].status == "running" for name in names.values()) for _, names in rows]
        chosen = sorted(range(len(rows)), key=lambda row: not running[row])
        if len(rows) > space:
            chosen = chosen[: max(space - 1, 0)]
        shown = [rows[row] for row in sorted(chosen)]
        cell = max([_CELL, *(len(str(seed)) for seed in self._seeds)]) + 1
        if len(titles) + len("  seed") + cell * len(self._seeds) < width:
            lines.append(f"{titles}  seed" + "".join(f"{seed:>{cell}}" for seed in self._seeds))
            for label, names in shown:
                states = (self._states.get(names.get(seed, "")) for seed in self._seeds)
                lines.append(f"{label}      " + "".join(_cell(state, cell) for state in states))
        else:
            lines += [_clip(line, width - 1) for line in self._count(titles, shown)]
        if len(shown) < len(rows):
            lines.append(_clip(f"… and {counted(len(rows) - len(shown), 'more row')}", width - 1))
        return lines[: height - 1]

    def _count(self, titles: str, rows: Sequence[tuple[str, Mapping[int, str]]]) -> list[str]:
        """Rows with the median score of the runs that are done, or else running, and the numbers of runs."""
        present = {state.status for state in self._states.values()}
        statuses = [status for status in ("done", "running", "waiting", *_MARKS) if status in present]
        lines = ["  ".join([titles, "median", *statuses])]
        for label, names in rows:
            scores = defaultdict[str, list[float | None]](list)
            for name in names.values():
                scores[self._states[name].status].append(self._states[name].score)
            finite = [score for score in scores["done"] or scores["running"] if score is not None]
            cells = [_short(statistics.median(finite)) if finite else ""]
            cells += [str(len(scores[status]) or "") for status in statuses]
            widths = [len(title) for title in ("median", *statuses)]
            lines.append("  ".join([label, *map(str.rjust, cells, widths)]))
        return lines


def _rows(specs: Sequence[Spec]) -> list[tuple[str, dict[int, str]]]:
    """Titles and rows: an aligned label of what varies except the seed, and the names of the runs by seed."""
    axes = sorted({key for spec in specs for key in spec.settings})
    names: dict[tuple[str, ...], dict[int, str]] = {}
    for spec in sorted(specs, key=lambda spec: (spec.core != "ALRNN", spec.core, spec.nonlinear_units or 0)):
        units = "" if spec.nonlinear_units is None else str(spec.nonlinear_units)
        row = (spec.core, units, *(str(spec.settings.get(key, "")) for key in axes))
        names.setdefault(row, {})[spec.seed] = spec.name
    titles = ("core", "P", *(key.rpartition(".")[2] for key in axes))
    columns = [column for column in zip(titles, *names, strict=True) if len({*column[1:]}) > 1]
    clipped = [[_clip(text, _LONGEST_LABEL) for text in column] for column in columns]
    aligned = [[text.rjust(max(map(len, column))) for text in column] for column in clipped]
    labels = ["  ".join(column[row] for column in aligned) for row in range(len(names) + 1)]
    return list(zip(labels, [{}, *names.values()], strict=True))


def _cell(state: RunState | None, width: int) -> str:
    """The cell of a run; blank if the row has no run with this seed."""
    if state is None or state.status == "waiting":
        return f"{'·' if state else '':>{width}}"
    text = "done" if state.status == "done" else "…"
    text = _MARKS.get(state.status, text if state.score is None else _short(state.score)).rjust(width)
    return f"\x1b[2m{text}\x1b[0m" if state.status == "running" and not os.environ.get("NO_COLOR") else text


def _short(score: float) -> str:
    """A score in at most five characters, with up to three digits."""
    if not score:
        return "0"
    for form in ("#.3g", "#.2g", "#.1g", ".0e"):  # the last one is for scores such as −.0004
        mantissa, _, exponent = f"{score:{form}}".partition("e")
        text = re.sub(r"^(-?)0\.", r"\1.", mantissa).rstrip(".") + (f"e{int(exponent)}" if exponent else "")
        if len(text) <= _CELL:
            break
    return _clip(text, _CELL)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _size(file: TextIO) -> tuple[int, int]:
    """Columns and lines of a terminal."""
    try:
        width, height = os.get_terminal_size(file.fileno())
    except OSError:
        width = height = 0
    return (width, height) if width and height else shutil.get_terminal_size()
