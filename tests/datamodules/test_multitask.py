"""The suites of tasks, each trial decoded from its inputs and solved by a statement of the task in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_alrnn.batch import SequenceBatch, valid_steps
from lightning_alrnn.datamodules import MultiTask, multitask_yang19
from lightning_alrnn.datamodules.base import SPLITS

ELEVEN = [
    "DelayPro", "DelayAnti", "ReactPro", "ReactAnti", "CatPro", "CatAnti", "Match2Sample", "NonMatch2Sample",
    "CtxIntMod1", "CtxIntMod2", "GoNogo",
]  # fmt: skip
YANG19 = [
    "Go", "RTGo", "DlyGo", "Anti", "RTAnti", "DlyAnti", "DM1", "DM2", "CtxDM1", "CtxDM2", "MultiDM", "DlyDM1", "DlyDM2",
    "CtxDlyDM1", "CtxDlyDM2", "MultiDlyDM", "DMS", "DNMS", "DMC", "DNMC",
]  # fmt: skip
SUITES = {"eleven": ELEVEN, "yang19": YANG19}


def runs(inputs: np.ndarray) -> list[np.ndarray]:
    """The values of the runs of equal rows of ``(time, K)``, without those that are zero."""
    starts = [0, *(np.flatnonzero((inputs[1:] != inputs[:-1]).any(axis=1)) + 1)]
    return [inputs[start] for start in starts if inputs[start].any()]


def angle_of(vector: np.ndarray) -> float:
    return math.atan2(vector[1], vector[0]) % (2 * math.pi)


def apart(a: float, b: float) -> float:
    """The angle between two directions, 0 … π."""
    return abs((a - b + math.pi) % (2 * math.pi) - math.pi)


RANGES = {
    "simple": (range(5, 10), range(10, 15), range(10, 15), range(5, 10)),
    "hard": (range(10, 20), range(10, 40), range(20, 50), range(10, 20)),
}


def eleven_periods(name: str, durations: str) -> list[range]:
    context, stimulus, delay, response = RANGES[durations]
    none = range(1)
    if name.startswith("React"):
        return [context, none, none, none, none, stimulus]
    if name.endswith("2Sample"):
        return [context, stimulus, delay, stimulus, range(5, 15), response]
    if name.startswith("CtxInt"):
        return [context, stimulus, range(10, 20), stimulus, none, response]
    return [context, stimulus, delay, none, none, response]


@cache
def eleven(durations: str) -> SequenceBatch:
    return MultiTask(durations=durations, loss="response", train_size=3000).build("train")  # type: ignore[arg-type]


def rows_of(batch: SequenceBatch, task: int) -> SequenceBatch:
    return SequenceBatch(*(field[batch.group == task] for field in batch))  # type: ignore[index]


def check_order(batch: SequenceBatch) -> None:
    """Phases follow each other in their order, up to the end of each trial."""
    valid = batch.phase >= 0
    assert torch.equal(valid, valid_steps(batch.lengths, valid.shape[1]))
    assert (batch.phase.diff(dim=1)[valid[:, 1:]] >= 0).all()
    assert batch.phase.dtype == torch.int64


def trials_of(batch: SequenceBatch, task: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of each trial of a task, up to its end."""
    rows = rows_of(batch, task)
    assert len(rows.inputs) > 20
    fields = zip(rows.inputs.numpy(), rows.targets.numpy(), rows.lengths.tolist(), strict=True)
    return [(inputs[:length], targets[:length]) for inputs, targets, length in fields]


