"""The copy task."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import Copy
from lightning_alrnn.datamodules.copy import sinusoidal_code

VARIANTS = ("reference", "variable_delay", "arjovsky", "delayed_recall")


def hot(width: int, *channels: int) -> list[float]:
    return [float(channel in channels) for channel in range(width)]


def expected(data: Copy, symbols: list[int], extra: int = 0) -> tuple[list[list[float]], list[int], list[float]]:
    """Inputs, targets and mask of one sequence, written down step by step as the task's description reads."""
    size = data.alphabet_size
    if data.variant == "delayed_recall":
        late = [(0, 0.0)] * data.lag + [(symbol, 1.0) for symbol in symbols[: len(symbols) - data.lag]]
        return [hot(size, symbol) for symbol in symbols], [y for y, _ in late], [m for _, m in late]
    if data.variant == "arjovsky":
        width = size + 2
        shown = [hot(width, 1 + symbol) for symbol in symbols]
        wait = [hot(width, 0)] * (data.delay - 1) + [hot(width, size + 1)]
        recall = [hot(width, 0)] * len(symbols)
        targets = [0] * (len(symbols) + data.delay) + [1 + symbol for symbol in symbols]
        return shown + wait + recall, targets, [1.0] * len(targets)
    width = size + 1
    shown = [hot(width, 1 + symbol) for symbol in symbols]
    cue = [hot(width, 0)] if data.variant == "reference" else []
    wait = cue + [hot(width)] * (data.delay + extra)
    recall = [hot(width, 0)] * len(symbols)
    padding = data.max_extra_delay - extra
    before = len(shown) + len(wait)
    return (
        shown + wait + recall + [hot(width)] * padding,
        [0] * before + symbols + [0] * padding,
        [0.0] * before + [1.0] * len(symbols) + [0.0] * padding,
    )


def expected_phases(data: Copy, extra: int) -> list[str | None]:
    """The name of the phase of each step, ``None`` past the end."""
    count, lag, delay = data.sequence_length, data.lag, data.delay + extra
    if data.variant == "delayed_recall":
        return ["symbols"] * lag + ["symbols and recall"] * (count - lag)
    between = {
        "reference": ["cue"] + ["delay"] * delay,
        "variable_delay": ["delay"] * delay,
        "arjovsky": ["delay"] * (delay - 1) + ["delimiter"],
    }[data.variant]
    return ["symbols"] * count + between + ["recall"] * count + [None] * (data.max_extra_delay - extra)


def symbols_of(data: Copy, batch: SequenceBatch) -> torch.Tensor:
    """The symbols shown, read off the inputs."""
    first = 0 if data.variant == "delayed_recall" else 1
    return batch.inputs[:, : data.sequence_length, first : first + data.alphabet_size].argmax(-1)


def check_every_sequence(data: Copy) -> None:
    batch = data.build("train")
    assert batch.group is None
    assert batch.inputs.dtype == batch.mask.dtype == torch.float32
    assert batch.targets.dtype == batch.lengths.dtype == torch.int64
    assert batch.inputs.shape[1:] == (data.steps, data.input_size)
    extras = batch.lengths - (data.steps - data.max_extra_delay)
    for i, (symbols, extra) in enumerate(zip(symbols_of(data, batch).tolist(), extras.tolist(), strict=True)):
        inputs, targets, mask = expected(data, symbols, extra)
        assert batch.inputs[i].tolist() == inputs
        assert batch.targets[i].tolist() == targets
        assert batch.mask[i].tolist() == mask
        names = [None if index < 0 else data.phase_names[index] for index in batch.phase[i].tolist()]
        assert names == expected_phases(data, extra)


@pytest.mark.parametrize(
    ("variant", "steps", "channels", "classes", "counted"),
    [
        ("reference", 117, 5, 4, 8),
        ("variable_delay", 110, 5, 4, 5),
        ("arjovsky", 120, 10, 9, 120),
        ("delayed_recall", 100, 4, 4, 90),
    ],
)
def test_defaults(variant, steps: int, channels: int, classes: int, counted: int) -> None:
    data = Copy(variant=variant)
    assert (data.input_size, data.output_size, data.steps) == (channels, classes, steps)
    assert (data.objective, data.target_step) == ("classification", "every")
    batch = data.build("val")
    assert batch.inputs.shape == (200, steps, channels)
    assert (batch.mask.sum(1) == counted).all()
    assert int(batch.targets.max()) == classes - 1
    check_every_sequence(Copy(variant=variant, train_size=40))


