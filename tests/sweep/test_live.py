"""The progress of a sweep, on the screen of a terminal and in a log, from records and files of progress."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import random
import re
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_alrnn.sweep import live
from lightning_alrnn.sweep.grouping import Work, make_work
from lightning_alrnn.sweep.live import LiveTable, SweepMonitor, _cell, _short
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.progress import ProgressFile, RunState
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, Status, run_folder, write_record

STATUSES = ("waiting", "running", "done", "diverged", "failed", "stopped")


class Terminal(io.StringIO):
    """A terminal that knows the few codes that are used; ``COLUMNS`` and ``LINES`` are its size."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = [""]  # also those that have scrolled off
        self.row = self.column = 0
        self.dim: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        width, height = int(os.environ["COLUMNS"]), int(os.environ["LINES"])
        self.dim = [] if "\x1b[J" in text else self.dim
        for code, plain in re.findall(r"(\x1b\[\d*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", text):
            if plain:
                for character in plain:
                    if self.column == width:
                        self._down()
                    line = self.rows[self.row].ljust(self.column)
                    self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
                    self.column += 1
            elif code == "\r":
                self.column = 0
            elif code == "\n":
                self._down()
            elif code == "\x1b[K":
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif code == "\x1b[J":
                self.rows[self.row :] = [self.rows[self.row][: self.column]]
            elif code.endswith("A"):
                self.row = max(self.row - int(code[2:-1]), len(self.rows) - height, 0)
            else:
                assert code in ("\x1b[2m", "\x1b[0m")
        self.dim += re.findall(r"\x1b\[2m *(.*?)\x1b\[0m", text)
        return len(text)

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        self.rows += [""] * (self.row == len(self.rows))

    @property
    def screen(self) -> str:
        return "\n".join(self.rows)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("lightning_alrnn.sweep.live.monotonic", lambda: clock.now)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    set_size(monkeypatch, 100, 30)
    return clock


def set_size(monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))


def make_specs(units: Sequence[int], seeds: int) -> list[Spec]:
    return [Spec(f"P{p}-{seed}", "ALRNN", p, seed, {}, ()) for seed in range(seeds) for p in units]


STATES = {
    "P0-0": RunState("done", 400, 400, 0.934),
    "P5-0": RunState("done", 400, 400, 0.0012),
    "P0-1": RunState("running", 120, 400, 0.5),
    "P5-1": RunState("running", 124, 400),
    "P0-2": RunState("diverged", 7, 400, 0.1),
    "P5-2": RunState("failed"),
    "P0-3": RunState("stopped", 9, 400),
}
TABLE = """\
2 of 8 runs done, 2 running at epoch 120–124 of 400, 1 diverged (×), 1 failed (!), 1 stopped (–) ·
val/accuracy · 0:00 elapsed
P  seed     0     1     2     3
0        .934  .500     ×     –
5       .0012     …     !     ·"""


def test_results_csv_is_written_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """It takes as long as there are runs, so once for each of them would take the square of their number."""
    written: list[float] = []
    monkeypatch.setattr(live, "write_table", lambda folder: written.append(clock.now))
    monkeypatch.setattr(live, "read_record", lambda folder, name: None)
    specs = make_specs([0], 500)
    monitor = SweepMonitor(tmp_path, specs)
    for spec in specs:
        clock.now += 1
        monitor.ended(spec.name)
    assert written == [61, 122, 183, 244, 305, 366, 427, 488]


def test_a_cell_for_each_run() -> None:
    terminal = Terminal()
    LiveTable(make_specs([0, 5], 4), "val/accuracy", terminal).show(STATES)
    assert terminal.screen == TABLE
    assert terminal.dim == [".500", "…"]  # what may still change
    assert (terminal.row, terminal.column) == (0, 0)  # from where a narrower terminal may be drawn over


def test_redraws_in_place(clock: SimpleNamespace) -> None:
    terminal = Terminal()
    terminal.write("$ alrnn sweep\n")
    with LiveTable(make_specs([0, 5], 2), file=terminal) as table:
        table.write("before the table")
        table.show({})
        first = "0 of 4 runs done · 0:00 elapsed\nP  seed     0     1\n0           ·     ·\n5           ·     ·"
        assert terminal.screen == f"$ alrnn sweep\nbefore the table\n{first}"
        clock.now = 0.4
        table.show({"P0-0": RunState("running")})
        assert terminal.screen.endswith(first)  # too early
        clock.now = 0.5
        table.show({"P0-0": RunState("running")})
        assert "1 running ·" in terminal.screen
        table.write("P0-0: failed")
        clock.now = 3700.2
        table.show({"P0-0": RunState("failed")})
    last = "0 of 4 runs done, 1 failed (!) · 1:01:40 elapsed, about 3:05:01 left\nP  seed     0     1\n"
    last += "0           !     ·\n5           ·     ·\n"
    assert terminal.screen == f"$ alrnn sweep\nbefore the table\nP0-0: failed\n{last}"
    assert (terminal.row, terminal.column) == (len(terminal.rows) - 1, 0)
    table.close()
    assert terminal.screen.endswith(last)


