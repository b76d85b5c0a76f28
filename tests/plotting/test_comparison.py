"""The figure of distances between networks."""

from __future__ import annotations

import torch
from figures import texts

from lightning_alrnn.analysis.comparison import MEASURES, Comparison, Portrait, compare_portraits
from lightning_alrnn.plotting.comparison import plot_comparison


def compared(networks: int, regimes: int) -> Comparison:
    rng = torch.Generator().manual_seed(networks)
    portraits = [
        Portrait(
            torch.randint(regimes, (3, 8), generator=rng),
            torch.ones(1),
            torch.randn(1, 4, generator=rng),
            torch.randn(1, 3, 8, 2, generator=rng),
        )
        for _ in range(2 * networks)
    ]
    return compare_portraits(portraits[:networks], portraits[networks:])


def test_a_row_for_each_group_in_the_order_of_the_tree() -> None:
    groups = {"P=0": compared(4, 1), "P=1": compared(9, 2), "P=5": compared(1, 3)}
    labels = {title: [f"seed {index}" for index in range(len(found.distance))] for title, found in groups.items()}
    figure = plot_comparison(groups, labels)
    panels = figure.axes[:-1]  # the last is the bar of colours
    assert len(panels) == 3 * (2 + len(MEASURES))
    assert [panels[row * 6].get_title(loc="left") for row in range(3)] == list(groups)
    assert [axes.get_title() for axes in panels[1:6]] == ["distance", *MEASURES]
    assert texts(panels[3].texts) == ["left out"]  # switching, with one regime
    for row, (title, found) in enumerate(groups.items()):
        names = [label.get_text() for label in panels[row * 6 + 1].get_yticklabels()]
        assert names == [labels[title][index] for index in found.order.tolist()]
        shown = panels[row * 6 + 1].images[0].get_array()
        assert shown is not None
        torch.testing.assert_close(torch.from_numpy(shown.data), found.distance[found.order][:, found.order])
    assert len(panels[1].texts) == 16
    assert not panels[7].texts  # too many to be read
    figure.canvas.draw()