@pytest.mark.parametrize("durations", ["simple", "hard"])
@pytest.mark.parametrize("name", ELEVEN)
class TestEleven:
    def test_layout(self, name: str, durations: str) -> None:
        """Periods, the channels of fixation, stimulus, rule and identity, and the steps of the loss."""
        batch = rows_of(eleven(durations), ELEVEN.index(name))
        inputs, phase, valid, go = batch.inputs, batch.phase, batch.phase >= 0, batch.phase == 5
        check_order(batch)
        for period, allowed in enumerate(eleven_periods(name, durations)):
            steps = (phase == period).sum(dim=1)
            assert set(steps.tolist()) <= set(allowed)
            if durations == "simple":  # else there are too few trials for each duration
                assert len(steps.unique()) == len(allowed)
            assert steps.min() < allowed[0] + 4
            assert steps.max() > allowed[-1] - 4
        assert (inputs[..., 7:] == valid[..., None] * torch.eye(11)[ELEVEN.index(name)]).all()
        contextual = name.startswith("CtxInt")
        second = name in ("DelayAnti", "ReactAnti", "CatAnti", "NonMatch2Sample", "CtxIntMod2")
        rules = inputs[..., 5:7] if contextual else inputs[..., 3:5]
        assert (rules == valid[..., None] * torch.tensor([not second, second])).all()
        assert contextual or not inputs[..., 5:7].any()
        assert torch.equal(inputs[..., 0], (valid & ~go).float())
        assert torch.equal(batch.mask, go.float())
        stimulus = inputs[..., 1:5] if contextual else inputs[..., 1:3]
        assert torch.equal(stimulus.any(dim=2), (phase == 1) | (phase == 3) | (go & name.startswith("React")))

    def test_answer(self, name: str, durations: str) -> None:
        """The target is the answer to what was shown, during the whole response, and fixation before it."""
        batch = rows_of(eleven(durations), ELEVEN.index(name))
        trial, phase, go = torch.arange(len(batch.inputs)), batch.phase, batch.phase == 5
        first, second = (batch.inputs[trial, (phase == period).int().argmax(dim=1), 1:5].double() for period in (1, 3))
        if name.startswith("React"):
            first = batch.inputs[trial, go.int().argmax(dim=1), 1:5].double()
        contextual = name.startswith("CtxInt")
        shown = batch.inputs[..., 1 : 5 if contextual else 3]
        for period, stimulus in ((1, first), (3, first if contextual else second)):  # constant in each period
            on = phase == period
            assert torch.equal(shown[on], stimulus.float()[:, None, : shown.shape[2]].expand_as(shown)[on])
        size, other_size = first[:, :2].norm(dim=1), first[:, 2:].norm(dim=1)
        theta, other, again = (torch.atan2(v[:, 1], v[:, 0]) for v in (first, first[:, 2:], second))
        sizes = {"CtxIntMod1": (0.8, 0.3), "CtxIntMod2": (0.3, 0.8)}.get(name, (1.0, 0.0))
        if name != "GoNogo":
            assert size.numpy() == pytest.approx(sizes[0], abs=1e-6)
        if contextual:
            assert other_size.numpy() == pytest.approx(sizes[1], abs=1e-6)
        expected, one, share = theta, None, 0.5
        if name in ("DelayAnti", "ReactAnti"):
            expected = theta + math.pi
        elif name.startswith("Cat"):
            one = (theta % (2 * math.pi) < math.pi) == (name == "CatPro")
        elif name.endswith("2Sample"):
            assert second[:, :2].norm(dim=1).numpy() == pytest.approx(1, abs=1e-6)
            apart = ((again - theta + math.pi) % (2 * math.pi) - math.pi).abs()
            assert ((apart <= math.pi / 8 + 1e-6) | (apart >= math.pi / 4 - 1e-6)).all()
            one = (apart < 0.6) == (name == "Match2Sample")
            assert abs(int(one.sum()) - int((~one).sum())) <= 3  # in each of three chunks, one at most
        elif name == "CtxIntMod2":
            expected = other
        elif name == "GoNogo":
            assert size.min() >= 0.2
            assert size.max() <= 1
            one, share = size > 0.5, 0.625
        if one is not None:
            expected = torch.where(one, 0.0, math.pi)
            assert float(one.float().mean()) == pytest.approx(share, abs=0.1)
        answer = torch.stack([torch.zeros(len(trial)), expected.cos(), expected.sin()], dim=1).double()
        if name == "GoNogo":
            answer[~one] = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        targets = torch.where(go[..., None], answer[:, None], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
        torch.testing.assert_close(batch.targets, (targets * (phase >= 0)[..., None]).float(), atol=1e-6, rtol=0)


QUARTILES = (0, 0.25, 0.5, 0.75, 1)


class TestElevenDistributions:
    def test_angles_are_uniform_and_independent(self) -> None:
        batch = MultiTask(tasks=["CtxIntMod1"], train_size=10_000).build("train")
        first = batch.inputs[:, 10]  # at step 10 the first stimulus is on, whatever the durations
        angles = torch.atan2(first[:, [2, 4]], first[:, [1, 3]])
        for quantity in (angles[:, 0], angles[:, 1], angles[:, 0] - angles[:, 1]):
            for harmonic in (1, 2, 3):
                assert float(torch.exp(1j * harmonic * quantity).mean().abs()) < 0.05

    def test_amplitudes_of_gonogo_are_uniform(self) -> None:
        size = MultiTask(tasks=["GoNogo"], train_size=20_000).build("train").inputs[:, 10, 1:3].norm(dim=-1)
        assert np.quantile(size, QUARTILES) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=0.02)

    @pytest.mark.parametrize(("match", "low", "high"), [(True, -math.pi / 8, math.pi / 8), (False, 0.785, 5.498)])
    def test_offsets_are_uniform(self, match: bool, low: float, high: float) -> None:
        batch = MultiTask(tasks=["Match2Sample"], train_size=8_000).build("train")
        offsets = []
        for inputs in batch.inputs[(batch.targets[:, 1] > 0) == match].numpy():
            first, second = runs(inputs[:, 1:3])
            offsets.append((angle_of(second) - angle_of(first) - low) % (2 * math.pi) + low)
        assert len(offsets) == pytest.approx(4000, abs=8)
        expected = [low + share * (high - low) for share in QUARTILES]
        assert np.quantile(offsets, QUARTILES) == pytest.approx(expected, abs=0.05 * (high - low))


