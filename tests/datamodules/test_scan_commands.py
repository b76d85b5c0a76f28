"""SCAN: every command against an interpreter of its words, the splits against what they promise, files."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules import SCAN
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.scan_commands import ACTIONS, GENERATED, WORDS, all_commands, read_commands

PHRASE = r"((walk|look|run|jump)( (opposite |around )?(left|right))?|turn (opposite |around )?(left|right))"
VOCABULARY = ["walk", "look", "run", "jump", "turn", "left", "right", "opposite", "around", "twice", "thrice"]


def interpret(command: str) -> list[str]:
    """The actions of a command, from the outside in."""
    for joint, step in ((" and ", 1), (" after ", -1)):
        if joint in command:
            return [action for part in command.split(joint)[::step] for action in interpret(part)]
    for suffix, times in ((" twice", 2), (" thrice", 3)):
        if command.endswith(suffix):
            return interpret(command.removesuffix(suffix)) * times
    verb, *manner = command.split()
    act = [] if verb == "turn" else [f"I_{verb.upper()}"]
    if not manner:
        return act
    turn = [f"I_TURN_{manner[-1].upper()}"]
    match manner[:-1]:
        case []:
            return turn + act
        case ["opposite"]:
            return turn + turn + act
        case ["around"]:
            return (turn + act) * 4
    raise AssertionError(command)


def pairs(batch: SequenceBatch) -> list[tuple[str, list[str]]]:
    """Commands and actions of a batch as text, up to the length and up to ``<end>``."""
    read = []
    for words, length, actions in zip(
        batch.inputs.tolist(), batch.lengths.tolist(), batch.targets.tolist(), strict=True
    ):
        names = [ACTIONS[action] for action in actions]
        read.append((" ".join(WORDS[word] for word in words[:length]), names[: names.index("<end>")]))
    return read


def commands_of(data: SCAN, *splits: Split) -> Counter[str]:
    return Counter(command for split in splits for command, _ in pairs(data.build(split)))


@cache
def built(split: str) -> dict[Split, SequenceBatch]:
    """All parts of a generated split."""
    data = SCAN(split=split)
    return {part: data.build(part) for part in SPLITS}


@pytest.fixture(scope="module")
def everything() -> dict[str, list[str]]:
    commands = all_commands()
    texts = [" ".join(WORDS[word] for word in words if word) for words in commands.words.tolist()]
    actions = [[ACTIONS[a] for a in row if a != ACTIONS.index("<end>")] for row in commands.actions.tolist()]
    assert len(texts) == len(set(texts)) == 20_910
    return dict(zip(texts, actions, strict=True))


def test_every_command_means_what_the_interpreter_says(everything: dict[str, list[str]]) -> None:
    for command, actions in everything.items():
        assert actions == interpret(command), command
    assert max(len(command.split()) for command in everything) == 9
    assert max(map(len, everything.values())) == 48


def test_the_commands_are_those_of_the_grammar(everything: dict[str, list[str]]) -> None:
    grammar = re.compile(PHRASE + "( twice| thrice)?")
    candidates = (" ".join(words) for count in range(1, 5) for words in product(VOCABULARY, repeat=count))
    phrases = [text for text in candidates if grammar.fullmatch(text)]
    assert len(phrases) == 102
    assert set(everything) == set(phrases) | {
        f"{x} {joint} {y}" for x in phrases for y in phrases for joint in ("and", "after")
    }


@pytest.mark.parametrize("split", GENERATED)
def test_padding_lengths_and_mask(split: str) -> None:
    for batch in built(split).values():
        assert batch.inputs.dtype == batch.targets.dtype == batch.lengths.dtype == torch.int64
        assert batch.mask.shape == batch.targets.shape
        assert batch.group is None
        assert batch.inputs.shape[1] == int(batch.lengths.max())
        for index, (command, actions) in list(enumerate(pairs(batch)))[::97]:
            words, steps = len(command.split()), len(actions) + 1
            assert int(batch.lengths[index]) == words
            assert batch.inputs[index].ne(0).tolist() == [True] * words + [False] * (batch.inputs.shape[1] - words)
            assert batch.targets[index, steps - 1 :].eq(6).all()
            assert batch.mask[index].tolist() == [1.0] * steps + [0.0] * (batch.targets.shape[1] - steps)
        assert int(batch.mask.sum(dim=1).max()) == batch.targets.shape[1]


@pytest.mark.parametrize("split", GENERATED)
def test_the_parts_are_right_do_not_overlap_and_leave_nothing_out(split: str, everything: dict[str, list[str]]) -> None:
    parts = [pairs(built(split)[part]) for part in SPLITS]
    assert all(everything[command] == actions for part in parts for command, actions in part)
    train, val, test = (Counter(command for command, _ in part) for part in parts)
    assert not train.keys() & val.keys()
    assert not train.keys() & test.keys()
    assert not val.keys() & test.keys()
    assert train.keys() | val.keys() | test.keys() == everything.keys()
    assert max(val.values()) == max(test.values()) == 1


def test_simple_is_a_random_fifth() -> None:
    data = SCAN()
    train, val, test = (commands_of(data, part) for part in SPLITS)
    assert (train.total(), val.total(), test.total()) == (15_055, 1_673, 4_182)
    other = SCAN(seed=1)
    # two random fifths have a fifth of each in common
    assert len(test.keys() & commands_of(other, "test").keys()) / 4_182 == pytest.approx(0.2, abs=0.03)
    assert commands_of(SCAN(), "train") == train


def test_length(everything: dict[str, list[str]]) -> None:
    data = SCAN(split="length")
    trained, tested = commands_of(data, "train", "val"), commands_of(data, "test")
    assert (trained.total(), tested.total()) == (16_990, 3_920)
    assert max(len(everything[command]) for command in trained) == 22
    assert min(len(everything[command]) for command in tested) == 24
    assert data.build("train").targets.shape[1] == 23
    assert data.build("test").targets.shape[1] == 49


@pytest.mark.parametrize(
    ("split", "primitive", "copies", "others", "tested"),
    [("addprim_jump", "jump", 1_467, 13_203, 7_706), ("addprim_turn_left", "turn left", 2_189, 19_701, 1_208)],
)
def test_a_primitive_is_trained_on_alone(split: str, primitive: str, copies: int, others: int, tested: int) -> None:
    data = SCAN(split=split)
    train, val, test = (commands_of(data, part) for part in SPLITS)
    assert train[primitive] == copies
    assert primitive not in val
    assert (train + val).total() - copies == others
    assert test.total() == tested
    assert [command for command in train + val if primitive in command] == [primitive]
    assert all(primitive in command and command != primitive for command in test)


@pytest.mark.parametrize(("fraction", "size"), [(0.1, 1_320), (0.25, 3_301), (1e-9, 1)])
def test_validation_is_a_share_of_what_occurs_once(fraction: float, size: int) -> None:
    data = SCAN(split="addprim_jump", val_fraction=fraction)
    assert len(data.build("val").inputs) == size
    assert len(data.build("train").inputs) == 14_670 - size


def test_validation_depends_on_the_seed_alone() -> None:
    first, again, other = (commands_of(SCAN(split="length", seed=seed), "val") for seed in (3, 3, 4))
    assert first == again
    assert len(first.keys() & other.keys()) < 0.2 * len(first)


def write(path: Path, lines: list[str], newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode())
    return path


LINES = [f"IN: {command} OUT: {' '.join(interpret(command))}" for command in ("jump", "walk twice", "look", "run left")]


@pytest.mark.parametrize("folder", [".", "mcd_split", "deep/er"])
def test_a_split_from_files(folder: str) -> None:
    write(Path("data", folder, "tasks_train_mcd1.txt"), LINES)
    line = "IN: run right twice after walk OUT: I_WALK" + " I_TURN_RIGHT I_RUN" * 2
    write(Path("data", folder, "tasks_test_mcd1.txt"), [line])
    data = SCAN(split="mcd1", data_dir=Path("data"), val_fraction=0.3)
    train, val, test = (pairs(data.build(part)) for part in SPLITS)
    assert sorted(train + val) == sorted(
        (command, interpret(command)) for command in ("jump", "walk twice", "look", "run left")
    )
    assert len(val) == 1
    assert test == [("run right twice after walk", interpret("run right twice after walk"))]
    assert data.build("test").inputs.shape == (1, 5)
    assert data.build("test").targets.tolist() == [[0, 5, 2, 5, 2, 6]]
    assert data.hparams["data_dir"] == "data"


def test_data_dir_takes_precedence_over_the_generated_split() -> None:
    for part in ("train", "test"):
        write(Path("data", f"tasks_{part}_simple.txt"), LINES)
    assert len(SCAN(split="simple", data_dir="data").build("test").inputs) == 4


def test_repeated_lines_stay_in_training() -> None:
    write(Path("tasks_train_mine.txt"), [LINES[0]] * 5 + LINES[1:])
    write(Path("tasks_test_mine.txt"), LINES)
    for seed in range(6):
        data = SCAN(split="mine", data_dir=".", val_fraction=0.99, seed=seed)
        assert commands_of(data, "train") == Counter({"jump": 5})
        assert commands_of(data, "val") == Counter(["walk twice", "look", "run left"])


def test_lines_may_end_as_on_windows() -> None:
    commands = read_commands(write(Path("tasks.txt"), LINES, newline="\r\n"))
    assert commands.actions.tolist() == [[3, 6], [0, 0], [1, 6], [4, 2]]


FORM = r'expected "IN: <words> OUT: <actions>"'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", FORM + ", got ''"),
        ("IN: jump", FORM),
        ("IN: jump OUT:", FORM),
        ("IN:  OUT: I_JUMP", FORM),
        ("OUT: I_JUMP IN: jump", FORM),
        ("IN: hop OUT: I_JUMP", "unknown word 'hop', expected words out of walk, look, .* and, after$"),
        ("IN: <pad> OUT: I_JUMP", "unknown word '<pad>'"),
        ("IN: jump OUT: I_HOP", "unknown action 'I_HOP', expected actions out of I_WALK, .* I_TURN_RIGHT$"),
        ("IN: jump OUT: I_JUMP <end>", "unknown action '<end>'"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str) -> None:
    write(Path("tasks_train_mcd2.txt"), LINES)
    write(Path("tasks_test_mcd2.txt"), [*LINES[:2], line, *LINES])
    data = SCAN(split="mcd2", data_dir=".")
    data.build("train")
    with pytest.raises(ValueError, match=r"tasks_test_mcd2.txt, line 3: " + message):
        data.build("test")


def test_files_without_enough() -> None:
    write(Path("tasks_train_mine.txt"), [])
    write(Path("tasks_test_mine.txt"), LINES)
    with pytest.raises(ValueError, match=r"tasks_train_mine.txt is empty: expected lines"):
        SCAN(split="mine", data_dir=".").build("train")
    for lines, once in ((LINES[:1], 1), (LINES[:1] * 2, 0)):
        write(Path("tasks_train_mine.txt"), lines)
        with pytest.raises(ValueError, match=rf"must have .*; {once} of its {len(lines)} commands occur once"):
            SCAN(split="mine", data_dir=".").build("train")


def test_unknown_splits_list_the_choices() -> None:
    with pytest.raises(ValueError, match=r"one of 'simple', .* 'addprim_turn_left'.*got 'mcd1': set data_dir"):
        SCAN(split="mcd1")
    with pytest.raises(ValueError, match=r"those in data_dir, which has none, got 'length'"):
        SCAN(split="length", data_dir=".")
    for name in ("tasks_train_mcd1.txt", "tasks_test_mcd1.txt", "tasks_train_mcd3.txt", "sub/tasks_test_mcd2.txt"):
        write(Path(name), LINES)
    with pytest.raises(ValueError, match=r"those in data_dir, 'mcd1', got 'mcd2'.*Without data_dir, 'simple'"):
        SCAN(split="mcd2", data_dir=".")
    write(Path("copy", "tasks_test_mcd1.txt"), LINES)
    with pytest.raises(ValueError, match=r"tasks_test_mcd1.txt is in .* and .*: choose one"):
        SCAN(split="mcd1", data_dir=".")


def test_no_such_folder_and_a_fraction_that_is_none() -> None:
    with pytest.raises(FileNotFoundError, match=r"data_dir must be a folder .* there is no nowhere"):
        SCAN(data_dir="nowhere")
    with pytest.raises(ValueError, match="val_fraction must lie between 0 and 1, got nan"):
        SCAN(val_fraction=float("nan"))
