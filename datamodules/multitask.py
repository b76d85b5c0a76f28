"""Suites of cognitive tasks for one network."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules import multitask_eleven, multitask_yang19
from lightning_alrnn.datamodules.base import SequenceDataModule, check_choice, check_size, draw_trials
from lightning_alrnn.datamodules.multitask_eleven import Durations

Suite = Literal["eleven", "yang19"]
LossStep = Literal["last", "padded_last", "response"]

_SUITES = {"eleven": multitask_eleven, "yang19": multitask_yang19}


class MultiTask(SequenceDataModule):
    r"""One network, many cognitive tasks: a suite of eleven tasks, or the twenty of Yang et al. 2019.

    Trials of all tasks are mixed in every batch. The tasks are balanced: of each 1,024 trials drawn, any two tasks have
    the same number ±2, and within a task half the trials match (±1). Training trials are drawn anew each epoch,
    validation and test trials are fixed.

    **"eleven"**: 7 + 11 inputs, 3 outputs (fixation, cos, sin). Channel 0 is the fixation cue, channels 1–2 the
    stimulus (cos θ, sin θ) with θ ~ U(0, 2π), 3–4 the rule (pro or match in 3, anti or non-match in 4, GoNogo in 3),
    7–17 the task, one-hot. The CtxInt tasks have a second modality in 3–4 and their rules in 5–6. Rule and task are
    on at every step, fixation until the response. Periods are context, stimulus, delay, response unless said
    otherwise, and no stimulus is on after its own period:

    ====================  ==========================================================================================
    task                  what to respond
    ====================  ==========================================================================================
    Delay Pro, Anti       the direction θ, or θ+π
    React Pro, Anti       the same at once: context, then the stimulus is the response period and has its duration
    Cat Pro, Anti         0 if θ < π, else π; Anti: swapped
    (Non)Match2Sample     context, stimulus, delay, stimulus, delay of 5–14 steps, response: 0 if the second stimulus
                          lies within ±π/8 of the first, π if it is π/4 … 2π−π/4 further; NonMatch: swapped
    CtxInt Mod1, Mod2     context, stimulus, delay of 10–19 steps, the same stimulus, response: θ of the relevant
                          modality (amplitude 0.8; the other, of an independent θ, has 0.3)
    GoNogo                amplitude U(0.2, 1), any θ: the direction 0 if the amplitude is over 0.5 (5/8 of the
                          trials), else go on fixating
    ====================  ==========================================================================================

    The target is (0, cos, sin) of the direction to respond, and (1, 0, 0) for a no-go. Steps of context, stimulus,
    delay and response: "simple" 5–9, 10–14, 10–14, 5–9; "hard" 10–19, 10–39, 20–49, 10–19.

    **"yang19"**: 1 + 2 × 32 + 20 inputs (fixation, two modalities of ring units, rules), 33 outputs (fixation, ring);
    20 ms a step. Ring unit i prefers 2πi/32; a stimulus adds strength · 0.8 exp(−½ (Δθ/(π/8))²), of strength 1 and in a
    random one of the two modalities unless said otherwise. All inputs have Gaussian noise of standard deviation
    0.01 √(2/α), α = 0.2. The fixation cue is on until go, in the RT tasks throughout; the rule at every step. From go
    on, the ring's target is a bump of 0.8 upon the baseline 0.05, and fixation falls from 0.8 to 0.05; a trial without
    a response goes on fixating. Durations are in ms, those in braces equally likely; the response always takes 500:

    =====================  =========================================================================================
    task                   periods and answer
    =====================  =========================================================================================
    Go, Anti               fixation U(300,700), stimulus U(500,1500) and during the response: θ, or θ+π
    RTGo, RTAnti           fixation U(500,2500), then stimulus and response at once
    DlyGo, DlyAnti         fixation {300,500,700}, stimulus {200,400,600}, delay {200,400,800,1600}
    DM1, DM2               fixation U(100,400), two stimuli {400,800,1600} U(π/2, 3π/2) apart in modality 1 (2), of
                           strengths m ± c, m ~ U(0.8,1.2), c from {.01,.02,.04,.08}: the stronger
    CtxDM1, CtxDM2         the same in both modalities at the same places, m and c of their own: that of modality 1 (2)
    MultiDM                the stronger on average; modality 1 has s (1+d), modality 2 s (1−d) of a stimulus' strength
                           s = m ± c, with d = ±U(0.1,0.4)
    DlyDM1 … MultiDlyDM    fixation and stimulus {200,400,600}, delay as above, second stimulus {200,400,600}, delay
                           U(100,300); c from {.08,.16,.32}
    DMS, DNMS              fixation and stimulus {200,400,600}, delay as above, second stimulus with the response: its
                           θ if it equals the first (DNMS: differs, by π/9 … 17π/9), else fixate
    DMC, DNMC              the same for the category θ < π; places {.1, .3, … 1.9} π
    =====================  =========================================================================================

    The loss counts every step and output with the weight 0 for the first 100 ms, 1 until go, 0 for 100 ms and 5 from
    then on, twice that for fixation.

    Args:
        suite: "eleven" or "yang19".
        tasks: names of the tasks to draw; ``None`` for all. The inputs have a channel for every task of the suite
            either way, so a network trained on all can be tested on some.
        durations: "simple" or "hard"; suite "eleven" only.
        loss: which steps are learned: "last" (each trial's own last), "padded_last" (step T, as in the AL-RNN paper's
            code: zeros follow a shorter trial, through which the answer is to be kept) or "response" (all steps of the
            response); suite "eleven" only.
        lenient_nogo: count a no-go as correct if the output points to within 30° of 0, as the AL-RNN paper's code does,
            and not if the fixation output is over 0.5; suite "eleven" only.
        train_size: number of training trials an epoch.
        val_size: number of validation trials.
        test_size: number of test trials.
        batch_size: sequences a step, on each process.
        num_workers: worker processes of each loader.
        seed: seed of the data.

    Attributes:
        criterion: "direction", "direction_lenient" or "ring", when a trial counts as correct.

    Shapes:
        inputs ``(batch, T, 18)`` or ``(batch, T, 85)``; T is the longest that a trial of the chosen tasks can take,
        whatever was drawn, so that a trial does not depend on the others. Regression; targets ``(batch, 3)`` at the
        last step, ``(batch, T, 3)`` with mask ``(batch, T)`` under ``loss="response"``, or ``(batch, T, 33)`` with
        mask ``(batch, T, 33)``. ``group`` is the task, named in ``group_names``. ``phase`` ``(batch, T)`` is the
        period: context ("yang19": fixation), stimulus, delay, second stimulus, second delay or response. Steps of the
        response are response also where a stimulus is on.

    Raises:
        ValueError: if an option is out of range or does not belong to the suite.

    Example:
        >>> data = MultiTask(val_size=6)
        >>> batch = data.build("val")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([6, 74, 18]), torch.Size([6, 3]))
        >>> MultiTask(suite="yang19", tasks=["Go", "DMS"]).group_names
        ['Go', 'DMS']

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); Yang, Joglekar, Song, Newsome & Wang, "Task representations in
        neural networks trained to perform many cognitive tasks", Nature Neuroscience 22 (2019). Yang et al. square the
        weights of the loss in their code; here they count as in their paper.
    """

    objective = "regression"

    def __init__(
        self,
        suite: Suite = "eleven",
        tasks: list[str] | None = None,
        durations: Durations = "simple",
        loss: LossStep = "last",
        lenient_nogo: bool = False,
        train_size: int = 5_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_choice("suite", suite, Suite)
        check_choice("durations", durations, Durations)
        check_choice("loss", loss, LossStep)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        for split, size in self.sizes.items():
            check_size(f"{split}_size", size)
        if suite == "yang19":
            for name, given, default in (
                ("durations", durations, "simple"),
                ("loss", loss, "last"),
                ("lenient_nogo", lenient_nogo, False),
            ):
                if given != default:
                    raise ValueError(
                        f"{name} is an option of suite 'eleven', got {name}={given!r} with suite 'yang19', "
                        "whose trials and loss are fixed: leave it out"
                    )
        self._chosen = _indices(tasks, suite)
        self.suite = suite
        self.durations: Durations = durations
        self.loss = loss
        self.group_names = [_SUITES[suite].TASKS[index] for index in self._chosen]
        self.phase_names = list(_SUITES[suite].PERIODS)
        self.input_size = _SUITES[suite].INPUTS
        self.output_size = _SUITES[suite].OUTPUTS
        self.target_step = "every" if suite == "yang19" or loss == "response" else "last"
        self.criterion = "ring" if suite == "yang19" else "direction_lenient" if lenient_nogo else "direction"
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        return self._build(split, 0)

    def build_epoch(self, epoch: int) -> SequenceBatch:
        return self._build("train", epoch)

    def _build(self, split: Split, epoch: int) -> SequenceBatch:
        inputs, lengths, group, phase, targets, *mask = draw_trials(
            self.sizes[split], self._draw, seed=self.seed, split=split, epoch=epoch
        )
        if self.loss == "padded_last":
            lengths.fill_(inputs.shape[1])
        return SequenceBatch(inputs, targets, lengths, mask[0] if mask else None, group, phase)

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32] | NDArray[np.int64], ...]:
        if self.suite == "eleven":
            trials = multitask_eleven.draw(rng, size, self._chosen, self.durations)
        else:
            trials = multitask_yang19.draw(rng, size, self._chosen)
        common = trials.inputs, trials.lengths, trials.group, trials.period
        if self.target_step == "last":
            return *common, trials.answers
        return *common, trials.targets, trials.mask


def _indices(tasks: list[str] | None, suite: Suite) -> NDArray[np.int64]:
    """The chosen tasks' indices in their suite, in its order."""
    known = _SUITES[suite].TASKS
    if tasks is None:
        return np.arange(len(known))
    if not tasks or not set(tasks) <= set(known) or len(set(tasks)) < len(tasks):
        raise ValueError(
            f"tasks of suite {suite!r} must be one or more of {', '.join(map(repr, known))}, each once, got {tasks}"
        )
    return np.array(sorted(known.index(name) for name in tasks))