def test_interrupted_it_leaves_the_latest_table_and_a_clean_line() -> None:
    terminal = Terminal()

    def interrupted() -> None:
        with LiveTable(make_specs([0, 5], 4), "val/accuracy", terminal) as table:
            table.show({})
            table.show(STATES)  # too early to be drawn
            terminal.write("^C")  # the terminal's echo
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.screen == f"{TABLE}\n"


def test_a_narrow_terminal_has_numbers_for_each_row(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    set_size(monkeypatch, 62, 30)
    terminal = Terminal()
    table = LiveTable(make_specs([0, 5], 9), file=terminal)
    states = STATES | {"P0-4": RunState("done", score=0.5), "P0-5": RunState("done", score=0.6)}
    states["P5-0"] = STATES["P0-1"]
    table.show(states)
    assert "0        .934" in terminal.screen
    set_size(monkeypatch, 61, 30)
    clock.now = 1
    table.show(states)
    assert terminal.rows[2:] == [
        "P  median  done  running  waiting  diverged  failed  stopped",
        "0    .600     3        1        3         1                1",
        "5    .500              2        6                 1         ",
    ]


def test_a_low_terminal_has_the_rows_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    set_size(monkeypatch, 100, 7)
    terminal = Terminal()
    table = LiveTable(make_specs(range(12), 1), file=terminal)
    table.show({"P4-0": RunState("running", 3, 20, 0.25), "P9-0": RunState("running", 3, 20, 0.5)})
    assert terminal.rows[1:] == [
        " P  seed     0",
        " 0           ·",
        " 4        .250",
        " 9        .500",
        "… and 9 more rows",
    ]


def test_no_size_wraps_or_scrolls(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    draw = random.Random(0)
    specs = make_specs(range(9), 12)
    for width, height in [(draw.randrange(20, 120), draw.randrange(2, 25)) for _ in range(60)]:
        set_size(monkeypatch, width, height)
        terminal = Terminal()
        with LiveTable(specs, "val/sequence_accuracy", terminal) as table:
            for _ in range(4):
                clock.now += 1
                table.show({s.name: RunState(draw.choice(STATUSES), 3, 9, draw.gauss(0, 1)) for s in specs})
                assert max(map(len, terminal.rows)) < width
                assert len(terminal.rows) < height
        assert len(terminal.rows) <= height


def test_the_size_is_that_of_the_terminal() -> None:
    main, side = pty.openpty()
    try:
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 40, 0, 0))
        with open(side, "w", closefd=False) as file:
            LiveTable(make_specs(range(9), 2), file=file).show({})
        lines = os.read(main, 10_000).decode().split("\r\n")
    finally:
        os.close(main)
        os.close(side)
    assert lines[-1].startswith("… and 8 more rows")
    assert len(lines) == 4


def test_rows_are_labelled_by_what_varies() -> None:
    long = "a" * 30
    specs = [
        Spec(f"{core}{p}{init}{seed}", core, p, seed, {"data.train_size": 100, **settings}, ())
        for seed in (3, 123456)
        for core, p, init, settings in [
            ("GRU", None, "", {}),
            ("ALRNN", 5, "x", {"model.init": "x"}),
            ("ALRNN", 10, "x", {"model.init": "x"}),
            ("ALRNN", 5, long, {"model.init": long}),
        ]
        if (p, seed) != (10, 3)  # that run is not asked for
    ]
    terminal = Terminal()
    LiveTable(specs, file=terminal).show({})
    assert terminal.rows[1:] == [
        " core   P                  init  seed      3 123456",
        "ALRNN   5                     x            ·      ·",
        "ALRNN   5  aaaaaaaaaaaaaaaaaaa…            ·      ·",
        "ALRNN  10                     x                   ·",
        "  GRU                                      ·      ·",
    ]


RUNNING = [RunState("running", 50, 100)] * 2