class TestLoss:
    def test_last_is_the_response_at_each_trials_own_end(self) -> None:
        every, last = (MultiTask(loss=loss, val_size=300).build("val") for loss in ("response", "last"))  # type: ignore[arg-type]
        assert torch.equal(every.inputs, last.inputs)
        assert torch.equal(every.lengths, last.lengths)
        assert torch.equal(every.group, last.group)
        end = every.lengths - 1
        trial = torch.arange(300)
        assert torch.equal(every.targets[trial, end], last.targets)
        assert (every.mask[trial, end] == 1).all()
        assert last.mask is None
        assert len(end.unique()) > 20

    @pytest.mark.parametrize(
        ("options", "longest"),
        [
            ({"tasks": ["ReactPro"]}, 23),
            ({"tasks": ["GoNogo", "CatPro"]}, 46),
            ({"tasks": ["CtxIntMod1"]}, 65),
            ({"durations": "hard", "tasks": ["Match2Sample"]}, 179),
            ({"suite": "yang19"}, 209),
            ({"suite": "yang19", "tasks": ["RTGo"]}, 124 + 25),  # fixation 2480 ms at most, and the response
        ],
    )
    def test_time_is_that_of_the_longest_possible_trial(self, options: dict[str, Any], longest: int) -> None:
        batch = MultiTask(**options, train_size=2_000).build("train")
        assert batch.inputs.shape[1] == longest
        assert 0.9 * longest <= int(batch.lengths.max()) <= longest


def steps_between(low: int, high: int) -> set[int]:
    return {int(ms / 20) for ms in np.arange(low, high, 0.5)}


