"""Context-dependent integration of evidence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_alrnn.datamodules import ContextualIntegration, contextual
from lightning_alrnn.datamodules.contextual import draw_evidence

MANTE = {"variant": "mante"}


def five_sigma(probability: float, size: int) -> float:
    """How far an observed share may lie from its probability."""
    return 5 * math.sqrt(probability * (1 - probability) / size)


class TestReference:
    def test_attributes(self) -> None:
        data = ContextualIntegration()
        assert (data.input_size, data.output_size, data.steps) == (4, 2, 100)
        assert (data.objective, data.target_step, data.criterion) == ("classification", "last", None)
        assert data.class_names == ["negative", "positive"]
        assert data.group_names == ["normal", "inverted"]
        assert data.phase_names == ["context", "evidence", "response"]
        batch = data.build("train")
        assert (batch.inputs.shape, batch.inputs.dtype) == ((1000, 100, 4), torch.float32)
        assert (batch.targets.shape, batch.targets.dtype) == ((1000,), torch.int64)
        assert (batch.lengths == 100).all()
        assert batch.mask is None
        assert (batch.phase == torch.tensor([0] + [1] * 98 + [2])).all()

    @settings(max_examples=25, deadline=None)
    @given(
        steps=st.integers(3, 12),
        noise=st.sampled_from([0.0, 1e-9, 1e-4, 0.01, 1.0, 30.0]),
        invert_prob=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        seed=st.integers(0, 2**40),
    )
    def test_each_trial_step_by_step(self, steps: int, noise: float, invert_prob: float, seed: int) -> None:
        options = {"sequence_length": steps, "noise": noise, "invert_prob": invert_prob, "seed": seed}
        batch = ContextualIntegration(**options, train_size=60).build("train")
        fields = batch.inputs.tolist(), batch.targets.tolist(), batch.group.tolist()
        for trial, answer, group in zip(*fields, strict=True):
            context = [float(group == 0), float(group == 1)]
            assert trial[0] == [*context, 0.0, 0.0]
            assert trial[-1] == [*context, 0.0, 1.0]
            evidence = []
            for step in trial[1:-1]:
                assert step[:2] == [0.0, 0.0]
                assert step[3] == 0.0
                evidence.append(step[2])
            total = math.fsum(evidence)  # exact
            assert total != 0
            sign = total if group == 0 else -total
            assert answer == (1 if sign > 0 else 0)
            if noise == 0:
                assert set(evidence) <= {-1.0, 1.0}

    def test_classes_and_contexts_are_balanced_and_independent(self) -> None:
        batch = ContextualIntegration(train_size=20_000).build("train")
        cells = torch.bincount(2 * batch.group + batch.targets, minlength=4) / 20_000
        assert (cells - 0.25).abs().max() < five_sigma(0.25, 20_000)

    @pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
    def test_share_of_the_inverting_context(self, probability: float) -> None:
        data = ContextualIntegration(sequence_length=3, invert_prob=probability, train_size=20_000)
        group = data.build("train").group
        assert abs(float(group.float().mean()) - probability) <= five_sigma(probability, 20_000)

    def test_signs_are_even_and_the_noise_is_normal(self) -> None:
        evidence = ContextualIntegration(noise=0.2, train_size=2_000).build("train").inputs[:, 1:-1, 2]
        sign = evidence.sign()
        count = evidence.numel()
        assert abs(float((sign > 0).float().mean()) - 0.5) < five_sigma(0.5, count)
        noise = (evidence - sign) / 0.2
        assert abs(float(noise.mean())) < 5 / math.sqrt(count)
        assert float(noise.std()) == pytest.approx(1.0, abs=0.01)
        assert float((noise.abs() < 1).float().mean()) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)


class TestTies:
    def test_others_keep_their_odds(self) -> None:
        # of 2^4 rows of signs, 6 sum to zero; the other 10 are equally likely
        evidence = draw_evidence(np.random.default_rng(0), 40_000, 4, 0.0)
        rows, counts = np.unique(evidence, axis=0, return_counts=True)
        assert len(rows) == 10
        assert (rows.sum(axis=1) != 0).all()
        assert np.abs(counts / 40_000 - 0.1).max() < five_sigma(0.1, 40_000)

    def test_with_noise_signs_may_sum_to_zero(self) -> None:
        evidence = draw_evidence(np.random.default_rng(0), 10_000, 98, 0.01)
        share = (np.sign(evidence).sum(axis=1) == 0).mean()
        expected = math.comb(98, 49) / 2**98
        assert expected == pytest.approx(0.08, abs=0.001)
        assert abs(share - expected) < five_sigma(expected, 10_000)

    def test_an_odd_number_of_signs_is_never_redrawn(self) -> None:
        evidence = draw_evidence(np.random.default_rng(5), 100, 3, 0.0)
        signs = 2.0 * np.random.default_rng(5).integers(0, 2, (100, 3)) - 1.0
        assert np.array_equal(evidence, signs)

    @pytest.mark.parametrize("redraws", [0, 1])
    def test_no_tie_is_left_when_the_redraws_end(self, monkeypatch: pytest.MonkeyPatch, redraws: int) -> None:
        monkeypatch.setattr(contextual, "_REDRAWS", redraws)
        evidence = draw_evidence(np.random.default_rng(0), 500, 2, 0.0)
        assert {tuple(row) for row in evidence.tolist()} == {(1.0, 1.0), (-1.0, -1.0)}


class TestMante:
    def test_attributes(self) -> None:
        data = ContextualIntegration(**MANTE)
        assert (data.input_size, data.output_size) == (4, 1)
        assert (data.objective, data.target_step, data.criterion) == ("regression", "every", "sign")
        assert data.period_steps == {"fixation": 5, "context": 17, "stimulus": 40, "delay": 5, "decision": 1}
        assert data.steps == 68
        assert data.group_names == ["first stream", "second stream"]
        assert data.phase_names == ["fixation", "context", "stimulus", "delay", "decision"]
        batch = data.build("train")
        assert batch.inputs.dtype == batch.targets.dtype == torch.float32
        assert (batch.lengths == 68).all()

    @pytest.mark.parametrize(
        ("options", "periods"),
        [
            ({}, (5, 17, 40, 5, 1)),
            ({"dt": 10}, (10, 35, 80, 10, 2)),
            ({"dt": 1, "durations": [0, 0, 1, 0, 1]}, (0, 0, 1, 0, 1)),
            ({"dt": 20, "durations": [30, 0, 70, 19, 60], "coherences": [1.0]}, (1, 0, 3, 0, 3)),
        ],
    )
    def test_each_trial_step_by_step_without_noise(self, options, periods) -> None:
        data = ContextualIntegration(**MANTE, noise=0.0, train_size=50, **options)
        batch = data.build("train")
        fixation, cue, stimulus, delay, decision = periods
        for i in range(50):
            group = int(batch.group[i])
            context = [float(group == 0), float(group == 1)]
            shown = batch.inputs[i, fixation + cue, 2:].tolist()
            assert {round(abs(value), 6) for value in shown} <= set(options.get("coherences", [0.1, 0.2, 0.4]))
            assert batch.inputs[i].tolist() == (
                [[0.0] * 4] * fixation
                + [[*context, 0.0, 0.0]] * cue
                + [[*context, *shown]] * stimulus
                + [[*context, 0.0, 0.0]] * delay
                + [[0.0] * 4] * decision
            )
            before = sum(periods) - decision
            answer = 1.0 if shown[group] > 0 else -1.0
            assert batch.targets[i, :, 0].tolist() == [0.0] * before + [answer] * decision
            assert batch.mask[i].tolist() == [0.0] * before + [1.0] * decision
            assert batch.phase[i].tolist() == [phase for phase in range(5) for _ in range(periods[phase])]

    def test_every_pair_of_coherences_in_either_context_is_equally_likely(self) -> None:
        size = 72_000
        data = ContextualIntegration(**MANTE, noise=0.0, durations=[0, 0, 1, 0, 1], dt=1, train_size=size)
        batch = data.build("train")
        trials = torch.cat([batch.inputs[:, 0, 2:], batch.group[:, None]], dim=1)
        counts = trials.unique(dim=0, return_counts=True)[1]
        assert len(counts) == 6 * 6 * 2
        assert (counts / size - 1 / 72).abs().max() < five_sigma(1 / 72, size)

    def test_noise_is_on_both_streams_at_every_step_and_nowhere_else(self) -> None:
        data = ContextualIntegration(**MANTE, train_size=500)
        inputs = data.build("train").inputs
        assert set(inputs[..., :2].unique().tolist()) == {0.0, 1.0}
        streams = inputs[..., 2:]
        silent = torch.cat([streams[:, :22], streams[:, 62:]], dim=1)
        spread = streams[:, 22:62] - streams[:, 22:62].mean(1, keepdim=True)
        assert (silent.std((0, 1)) - 0.1).abs().max() < 0.002
        assert (spread.std((0, 1)) - 0.1 * math.sqrt(39 / 40)).abs().max() < 0.002
        assert abs(float(silent.mean())) < 5 * 0.1 / math.sqrt(silent.numel())
        assert abs(float((streams[..., 0] * streams[..., 1])[:, :22].mean())) < 5 * 0.01 / math.sqrt(500 * 22)
