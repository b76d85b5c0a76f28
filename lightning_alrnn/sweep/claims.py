"""The claims of a verdict, read off the estimates, and the number of seeds that would answer the open questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lightning_alrnn.sweep.estimates import Estimate, measure
from lightning_alrnn.sweep.rules import Rules

_MOST_SEEDS = 1000
_GROWTH = 1.1
NEEDED = "whether nonlinearity is needed"
SUFFICIENT = "which P are enough"
SPARSE = "whether fewer nonlinear units beat all of them"


class Claims(NamedTuple):
    """The claims of a verdict. Each is about a typical run, the median of all runs that a P could have.

    Attributes:
        nonlinearity_needed: Whether P=0 is not enough; ``None`` if the runs do not tell.
        sufficient: Each P that is enough: its typical run is within the tolerance of the best P's typical run, and at
            least half of its runs are good.
        smallest_sufficient: The smallest of these P, or ``None``. Smaller P may be enough as well.
        sparse_beats_full: Whether P=M is not enough; ``None`` if the runs do not tell or P=M was not run.
    """

    nonlinearity_needed: bool | None
    sufficient: tuple[int, ...]
    smallest_sufficient: int | None
    sparse_beats_full: bool | None


def is_sufficient(estimate: Estimate, rules: Rules) -> bool:
    """Whether both limits show that P is enough."""
    return estimate.compared and estimate.gap_high <= rules.margin and estimate.share_low >= 0.5


def is_insufficient(estimate: Estimate, rules: Rules) -> bool:
    """Whether both limits show that P is not enough."""
    return estimate.compared and estimate.gap_low > rules.margin and estimate.share_high < 0.5


def make_claims(estimates: Sequence[Estimate], rules: Rules, hidden_size: int | None) -> Claims:
    """Read the claims off the estimates; there are none if fewer than two P are compared."""
    if sum(one.compared for one in estimates) < 2:
        return Claims(None, (), None, None)
    by_p = {one.nonlinear_units: one for one in estimates}
    sufficient = tuple(p for p, one in by_p.items() if is_sufficient(one, rules))

    def falls_short(p: int | None) -> bool | None:
        if p in sufficient:
            return False
        return True if p in by_p and is_insufficient(by_p[p], rules) else None

    return Claims(falls_short(0), sufficient, min(sufficient, default=None), falls_short(hidden_size))


def find_untold(claims: Claims, estimates: Sequence[Estimate], hidden_size: int | None) -> tuple[str, ...]:
    """Phrases for the questions that the sweep asks and the claims leave open."""
    units = {one.nonlinear_units for one in estimates}
    is_open = {
        NEEDED: 0 in units and claims.nonlinearity_needed is None,
        SUFFICIENT: not claims.sufficient,
        SPARSE: hidden_size in units and claims.sparse_beats_full is None,
    }
    return tuple(question for question in is_open if is_open[question])


def seeds_needed(
    estimates: Sequence[Estimate], rules: Rules, hidden_size: int | None, alpha: float
) -> dict[str, int | None]:
    """Number of seeds with the same quantiles that would answer each open question; ``None`` if 1,000 would not."""
    untold = find_untold(make_claims(estimates, rules, hidden_size), estimates, hidden_size)
    needed: dict[str, int | None] = dict.fromkeys(untold)
    for seeds, expected in with_more_seeds(estimates, rules, alpha):
        if None not in needed.values():
            break
        still_open = find_untold(make_claims(expected, rules, hidden_size), expected, hidden_size)
        needed |= {question: seeds for question in untold if question not in still_open and needed[question] is None}
    return needed


def with_more_seeds(
    estimates: Sequence[Estimate], rules: Rules, alpha: float
) -> Iterator[tuple[int, Sequence[Estimate]]]:
    """Numbers of seeds up to 1,000, with the estimates of runs that have the same quantiles."""
    compared = {one.nonlinear_units: one for one in estimates if one.compared}
    if len(compared) < 2:
        return
    samples = {
        p: np.sort([*(rules.sign * np.array([*one.scores.values()])), *[-math.inf] * one.diverged])
        for p, one in compared.items()
    }
    seeds = max(map(len, samples.values()))
    while seeds < _MOST_SEEDS:
        seeds = max(seeds + 1, int(seeds * _GROWTH))
        places = (np.arange(seeds) + 0.5) / seeds
        spread = {p: np.quantile(sample, places, method="inverted_cdf") for p, sample in samples.items()}
        measures = measure(spread, rules, alpha)
        yield (
            seeds,
            [one._replace(**measures[one.nonlinear_units]._asdict()) if one.compared else one for one in estimates],
        )
