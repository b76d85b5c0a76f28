"""Suites of cognitive tasks for one network."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules import multitask_eleven, multitask_yang19
from lightning_alrnn.datamodules.base import SequenceDataModule, check_choice, check_sizes, draw_trials
from lightning_alrnn.datamodules.multitask_eleven import Durations

Suite = Literal["eleven", "yang19"]
LossStep = Literal["last", "padded_last", "response"]

_SUITES = {"eleven": multitask_eleven, "yang19": multitask_yang19}


class MultiTask(SequenceDataModule):
    """Many cognitive tasks for one network: a suite of eleven tasks, or the twenty of Yang et al. 2019.

    Training trials are drawn anew in each epoch, unless ``new_each_epoch`` is ``False``; validation and test trials are
    fixed. See docs/tasks/multitask.md.

    Args:
        suite: Suite of tasks, "eleven" or "yang19".
        tasks: Names of the tasks to draw; ``None`` for all. The inputs always have a channel for every task.
        durations: Durations of the periods, "simple" or "hard"; for "eleven" only.
        loss: Steps that are learned: "last" (the last step of each trial), "padded_last" (step T, after the zeros that
            follow a shorter trial) or "response" (all steps of the response); for "eleven" only.
        lenient_nogo: Whether a no-go is correct if the output points to within 30° of 0, instead of if the fixation
            output is over 0.5; for "eleven" only.
        equal_amplitudes: Whether both modalities of the CtxInt tasks have the amplitude 0.8. In the paper's form the
            one that counts is always stronger, so the sum of both, without the context, errs by at most 22°; for
            "eleven" only.
        new_each_epoch: Whether training trials are drawn anew in each epoch.
        train_size: Number of training trials in an epoch.
        val_size: Number of validation trials.
        test_size: Number of test trials.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the data.

    Attributes:
        criterion: Rule by which a trial is correct: "direction", "direction_lenient" or "ring".

    Raises:
        ValueError: If an option is out of range or does not belong to the suite.

    Shapes:
        inputs ``(batch, T, 18)``, or ``(batch, T, 85)`` for "yang19", where T is the longest possible trial of the
        tasks; regression; targets ``(batch, 3)`` at the last step, ``(batch, T, 3)`` with mask ``(batch, T)`` for
        ``loss="response"``, or ``(batch, T, 33)`` with mask ``(batch, T, 33)`` for "yang19"; group ``(batch,)`` is the
        task; phase ``(batch, T)``.

    Example:
        >>> batch = MultiTask(val_size=6).build("val")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([6, 74, 18]), torch.Size([6, 3]))
    """

    objective = "regression"

    def __init__(
        self,
        suite: Suite = "eleven",
        tasks: list[str] | None = None,
        durations: Durations = "simple",
        loss: LossStep = "last",
        lenient_nogo: bool = False,
        equal_amplitudes: bool = False,
        new_each_epoch: bool = True,
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
        self.sizes = check_sizes(train_size, val_size, test_size)
        options = {"durations": (durations, "simple"), "loss": (loss, "last"), "lenient_nogo": (lenient_nogo, False)}
        options |= {"equal_amplitudes": (equal_amplitudes, False)}
        for name, (value, default) in options.items():
            if suite == "yang19" and value != default:
                raise ValueError(f"{name} is an option of suite 'eleven', but suite is {suite!r}: leave it out")
        self._chosen = _indices(tasks, suite)
        self.suite = suite
        self.durations: Durations = durations
        self.equal_amplitudes = equal_amplitudes
        self.new_each_epoch = new_each_epoch
        self.loss = loss
        of_suite = _SUITES[suite]
        self.group_names = [of_suite.TASKS[index] for index in self._chosen]
        self.phase_names = list(of_suite.PERIODS)
        self.input_names, self.output_names = list(of_suite.INPUTS), list(of_suite.OUTPUTS)
        self.input_size, self.output_size = len(of_suite.INPUTS), len(of_suite.OUTPUTS)
        self.target_step = "every" if suite == "yang19" or loss == "response" else "last"
        self.criterion = "ring" if suite == "yang19" else "direction_lenient" if lenient_nogo else "direction"
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        return self._build(split, 0)

    def build_epoch(self, epoch: int) -> SequenceBatch:
        return self._build("train", epoch if self.new_each_epoch else 0)

    def _is_new_in_each_epoch(self) -> bool:
        return self.new_each_epoch

    def _build(self, split: Split, epoch: int) -> SequenceBatch:
        inputs, lengths, group, phase, targets, *mask = draw_trials(
            self.sizes[split], self._draw, seed=self.seed, split=split, epoch=epoch
        )
        if self.loss == "padded_last":
            lengths.fill_(inputs.shape[1])
        return SequenceBatch(inputs, targets, lengths, mask[0] if mask else None, group, phase)

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32] | NDArray[np.int64], ...]:
        if self.suite == "eleven":
            trials = multitask_eleven.draw(rng, size, self._chosen, self.durations, self.equal_amplitudes)
        else:
            trials = multitask_yang19.draw(rng, size, self._chosen)
        common = trials.inputs, trials.lengths, trials.group, trials.period
        if self.target_step == "last":
            return *common, trials.answers
        return *common, trials.targets, trials.mask


def _indices(tasks: list[str] | None, suite: Suite) -> NDArray[np.int64]:
    """The indices of the chosen tasks in the suite, in increasing order."""
    suite_tasks = _SUITES[suite].TASKS
    if tasks is None:
        return np.arange(len(suite_tasks))
    if not tasks or not set(tasks) <= set(suite_tasks) or len(set(tasks)) < len(tasks):
        names = ", ".join(map(repr, suite_tasks))
        raise ValueError(f"tasks of suite {suite!r} must be one or more of {names}, each once, got {tasks}")
    return np.array(sorted(suite_tasks.index(name) for name in tasks))
