"""Simulated stimulus selection: each trial read back from its channels and answered by the rules in plain Python."""

from __future__ import annotations

import math
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.datamodules import StimulusSelection
from lightning_alrnn.datamodules import stimulus_simulator as simulator
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.stimulus_selection import split_blocks
from lightning_alrnn.datamodules.stimulus_simulator import (
    Layout,
    Population,
    draw_choices,
    draw_population,
    draw_spikes,
)
from lightning_alrnn.datamodules.stimulus_trials import ANSWERS, STIMULI

ANSWER = {
    "le_lc_go": "left", "ri_lc_no": "no-go", "lo_pc_go": "right", "hi_pc_no": "no-go",
    "le_hi_lc": "left", "le_lo_lc": "left", "ri_hi_lc": "no-go", "ri_lo_lc": "no-go",
    "le_lo_pc": "right", "ri_lo_pc": "right", "le_hi_pc": "no-go", "ri_hi_pc": "no-go",
}  # fmt: skip
CHOICES = ["left", "right", "no-go"]


def five_sigma(probability: float, size: int) -> float:
    return 5 * math.sqrt(probability * (1 - probability) / size)


class Seen(NamedTuple):
    """A trial as its channels show it; parts in steps."""

    hold: int
    sound: int
    response: int
    sounds: set[str]


def watch(steps: list[list[float]]) -> Seen:
    """Read one trial, whose steps must be hold, sound and response, in this order and no two at once."""
    parts = []
    for step in steps:
        heard = {name for name, value in zip(("le", "ri", "lo", "hi"), step, strict=False) if value == 1}
        assert set(step) <= {0.0, 1.0}
        (part,) = [name for name, on in (("hold", step[4]), ("sound", heard), ("response", step[5])) if on]
        parts.append((part, frozenset(heard)))
    runs = [(part, heard, len(list(run))) for (part, heard), run in groupby(parts)]
    assert [part for part, _, _ in runs] == ["hold", "sound", "response"]
    (_, _, hold), (_, heard, sound), (_, _, response) = runs
    return Seen(hold, sound, response, set(heard))


def respond(sounds: set[str], rule: str) -> str:
    if rule == "localisation":
        return "left" if "le" in sounds else "no-go"
    return "right" if "lo" in sounds else "no-go"


def test_conditions_are_those_of_the_data_set() -> None:
    assert set(ANSWER) == set(STIMULI)
    assert STIMULI[:4] == ("lo_pc_go", "hi_pc_no", "le_lc_go", "ri_lc_no")
    assert STIMULI[4:8] == ("le_hi_pc", "ri_hi_pc", "le_lo_pc", "ri_lo_pc")
    assert STIMULI[8:] == ("le_hi_lc", "ri_hi_lc", "le_lo_lc", "ri_lo_lc")
    for name, answer in zip(STIMULI, ANSWERS, strict=True):
        assert CHOICES[answer] == ANSWER[name]
        if name.endswith(("go", "no")):
            assert (ANSWER[name] == "no-go") == name.endswith("no")


