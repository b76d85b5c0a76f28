"""The figure of accuracy by the length of sequences."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.plotting.style import BLUE, GREY, new_figure, tidy


def plot_length_accuracy(right: Tensor, total: Tensor) -> Figure:
    """Draw the share of sequences that are right, by the length of their target.

    Args:
        right: Number of sequences of each length that are right, shape ``(lengths,)``.
        total: Number of sequences of each length, shape ``(lengths,)``.

    Returns:
        Figure with the share (top) and the number (bottom) of each length that occurs.
    """
    figure = new_figure(8.0, 4.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    lengths = total.nonzero()[:, 0].cpu()
    count = total.cpu()[lengths]
    share = right.cpu()[lengths] / count
    tidy(top).bar(lengths.numpy(), share.numpy(), color=BLUE, width=0.8)
    top.set(ylim=(0, 1.05), ylabel="share right")
    all_right = int(right.sum()) / max(int(total.sum()), 1)
    top.set_title(f"{all_right:.1%} of {int(total.sum())} sequences are right in every token", fontsize=10)
    tidy(bottom).bar(lengths.numpy(), count.numpy(), color=GREY, width=0.8)
    bottom.set(ylabel="sequences", xlabel="length of the target")
    return figure