@pytest.mark.parametrize(
    ("first", "now", "seconds", "text"),
    [
        ([], [*RUNNING, RunState("done", 100, 100)], 20, "running at epoch 50 of 100 · 0:20 elapsed, about 0:20 left"),
        # what was there before is no progress
        ([RunState("done")], [RunState("done"), *RUNNING], 20, "about 0:40 left"),
        ([RunState("waiting", 40, 100)] * 2, RUNNING, 20, "about 5:00 left"),
        # a run that diverged leaves nothing to do, and the others take as long as they would without it
        ([], [RunState("diverged", 5, 100), RunState("running", 15, 100)], 10, "about 2:22 left"),
        # too early
        ([], [RunState("running", 19, 100)], 2.9, "running at epoch 19 of 100 · 0:03 elapsed"),
        ([], [RunState("running", 20, 100)], 2, "about 0:38 left"),
        ([], [RunState("running", 4, 100)], 3, "about 4:57 left"),
        ([], [], 60, "0 of 4 runs done · 1:00 elapsed"),
        # an unknown number of epochs
        ([], [RunState("running", 7)], 60, "1 running at epoch 7 · 1:00 elapsed"),
        ([], [RunState("done"), RunState("running", 7)], 60, "about 3:00 left"),
        ([], [RunState("running", 7, 10), RunState("running", 8, 20)], 0, "running at epoch 7–8 · "),
        ([], [RunState("done")] * 4, 60, "4 of 4 runs done · 1:00 elapsed"),
    ],
)  # fmt: skip
def test_time_left(
    first: list[RunState], now: list[RunState], seconds: float, text: str, clock: SimpleNamespace
) -> None:
    terminal = Terminal()
    table = LiveTable(make_specs(range(4), 1), file=terminal)
    names = [f"P{p}-0" for p in range(4)]
    table.show(dict(zip(names, first, strict=False)))
    clock.now = seconds
    table.show(dict(zip(names, now, strict=False)))
    table.close()
    assert text in terminal.rows[0]
    assert ("left" in terminal.rows[0]) == ("left" in text) or not seconds


@pytest.mark.parametrize("dumb", [False, True])
def test_a_log_has_a_line_now_and_then(dumb: bool, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(log, "isatty", lambda: dumb)
    if dumb:
        monkeypatch.setenv("TERM", "dumb")
    with LiveTable(make_specs([0, 5], 1), "loss", log) as table:
        states = {"P0-0": RunState("running", 0, 9)}
        for tenths in range(640):
            clock.now = tenths / 10
            if tenths == 330:
                states["P0-0"] = RunState("diverged", 4, 9)
                table.write("a message")
            if tenths == 570:
                states["P5-0"] = RunState("done", 9, 9)
            table.show(states)
    assert log.getvalue().splitlines() == [
        "0 of 2 runs done, 1 running at epoch 0 of 9 · loss · 0:00 elapsed",
        "0 of 2 runs done, 1 running at epoch 0 of 9 · loss · 0:30 elapsed",  # nothing has changed for 30 s
        "a message",
        "0 of 2 runs done, 1 diverged · loss · 0:40 elapsed, about 1:30 left",  # 10 s after the line before
        "1 of 2 runs done, 1 diverged · loss · 0:57 elapsed",  # at once
        "1 of 2 runs done, 1 diverged · loss · 1:04 elapsed",
    ]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (-0.000394, "-4e-4"),
        *[(0.934, ".934"), (0.12, ".120"), (0.9996, "1.00"), (0.0012, ".0012"), (1e-3, ".0010"), (1e-5, "1e-5")],
        *[(0.0, "0"), (-0.5, "-.500"), (-12.34, "-12.3"), (123.4, "123"), (1234.0, "1.2e3"), (-1e-12, "-1e-…")],
        *[(float("nan"), "nan"), (float("-inf"), "-inf")],
    ],
)
def test_short_scores(score: float, text: str) -> None:
    assert _short(score) == text


@given(st.floats(-1e9, 1e9).filter(lambda score: abs(score) > 1e-9))
def test_short_scores_are_right(score: float) -> None:
    assert len(_short(score)) <= 5
    assert float(_short(score)) == pytest.approx(score, rel=0.5)


def test_no_color_has_no_dim_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert _cell(RunState("running", score=0.5), 5) == " .500"
    assert _cell(RunState("done"), 5) == " done"


SPECS = [Spec(f"run{seed}", "ALRNN", 0, seed, {}, ()) for seed in range(5)]
WAITING, TRAINED = RunState("waiting"), RunState("running", 3, 20, 0.5)


def record(folder: Path, seed: int, status: Status, diverged: bool = False, **metrics: float) -> None:
    named = {key.replace("_", "/", 1): value for key, value in metrics.items()}
    run = Run("ALRNN", 0, seed, {}, named, diverged)
    write_record(folder, Record(f"run{seed}", run, status, epochs=7))