class TestExplicit:
    def test_attributes(self) -> None:
        data = StimulusSelection()
        assert (data.input_size, data.output_size, len(data.channel_names)) == (8, 3, 8)
        assert (data.objective, data.target_step, data.criterion) == ("classification", "last", None)
        assert (data.class_names, data.group_names) == (CHOICES, list(STIMULI))
        assert data.phase_names == ["hold", "sounds", "response"]
        assert StimulusSelection(neural=True, train_size=2).phase_names is None
        assert (data.simulated, data.hparams["source"], data.num_units) == (True, "simulated", None)
        batch = data.build("train")
        assert isinstance(batch, SequenceBatch)
        assert batch.inputs.shape == (1000, 24, 8)  # 7 + 5 + 12 bins
        assert batch.inputs.dtype == torch.float32
        assert batch.targets.dtype == batch.lengths.dtype == torch.int64
        assert batch.mask is None
        assert [len(data.build(split).inputs) for split in ("val", "test")] == [200, 200]

    @settings(max_examples=15, deadline=None)
    @given(bin_ms=st.sampled_from([10, 25, 50, 60, 250]), seed=st.integers(0, 2**40))
    def test_each_trial_step_by_step(self, bin_ms: int, seed: int) -> None:
        batch = StimulusSelection(bin_ms=bin_ms, held_out=bin_ms < 100, train_size=40, seed=seed).build("train")
        for trial, answer, length, group, phase in zip(*(f.tolist() for f in (*batch[:3], *batch[4:])), strict=True):
            valid, rest = trial[:length], trial[length:]
            assert not np.any(rest)
            seen = watch(valid)
            assert phase == [0] * seen.hold + [1] * seen.sound + [2] * seen.response + [-1] * len(rest)
            name = STIMULI[group]
            assert seen.sounds == set(name.split("_")) & {"le", "ri", "lo", "hi"}
            rule = "pitch" if "pc" in name else "localisation"
            assert {tuple(step[6:]) for step in valid} == {(1.0, 0.0) if rule == "localisation" else (0.0, 1.0)}
            assert CHOICES[answer] == respond(seen.sounds, rule) == ANSWER[name]
            assert seen.sound == max(1, round(250 / bin_ms))
            for steps, (least, most) in ((seen.hold, (250, 350)), (seen.response, (200, 600))):
                assert max(1, round(least / bin_ms)) <= steps <= round(most / bin_ms)

    def test_odds_are_those_of_the_cycle(self) -> None:
        size = 40_000
        batch = StimulusSelection(held_out=False, train_size=size).build("train")
        share = torch.bincount(batch.group, minlength=12) / size
        for i, name in enumerate(STIMULI):
            # 20 cue trials of two kinds and 60 mixed ones of four, twice
            expected = 10 / 160 if name.endswith(("go", "no")) else 15 / 160
            assert abs(float(share[i]) - expected) < five_sigma(expected, size)
        hold, response = batch.inputs[..., 4].sum(1), batch.inputs[..., 5].sum(1)
        for steps, options in ((hold, range(5, 8)), (response, range(4, 13))):
            assert steps.unique().tolist() == list(options)
            counts = steps.unique(return_counts=True)[1] / size
            assert (counts - 1 / len(options)).abs().max() < five_sigma(1 / len(options), size)


class TestInferred:
    def test_each_block_trial_by_trial(self) -> None:
        data = StimulusSelection(context="inferred", train_size=12, seed=3)
        assert (data.input_size, data.output_size, data.target_step) == (6, 3, "every")
        assert data.group_names == ["localisation", "pitch"]
        assert data.channel_names == ["left", "right", "low", "high", "hold", "response"]
        batch = data.build("train")
        assert isinstance(batch, SequenceBatch)
        assert batch.inputs.shape[1] == batch.targets.shape[1] == batch.mask.shape[1] == batch.lengths.max()  # type: ignore[union-attr]
        for inputs, targets, length, mask, group, phase in zip(*(f.tolist() for f in batch), strict=True):
            rule = ("localisation", "pitch")[group]
            trials: list[list[int]] = []
            for step in range(length):
                if inputs[step][4] == 1 and (step == 0 or inputs[step - 1][4] == 0):
                    trials.append([])
                trials[-1].append(step)
            assert len(trials) == 80
            for number, steps in enumerate(trials):
                seen = watch([inputs[step] for step in steps])
                cues = {"le", "ri"} if rule == "localisation" else {"lo", "hi"}
                assert len(seen.sounds & cues) == 1
                assert len(seen.sounds) == (1 if number < 20 else 2)
                answer = CHOICES.index(respond(seen.sounds, rule))
                responding = [False] * (seen.hold + seen.sound) + [True] * seen.response
                assert [mask[step] for step in steps] == [float(on) for on in responding]
                assert [phase[step] for step in steps] == [0] * seen.hold + [1] * seen.sound + [2] * seen.response
                assert [targets[step] for step in steps] == [answer * on for on in responding]
            assert not any(np.any(field[length:]) for field in (inputs, mask, targets))
            assert set(phase[length:]) <= {-1}


