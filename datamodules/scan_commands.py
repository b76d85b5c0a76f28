"""SCAN: commands in a small language, to be translated into actions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.batch import SequenceBatch, Split, valid_steps
from lightning_alrnn.datamodules.base import SequenceDataModule, check_fraction, random_parts

Tokens: TypeAlias = NDArray[np.int64]

WORDS = (
    *("<pad>", "walk", "look", "run", "jump", "turn", "left", "right", "opposite", "around"),
    *("twice", "thrice", "and", "after"),
)
"""Input tokens by number."""

ACTIONS = ("I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT", "<end>")  # the classes, by number
GENERATED = ("simple", "length", "addprim_jump", "addprim_turn_left")  # all other splits are read from files
_PAD = WORDS.index("<pad>")
_END = ACTIONS.index("<end>")
_WORD_NUMBERS = {word: number for number, word in enumerate(WORDS) if number != _PAD}
_ACTION_NUMBERS = {action: number for number, action in enumerate(ACTIONS) if number != _END}
_LONGEST_TRAINED = 22  # number of actions, in the length split
# the words and the number of copies of the primitive, a tenth of the training commands
_PRIMITIVES = {"addprim_jump": (("jump",), 1_467), "addprim_turn_left": (("turn", "left"), 2_189)}
_TEST_SHARE = 0.2  # in the simple split


class Commands(NamedTuple):
    """Words and actions, each of shape ``(commands, …)``, padded with ``<pad>`` and ``<end>``."""

    words: Tokens
    actions: Tokens

    def at(self, index: Tokens | NDArray[np.bool_]) -> Commands:
        return Commands(self.words[index], self.actions[index])


class SCAN(SequenceDataModule):
    """Translate a command such as "jump left twice" into actions.

    "simple", "length", "addprim_jump" and "addprim_turn_left" are generated; see docs/tasks/scan.md for other splits.

    Args:
        split: Name of the split.
        data_dir: Folder with ``tasks_train_<split>.txt`` and ``tasks_test_<split>.txt``, also in any folder below; each
            line has the form ``IN: jump twice OUT: I_JUMP I_JUMP``. ``None`` generates the split.
        val_fraction: Share of the training commands that is held out for validation.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the validation share, and of the test share of a generated "simple" split.

    Raises:
        ValueError: If the split is neither generated nor in ``data_dir``, or if ``val_fraction`` is not between 0 and
            1. When a split is built, if a line of a file does not have the form above.
        FileNotFoundError: If there is no folder ``data_dir``.

    Shapes:
        inputs ``(batch, T_in)`` int64, padded with ``<pad>``, and lengths ``(batch,)``; targets ``(batch, T_out)``
        int64, padded with ``<end>``, and mask ``(batch, T_out)``; classification at every step of the targets.

    Example:
        >>> batch = SCAN(split="length").build("test")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([3920, 9]), torch.Size([3920, 49]))
    """

    input_size = len(WORDS)
    vocab_size = len(WORDS)
    output_size = len(ACTIONS)
    objective = "classification"
    target_step = "every"

    def __init__(
        self,
        split: str = "simple",
        data_dir: str | os.PathLike[str] | None = None,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_fraction("val_fraction", val_fraction)
        data_dir = None if data_dir is None else os.fspath(data_dir)
        self.split = split
        self.val_fraction = val_fraction
        self.class_names = list(ACTIONS)
        self._files = None if data_dir is None else _find_files(Path(data_dir), split)
        if self._files is None and split not in GENERATED:
            raise ValueError(
                f"split must be one of {_listed(GENERATED)}, which are generated, or come from files, got {split!r}: "
                f"set data_dir to a folder with tasks_train_{split}.txt and tasks_test_{split}.txt"
            )
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        """Build a batch of all commands of a split.

        Raises:
            ValueError: If a line of a file does not have the expected form, or too few commands occur once to hold some
                out.
        """
        commands = self._commands(for_test=split == "test")
        if split != "test":
            held_out = _hold_out(commands, self.val_fraction, self.seed)
            commands = commands.at(held_out if split == "val" else ~held_out)
        return _batch(commands)

    def _commands(self, for_test: bool) -> Commands:
        if self._files is not None:
            return read_commands(self._files[for_test])
        return split_commands(all_commands(), self.split, self.seed)[for_test]


def all_commands() -> Commands:
    """The 20,910 commands of the grammar: the 102 phrases, then the pairs with "and", then those with "after"."""
    phrases = _phrases()
    x, y = map(phrases.at, np.divmod(np.arange(len(phrases.words) ** 2), len(phrases.words)))
    parts = [phrases]
    for joint, first, second in (("and", x, y), ("after", y, x)):
        middle = np.full((len(x.words), 1), WORDS.index(joint))
        words = _pack(np.concatenate((x.words, middle, y.words), axis=1), _PAD)
        parts.append(Commands(words, _pack(np.concatenate((first.actions, second.actions), axis=1), _END)))
    return Commands(_join([part.words for part in parts], _PAD), _join([part.actions for part in parts], _END))


def split_commands(commands: Commands, split: str, seed: int) -> tuple[Commands, Commands]:
    """The training and the test commands of a generated split."""
    count = len(commands.words)
    index = np.arange(count)
    if split == "simple":
        test, train = random_parts(round(count * _TEST_SHARE), count, seed=seed, split="test")
        return commands.at(train), commands.at(test)
    if split == "length":
        longer = (commands.actions != _END).sum(axis=1) > _LONGEST_TRAINED
        return commands.at(~longer), commands.at(longer)
    primitive, copies = _PRIMITIVES[split]
    tokens = [WORDS.index(word) for word in primitive]
    spans = np.lib.stride_tricks.sliding_window_view(commands.words, len(tokens), axis=1)
    holds = (spans == tokens).all(axis=2).any(axis=1)
    alone = holds & ((commands.words != _PAD).sum(axis=1) == len(tokens))
    return commands.at(np.concatenate((index[~holds], np.repeat(index[alone], copies)))), commands.at(holds & ~alone)


def read_commands(path: Path) -> Commands:
    """Read a file of lines ``IN: <words> OUT: <actions>``."""
    words, actions = [], []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            head, _, tail = line.partition(" OUT: ")
            if not head.startswith("IN: ") or not head[4:].split() or not tail.split():
                raise ValueError(f'{path}, line {number}: expected "IN: <words> OUT: <actions>", got {line.strip()!r}')
            words.append(_numbers(head[4:], "word", _WORD_NUMBERS, path, number))
            actions.append(_numbers(tail, "action", _ACTION_NUMBERS, path, number))
    if not words:
        raise ValueError(f'{path} is empty: expected lines "IN: <words> OUT: <actions>"')
    return Commands(_stack(words, _PAD), _stack(actions, _END))


def _numbers(text: str, kind: str, numbers: dict[str, int], path: Path, line: int) -> list[int]:
    try:
        return [numbers[token] for token in text.split()]
    except KeyError as error:
        raise ValueError(
            f"{path}, line {line}: unknown {kind} {error.args[0]!r}, expected {kind}s out of {', '.join(numbers)}"
        ) from None


def _phrases() -> Commands:
    """The 34 phrases of a verb, each once, twice and thrice."""
    phrases: list[tuple[list[str], list[str]]] = []
    turns = {"left": ["I_TURN_LEFT"], "right": ["I_TURN_RIGHT"]}
    verbs = {"walk": ["I_WALK"], "look": ["I_LOOK"], "run": ["I_RUN"], "jump": ["I_JUMP"], "turn": []}
    for verb, act in verbs.items():
        if act:
            phrases.append(([verb], act))
        for side, turn in turns.items():
            phrases.append(([verb, side], turn + act))
            phrases.append(([verb, "opposite", side], turn * 2 + act))
            phrases.append(([verb, "around", side], (turn + act) * 4))
    repeated = [
        (words + suffix, actions * times)
        for suffix, times in (([], 1), (["twice"], 2), (["thrice"], 3))
        for words, actions in phrases
    ]
    return Commands(
        _stack([[WORDS.index(word) for word in words] for words, _ in repeated], _PAD),
        _stack([[ACTIONS.index(action) for action in actions] for _, actions in repeated], _END),
    )


def _stack(rows: Sequence[Sequence[int]], filler: int) -> Tokens:
    """Rows of different lengths as one array, padded at the end."""
    return _join([np.array([row], dtype=np.int64) for row in rows], filler)


def _pack(rows: Tokens, filler: int) -> Tokens:
    """Move the filler to the end of each row, and remove the columns with only filler."""
    order = np.argsort(rows == filler, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)[:, : (rows != filler).sum(axis=1).max()]


def _join(parts: Sequence[Tokens], filler: int) -> Tokens:
    """The rows of all parts, padded to the width of the widest part."""
    joined = np.full((sum(map(len, parts)), max(part.shape[1] for part in parts)), filler, dtype=np.int64)
    start = 0
    for part in parts:
        joined[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return joined


def _hold_out(train: Commands, fraction: float, seed: int) -> NDArray[np.bool_]:
    """A mask of the training commands for validation, a share of those that occur once."""
    _, inverse, counts = np.unique(train.words, axis=0, return_inverse=True, return_counts=True)
    once = np.flatnonzero(counts[inverse.reshape(-1)] == 1)
    size = max(1, round(len(once) * fraction))
    if size > len(once) or size == len(train.words):
        raise ValueError(
            f"the training file must have commands that occur once, to use {fraction:.0%} of them for validation "
            f"and the rest for training; {len(once)} of its {len(train.words)} commands occur once"
        )
    val, _ = random_parts(size, len(once), seed=seed, split="val")
    held_out = np.zeros(len(train.words), dtype=bool)
    held_out[once[val]] = True
    return held_out


def _batch(commands: Commands) -> SequenceBatch:
    lengths = (commands.words != _PAD).sum(axis=1)
    steps = (commands.actions != _END).sum(axis=1) + 1  # with <end>
    inputs = commands.words[:, : lengths.max()]
    targets = np.pad(commands.actions, ((0, 0), (0, 1)), constant_values=_END)[:, : steps.max()]
    return SequenceBatch(
        torch.from_numpy(np.ascontiguousarray(inputs)),
        torch.from_numpy(np.ascontiguousarray(targets)),
        torch.from_numpy(lengths),
        valid_steps(torch.from_numpy(steps), targets.shape[1]).float(),
    )


def _find_files(data_dir: Path, split: str) -> tuple[Path, Path]:
    """The training and the test file of a split."""
    if not data_dir.is_dir():
        raise FileNotFoundError(f"data_dir must be a folder with the official files of SCAN, there is no {data_dir}")
    paths: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for part, by_split in paths.items():
        prefix = f"tasks_{part}_"
        for path in sorted(data_dir.rglob(f"{prefix}*.txt")):
            by_split.setdefault(path.stem.removeprefix(prefix), []).append(path)
    names = sorted(paths["train"].keys() & paths["test"].keys())
    if split not in names:
        raise ValueError(
            f"split must be one of those in data_dir, {_listed(names) or 'which has none'}, got {split!r}: there "
            f"is no tasks_train_{split}.txt with a tasks_test_{split}.txt in {data_dir}. Without data_dir, "
            f"{_listed(GENERATED)} are generated"
        )
    for first, *others in (paths["train"][split], paths["test"][split]):
        if others:
            folders = f"{first.parent} and {others[0].parent}"
            raise ValueError(f"{first.name} is in {folders}: choose one of the two as data_dir")
    return paths["train"][split][0], paths["test"][split][0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
