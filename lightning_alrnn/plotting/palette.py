"""A colour for each regime, the same in every figure, epoch and run."""

from __future__ import annotations

from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import bitcode

OTHERS = "#bdbdbd"
"""The colour of regimes that have none of their own."""

_LABEL_BITS = 12

# Dark and light shades of tab20 without brown and grey. What a unit adds to a colour's number (by exclusive or) is such
# that regimes which differ in one or two of up to 15 units never share a colour (a code of distance 3), nor do those
# that differ in up to three of up to 8 units (distance 4).
_HUES = (0, 1, 2, 3, 4, 6, 8, 9)
_OF_UNIT = (1, 2, 4, 8, 7, 11, 13, 14, 3, 5, 6, 9, 10, 12, 15)
_DARKER = 0.55


def regime_colours(codes: Tensor, most: int = 8) -> list[str]:
    """Colours of regimes in a figure, for at most ``most`` of them; ``OTHERS`` for the rest.

    The colour of a regime follows from its code alone, so that it is the same in all figures, at all epochs and after
    a resume. There are 16: eight hues, full for an even number of active units among the first eight and light for an
    odd number, so that a switch of one of them shows. Of regimes that share a colour, the second is drawn in a darker
    shade and the third in grey.

    Example:
        >>> import torch
        >>> regime_colours(torch.tensor([[True, True], [False, True]]))
        ['#d62728', '#f7b6d2']
    """
    weights = torch.tensor([_OF_UNIT[unit % len(_OF_UNIT)] for unit in range(codes.shape[1])], dtype=torch.int64)
    digits = weights.unsqueeze(1) >> torch.arange(4) & 1  # (P, 4)
    numbers = (codes.cpu().long() @ digits % 2) @ (1 << torch.arange(4))
    colours = [OTHERS] * len(codes)
    taken: set[str] = set()
    for rank, number in enumerate(numbers.tolist()):
        if len(taken) == most:
            break
        light = number.bit_count() % 2
        hue = _HUES[(number + 3 * light) % 8]  # not the one of the number with the fourth bit turned
        red, green, blue, _ = matplotlib.colormaps["tab20"](2 * hue + light)
        shades = [to_hex((part * red, part * green, part * blue)) for part in (1.0, _DARKER)]
        colours[rank] = next((shade for shade in shades if shade not in taken), OTHERS)
        taken |= {colours[rank]} - {OTHERS}
    return colours


def regime_label(code: Tensor, rank: int) -> str:
    """Bits of a regime, or its rank (from 1) where they do not fit; "linear" for P=0."""
    if len(code) == 0:
        return "linear"
    return bitcode(code) if len(code) <= _LABEL_BITS else f"rank {rank}"


def draw_regime_eigenvalues(axes: Axes, codes: Tensor, eigenvalues: Tensor, occupancy: Tensor | None = None) -> None:
    """Draw the eigenvalues of regimes, each regime in its colour with a label, and share of steps, for a legend."""
    values = eigenvalues.cpu().numpy()
    colours = regime_colours(codes)
    rest = [rank for rank, colour in enumerate(colours) if colour == OTHERS]

    def draw(ranks: list[int], label: str, colour: str, size: int, order: float) -> None:
        share = "" if occupancy is None else f"  {float(occupancy[ranks].sum()):.0%}"
        points = values[ranks].ravel()
        style: dict[str, Any] = {"color": colour, "markersize": size, "markeredgewidth": 0, "zorder": order}
        axes.plot(points.real, points.imag, "o", label=label + share, **style)

    # the most visited on top; labels in the order of the ranks, the others last
    for rank, (code, colour) in enumerate(zip(codes, colours, strict=True)):
        if colour != OTHERS:
            draw([rank], regime_label(code, rank + 1), colour, 4, 3 - rank / 100)
    if rest:
        draw(rest, f"{len(rest)} others", OTHERS, 3, 2)
