"""Sessions of CRCNS pfc-1: small folders in that format, read against plain Python."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.datamodules import StimulusSelection
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.stimulus_crcns import find_session, read_numbers, read_session
from lightning_alrnn.datamodules.stimulus_trials import STIMULI

GO = {"le_lc_go", "lo_pc_go", "le_hi_lc", "le_lo_lc", "le_lo_pc", "ri_lo_pc"}
CHOICES = ["left", "right", "no-go"]
LEFT, RIGHT, NOGO = range(3)


@dataclass
class Session:
    """What a folder is written from: rows of both tables by trial, spikes in samples by electrode group and cluster."""

    info: dict[int, dict[str, Any]] = field(default_factory=dict)
    timings: dict[int, dict[str, Any]] = field(default_factory=dict)
    spikes: dict[int, dict[int, list[int]]] = field(default_factory=dict)

    def add(self, trial: int, name: str, outcome: str = "hit", block: int | None = None, **changes: Any) -> None:
        pitch = "pc" in name
        cue = name.endswith(("go", "no"))
        start = 10.0 * trial
        block = block or 2 * pitch + (1 if cue else 2)
        self.info[trial] = {"correct_side": "right" if pitch else "left", "stim_number": STIMULI.index(name) + 1}
        self.info[trial] |= {"nonrandom": 0, "outcome": outcome, "go_or_nogo": "go" if name in GO else "nogo"}
        self.info[trial] |= {"block": block, "stim_name": name}
        self.timings[trial] = {"cpoke_start": start, "stim_onset": start + 0.3, "cpoke_stop": start + 0.52}
        self.timings[trial] |= {"choice_made": start + 1.0, "is_munged": False}
        for table in (self.info, self.timings):
            table[trial].update({name: value for name, value in changes.items() if name in table[trial]})

    def write(self, folder: Path, suffix: str = "", index_name: str = "") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (("trials_info", self.info), ("trial_timings", self.timings)):
            with (folder / f"{name}{suffix}").open("w", newline="") as file:
                writer = csv.writer(file)
                columns = list(next(iter(table.values())))
                writer.writerow([index_name, *columns])
                writer.writerows([trial, *(row[column] for column in columns)] for trial, row in table.items())
        (folder / "events").write_text("play_stimulus_in\t10.3\n")
        (folder / "klusters").mkdir(exist_ok=True)
        for group, clusters in self.spikes.items():
            pairs = sorted((sample, cluster) for cluster, samples in clusters.items() for sample in samples)
            for ending, lines in (
                ("res", [sample for sample, _ in pairs]),
                ("clu", [len(clusters), *(cluster for _, cluster in pairs)]),
            ):
                path = folder / "klusters" / f"session.{ending}.{group}"
                path.write_text("".join(f"{line}\n" for line in lines))
        return folder


def session(cycles: int = 3, mixed: int = 6) -> Session:
    """Cycles of 4 cue trials and ``mixed`` mixed ones under each rule, two units of each of two groups."""
    made, rng = Session(), np.random.default_rng(0)
    for _ in range(cycles):
        for rule, cues in (("lc", ["le_lc_go", "ri_lc_no"]), ("pc", ["lo_pc_go", "hi_pc_no"])):
            mixtures = [name for name in STIMULI[4:] if name.endswith(rule)]
            for i in range(4 + mixed):
                made.add(len(made.info) + 1, cues[i % 2] if i < 4 else mixtures[i % 4])
    last = int(10 * (len(made.info) + 1) * 30_000)
    made.spikes = {
        group: {cluster: sorted(rng.integers(0, last, 3000).tolist()) for cluster in clusters}
        for group, clusters in ((1, (0, 1, 2, 3)), (14, (1, 5)))
    }
    return made


def count_by_hand(samples: list[int], onset: float, hold: int, length: int, bin_ms: int) -> list[int]:
    edges = [round((onset + (step - hold) * bin_ms / 1000) * 30_000) for step in range(length + 1)]
    return [sum(a <= sample < b for sample in samples) for a, b in pairwise(edges)]


class TestChoice:
    def test_follows_from_the_outcome(self, tmp_path: Path) -> None:
        choices = {"le_hi_lc": (LEFT, NOGO, RIGHT), "ri_hi_lc": (NOGO, LEFT, RIGHT)}
        choices |= {"ri_lo_pc": (RIGHT, NOGO, LEFT), "le_hi_pc": (NOGO, RIGHT, LEFT)}
        made = Session(spikes={1: {2: [1]}})
        for name in choices:
            for outcome in ("hit", "error", "wrong_port"):
                made.add(len(made.info) + 1, name, outcome)
        read = read_session(made.write(tmp_path), 50).trials
        assert read.class_names == CHOICES
        assert read.labels.tolist() == [choice for each in choices.values() for choice in each]
        assert [STIMULI[group] for group in read.group] == [name for name in choices for _ in range(3)]

    def test_classes_are_the_choices_that_were_made(self, tmp_path: Path) -> None:
        made = Session(spikes={1: {2: [1]}})
        made.add(1, "lo_pc_go")
        made.add(2, "hi_pc_no")
        trials = read_session(made.write(tmp_path), 50).trials
        assert (trials.classes, trials.class_names) == (2, ["right", "no-go"])
        assert trials.labels.tolist() == [0, 1]


class TestTrials:
    def test_which_are_kept(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        made = session(cycles=1, mixed=6)
        made.add(5, "le_hi_lc", is_munged=True, stim_onset="", choice_made="")
        made.add(6, "le_hi_lc", nonrandom=1)
        made.add(7, "le_hi_lc", outcome="future_trial", choice_made="")
        made.add(8, "le_hi_lc", outcome="error")
        made.add(9, "le_hi_lc", outcome="wrong_port")
        del made.timings[10]
        made.timings[77] = made.timings[1]  # timed, but in no other table
        with caplog.at_level("INFO"):
            read = read_session(made.write(tmp_path), 50)
        assert read.trial.tolist() == [1, 2, 3, 4, 8, 9, *range(11, 21)]
        assert read.dropped == {"munged": 1, "not random": 1, "without a choice": 1, "without timings": 1}
        assert "16 of 20 trials and 3 units; left out: 1 munged, 1 not random, 1 without a choice" in caplog.text

    def test_tables_are_joined_on_their_index_not_on_their_order(self, tmp_path: Path) -> None:
        made = session(cycles=1)
        straight = read_session(made.write(tmp_path / "a"), 50)
        made.timings = dict(reversed(made.timings.items()))
        turned = read_session(made.write(tmp_path / "b", suffix=".csv", index_name="trial_number"), 50)
        assert all(np.array_equal(a, b) for a, b in zip(straight.trials, turned.trials, strict=True))

    @pytest.mark.parametrize("bin_ms", [50, 20, 250])
    def test_inputs_and_spikes_bin_by_bin(self, tmp_path: Path, bin_ms: int) -> None:
        made = session(cycles=1)
        made.add(3, "le_lc_go", stim_onset=30.05, choice_made=30.71)  # a hold of 50 ms
        made.add(12, "hi_pc_no", stim_onset=120.333, choice_made=122.0)
        made.add(13, "lo_pc_go", stim_onset=130.0, choice_made=130.0)  # one bin
        read = read_session(made.write(tmp_path), bin_ms)
        assert read.units == [102, 103, 1405]
        trials = read.trials
        assert trials.spikes.dtype == np.uint8
        for row, trial in enumerate(read.trial.tolist()):
            times = made.timings[trial]
            onset = times["stim_onset"]
            hold = math.ceil(round((onset - times["cpoke_start"]) * 1000 / bin_ms, 6))
            after = max(1, math.ceil(round((times["choice_made"] - onset) * 1000 / bin_ms, 6)))
            length = hold + after
            assert trials.lengths[row] == length
            name = STIMULI[trials.group[row]]
            for step, shown in enumerate(trials.inputs[row].tolist()):
                if step >= length:
                    assert not any(shown)
                    continue
                sounding = hold <= step < hold + round(250 / bin_ms)
                heard = [float(sounding and part in name.split("_")) for part in ("le", "ri", "lo", "hi")]
                phase = [float(step < hold), float(step >= hold + round(250 / bin_ms))]
                assert shown == [*heard, *phase, float("lc" in name), float("pc" in name)]
            for unit, number in enumerate(read.units):
                samples = made.spikes[number // 100][number % 100]
                expected = count_by_hand(samples, onset, hold, length, bin_ms)
                assert trials.spikes[row, :, unit].tolist() == expected + [0] * (len(trials.spikes[row]) - length)
        assert trials.spikes.sum() > 100

    def test_a_spike_at_the_onset_is_in_the_bin_that_starts_there(self, tmp_path: Path) -> None:
        onset = 300_000 + 9000  # trial 1 starts at 10 s and sounds at 10.3 s
        made = Session(spikes={1: {2: [onset], 3: [onset - 1], 4: [299_999], 5: [300_000]}})
        made.add(1, "lo_pc_go")
        made.add(2, "hi_pc_no")
        spikes = read_session(made.write(tmp_path), 50).trials.spikes[0]
        assert [np.flatnonzero(spikes[:, unit]).tolist() for unit in range(4)] == [[6], [5], [], [0]]

    def test_spikes_may_stand_in_any_order(self, tmp_path: Path) -> None:
        folder = session(cycles=1).write(tmp_path)
        sorted_ = read_session(folder, 50)
        for ending, first in (("res", 0), ("clu", 1)):
            path = folder / "klusters" / f"session.{ending}.1"
            lines = path.read_text().splitlines()
            path.write_text("\n".join(lines[:first] + lines[first:][::-1]))
        assert np.array_equal(read_session(folder, 50).trials.spikes, sorted_.trials.spikes)


class TestDataModule:
    def test_neural(self, tmp_path: Path) -> None:
        made = session(cycles=4)
        data = StimulusSelection(made.write(tmp_path / "data" / "CR12B" / "one"), neural=True)
        assert (data.input_size, data.output_size, data.num_units) == (8, 3, 3)
        assert not data.simulated
        assert data.class_names == CHOICES
        assert data.group_names == list(STIMULI)
        blocks = []
        for split in SPLITS:
            batch = data.build(split)
            assert isinstance(batch, NeuralBatch)
            assert batch.spikes.dtype == torch.uint8
            # a trial is 10 s, a block 10 trials: all of a block, cues and mixed, stand on one side
            block_numbers = set(data._recorded.block[data._rows[split]].tolist())
            blocks.append(block_numbers)
            assert len(batch.inputs) == 10 * len(block_numbers)
            rules = batch.inputs[:, 0, 6:].sum(0)
            assert (rules >= 10).all()  # each split has blocks of both rules
        assert sorted(x for block_numbers in blocks for x in block_numbers) == list(range(8))
        again = StimulusSelection(tmp_path, neural=True)  # the one session below
        assert torch.equal(again.build("test").inputs, data.build("test").inputs)

    def test_blocks_are_told_before_trials_are_dropped(self, tmp_path: Path) -> None:
        made = session(cycles=3)
        for trial in range(11, 21):  # all of the pitch block between two localisation blocks
            made.timings[trial]["is_munged"] = True
        trials = read_session(made.write(tmp_path), 50).trials
        assert np.unique(trials.block).tolist() == [0, 2, 3, 4, 5]
        assert trials.kind.tolist() == ["pc" in STIMULI[group] for group in trials.group]  # type: ignore[union-attr]

    def test_behaviour(self, tmp_path: Path) -> None:
        data = StimulusSelection(session().write(tmp_path), bin_ms=100, val_fraction=0.2, test_fraction=0.2)
        batch = data.build("train")
        assert isinstance(batch, SequenceBatch)
        assert batch.inputs.shape[1] == 3 + 7
        assert data.phase_names == ["hold", "sounds", "response"]
        assert torch.equal(batch.phase == 0, batch.inputs[..., 4] == 1)
        assert torch.equal(batch.phase == 1, batch.inputs[..., :4].any(dim=2))
        assert torch.equal(batch.phase == 2, batch.inputs[..., 5] == 1)
        assert ((batch.phase >= 0).sum(dim=1) == batch.lengths).all()
        assert data.num_units is None

    def test_too_few_blocks(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"of 2 blocks \(20 trials\) of one kind, 1 are for testing and 1 for"):
            StimulusSelection(session(cycles=2).write(tmp_path))

    def test_several_sessions_are_listed(self, tmp_path: Path) -> None:
        for rat, day in (("CR12B", "one"), ("YT6A", "two")):
            session(cycles=1).write(tmp_path / "data" / rat / day)
        with pytest.raises(ValueError, match=r"has 2 sessions with different units.*data/CR12B/one, data/YT6A/two"):
            StimulusSelection(tmp_path)
        assert find_session(tmp_path / "data" / "YT6A") == tmp_path / "data" / "YT6A" / "two"

    def test_no_session(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"has no session: expected data/<rat>/<session>/ with trials_info"):
            StimulusSelection(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stim_number": 13}, r"trials_info, trial 3: stim_number must be one of 1, 2, .*, 12, got '13'"),
        ({"stim_number": "two"}, r"stim_number must be a whole number, got 'two'"),
        ({"stim_number": 1.5}, r"stim_number must be a whole number, got '1.5'"),
        ({"stim_number": "inf"}, r"stim_number must be a whole number, got 'inf'"),
        ({"stim_name": "le_ca_lc"}, r"trial 3: stim_number 3 is not the one of stim_name 'le_ca_lc'"),
        ({"correct_side": "up"}, r"correct_side must be one of left, right, got 'up'"),
        ({"go_or_nogo": ""}, r"go_or_nogo must be one of go, nogo, got ''"),
        ({"block": 5}, r"block must be one of 1, 2, 3, 4, got '5'"),
        ({"nonrandom": "no"}, r"nonrandom must be a whole number, got 'no'"),
        ({"is_munged": "maybe"}, r"trial_timings, trial 3: is_munged must be True or False, got 'maybe'"),
        ({"stim_onset": ""}, r"trial_timings, trial 3: stim_onset must be a number, got ''"),
        ({"stim_onset": "nan"}, r"expected cpoke_start ≤ stim_onset ≤ choice_made, .* got 30\.0, nan and 31\.0; set"),
        ({"stim_onset": 29.0}, r"expected cpoke_start ≤ stim_onset ≤ choice_made"),
        ({"choice_made": 30.1}, r"expected cpoke_start ≤ stim_onset ≤ choice_made"),
        ({"choice_made": 61.0}, r"within 30 s, got 30\.0, 30\.3 and 61\.0; set is_munged to True to leave"),
        ({"name": "ri_hi_pc"}, r"trial 3: stim_name 'ri_hi_pc' is not of the rule of block 1"),
    ],
)
def test_an_error_names_file_and_trial(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    made = session(cycles=1)
    made.add(3, **{"name": "le_lc_go", "block": 1, **changes})
    with pytest.raises(ValueError, match=message):
        read_session(made.write(tmp_path), 50)


@pytest.mark.parametrize(
    ("munged", "message"),
    [
        (False, "all trials have the choice 'right': choose another session"),
        (True, r"no trial is left \(1 munged\): choose another session"),
    ],
)
def test_a_session_with_nothing_to_learn(tmp_path: Path, munged: bool, message: str) -> None:
    made = Session(spikes={1: {2: [1]}})
    made.add(1, "lo_pc_go", is_munged=munged)
    with pytest.raises(ValueError, match=message):
        read_session(made.write(tmp_path), 50)


TABLE = ",cpoke_start,stim_onset,choice_made,is_munged\n1,10,10.3,11,False\n"
RES, CLU = "klusters/session.res.1", "klusters/session.clu.1"
FORMS: list[tuple[dict[str, str | None], str]] = [
    ({"trial_timings": None}, "there is no trial_timings"),
    ({"trial_timings": ""}, r"missing columns cpoke_start, .* got the header of an empty file"),
    ({"trial_timings": ",cpoke_start,stim_onset,choice_made\n1,1,2,3\n"}, "missing columns is_munged; got"),
    ({"trial_timings": TABLE + "1,1,2,3,False"}, r"line 3: trial 1 occurs twice"),
    ({"trial_timings": TABLE + "x,1,2,3,False"}, r"line 3: the first column must be a whole number, got 'x'"),
    ({"trial_timings": TABLE + "2,1,2,3,False,9"}, r"line 3: more fields than the 5 of the header"),
    ({"trial_timings": TABLE + "2,1"}, r"trial 2: is_munged must be True or False, got ''"),
    ({RES: "", CLU: ""}, r"session\.clu\.1 is empty: expected the number of clusters"),
    ({RES: "7\n8\n", CLU: "2\n2\n"}, r"session\.res\.1 and .*session\.clu\.1 have 2 and 1 spikes, one is cut"),
    ({RES: "7\n", CLU: "x\n2\n"}, r"clu\.1, line 1: expected a whole number that is not negative, got 'x'"),
    ({RES: "12.5\n", CLU: "1\n2\n"}, r"session\.res\.1, line 1: expected a whole number"),
    ({RES: "5\n-7\n", CLU: "1\n2\n2\n"}, r"session\.res\.1, line 2: expected a whole number .* got '-7'"),
    ({RES: "7\n8\n", CLU: "1\n2\n3\n"}, r"the first line says 1 clusters, but there are 2"),
    ({RES: "7\n", CLU: "1\n100\n"}, r"clusters must be below 100, or ids would not be unique, got 100"),
    ({"klusters/session.res.14": None}, r"clu\.14 needs the spike times in .*session\.res\.14"),
    ({CLU: None, "klusters/session.clu.14": None}, r"has no unit: expected klusters\*/\*\.res\.N and \*\.clu\.N"),
    ({"klusters_2/session.clu.1": "0\n"}, r"electrode group 1 is in both .*klusters/.* and .*klusters_2/"),
]


class TestFiles:
    @pytest.mark.parametrize(("changes", "message"), FORMS)
    def test_files_of_another_form(self, tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
        folder = session(cycles=1).write(tmp_path)
        (folder / "klusters_2").mkdir()
        for name, content in changes.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_text(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_session(folder, 50)

    def test_other_files_are_left_alone(self, tmp_path: Path) -> None:
        folder = session(cycles=1).write(tmp_path)
        for name in ("session.clu.1.bak", "session.fet.1", "session.clu.old"):
            (folder / "klusters" / name).write_text("junk")
        assert read_session(folder, 50).units == [102, 103, 1405]

    def test_numbers_come_back(self, tmp_path: Path) -> None:
        (tmp_path / "s.clu.1").write_bytes(b"12\r\n\n999999999999999999 \n0")
        assert read_numbers(tmp_path / "s.clu.1").tolist() == [12, 10**18 - 1, 0]