class TestPopulation:
    def test_batches(self) -> None:
        data = StimulusSelection(neural=True, train_size=50)
        assert data.num_units == 29
        behaviour = StimulusSelection(train_size=50).build("train")
        batch = data.build("train")
        assert isinstance(batch, NeuralBatch)
        assert torch.equal(batch.inputs, behaviour.inputs)
        assert torch.equal(batch.lengths, behaviour.lengths)
        assert batch.spikes.shape == (50, 24, 29)
        assert batch.spikes.dtype == torch.uint8
        assert batch.targets.dtype == torch.int64
        past = torch.arange(24) >= batch.lengths[:, None]
        assert not batch.spikes[past].any()
        assert batch.spikes.sum() > 0

    def test_the_animal_lapses_in_a_tenth_of_the_trials(self) -> None:
        size = 40_000
        stimulus = np.arange(size) % 12
        choices = draw_choices(np.random.default_rng(0), stimulus)
        right = np.array([CHOICES.index(ANSWER[STIMULI[each]]) for each in stimulus])
        away = (choices - right) % 3
        for step, expected in ((0, 0.9), (1, 0.05), (2, 0.05)):
            assert abs((away == step).mean() - expected) < five_sigma(expected, size)

    def test_units_are_the_same_whatever_their_number(self) -> None:
        few, many = draw_population(3, seed=5), draw_population(9, seed=5)
        assert np.array_equal(few.baseline, many.baseline[:3])
        assert np.array_equal(few.weights, many.weights[:, :3])
        assert not np.array_equal(few.baseline, draw_population(3, seed=6).baseline)
        median = np.median(draw_population(20_000, seed=0).baseline)
        assert median == pytest.approx(4.0, rel=0.05)

    def draw(self, population: Population, size: int = 4000, stimulus: str = "le_hi_pc", choice: str = "no-go"):
        layout = Layout((6, 6), 5, (12, 12))
        trials = (np.full(size, value) for value in (STIMULI.index(stimulus), CHOICES.index(choice), 6, 23))
        return draw_spikes(np.random.default_rng(0), population, *trials, layout, 50).astype(float)

    def test_untuned_units_are_poisson(self) -> None:
        counts = self.draw(Population(np.array([2.0, 40.0]), np.zeros((8, 2))))
        for unit, mean in enumerate((0.1, 2.0)):
            values = counts[..., unit]
            assert values.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / values.size))
            assert values.var() == pytest.approx(mean, rel=0.03)
            assert np.corrcoef(values[:, 3], values[:, 4])[0, 1] == pytest.approx(0, abs=0.08)

    def test_tuned_units_follow_their_signal(self) -> None:
        baseline, weight = 20.0, 0.5
        counts = self.draw(Population(np.full(8, baseline), weight * np.eye(8)))
        log_rate = np.log(counts.mean(0) / (baseline * 0.05)) / weight  # the mean signal
        rule, sounds, choices = log_rate[:, 0], log_rate[:, 1:5], log_rate[:, 5:]
        assert np.abs(rule - 1).max() < 0.12  # pitch
        rise = 1 - np.exp(-np.arange(1, 6) * 50 / 100)
        decay = rise[-1] * np.exp(-np.arange(1, 13) * 50 / 100)
        expected = np.concatenate([np.zeros(6), rise, decay])
        for channel, on in enumerate((1, 0, 0, 1)):  # left and high
            assert np.abs(sounds[:, channel] - on * expected).max() < 0.12
        ramp = np.concatenate([np.zeros(6), 1 - np.exp(-np.arange(1, 18) * 50 / 200)])
        shared = weight * 0.3**2 / 2  # noise raises the mean of an exponential
        for channel, on in enumerate((0, 0, 1)):
            assert np.abs(choices[:, channel] - shared - on * ramp).max() < 0.12

    def test_units_share_the_noise_of_their_choice(self) -> None:
        population = Population(np.full(3, 100.0), np.zeros((8, 3)))
        population.weights[5, :2] = 2.0
        counts = self.draw(population)
        across = np.corrcoef(counts[:, 2].T)
        assert across[0, 1] > 0.3
        assert abs(across[0, 2]) < 0.08

    def test_noise_is_stationary_with_its_time_constant(self) -> None:
        noise = simulator._ornstein_uhlenbeck(np.random.default_rng(0), (20_000, 10, 1), 200.0, 50)[..., 0]
        assert np.abs(noise.var(axis=0) - 1).max() < 0.05
        for lag in (1, 4):
            assert np.corrcoef(noise[:, 0], noise[:, lag])[0, 1] == pytest.approx(math.exp(-lag / 4), abs=0.03)

    def test_rates_have_a_ceiling(self) -> None:
        counts = self.draw(Population(np.array([1e6]), np.zeros((8, 1))), size=400)
        assert counts.mean() == pytest.approx(200 * 0.05, rel=0.02)


