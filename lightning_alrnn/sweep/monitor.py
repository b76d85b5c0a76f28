"""What a sweep shows while it runs, and the tables that it keeps up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_alrnn.sweep.live import LiveTable
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.populations import Work
from lightning_alrnn.sweep.progress import ProgressFile, RunState, shown_score
from lightning_alrnn.sweep.store import read_record, run_folder, write_table

_TABLES_SECONDS = 60  # they take longer the more runs there are
_SECONDS = 0.5


class SweepMonitor:
    """Shows how far the runs of a sweep have come, and writes results.csv once a minute."""

    def __init__(self, folder: Path, specs: Sequence[Spec]) -> None:
        self._folder = folder
        self._specs = list(specs)
        self._states = {spec.name: self._ended_state(spec.name) or RunState("waiting") for spec in specs}
        self._works: Sequence[Work] = ()
        self._table = LiveTable(specs)
        self._began = time.time()
        self._shown = 0.0
        self._written = time.monotonic()
        self._table.show(self._states)

    def __enter__(self) -> SweepMonitor:
        return self

    def __exit__(self, *error: Any) -> None:
        self._table.show(self._states)
        self._table.close()

    def write(self, line: str) -> None:
        """Write a message that stays on the terminal."""
        self._table.write(line)

    def watch(self, works: Sequence[Work]) -> None:
        """Look from now on at how far these works have come."""
        self._works = works

    def ended(self, name: str) -> None:
        """Show that a run has ended, and say so where it failed or was interrupted."""
        state = self._ended_state(name) or RunState("stopped")
        if state.status in ("failed", "stopped"):
            self.write(f"{name}: {'failed' if state.status == 'failed' else 'stopped before its end'}")
        if name in self._states:  # which a member of a population that was begun by another command is not
            self._states[name] = state
        if time.monotonic() - self._written > _TABLES_SECONDS:
            write_table(self._folder)
            self._written = time.monotonic()

    def poll(self) -> None:
        """Look at how far the runs have come, twice a second at most."""
        if time.monotonic() - self._shown < _SECONDS:
            return
        self._shown = time.monotonic()
        for work in self._works:
            names = [spec.name for spec in work.specs if self._states.get(spec.name, _ENDED).status in _OPEN]
            if not names:
                continue
            progress = self._read(work.folder(self._folder))
            for name in names:
                found = (self._read(run_folder(self._folder, name)) if work.population else {}) or progress
                if name in found:
                    self._states[name] = found[name]
        self._table.show(self._states)

    def _read(self, folder: Path) -> dict[str, RunState]:
        """How far the runs of a folder have come since this began; what was noted before is of another attempt."""
        file = ProgressFile(folder)
        return file.read() if file.written_after(self._began) else {}

    def _ended_state(self, name: str) -> RunState | None:
        record = read_record(self._folder, name)
        if record is None or record.status == "running":
            return None
        if record.run.diverged:
            return RunState("diverged")
        metrics = {
            key.replace("test/", "val/", 1): value for key, value in record.run.metrics.items() if "test/" in key
        }
        return RunState(record.status, record.epochs, record.epochs, shown_score(metrics))


_ENDED = RunState("done")
_OPEN = ("waiting", "running")
