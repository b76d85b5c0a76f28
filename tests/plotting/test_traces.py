"""Figures of single trials show the numbers of the chosen trials."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import LONG, check_drawn, texts, y_of

from lightning_alrnn.plotting.traces import choose_trials, plot_traces


def test_the_first_trials_of_the_most_frequent_conditions() -> None:
    labels = torch.tensor([3, 1, -1, 1, 7, 3, 1, 3])
    assert choose_trials(8, labels, 2, 2) == {1: [1, 3], 3: [0, 5]}
    assert choose_trials(8, labels, 9, 9) == {1: [1, 3, 6], 3: [0, 5, 7], 7: [4]}
    assert choose_trials(3, None, 2, 2) == {0: [0], 1: [1]}


def test_a_panel_shows_a_trial_up_to_its_last_target() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(2, 5, 6, 4)
    targets *= torch.tensor([1.0, 9.0, 5.0, 3.0])
    outputs, targets = outputs.expand(5, 6, 4), targets.expand(5, 6, 4)
    counted = torch.ones(5, 6, dtype=torch.bool)
    counted[4, [0, 1, 3, 4, 5]] = False  # a target at one step
    counted[1, 2] = False
    labels = torch.tensor([0, 1, 0, 0, 1])
    figure = plot_traces(outputs, targets, counted, labels, ["left", "$right"], ["w", "x", "y", "z"])
    left, right = figure.axes[0], figure.axes[3]
    assert [left.get_ylabel(), right.get_ylabel()] == ["left", r"\$right"]
    assert [axes.get_title() for axes in figure.axes[:5]] == [f"trial {trial}" for trial in (0, 2, 3, 1, 4)]
    drawn = [line for line in left.lines if line.get_linewidth() == 1.2]
    for line, output in zip(drawn, (1, 2, 3), strict=True):
        assert y_of(line) == pytest.approx(outputs[0, :, output].tolist())
    target = next(line for line in right.lines if line.get_linewidth() == 4)
    expected = targets[1, :, 1].double().numpy().copy()
    expected[2] = np.nan
    np.testing.assert_allclose(target.get_ydata(), expected)
    assert not any(len(y_of(line)) for line in right.lines if line.get_marker() == "o")  # a gap leaves longer parts
    single = figure.axes[4].lines
    assert len(y_of(single[2])) == 3  # of trial 4, up to the step with a target
    assert next(y_of(line) for line in single if line.get_marker() == "o") == pytest.approx([float(targets[4, 2, 1])])
    assert texts(figure.legends[0]) == ["target", "output", "x", "y", "z"]


def test_classes_are_those_with_the_largest_score() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(4, 6, 3), torch.randint(3, (4, 6))
    figure = plot_traces(outputs, targets, torch.ones(4, 6, dtype=torch.bool), channels=["a", "b", "c"])
    assert y_of(figure.axes[0].lines[-1]) == outputs[0].argmax(dim=-1).tolist()
    assert y_of(figure.axes[0].lines[0]) == targets[0].tolist()
    assert texts(figure.axes[0].get_yticklabels()) == ["a", "b", "c"]


@pytest.mark.parametrize("steps", [1, 300])
def test_it_draws_at_every_edge(steps: int) -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(2, 64, steps, 2)
    none = torch.zeros(64, steps, dtype=torch.bool)
    check_drawn(
        plot_traces(outputs, targets, ~none, torch.arange(64), LONG, LONG),
        plot_traces(outputs[:1], targets[:1], ~none[:1]),
        plot_traces(outputs, targets, none, torch.full((64,), -1)),
        plot_traces(torch.randn(2, steps, 40), torch.zeros(2, steps, dtype=torch.int64), ~none[:2]),
        least=2,
    )
