"""Measure how often a verdict is wrong, and how often it tells, on synthetic sweeps whose truth is known.

    python benchmarks/verdict_calibration.py             # 1,000 sweeps a cell; about 50 minutes on two cores
    python benchmarks/verdict_calibration.py --tables 50 # a glance

Each truth is judged at 3, 5, 10 and 20 seeds and 3, 5 and 7 values of P, and with ``--seeds 5..40``. A claim is false
if it contradicts the medians of the distributions that the scores are drawn from. The tolerance is 0.02. Claims on the
epochs to the threshold are judged in the same way, with truths for them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from common import RESULTS, save, table
from numpy.typing import NDArray
from tqdm import tqdm

from lightning_alrnn.sweep import Claims, LearningTime, Run, Verdict, judge
from lightning_alrnn.sweep.seeds import plan_looks

TOLERANCE, LEVEL = 0.02, 0.05
SEEDS, COLUMNS = (3, 5, 10, 20), (3, 5, 7)
LOOKS = plan_looks(5, 40)
CLAIMS = ("needed", "not needed", "enough", "few beat all")
LEARNING = ("later", "unable", "reaches")
EPOCHS = 100

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Scores]


class Truth(NamedTuple):
    """A distribution of scores, ``(seeds, columns)``: −∞ for a run that diverged, NaN for one that is missing.

    Of a truth about learning times the epochs to the threshold are drawn instead, and scores are noise.
    """

    name: str
    draw: Draw
    boundary: bool = False  # a gap equals the tolerance, or within 0.0001: all P are enough
    settings: int = 1  # that each P chooses from, all alike; the validation score is the test's
    sizes: int = 1  # of training data, all alike
    every: int = 0  # epochs between validations, of a truth about learning times
    stopped: bool = False  # runs end early, after 10 epochs or more

    @property
    def claims(self) -> tuple[str, ...]:
        """Claims that may be false."""
        return LEARNING if self.every else CLAIMS


def each(draw: Callable[[np.random.Generator, tuple[int, int]], Scores]) -> Draw:
    """A distribution of the shape of a sweep, the same for all columns."""
    return lambda rng, seeds, columns: draw(rng, (seeds, columns))


def first(draw_first: Draw, draw_rest: Draw, count: int = 1) -> Draw:
    """The first columns from one distribution, the others from another; a count of 99 is all but the last."""

    def draw(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
        number = min(count, columns - 1)
        return np.hstack([draw_first(rng, seeds, number), draw_rest(rng, seeds, columns - number)])

    return draw


def two(share: float, low: float, high: float = 0.95) -> Draw:
    """Scores at two peaks, the upper one with a probability."""
    return each(lambda rng, s: np.where(rng.random(s) < share, high, low) + 0.004 * rng.normal(size=s))


def steady(centre: float, deviation: float = 0.004) -> Draw:
    """Normal scores."""
    return each(lambda rng, shape: centre + deviation * rng.normal(size=shape))


def noise(kind: str, centre: float, deviation: float) -> Draw:
    """Scores of a shape, with their median at the centre."""
    shapes: dict[str, Callable[[np.random.Generator, tuple[int, int]], Scores]] = {
        "t with 2 degrees": lambda rng, shape: rng.standard_t(2, size=shape) / 2,
        "Cauchy": lambda rng, shape: 0.4 * rng.standard_cauchy(size=shape),
        "skewed to the left": lambda rng, shape: math.log(2) - rng.exponential(size=shape),
        "skewed to the right": lambda rng, shape: rng.exponential(size=shape) - math.log(2),
        "uniform": lambda rng, shape: math.sqrt(3) * rng.uniform(-1, 1, size=shape),
    }
    return each(lambda rng, shape: centre + deviation * shapes[kind](rng, shape))


def behind(kind: str, count: int) -> Draw:
    """The first columns worse by 1.01 tolerances."""
    return first(noise(kind, 0.8798, 0.01), noise(kind, 0.9, 0.01), count)


def diverging(share: float, centre: float) -> Draw:
    """Normal scores, a share of them diverged."""
    return each(
        lambda rng, s: np.where(rng.random(s) < share, -math.inf, centre + 0.01 * rng.normal(size=s)),
    )


def by_seed(effect: float, draw_scores: Draw) -> Draw:
    """Scores that the data of a seed shift for all P alike."""
    return lambda rng, seeds, columns: draw_scores(rng, seeds, columns) + effect * rng.normal(size=(seeds, 1))


def easy_seeds(share: float) -> Draw:
    """All P at one of two peaks, the same for all P of a seed."""
    return lambda rng, seeds, columns: (
        np.where(rng.random((seeds, 1)) < share, 0.95, 0.75) + 0.004 * rng.normal(size=(seeds, columns))
    )


def counts(correct: float) -> Draw:
    """Accuracies on 200 test trials."""
    return each(lambda rng, shape: rng.binomial(200, correct, size=shape) / 200)


def missing(draw_scores: Draw, share: float = 0.15) -> Draw:
    """Scores of which some are missing, as their runs failed."""

    def draw(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
        scores = draw_scores(rng, seeds, columns)
        scores[rng.random(scores.shape) < share] = math.nan
        return scores

    return draw


def steps(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
    """Scores that rise by 0.8 of the tolerance from each P to the next."""
    return steady(0.9, 0.006)(rng, seeds, columns) + 0.8 * TOLERANCE * np.arange(columns)


def spread(log_deviation: float | Sequence[float], centre: float = 29.5, tail: str = "normal") -> Draw:
    """Epochs around the same median, with the same spread on a logarithmic scale or another one for each P."""

    def draw(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
        shape = (seeds, columns)
        noise = rng.normal(size=shape) if tail == "normal" else rng.standard_cauchy(shape)
        return centre * np.exp(np.clip(np.resize(log_deviation, columns) * noise, -9, 9))

    return draw


def nested(*, closer: bool = False, middle: float = 0.02) -> Draw:
    """Epochs at two equally likely peaks, further apart for each P, or closer; the rest are at the median."""

    def draw(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
        distances = 5.0 * np.arange(1, columns + 1)
        side = np.where(rng.random((seeds, columns)) < middle, 0, rng.choice((-1, 1), size=(seeds, columns)))
        return 50 + (distances[::-1] if closer else distances) * side

    return draw


def reaching(share: float, draw_epochs: Draw) -> Draw:
    """Epochs of which a share is within what runs are trained for; the others never reach the threshold."""

    def draw(rng: np.random.Generator, seeds: int, columns: int) -> Scores:
        epochs = np.minimum(draw_epochs(rng, seeds, columns), EPOCHS)
        return np.where(rng.random(epochs.shape) < share, epochs, math.inf)

    return draw


def apart(share: float, fast: float, slow: float) -> Draw:
    """Epochs at two peaks, the faster one with a probability."""
    return each(lambda rng, shape: np.where(rng.random(shape) < share, fast, slow))


def by_the_seed(draw_epochs: Draw) -> Draw:
    """Epochs that are the same for all P of a seed."""
    return lambda rng, seeds, columns: np.repeat(draw_epochs(rng, seeds, 1), columns, axis=1)


def seeds_alike(draw_epochs: Draw, factor: float) -> Draw:
    """Epochs that the data of a seed scale for all P alike."""
    return lambda rng, seeds, columns: draw_epochs(rng, seeds, columns) * np.exp(factor * rng.normal(size=(seeds, 1)))


never = each(lambda rng, shape: np.full(shape, math.inf))
"""No run reaches the threshold."""

border = partial(Truth, boundary=True)
late = partial(Truth, every=1)

NULLS = (
    Truth("P=0 fails in 10 % of its runs, mean 0.03 worse", first(two(0.9, 0.65), steady(0.95))),
    border("P=0 steady at .85, the others .75 or .95 half and half", first(steady(0.85), two(0.5, 0.75))),
    border("the same with one such other", first(steady(0.85), two(0.5, 0.75), 99)),
    Truth("P=0 steady at .85, the others .95 in 55 %", first(steady(0.85), two(0.55, 0.75))),
    Truth("P=0 steady at .85, the others .95 in 45 %", first(steady(0.85), two(0.45, 0.75))),
    Truth("P=0 diverges in 40 % of runs", first(diverging(0.4, 0.9), steady(0.9, 0.01))),
    Truth("P=0 diverges in 60 % of runs", first(diverging(0.6, 0.9), steady(0.9, 0.01))),
    Truth("the others diverge in 40 %, P=0 is 0.03 worse", first(steady(0.87, 0.01), diverging(0.4, 0.9))),
    Truth("P=0 solves 20 %, others 95 %", first(two(0.2, 0.5), two(0.95, 0.5))),
    Truth("P=1 solves 70 %, others 95 %", first(first(two(0.1, 0.5), two(0.7, 0.5)), two(0.95, 0.5), 2)),
    Truth("P=0 solves 45 %, others 95 %", first(two(0.45, 0.5), two(0.95, 0.5))),
    Truth("P=0 solves 55 %, others 95 %", first(two(0.55, 0.5), two(0.95, 0.5))),
    Truth("all but the largest P solve 45 %, it 95 %", first(two(0.45, 0.5), two(0.95, 0.5), 99)),
    Truth("all but the largest P solve 45 %, it 55 %", first(two(0.45, 0.5), two(0.55, 0.5), 99)),
    Truth("peaks 1.75 tolerances apart: 45 % against 55 %", first(two(0.45, 0.915), two(0.55, 0.915), 99)),
    Truth("peaks 2.5 tolerances apart: 45 % against 75 %", first(two(0.45, 0.9), two(0.75, 0.9), 2)),
    Truth("all steady 1.05 tolerances below one that fails in 10 %", first(steady(0.929, 0.002), two(0.9, 0.9), 99)),
    Truth("all steady 1.05 tolerances below one that fails in 40 %", first(steady(0.928, 0.002), two(0.6, 0.75), 99)),
    border("worse by exactly the tolerance, sd .01", first(steady(0.88, 0.01), steady(0.9, 0.01))),
    Truth(
        "worse by exactly the tolerance, sd .03 and .003", first(steady(0.88, 0.03), steady(0.9, 0.003)), boundary=True
    ),
    Truth("all but one worse by 1.01 tolerances, sd .01", first(steady(0.8798, 0.01), steady(0.9, 0.01), 99)),
    Truth("all but one worse by 1.01 tolerances, sd .003, it .03", first(steady(0.8798, 0.003), steady(0.9, 0.03), 99)),
    Truth("the same, skewed to the right", first(steady(0.8798, 0.003), noise("skewed to the right", 0.9, 0.03), 99)),
    Truth("the same, skewed to the left", first(steady(0.8798, 0.003), noise("skewed to the left", 0.9, 0.03), 99)),
    Truth("half of P worse by 1.01 tolerances, t with 2 degrees", behind("t with 2 degrees", 3)),
    Truth("all but one worse by 1.01 tolerances, Cauchy", behind("Cauchy", 99)),
    Truth("all but one worse by 1.01 tolerances, uniform", behind("uniform", 99)),
    border(
        "P=0 skewed to the left, within the tolerance", first(noise("skewed to the left", 0.881, 0.03), steady(0.9))
    ),
    Truth("each P better by 0.8 tolerances", steps),
    Truth(
        "seeds differ by .03, P=0 worse by 1.01 tolerances",
        by_seed(0.03, first(steady(0.8798, 0.006), steady(0.9, 0.006))),
    ),
    border(
        "seeds differ by .1, P=0 worse by the tolerance", by_seed(0.1, first(steady(0.88, 0.006), steady(0.9, 0.006)))
    ),
    Truth("the seed decides for all P ≥ 1 (45 %), P=0 .95 in 55 %", first(two(0.55, 0.75), easy_seeds(0.45))),
    Truth("ties on 200 trials, P=0 worse by 5", first(counts(0.895), counts(0.92))),
    border("ties on 200 trials, worse by the tolerance", first(counts(0.90), counts(0.92))),
    Truth("15 % of runs missing, P=0 solves 45 %", missing(first(two(0.45, 0.5), two(0.95, 0.5)))),
    Truth("three settings, P=0 solves 45 %", first(two(0.45, 0.5), two(0.95, 0.5)), settings=3),
    Truth("three settings, others .95 in 45 %, P=0 steady at .85", first(steady(0.85), two(0.45, 0.75)), settings=3),
    Truth("two settings, worse by 1.01 tolerances, sd .01", first(steady(0.8798, 0.01), steady(0.9, 0.01)), settings=2),
    Truth("two sizes of data, all but the largest P solve 45 %", first(two(0.45, 0.5), two(0.95, 0.5), 99), sizes=2),
)
LATE_NULLS = (
    late("epochs alike", spread(0.3)),
    Truth("epochs alike, a validation every 5", spread(0.15), every=5),
    late("epochs alike, heavy tails", spread(0.5, tail="Cauchy")),
    late("epochs alike, runs end early", spread(0.3), stopped=True),
    late("epochs alike, 15 % of runs missing", missing(spread(0.3))),
    late("epochs alike, the seed makes them more or fewer", seeds_alike(spread(0.2), 0.5)),
    late("epochs alike, two sizes of data", spread(0.3), sizes=2),
    late("epochs alike, three settings", spread(0.3), settings=3),
    late("medians equal, spreads .05 and 1 in turn", spread((0.05, 1.0))),
    late("medians equal, P=0 spread by 1, the others by .1", first(spread(1.0), spread(0.1))),
    late("medians equal, P=0 spread by .1, the others by 1", first(spread(0.1), spread(1.0))),
    late("medians equal, two peaks further apart by P", nested()),
    late("medians equal, two peaks closer by P", nested(closer=True)),
    late("P=0 steady, the others at two peaks", first(spread(0.02, 49.5), nested())),
    late(
        "the seed decides for all P ≥ 1 (45 % fast), P=0 fast in 55 %",
        first(apart(0.55, 30, 90), by_the_seed(apart(0.45, 20, 80))),
    ),
    late("P=0 never, two peaks further apart by P", first(never, nested())),
    late("P=0 and 1 late, the others alike", first(spread(0.1, 79.5), spread(0.3), 2)),
    late("P=0 faster by 2 epochs, spread by .5", first(spread(0.5, 27.5), spread(0.5))),
    late("all reach it in 55 %", reaching(0.55, spread(0.3, 29.2))),
    late("all reach it in 45 %", reaching(0.45, spread(0.3))),
    late(
        "P=0 reaches it in 55 %, late, the others in 45 %",
        first(reaching(0.55, spread(0.1, 79.5)), reaching(0.45, spread(0.3))),
    ),
    late(
        "all but the largest P reach it in 45 %, it in 55 %",
        first(reaching(0.45, spread(0.3)), reaching(0.55, spread(0.3)), 99),
    ),
    late("P=0 and 1 never, the others in 55 %", first(never, reaching(0.55, spread(0.3, 29.2)), 2)),
    late("P=0 and 1 in 45 %, the others always", first(reaching(0.45, spread(0.3)), spread(0.3), 2)),
    late("all reach it in 45 %, runs end early", reaching(0.45, spread(0.3)), stopped=True),
    Truth(
        "P=0 diverges in 40 % of runs, faster in the others", first(diverging(0.4, 30.0), spread(0.3, 33.5)), every=1
    ),
)
POWERS = (
    Truth("P=0 solves nothing, the others 90 %", first(steady(0.5), two(0.9, 0.5))),
    Truth("all P equal, sd .01", steady(0.9, 0.01)),
    Truth("all P equal, sd .005", steady(0.9, 0.005)),
    Truth(
        "digits: .944 ± .004, .951 ± .013, .962 ± .016",
        first(first(steady(0.944, 0.004), steady(0.951, 0.013)), steady(0.962, 0.016), 2),
    ),
    Truth("P=0 worse by 0.05, sd .01", first(steady(0.85, 0.01), steady(0.9, 0.01))),
)
LATE_POWER = late(
    "P=0 never, P=1 after 60 epochs, the others after 30, each but one in 20",
    first(first(never, reaching(0.95, spread(0.15, 59.5))), reaching(0.95, spread(0.15)), 2),
)

TRUTHS = (*NULLS, *POWERS, *LATE_NULLS, LATE_POWER)


class Counts(NamedTuple):
    """Numbers of sweeps of a cell in which each claim is false, and in which each answer is told."""

    false: dict[str, int]
    told: dict[str, int]
    by_gap_alone: tuple[int, int]  # the gap alone would name a sufficient set, and a false one
    seeds: list[int]


def runs_of(truth: Truth, rng: np.random.Generator, seeds: int, columns: int) -> list[Run]:
    """The runs of a sweep."""
    runs = []
    for setting, size in itertools.product(range(truth.settings), range(truth.sizes)):
        scores = truth.draw(rng, seeds, columns)
        epochs: NDArray[np.float64] | None = None
        if truth.every:
            epochs = gridded(scores, truth.every)
            scores = np.where(np.isfinite(scores) | (scores > 0), 0.5 + 0.1 * rng.normal(size=scores.shape), scores)
        settings: dict[str, Any] = {"model.init": str(setting)} if truth.settings > 1 else {}
        settings |= {"data.train_size": 100 * (size + 1)} if truth.sizes > 1 else {}
        for seed, row in enumerate(scores.tolist()):
            for units, score in enumerate(row):
                metrics = {"test/accuracy": score, "val/accuracy": score} if math.isfinite(score) else {}
                run = Run("ALRNN", units, seed, settings, metrics, score == -math.inf, columns - 1)
                if epochs is not None:
                    end = int(rng.integers(10, EPOCHS + 1)) if truth.stopped else EPOCHS
                    reached = int(epochs[seed, units]) if epochs[seed, units] <= end else None
                    run = run._replace(epochs_to_threshold=reached, epochs=end)
                runs.append(run)
    return runs


def gridded(epochs: Scores, every: int) -> Scores:
    """Epochs at which validations see the threshold reached; infinite if none does, or the run diverged."""
    seen = every * np.ceil(np.maximum(epochs, 1) / every)
    return np.where((seen <= EPOCHS) & (epochs > -math.inf), seen, np.where(np.isnan(epochs), math.nan, math.inf))


def medians(draw: Draw, columns: int) -> Scores:
    """Medians of each P over 200,000 runs, of those that are not missing."""
    samples = draw(np.random.default_rng(0), 200_000, columns).T
    finite = [np.sort(column[~np.isnan(column)]) for column in samples]
    return np.array([column[len(column) // 2] for column in finite])


def typical_epochs(truth: Truth, columns: int) -> Scores:
    """Epochs of a typical run of each P."""
    return medians(lambda *size: gridded(truth.draw(*size), truth.every), columns)


def sufficient(truth: Truth, columns: int) -> NDArray[np.bool_]:
    """Whether each P is enough in truth."""
    if truth.boundary or truth.every:
        return np.ones(columns, dtype=bool)
    typical = medians(truth.draw, columns)
    enough: NDArray[np.bool_] = typical.max() - typical <= TOLERANCE
    return enough


def is_false(claims: Claims, enough: NDArray[np.bool_]) -> dict[str, bool]:
    """Which claims contradict the truth."""
    return {
        "needed": claims.nonlinearity_needed is True and bool(enough[0]),
        "not needed": claims.nonlinearity_needed is False and not enough[0],
        "enough": any(not enough[p] for p in claims.sufficient),
        "few beat all": claims.sparse_beats_full is True and bool(enough[-1]),
    }


def is_false_of_epochs(times: Sequence[LearningTime], typical: Scores) -> dict[str, bool]:
    """Which claims on learning times contradict the truth."""
    return {
        "later": any(one.later and typical[p] <= typical.min() for p, one in enumerate(times)),
        "unable": any(one.reaches is False and typical[p] <= one.epochs for p, one in enumerate(times)),
        "reaches": any(one.reaches is True and math.isinf(typical[p]) for p, one in enumerate(times)),
    }


def looked_at(runs: Sequence[Run], seeds: int | None) -> Iterator[tuple[int, Verdict]]:
    """The verdict on a fixed number of seeds, or those at each look until everything is told."""
    if seeds is not None:
        yield seeds, judge(runs, tolerance=TOLERANCE, alpha=LEVEL)
        return
    for look in LOOKS:
        verdict = judge([run for run in runs if run.seed < look], tolerance=TOLERANCE, alpha=LEVEL / len(LOOKS))
        yield look, verdict
        if not verdict.untold:
            return


def count(task: tuple[str, int | None, int, int]) -> Counts:
    """Judge the sweeps of a cell: a truth, a number of seeds (``None`` for 5..40), a number of P."""
    name, seeds, columns, tables = task
    truth = next(one for one in TRUTHS if one.name == name)
    enough = sufficient(truth, columns)
    typical = typical_epochs(truth, columns) if truth.every else np.empty(0)
    rng = np.random.default_rng(zlib.crc32(repr(task).encode()))
    false = dict.fromkeys(truth.claims, 0)
    told = dict.fromkeys(("needed", "a sufficient set", "P=0 in it", "everything"), 0)
    told |= dict.fromkeys(("P=0 unable", "P=1 later", "P=1 late", "P>1 reach it"), 0) if truth.every else {}
    named, named_falsely = 0, 0
    lengths = []
    for _ in range(tables):
        runs = runs_of(truth, rng, seeds or LOOKS[-1], columns)
        if not any(run.metrics for run in runs):
            continue
        wrong: set[str] = set()
        judged = seeds or 0
        for judged, verdict in looked_at(runs, seeds):  # noqa: B007
            for size in verdict.sizes:  # a claim that is withdrawn at a later look was made all the same
                late = is_false_of_epochs(size.learning_times, typical) if truth.every else {}
                claims = late or is_false(size.claims, enough)
                wrong |= {claim for claim, is_wrong in claims.items() if is_wrong}
        for claim in wrong:
            false[claim] += 1
        told["needed"] += verdict.claims.nonlinearity_needed is True
        told["a sufficient set"] += bool(verdict.claims.sufficient)
        told["P=0 in it"] += 0 in verdict.claims.sufficient
        told["everything"] += not verdict.untold
        if truth.every:
            times = verdict.learning_times
            told["P=0 unable"] += times[0].reaches is False
            told["P=1 later"] += times[1].later
            told["P=1 late"] += times[1].later and times[1].reaches is True
            told["P>1 reach it"] += all(one.reaches for one in times[2:])
        alone = [one.nonlinear_units for one in verdict.estimates if one.gap_high <= verdict.rules.margin]
        named += bool(alone)
        named_falsely += any(not enough[p] for p in alone)
        lengths.append(judged)
    return Counts(false, told, (named, named_falsely), lengths)


def power_limit(columns: int = 7, seeds: int = 5, draws: int = 400_000) -> float:
    """The most often that a procedure of the level can claim P=0 to be enough if all P are equal, sd .01.

    By Neyman and Pearson, this is the power of the most powerful test of one case in which P=0 is not enough: a quarter
    of the tolerance below the others but one (unknown which), which is three quarters above them; the sd is known.
    """
    scale = TOLERANCE / 0.01 * math.sqrt(seeds)
    rng = np.random.default_rng(0)

    def likelihood(means: Scores) -> Scores:
        centred = means - means.mean(axis=1, keepdims=True)
        logs = []
        for best in range(1, columns):
            shift = np.zeros(columns)
            shift[0], shift[best] = -0.25 * scale, 0.75 * scale
            shift -= shift.mean()
            logs.append(centred @ shift - 0.5 * shift @ shift)
        return np.logaddexp.reduce(logs, axis=0)

    equal, shifted = rng.normal(size=(2, draws, columns))
    shifted[:, 0] -= 0.25 * scale
    shifted[:, 1] += 0.75 * scale
    return float((likelihood(equal) <= np.quantile(likelihood(shifted), LEVEL)).mean())


def main() -> None:
    """Judge all cells; print, and write the tables and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000, help="sweeps of each cell")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    tasks = [
        (truth.name, seeds, columns, options.tables)
        for truth in TRUTHS
        for seeds in (*SEEDS, None)
        for columns in COLUMNS
    ]
    with multiprocessing.Pool(options.jobs) as pool:
        results = dict(zip(tasks, tqdm(pool.imap(count, tasks), total=len(tasks), unit="cell"), strict=True))
    write(results, options.tables)