class TestSplit:
    @settings(max_examples=100, deadline=None)
    @given(
        sizes=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=9), min_size=1, max_size=3),
        fractions=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)),
        seed=st.integers(0, 2**40),
    )
    def test_whole_blocks_of_each_kind(self, sizes, fractions, seed) -> None:
        flat = [(size, kind) for kind, each in enumerate(sizes) for size in each]
        block = np.concatenate([np.full(size, i) for i, (size, _) in enumerate(flat)])
        kind = np.concatenate([np.full(size, which) for size, which in flat])
        # testing and validation each exceed their share by less than one block
        if not all(sum(each) * (1 - sum(fractions)) > 2 * max(each) for each in sizes):
            return
        rows = split_blocks(block, kind, *fractions, seed)
        assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(block)))
        assert not any(
            set(block[rows[a]]) & set(block[rows[b]]) for a, b in zip(SPLITS, SPLITS[1:] + SPLITS[:1], strict=True)
        )
        for which, each in enumerate(sizes):
            for split, fraction in zip(("val", "test"), fractions, strict=True):
                selected = rows[split][kind[rows[split]] == which]
                assert len(selected) >= fraction * sum(each) - 1e-6
                # the last block was needed
                assert len(selected) - max(np.bincount(block[selected])) < fraction * sum(each)
            assert (kind[rows["train"]] == which).any()

    @pytest.mark.parametrize("sizes", [[5], [5, 5]])
    def test_nothing_left_to_train_on(self, sizes: list[int]) -> None:
        block = np.repeat(np.arange(len(sizes)), sizes)
        with pytest.raises(ValueError, match=r"none remains for training\. Use at least 3 blocks of each kind"):
            split_blocks(block, 0 * block, 0.2, 0.2, seed=0)

    def test_depends_on_the_seed(self) -> None:
        block = np.arange(400) // 10
        tests = {tuple(split_blocks(block, 0 * block, 0.2, 0.2, seed)["test"]) for seed in (0, 0, 1, 2)}
        assert len(tests) == 3

    def test_a_fraction_that_blocks_meet_exactly_takes_no_further_block(self) -> None:
        assert 0.07 * 100 > 7
        rows = split_blocks(np.arange(100), np.zeros(100), 0.07, 0.15, seed=0)
        assert [len(rows[split]) for split in SPLITS] == [78, 7, 15]


@pytest.mark.parametrize("source", ["nowhere", "trials.npz", "trials.txt"])
def test_sources_that_do_not_exist(source: str) -> None:
    Path("trials.txt").write_text("no archive")
    with pytest.raises(FileNotFoundError, match=rf"a \.npz archive; there is no {source} \(looked in"):
        StimulusSelection(source)