def say(folder: Path, runs: Mapping[str, RunState], age: float = -1) -> None:
    """What a process says of its runs, a second after the sweep began unless it did so before."""
    folder.mkdir(parents=True, exist_ok=True)
    ProgressFile(folder).write(runs)
    moment = time.time() - age
    os.utime(folder / "progress.json", (moment, moment))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the table was told to show; it draws nothing."""
    table = SimpleNamespace(states={}, lines=[], closed=False)
    table.show, table.write = table.states.update, table.lines.append
    table.close = lambda: setattr(table, "closed", True)
    monkeypatch.setattr(live, "LiveTable", lambda specs: table)
    return table


def test_what_is_recorded_is_shown_from_the_start(table: SimpleNamespace, tmp_path: Path) -> None:
    record(tmp_path, 0, "done", test_mse=0.25, val_mse=0.5, test_task_loss=3.0)
    record(tmp_path, 1, "failed")
    record(tmp_path, 2, "done", diverged=True)
    record(tmp_path, 3, "running")  # of another attempt
    SweepMonitor(tmp_path, SPECS)
    ended = [RunState("done", 7, 7, 0.25), WAITING, RunState("diverged", 7, 7)]  # what failed is tried again
    assert list(table.states.values()) == [*ended, WAITING, WAITING]


def test_runs_that_are_trained(table: SimpleNamespace, clock: SimpleNamespace, tmp_path: Path) -> None:
    population = make_work(tmp_path, SPECS[:3])
    with SweepMonitor(tmp_path, SPECS) as watching:
        watching.poll()
        assert set(table.states.values()) == {WAITING}
        watching.watch([population, Work((SPECS[3],)), Work((SPECS[4],))])
        runs = {"run0": TRAINED, "run1": RunState("diverged", 0, 20), "another": RunState("running", 1, 1, 1.0)}
        say(population.folder(tmp_path), runs)
        say(run_folder(tmp_path, "run3"), {"run3": RunState("running", 5, 0, None)})
        say(run_folder(tmp_path, "run4"), {"run4": RunState("running", 9, 9, 0.9)}, age=60)  # by another attempt
        clock.now += 0.4
        watching.poll()
        assert set(table.states.values()) == {WAITING}  # twice a second at most
        clock.now += 0.2
        watching.poll()
        expected = [TRAINED, runs["run1"], WAITING, RunState("running", 5), WAITING]
        assert list(table.states.values()) == expected
        # what has ended is no longer asked
        record(tmp_path, 0, "done", test_accuracy=0.75)
        watching.ended("run0")
        say(population.folder(tmp_path), {"run0": TRAINED, "run2": TRAINED})
        clock.now += 1
        watching.poll()
        expected[0], expected[2] = RunState("done", 7, 7, 0.75), TRAINED
        assert list(table.states.values()) == expected
        assert table.lines == []
        assert not table.closed
    assert table.closed


def test_members_of_a_population_that_are_done_one_by_one(
    table: SimpleNamespace, clock: SimpleNamespace, tmp_path: Path
) -> None:
    population = make_work(tmp_path, SPECS[:2])
    watching = SweepMonitor(tmp_path, SPECS)
    watching.watch([population])
    say(population.folder(tmp_path), dict.fromkeys(("run0", "run1"), TRAINED))
    say(run_folder(tmp_path, "run0"), {"run0": RunState("running", 1, 20, 0.25)})
    watching.poll()
    assert [table.states[f"run{k}"].epochs for k in range(2)] == [1, 3]


def test_runs_that_have_ended(table: SimpleNamespace, tmp_path: Path) -> None:
    watching = SweepMonitor(tmp_path, SPECS[:3])
    record(tmp_path, 0, "done", test_mse=0.5)
    record(tmp_path, 1, "failed")
    record(tmp_path, 2, "running")
    record(tmp_path, 4, "failed")  # of a population that another command began
    for seed in (0, 1, 2, 4):
        watching.ended(f"run{seed}")
    watching.write("a line")
    assert table.lines == ["run1: failed", "run2: stopped before the end", "run4: failed", "a line"]
    watching.__exit__()
    assert [state.status for state in table.states.values()] == ["done", "failed", "stopped"]


def test_tables_are_written_once_a_minute(table: SimpleNamespace, clock: SimpleNamespace, tmp_path: Path) -> None:
    watching = SweepMonitor(tmp_path, SPECS)
    rows = []
    for seed in range(5):
        record(tmp_path, seed, "done", test_mse=0.5)
        watching.ended(f"run{seed}")
        results = tmp_path / "results.csv"
        rows.append(len(results.read_text().splitlines()) - 1 if results.is_file() else 0)
        clock.now += 25
    assert rows == [0, 0, 0, 4, 4]