def write(results: dict[tuple[str, int | None, int, int], Counts], tables: int) -> None:
    """Print and write the tables of false claims and of power."""
    bound = LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / tables)
    limit = power_limit()
    cells = [
        {
            "truth": name,
            "seeds": seeds or f"5..{LOOKS[-1]}",
            "columns": columns,
            "tables": tables,
            "false": {claim: number / tables for claim, number in result.false.items()},
            "told": {claim: number / tables for claim, number in result.told.items()},
            "by_gap_alone": [number / tables for number in result.by_gap_alone],
            "mean_seeds": float(np.mean(result.seeds)) if result.seeds else None,
        }
        for (name, seeds, columns, _), result in results.items()
    ]
    over = [cell for cell in cells if max(cell["false"].values()) > bound]
    rows = []
    for truth in (*NULLS, *LATE_NULLS):
        row = [truth.name]
        for seeds in (*SEEDS, None):
            worst = max(
                (number, claim)
                for columns in COLUMNS
                for claim, number in results[(truth.name, seeds, columns, tables)].false.items()
            )
            row.append(f"{worst[0] / tables:.3f}" + (f" {worst[1]}" if worst[0] / tables > bound else ""))
        lengths = [seed for columns in COLUMNS for seed in results[(truth.name, None, columns, tables)].seeds]
        rows.append([*row, f"{np.mean(lengths):.0f}"])
    heads = ["truth", *(f"{seeds} seeds" for seeds in SEEDS), f"5..{LOOKS[-1]}", "mean seeds of 5..40"]
    alone = max(cell["by_gap_alone"][1] for cell in cells)
    text = (
        f"The largest rate of a false claim over 3, 5 and 7 P; {tables} sweeps a cell, level {LEVEL}, so that up to "
        f"{bound:.4f} is chance. Cells above: {len(over)} of {len(cells)}."
    )
    data = {"bound": bound, "false_by_gap_alone": alone, "looks": LOOKS, "over": over, "cells": cells}
    save("verdict_calibration", text, heads, rows, data | {"power_limit": limit})
    head = ["truth", "seeds × P", "needed", "a sufficient set", "P=0 in it", "everything", "a set by the gap alone"]
    head.append("mean seeds")
    sizes = list(itertools.product((5, 10, 20, None), (3, 7)))
    rows, late = [], []
    for truth in POWERS:
        for seeds, columns in sizes:
            result = results[(truth.name, seeds, columns, tables)]
            shown = [f"{number / tables:.2f}" for number in (*result.told.values(), result.by_gap_alone[0])]
            rows.append([truth.name, f"{seeds or '5..40'} × {columns}", *shown, f"{np.mean(result.seeds):.0f}"])
    names = ("P=0 unable", "P=1 later", "P=1 late", "P>1 reach it")
    for seeds, columns in sizes:
        told = results[(LATE_POWER.name, seeds, columns, tables)].told
        late.append([f"{seeds or '5..40'} × {columns}", *(f"{told[name] / tables:.2f}" for name in names)])
    lines = [
        f"What is told, as a share of the sweeps. Of all procedures of the level none could have P=0 in the set more "
        f"often than {limit:.2f} where all P are equal, sd .01, at 5 × 7. The gap alone, without the share of good "
        f"runs, would name more sets, and false ones in up to {alone:.0%} of the sweeps of a cell.",
        "",
        *table(head, rows),
        "",
        f"The same of learning times: {LATE_POWER.name}.",
        "",
        *table(["seeds × P", *names], late),
    ]
    (RESULTS / "verdict_power.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(["", *lines]))
    print(json.dumps(over, indent=1) if over else "\nno cell above the bound")


if __name__ == "__main__":
    main()
