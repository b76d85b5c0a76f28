"""Figures of gates, kernels and routes show the numbers that they are given, at every edge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from figures import LONG, check_drawn, texts

from lightning_alrnn.analysis.primitives import Gating, Integration, Routing
from lightning_alrnn.plotting.primitives import plot_gating, plot_integration, plot_routing

NOTHING = (False, 0.3, 0.5, math.nan, "effect")  # found, effect, p, intervention and reason


def gates(channels: int) -> Gating:
    torch.manual_seed(0)
    effects = torch.full((channels, channels), math.nan).double()
    effects[:8, :8] = torch.rand(min(channels, 8), min(channels, 8)).double()
    return Gating(*NOTHING, 0, channels - 1, 0, "at the same step", effects, (0.25, -0.5), None)


def kernels(count: int) -> Integration:
    torch.manual_seed(0)
    kernel, flatness = torch.randn(count, 4).double(), torch.rand(count).double()
    return Integration(*NOTHING, 0, torch.arange(count) + 3, kernel, flatness, 2.0, 50.0, math.nan)


def routes(groups: list[int], channels: int) -> Routing:
    torch.manual_seed(0)
    gain, effects = torch.randn(len(groups), channels).double(), torch.rand(channels).double()
    return Routing(*NOTHING, 0, 0, (), torch.tensor(groups), gain, effects, None, occupancy_js=0.1)


def test_cells_are_effects_and_bars_the_gain_at_both_ends() -> None:
    found = gates(2)
    left, right, *_ = plot_gating(found, ["value", "mark"]).axes
    np.testing.assert_array_equal(left.images[0].get_array(), found.effects.numpy())
    assert texts(left.get_yticklabels()) == ["value", "mark"]
    assert [bar.get_height() for bar in right.containers[0]] == [0.25, -0.5]  # type: ignore[attr-defined]
    assert texts(right.get_xticklabels()) == ["mark low", "mark high"]


def test_inputs_that_do_not_vary_are_not_shown() -> None:
    assert np.asarray(plot_gating(gates(60)).axes[0].images[0].get_array()).shape == (8, 8)


def test_lines_are_kernels() -> None:
    found = kernels(2)
    axes = plot_integration(found, [f"channel {index}" for index in range(9)]).axes[0]
    for line, kernel in zip(axes.lines, found.kernel, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), kernel.numpy())
    labels = texts(axes.get_legend())
    assert [label.partition(",")[0] for label in labels] == ["channel 3", "channel 4"]


def test_bars_are_gains_in_each_condition() -> None:
    found = routes([1, 3], 2)
    axes = plot_routing(found, ["one", "three"], ["value", "mark"]).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]  # type: ignore[attr-defined]
    assert heights == found.gain.tolist()
    assert texts(axes.get_legend()) == ["one", "three"]
    assert texts(axes.get_xticklabels()) == [
        f"{name}\n{effect:.2f}" for name, effect in zip(("value", "mark"), found.effects.tolist(), strict=True)
    ]
    assert texts(plot_routing(found).axes[0].get_legend()) == ["1", "3"]


@pytest.mark.parametrize("channels", [1, 2, 60])
def test_figures_draw_at_every_size(channels: int) -> None:
    gating, integration = plot_gating(gates(channels)), plot_integration(kernels(min(channels, 8)))
    check_drawn(gating, integration, plot_routing(routes(list(range(20)), channels), LONG), least=2)
