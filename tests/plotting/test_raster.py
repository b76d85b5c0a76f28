"""The regime at each step: rows, colours and names are those given, at every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import LONG, check_drawn, texts

from lightning_alrnn.plotting.raster import plot_regime_raster

ON, OFF = [1.0], [-1.0]


def test_rows_are_sorted_by_condition_and_padding_is_white() -> None:
    states = torch.tensor([[ON, ON, ON], [OFF, ON, ON], [ON, ON, OFF]])
    axes = plot_regime_raster(states, 1, torch.tensor([3, 1, 3]), torch.tensor([1, 0, 1]), ["first", "second"]).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[1, 3, 3], [0, 0, 0], [0, 0, 1]])
    assert texts(axes.get_yticklabels()) == ["first", "second"]
    assert texts(axes.get_legend()) == ["1  71%", "0  29%"]


def test_sequences_of_no_condition() -> None:
    states = torch.tensor([[ON], [OFF]])
    axes = plot_regime_raster(states, 1, group=torch.tensor([-1, 1]), names=["a", "b"]).axes[0]
    assert texts(axes.get_yticklabels()) == ["none", "b"]


def test_rare_regimes_are_grey() -> None:
    torch.manual_seed(0)
    figure = plot_regime_raster(torch.randn(30, 20, 5), 5)
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert set(np.unique(shown)) == set(range(9))
    last = axes.get_legend().get_texts()[-1].get_text()
    assert last == f"24 others  {(shown == 8).mean():.0%}"


@pytest.mark.parametrize(("batch", "time", "units"), [(1, 1, 0), (1, 1, 1), (600, 3, 0), (600, 30, 100)])
@pytest.mark.parametrize("grouped", [False, True])
def test_rasters_draw(batch: int, time: int, units: int, grouped: bool) -> None:
    torch.manual_seed(0)
    group = torch.arange(batch) % 3 if grouped else None
    figure = plot_regime_raster(torch.randn(batch, time, units + 1), units, None, group, LONG)
    assert len(np.asarray(figure.axes[0].images[0].get_array())) == min(batch, 200)
    check_drawn(figure, least=0)
