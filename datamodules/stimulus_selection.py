"""Stimulus selection: which of two sounds counts depends on the rule. Simulated, or recorded in rats."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import NeuralBatch, Objective, SequenceBatch, Split, TargetStep
from lightning_alrnn.datamodules import stimulus_simulator as simulator
from lightning_alrnn.datamodules import stimulus_trials as task
from lightning_alrnn.datamodules.base import (
    SPLITS,
    SequenceDataModule,
    check_choice,
    check_fractions,
    check_size,
    check_sizes,
    draw_trials,
    variant_options,
)
from lightning_alrnn.datamodules.stimulus_archive import read_archive
from lightning_alrnn.datamodules.stimulus_crcns import find_session, read_session

Context = Literal["explicit", "inferred"]

_PHASES = ("hold", "sounds", "response")
_FRACTIONS = {"val_fraction": 0.15, "test_fraction": 0.15}
_SIZES = {"train_size": 1_000, "val_size": 200, "test_size": 200}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "simulated": {"context": "explicit", "units": 29, "bin_ms": 50, "held_out": True, **_SIZES},
    "a session": {"bin_ms": 50, **_FRACTIONS},
    "an archive": _FRACTIONS,
}


class StimulusSelection(SequenceDataModule):
    """Two sounds at the same time, and a rule that says which of them counts.

    The trials and the spikes of a population are simulated, or read from a session of the CRCNS data set pfc-1 or from
    your own archive; see docs/tasks/stimulus_selection.md. An option that is ``None`` takes the default of the source.

    Args:
        source: Source of the trials: "simulated", or the path of a session or an archive of :func:`save_trials`.
        neural: Whether batches have spikes, as :class:`NeuralBatch`.
        context: Presentation of the rule in simulated trials: "explicit" (default) shows it as an input, and "inferred"
            makes one sequence of each block of 80 trials, in which cue trials reveal it.
        units: Number N of simulated units (default 29), for ``neural=True``.
        bin_ms: Width of a time step in ms (default 50), at most 250; not for an archive, which has bins already.
        held_out: Whether no simulated trial of validation or test occurs in another split (default). For each stimulus,
            a tenth of the durations each is held out for them. The blocks of "inferred" are practically never the same,
            so this option has no effect on them.
        train_size: Number of simulated training sequences (default 1,000).
        val_size: Number of simulated validation sequences (default 200).
        test_size: Number of simulated test sequences (default 200).
        val_fraction: Least share of recorded trials for validation (default 0.15).
        test_fraction: Least share of recorded trials for testing (default 0.15).
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the simulation, or of the division of recorded trials into splits.

    Attributes:
        simulated: Whether trials and spikes are simulated.
        num_units: Number N of units, or ``None`` without spikes.
        channel_names: Names of the input channels, or ``None`` for an archive.

    Raises:
        FileNotFoundError: If the source or a file of a session does not exist.
        TypeError: If an archive has Python objects.
        ValueError: If an option is out of range or does not belong to the source, or a file has another form.

    Shapes:
        inputs ``(batch, T, K)`` with K=8 ("inferred": 6); targets ``(batch,)``, classification at the last step
        ("inferred": targets and mask ``(batch, T)``, classification at every step); lengths and group ``(batch,)``;
        spikes ``(batch, T, N)`` for ``neural=True``; phase ``(batch, T)`` without spikes and except for an archive.

    Example:
        >>> batch = StimulusSelection(neural=True, units=12, train_size=6).build("train")
        >>> batch.inputs.shape[2], batch.spikes.shape[2], batch.targets.shape
        (8, 12, torch.Size([6]))
    """

    objective: Objective = "classification"
    criterion: str | None = None

    def __init__(
        self,
        source: str | os.PathLike[str] = "simulated",
        neural: bool = False,
        context: Context | None = None,
        units: int | None = None,
        bin_ms: int | None = None,
        held_out: bool | None = None,
        train_size: int | None = None,
        val_size: int | None = None,
        test_size: int | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        source = os.fspath(source)
        chosen: dict[str, Any] = {"context": context, "units": units, "bin_ms": bin_ms, "held_out": held_out}
        chosen |= {"train_size": train_size, "val_size": val_size, "test_size": test_size}
        chosen |= {"val_fraction": val_fraction, "test_fraction": test_fraction}
        kind = _kind(source)
        options = variant_options(kind, _DEFAULTS, chosen, noun="source")
        if units is not None and not neural:
            raise ValueError(f"units={units} needs neural=True: without it batches have no spikes")
        if not 1 <= options.get("bin_ms", 1) <= task.SOUND_MS:
            raise ValueError(f"bin_ms must lie between 1 and {task.SOUND_MS}, the length of the sounds, got {bin_ms}")
        self.source = source
        self.neural = neural
        self.simulated = kind == "simulated"
        self.target_step: TargetStep = "last"
        self.channel_names: list[str] | None = None if kind == "an archive" else list(task.CHANNELS)
        self.num_units: int | None = None
        self._recorded: task.RecordedTrials | None = None
        if self.simulated:
            self._set_simulated(**options)
        else:
            self._set_recorded(**options)
        self.input_names = self.channel_names
        if not neural and self.channel_names is not None:
            self.phase_names = list(_PHASES)
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch | NeuralBatch:
        if self._recorded is not None:
            return self._pick(self._recorded, self._rows[split])
        size = self.sizes[split]
        if self.context == "inferred":
            draw = partial(simulator.draw_blocks, layout=self._layout)
            inputs, targets, mask, rule, lengths = draw_trials(size, draw, seed=self.seed, split=split)
            longest = int(lengths.max())
            inputs = inputs[:, :longest]
            return SequenceBatch(inputs, targets[:, :longest], lengths, mask[:, :longest], rule, _phases_shown(inputs))
        allowed = simulator.divide_durations(self._layout, self.seed)[split] if self.held_out else None
        draw = partial(self._draw_recorded if self.neural else self._draw_behaviour, allowed=allowed)
        trials = draw_trials(size, draw, seed=self.seed, split=split)
        if self.neural:
            return NeuralBatch(*trials)
        inputs, answer, lengths, stimulus = trials
        return SequenceBatch(inputs, answer, lengths, None, stimulus, _phases_shown(inputs))

    def _set_simulated(
        self,
        context: Context,
        units: int,
        bin_ms: int,
        held_out: bool,
        train_size: int,
        val_size: int,
        test_size: int,
    ) -> None:
        check_choice("context", context, Context)
        if self.neural and context == "inferred":
            raise ValueError("spikes are of single trials, not of blocks: leave out context='inferred' or neural")
        check_size("units", units)
        self.sizes = check_sizes(train_size, val_size, test_size)
        self.context = context
        self.bin_ms = bin_ms
        self.held_out = held_out
        self.class_names = list(task.CHOICES)
        self.output_size = len(task.CHOICES)
        self.group_names = list(task.STIMULI)
        self._layout = simulator.Layout.of(bin_ms)
        if context == "inferred":
            self.target_step = "every"
            self.channel_names = list(task.CHANNELS[:6])
            self.group_names = list(task.RULES)
        self.input_size = 6 if context == "inferred" else len(task.CHANNELS)
        if self.neural:
            self.num_units = units
            self._population = simulator.draw_population(units, self.seed)

    def _set_recorded(self, val_fraction: float, test_fraction: float, bin_ms: int | None = None) -> None:
        check_fractions(val_fraction, test_fraction)
        path = Path(self.source)
        trials = read_archive(path) if bin_ms is None else read_session(find_session(path), bin_ms).trials
        self._recorded = trials
        self._rows = split_blocks(trials.block, trials.kind, val_fraction, test_fraction, self.seed)
        self.input_size = trials.inputs.shape[2]
        self.output_size = trials.classes
        self.class_names = trials.class_names
        self.group_names = trials.group_names
        if self.neural:
            self.num_units = trials.spikes.shape[2]

    def _pick(self, trials: task.RecordedTrials, rows: NDArray[np.int64]) -> SequenceBatch | NeuralBatch:
        inputs, labels, lengths = (torch.from_numpy(a[rows]) for a in (trials.inputs, trials.labels, trials.lengths))
        group = None if trials.group is None else torch.from_numpy(trials.group[rows])
        if self.neural:
            return NeuralBatch(inputs, torch.from_numpy(trials.spikes[rows]), labels, lengths, group)
        phase = None if self.phase_names is None else _phases_shown(inputs)
        return SequenceBatch(inputs, labels, lengths, None, group, phase)

    def _draw_behaviour(
        self, rng: np.random.Generator, size: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], ...]:
        inputs, stimulus, _, lengths = simulator.draw_single_trials(rng, size, self._layout, allowed)
        return inputs, task.ANSWERS[stimulus], lengths, stimulus

    def _draw_recorded(
        self, rng: np.random.Generator, size: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[Any], ...]:
        inputs, stimulus, hold, lengths = simulator.draw_single_trials(rng, size, self._layout, allowed)
        choice = simulator.draw_choices(rng, stimulus)
        spikes = simulator.draw_spikes(
            rng, self._population, stimulus, choice, hold, lengths, self._layout, self.bin_ms
        )
        return inputs, spikes, choice, lengths, stimulus


def _phases_shown(inputs: Tensor) -> Tensor:
    """The phase of each step, from the channels of sounds, hold and response; −1 if all of them are off."""
    hold, sounds, response = inputs[..., 4], inputs[..., :4].amax(dim=-1), inputs[..., 5]
    return (hold + 2 * sounds + 3 * response).long() - 1


def split_blocks(
    block: NDArray[np.int64], kind: NDArray[np.int64], val_fraction: float, test_fraction: float, seed: int
) -> dict[Split, NDArray[np.int64]]:
    """The trials of each split: whole blocks, with at least the fractions of the trials of each kind."""
    rng = np.random.default_rng((seed, len(SPLITS) + 1))
    blocks_of: dict[Split, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    for each in np.unique(kind):
        blocks, sizes = np.unique(block[kind == each], return_counts=True)
        order = rng.permutation(len(blocks))
        test = _count_until(sizes[order], test_fraction * sizes.sum())
        val = _count_until(sizes[order[test:]], val_fraction * sizes.sum())
        if test + val >= len(blocks):
            raise ValueError(
                f"of {len(blocks)} blocks ({sizes.sum()} trials) of one kind, {test} are for testing and {val} for "
                "validation, and none remains for training. Use at least 3 blocks of each kind (rule), and fractions "
                "that leave some for training"
            )
        for split, part in zip(reversed(SPLITS), np.split(order, [test, test + val]), strict=True):
            blocks_of[split].append(blocks[part])
    return {split: np.flatnonzero(np.isin(block, np.concatenate(blocks_of[split]))) for split in SPLITS}


def _count_until(sizes: NDArray[np.int64], amount: float) -> int:
    """The smallest number of first blocks with at least this amount of trials."""
    return int(np.searchsorted(np.cumsum(sizes), amount - 1e-9)) + 1  # 0.07 · 100 is 7.000000000000001


def _kind(source: str) -> str:
    if source == "simulated":
        return source
    path = Path(source)
    if path.is_dir():
        return "a session"
    if path.suffix == ".npz" and path.is_file():
        return "an archive"
    choices = "'simulated', the folder of a session or a .npz archive"
    raise FileNotFoundError(f"source must be {choices}; there is no {path} (looked in {Path.cwd()})")
