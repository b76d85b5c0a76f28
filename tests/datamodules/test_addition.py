"""The addition problem."""

import pytest
import torch

from lightning_alrnn.datamodules import Addition


def marked_steps(inputs: torch.Tensor) -> torch.Tensor:
    """The two marked steps of each sequence, in order, (N, 2)."""
    assert set(inputs[..., 1].unique().tolist()) == {0.0, 1.0}
    assert (inputs[..., 1].sum(1) == 2).all()
    return inputs[..., 1].nonzero()[:, 1].reshape(-1, 2)


@pytest.mark.parametrize("length", [4, 5, 7, 10])
@pytest.mark.parametrize(
    ("markers", "pairs"),
    [
        ("first_half", lambda steps: {(i, j) for i in range(steps // 2) for j in range(i + 1, steps // 2)}),
        ("halves", lambda steps: {(i, j) for i in range(steps // 2) for j in range(steps // 2, steps)}),
        ("uniform", lambda steps: {(i, j) for i in range(steps) for j in range(i + 1, steps)}),
    ],
)
def test_marks_fall_on_every_allowed_pair_and_no_other(markers, pairs, length: int) -> None:
    data = Addition(sequence_length=length, markers=markers, train_size=2000)
    steps = marked_steps(data.build("train").inputs)
    assert set(map(tuple, steps.tolist())) == pairs(length)


def test_marks_are_uniform() -> None:
    batch = Addition(sequence_length=4, markers="uniform", train_size=12_000).build("train")
    assert batch.inputs.dtype == batch.targets.dtype == torch.float32
    assert (batch.lengths == 4).all()
    assert (batch.mask, batch.group) == (None, None)
    steps = marked_steps(batch.inputs)
    counts = torch.stack([(steps == torch.tensor([i, j])).all(1).sum() for i in range(4) for j in range(i + 1, 4)])
    assert (counts - 2000).abs().max() < 5 * (12_000 * (1 / 6) * (5 / 6)) ** 0.5


@pytest.mark.parametrize(("operation", "combine"), [("sum", torch.add), ("product", torch.mul)])
@pytest.mark.parametrize(("markers", "length"), [("first_half", 12), ("halves", 12), ("uniform", 12), ("uniform", 2)])
def test_target_combines_the_marked_values(operation, combine, markers, length: int) -> None:
    batch = Addition(sequence_length=length, markers=markers, operation=operation, val_size=300).build("val")
    for sequence, target in zip(batch.inputs, batch.targets, strict=True):
        values = [float(value) for value, mark in sequence if mark == 1]
        assert target.shape == (1,)
        assert float(target) == pytest.approx(float(combine(*map(torch.tensor, values))), abs=1e-6)


@pytest.mark.parametrize("markers", ["first_half", "halves", "uniform"])
def test_phases_are_those_of_the_marks(markers) -> None:
    data = Addition(sequence_length=6, markers=markers, val_size=200)
    batch = data.build("val")
    assert batch.phase.dtype == torch.int64
    for phase, (first, second) in zip(batch.phase.tolist(), marked_steps(batch.inputs).tolist(), strict=True):
        names = [data.phase_names[index] for index in phase]
        assert names == (
            ["before the marks"] * first
            + ["mark"]
            + ["between the marks"] * (second - first - 1)
            + ["mark"]
            + ["after the marks"] * (5 - second)
        )


def test_noise_is_uniform() -> None:
    noise = Addition(sequence_length=50, train_size=2000).build("train").inputs[..., 0]
    assert float(noise.min()) >= 0
    assert float(noise.max()) < 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.var()) == pytest.approx(1 / 12, abs=0.002)


@pytest.mark.parametrize(("operation", "constant", "error"), [("sum", 1.0, 1 / 6), ("product", 0.25, 1 / 9 - 1 / 16)])
def test_constant_predictor(operation, constant: float, error: float) -> None:
    targets = Addition(sequence_length=4, operation=operation, train_size=40_000).build("train").targets
    assert float(targets.mean()) == pytest.approx(constant, abs=0.01)
    assert float((targets - constant).square().mean()) == pytest.approx(error, rel=0.03)