def steps_of(*options: int) -> set[int]:
    return {ms // 20 for ms in options}


SHORT, DELAY = steps_of(200, 400, 600), steps_of(200, 400, 800, 1600)
YANG19_PERIODS = {
    "Go Anti": [steps_between(300, 700), steps_between(500, 1500)],
    "RTGo RTAnti": [steps_between(500, 2500)],
    "DlyGo DlyAnti": [steps_of(300, 500, 700), SHORT, DELAY],
    "DM1 DM2 CtxDM1 CtxDM2 MultiDM": [steps_between(100, 400), steps_of(400, 800, 1600)],
    "DlyDM1 DlyDM2 CtxDlyDM1 CtxDlyDM2 MultiDlyDM": [SHORT, SHORT, DELAY, SHORT, steps_between(100, 300)],
    "DMS DNMS DMC DNMC": [SHORT, SHORT, DELAY],
}
MARKS = np.arange(32) * 2 * math.pi / 32


@pytest.fixture(scope="module")
def yang() -> SequenceBatch:
    """Trials without the noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multitask_yang19, "NOISE", 0.0)
        return MultiTask(suite="yang19", train_size=2048).build("train")


class Bump(NamedTuple):
    angle: float
    strength: float


def bumps(ring: np.ndarray) -> list[Bump]:
    """The bumps on a ring, from the three units around each peak: the logarithm of a Gaussian is a parabola."""
    peaks = []
    for unit in range(32):
        left, here, right = (math.log(max(float(ring[(unit + step) % 32]), 1e-30)) for step in (-1, 0, 1))
        if ring[unit] > 0.1 and left < here >= right:
            curvature, slope = left - 2 * here + right, (right - left) / 2
            shift = -slope / curvature
            height = here - slope**2 / (2 * curvature)
            peaks.append(Bump((unit + shift) * 2 * math.pi / 32 % (2 * math.pi), math.exp(height) / 0.8))
    return peaks


def nearest(choices: list[Bump], angle: float) -> Bump:
    return min(choices, key=lambda bump: apart(bump.angle, angle))


Shown = tuple[list[Bump], list[Bump]]
"""The bumps of a period with stimuli, in each of the two modalities."""


def pair(shown: list[Shown], modality: int) -> tuple[Bump, Bump]:
    """The two stimuli of a decision task in a modality, shown together or one after the other."""
    rings = [part[modality] for part in shown]
    first, second = rings[0] if len(rings) == 1 else (rings[0][0], rings[1][0])
    return first, second


def only(shown: Shown) -> tuple[int, Bump]:
    """The modality and the bump of a stimulus in one modality."""
    ((modality, ring),) = ((m, ring) for m, ring in enumerate(shown) if ring)
    (bump,) = ring
    return modality, bump


@pytest.mark.parametrize("name", YANG19)
class TestYang19:
    def test_layout(self, name: str, yang: SequenceBatch) -> None:
        """Periods, the channels of fixation, stimulus and rule, targets, and the weights of the loss."""
        batch = rows_of(yang, YANG19.index(name))
        phase, valid, go = batch.phase, batch.phase >= 0, batch.phase == 5
        check_order(batch)
        (allowed,) = [periods for names, periods in YANG19_PERIODS.items() if name in names.split()]
        allowed = [*allowed, *[{0}] * (5 - len(allowed)), {25}]
        for period, options in enumerate(allowed):
            steps = set((phase == period).sum(dim=1).tolist())
            assert steps <= options
            assert steps == options or len(options) >= 16  # too few trials for each
        assert (batch.inputs[..., 65:] == valid[..., None] * torch.eye(20)[YANG19.index(name)]).all()
        assert torch.equal(batch.inputs[..., 0], (valid & (~go | name.startswith("RT"))).float())
        lasting = name in ("Go", "Anti", "RTGo", "RTAnti", "DMS", "DNMS", "DMC", "DNMC")
        assert torch.equal(batch.inputs[..., 1:65].any(dim=2), (phase == 1) | (phase == 3) | (go & lasting))
        step, start = torch.arange(phase.shape[1]), batch.lengths[:, None] - 25
        weight = torch.where(step < start, 1.0 * (step >= 5), 5.0 * (step >= start + 5)) * valid
        assert torch.equal(batch.mask, weight[..., None] * torch.tensor([2.0] + [1.0] * 32))
        assert (batch.targets[valid & ~go] == torch.tensor([0.8] + [0.05] * 32)).all()
        assert not batch.targets[~valid].any()
        last = batch.targets[torch.arange(len(start)), batch.lengths - 1]
        assert (batch.targets == last[:, None])[go].all()

    def test_answer(self, name: str, yang: SequenceBatch) -> None:
        """Places and strengths are as said, and the target is the answer to them."""
        outcomes: Counter[Any] = Counter()
        coherences = {0.08, 0.16, 0.32} if "Dly" in name else {0.01, 0.02, 0.04, 0.08}
        used = set()
        for inputs, targets in trials_of(yang, YANG19.index(name)):
            shown = [(bumps(values[:32]), bumps(values[32:])) for values in runs(inputs[:, 1:65])]
            respond: float | None
            if name.endswith(("Go", "Anti")):
                modality, bump = only(shown[0])
                assert bump.strength == pytest.approx(1, abs=1e-4)
                respond = bump.angle + (math.pi if name.endswith("Anti") else 0)
                outcomes[modality] += 1
            elif name in ("DMS", "DNMS", "DMC", "DNMC"):
                (first_modality, first), (second_modality, second) = only(shown[0]), only(shown[1])
                assert (first.strength, second.strength) == pytest.approx((1, 1), abs=1e-4)
                distance = apart(first.angle, second.angle)
                if name.endswith("S"):
                    match = distance < 1e-3
                    assert match or distance > math.pi / 9 - 1e-3
                else:
                    for bump in (first, second):
                        place = bump.angle / (0.2 * math.pi) - 0.5
                        assert place == pytest.approx(round(place), abs=1e-3)
                    match = (first.angle < math.pi) == (second.angle < math.pi)
                respond = second.angle if match == (name in ("DMS", "DMC")) else None
                outcomes[match] += 1
                outcomes["modalities", first_modality, second_modality] += 1
            else:
                means = []
                for modality in (0, 1):
                    if "Ctx" not in name and "Multi" not in name and not name.endswith(str(modality + 1)):
                        assert not any(part[modality] for part in shown)
                        continue
                    stimuli = pair(shown, modality)
                    assert apart(stimuli[0].angle, stimuli[1].angle) > math.pi / 2 - 1e-2
                    means.append([bump.strength for bump in stimuli])
                    if name.endswith(str(modality + 1)):
                        relevant = stimuli
                if "Multi" in name:
                    left, right = pair(shown, 0)
                    others = pair(shown, 1)
                    for bump in (left, right):
                        other = nearest(list(others), bump.angle)
                        assert apart(bump.angle, other.angle) < 1e-2
                        share = abs(bump.strength - other.strength) / (bump.strength + other.strength)
                        assert 0.1 - 5e-3 < share < 0.4 + 5e-3
                    relevant = tuple(
                        Bump(b.angle, (b.strength + nearest(list(others), b.angle).strength) / 2) for b in (left, right)
                    )
                    means = [[bump.strength for bump in relevant]]
                elif "Ctx" in name:  # the same places in both modalities
                    for one, two in zip(pair(shown, 0), pair(shown, 1), strict=True):
                        assert apart(one.angle, two.angle) < 1e-2
                for one, two in means:
                    assert 0.8 - 1e-3 < (one + two) / 2 < 1.2 + 1e-3
                    coherence = min(coherences, key=lambda c: abs(c - abs(one - two) / 2))
                    assert abs(one - two) / 2 == pytest.approx(coherence, abs=1e-3)
                    used.add(coherence)
                respond = max(relevant, key=lambda bump: bump.strength).angle
                outcomes[relevant[0].strength > relevant[1].strength] += 1
            target = targets[-1]
            assert target[0] == pytest.approx(0.8 if respond is None else 0.05)
            expected = [0.05] * 32
            if respond is not None:
                expected = [0.05 + 0.8 * math.exp(-0.5 * (apart(respond, mark) / (math.pi / 8)) ** 2) for mark in MARKS]
            np.testing.assert_allclose(target[1:], expected, atol=0.01)
        if "DM" in name and not name.startswith(("DMS", "DNMS", "DMC", "DNMC")):
            assert used == coherences
        for outcome in (True, False):
            assert outcomes[outcome] / (outcomes[True] + outcomes[False]) == pytest.approx(0.5, abs=0.2)
        if name in ("DMS", "DNMS", "DMC", "DNMC"):
            assert abs(outcomes[True] - outcomes[False]) <= 2  # in each of two chunks, one at most
            assert sum(isinstance(key, tuple) for key in outcomes) == 4  # any two modalities


def test_noise_is_on_all_inputs_of_valid_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = MultiTask(suite="yang19", val_size=400).build("val")
    monkeypatch.setattr(multitask_yang19, "NOISE", 0.0)
    clean = MultiTask(suite="yang19", val_size=400).build("val")
    assert torch.equal(noisy.targets, clean.targets)
    valid = torch.arange(209) < noisy.lengths[:, None]
    assert not noisy.inputs[~valid].any()
    noise = (noisy.inputs - clean.inputs)[valid]
    deviation = 0.01 * math.sqrt(2 / 0.2)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(noise.std(0), torch.full((85,), deviation), rtol=0.03, atol=0)
    correlation = torch.corrcoef(torch.cat([noise[:-1, :5], noise[1:, :5]], dim=1).T) - torch.eye(10)
    assert float(correlation.abs().max()) < 0.03


@pytest.mark.parametrize(
    ("options", "step", "sizes", "criterion"),
    [
        ({"durations": "hard"}, "last", (18, 3), "direction"),
        ({"loss": "padded_last", "lenient_nogo": True}, "last", (18, 3), "direction_lenient"),
        ({"loss": "response"}, "every", (18, 3), "direction"),
        ({"suite": "yang19"}, "every", (85, 33), "ring"),
    ],
)
def test_attributes(options: dict[str, Any], step: str, sizes: tuple[int, int], criterion: str) -> None:
    data = MultiTask(**options, test_size=5)
    assert data.criterion == criterion
    assert (data.input_size, data.output_size, data.objective, data.target_step) == (*sizes, "regression", step)
    assert data.group_names == SUITES[data.suite]
    batch = data.build("test")
    assert batch.inputs.dtype == batch.targets.dtype == torch.float32
    assert batch.lengths.dtype == batch.group.dtype == torch.int64
    assert batch.targets.shape == ((5, sizes[1]) if step == "last" else (5, batch.inputs.shape[1], sizes[1]))
    if batch.mask is not None:
        assert batch.mask.dtype == torch.float32
        assert batch.mask.shape == batch.targets.shape[: 3 if data.suite == "yang19" else 2]
    if data.loss == "padded_last":
        assert (batch.lengths == batch.inputs.shape[1]).all()
        assert ((batch.phase >= 0) == (batch.inputs != 0).any(dim=2)).all()


@settings(max_examples=12, deadline=None)
@given(data=st.data(), suite=st.sampled_from(["eleven", "yang19"]), seed=st.integers(0, 2**40))
def test_chosen_tasks_are_balanced_and_keep_their_channels(data: st.DataObject, suite: str, seed: int) -> None:
    names = SUITES[suite]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    module = MultiTask(suite=suite, tasks=chosen, val_size=1024, seed=seed)  # type: ignore[arg-type]
    assert module.group_names == sorted(chosen, key=names.index)
    batch = module.build("val")
    counts = torch.bincount(batch.group, minlength=len(chosen))
    assert len(counts) == len(chosen)
    assert int(counts.max() - counts.min()) <= 2
    task = batch.inputs[:, 0, -len(names) :].argmax(-1)
    assert [names[index] for index in task] == [module.group_names[index] for index in batch.group]


@pytest.mark.parametrize("suite", SUITES)
def test_tasks_come_in_random_order(suite: str) -> None:
    group = MultiTask(suite=suite, train_size=1024).build("train").group.double()  # type: ignore[arg-type]
    following = torch.corrcoef(torch.stack([group[:-1], group[1:]]))[0, 1]
    assert abs(float(following)) < 0.15
    assert torch.bincount(group[:256].long(), minlength=len(SUITES[suite])).min() > 2


@pytest.mark.parametrize("suite", SUITES)
def test_training_is_drawn_anew_and_the_rest_is_fixed(suite: str) -> None:
    sizes = {"train_size": 6, "val_size": 6, "test_size": 6}
    data = MultiTask(suite=suite, batch_size=6, **sizes)  # type: ignore[arg-type]
    batches = [data.build(split) for split in SPLITS] + [data.build_epoch(epoch) for epoch in (1, 2)]
    batches.append(MultiTask(suite=suite, seed=1, **sizes).build("train"))  # type: ignore[arg-type]
    trials = {trial.numpy().tobytes() for batch in batches for trial in batch.inputs}
    assert len(trials) == 36
    for field, other in zip(data.build("train"), data.build_epoch(0), strict=True):
        assert field is None or torch.equal(field, other)
    loader = data.train_dataloader()
    for epoch in range(3):
        (batch,) = loader
        seen = {trial.numpy().tobytes() for trial in batch.inputs}
        assert seen == {trial.numpy().tobytes() for trial in data.build_epoch(epoch).inputs}
    first, again = (next(iter(data.val_dataloader())) for _ in range(2))
    assert torch.equal(first.inputs, again.inputs)


def test_training_trials_of_every_epoch_are_those_of_the_first_where_asked() -> None:
    for new in (True, False):
        data = MultiTask(new_each_epoch=new, train_size=20)
        assert torch.equal(data.build_epoch(0).inputs, data.build_epoch(1).inputs) is not new
        data.setup("fit")
        assert ("new in each epoch" in data.describe()) is new