@settings(max_examples=40, deadline=None)
@given(
    variant=st.sampled_from(VARIANTS),
    count=st.integers(1, 6),
    alphabet=st.integers(2, 5),
    delay=st.integers(0, 7),
    extra=st.integers(0, 4),
    lag=st.integers(0, 5),
    seed=st.integers(0, 2**40),
)
def test_any_options(variant, count: int, alphabet: int, delay: int, extra: int, lag: int, seed: int) -> None:
    options = {"sequence_length": count, "alphabet_size": alphabet}
    if variant == "delayed_recall":
        options["lag"] = min(lag, count - 1)
    else:
        options["delay"] = max(delay, variant == "arjovsky")
    if variant == "variable_delay":
        options["max_extra_delay"] = extra
    held_out = alphabet**count >= 3
    check_every_sequence(Copy(variant=variant, **options, held_out=held_out, train_size=7, seed=seed))


def test_symbols_are_uniform_and_independent() -> None:
    data = Copy(sequence_length=2, alphabet_size=3, delay=0, held_out=False, train_size=9_000)
    pairs = symbols_of(data, data.build("train"))
    counts = torch.stack([(pairs == torch.tensor(pair)).all(1).sum() for pair in product(range(3), repeat=2)])
    assert (counts - 1000).abs().max() < 5 * (9_000 * (1 / 9) * (8 / 9)) ** 0.5


def test_extra_delay_takes_every_value_equally_often_whatever_the_symbols() -> None:
    options = {"sequence_length": 1, "alphabet_size": 2, "delay": 2, "max_extra_delay": 4, "train_size": 20_000}
    data = Copy(variant="variable_delay", held_out=False, **options)
    batch = data.build("train")
    for symbol in range(2):
        lengths = batch.lengths[symbols_of(data, batch)[:, 0] == symbol]
        counts = torch.bincount(lengths, minlength=9)
        assert counts[:4].tolist() == [0] * 4
        assert (counts[4:] - 2000).abs().max() < 5 * (10_000 * (1 / 5)) ** 0.5


def test_without_memory_the_arjovsky_task_costs_what_the_paper_says() -> None:
    data = Copy(variant="arjovsky", delay=30, train_size=500)
    batch = data.build("train")
    # the best without memory: blank until the delimiter, then each of the 8 symbols with the same probability
    scores = torch.full((data.steps, 9), -torch.inf)
    scores[:-10, 0] = 0.0
    scores[-10:, 1:] = 0.0
    loss = functional.cross_entropy(scores.repeat(500, 1), batch.targets.flatten())
    assert float(loss) == pytest.approx(10 * math.log(8) / (30 + 20), rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_time_code_follows_the_other_channels_and_ends_with_the_sequence(variant) -> None:
    plain, coded = (Copy(variant=variant, time_code=width, train_size=20) for width in (0, 6))
    assert coded.input_size == plain.input_size + 6
    batch, with_code = plain.build("train"), coded.build("train")
    assert torch.equal(with_code.inputs[..., :-6], batch.inputs)
    assert torch.equal(with_code.targets, batch.targets)
    for code, length in zip(with_code.inputs[..., -6:], with_code.lengths.tolist(), strict=True):
        assert torch.equal(code[:length], sinusoidal_code(length, 6))
        assert (code[length:] == 0).all()


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sinusoidal_code(width: int) -> None:
    code = sinusoidal_code(300, width)
    assert code.shape == (300, width)
    for t, channel in product((0, 1, 17, 299), range(width)):
        angle = t / 10_000 ** (2 * (channel // 2) / width)
        assert float(code[t, channel]) == pytest.approx((math.sin, math.cos)[channel % 2](angle), abs=1e-6)
