"""The sentences of a verdict: each names what it is about and carries its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lightning_alrnn.sweep.claims import Claims, is_insufficient, is_sufficient
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.intervals import share_interval
from lightning_alrnn.sweep.learning_time import LearningTime
from lightning_alrnn.sweep.rules import Rules


def answer(claims: Claims, estimates: Sequence[Estimate], rules: Rules, alpha: float, hidden_size: int | None) -> str:
    """The claims at one size of training data and what they rest on, in a few sentences."""
    compared = [one for one in estimates if one.compared]
    most = max((one.tried for one in estimates), default=0)
    if not compared:
        return "P cannot be compared: there is no setting of what else was varied that each of them was run with."
    if len(compared) < 2:
        return f"There is nothing to compare P={compared[0].nonlinear_units} with: a claim needs two P or more."
    if most < fewest_seeds(alpha):
        return (
            f"Nothing can be told with {counted(most, 'seed')}: a claim needs at least "
            f"{fewest_seeds(alpha)} at the level {alpha:.3g}."
        )
    if all(math.isnan(one.typical) for one in compared):
        return "Nothing can be told: a typical run of each P diverges. A lower learning rate or clipping may help."
    sentences = [needed(claims, estimates, rules), enough(claims, estimates, rules)]
    if few := [one for one in estimates if not one.compared and one.nonlinear_units]:
        numbers = units([one.nonlinear_units for one in few])
        sentences.append(f"{numbers} {'has' if len(few) == 1 else 'have'} too few runs to be compared.")
    if claims.sparse_beats_full:
        sentences.append(sparse(claims, estimates, rules, hidden_size))
    if rules.exploratory:
        sentences.append(f"This is exploratory: the tolerance of {number(rules.tolerance)} is {rules.tolerance_rule}.")
    return " ".join(sentences)


def needed(claims: Claims, estimates: Sequence[Estimate], rules: Rules) -> str:
    """Whether nonlinearity is needed, in a sentence."""
    linear = next((one for one in estimates if one.nonlinear_units == 0), None)
    if linear is None or not linear.compared:
        why = "was not run" if linear is None else f"has {counted(linear.tried, 'run')}, too few to be compared"
        return f"Whether nonlinearity is needed cannot be told: P=0 {why}."
    if claims.nonlinearity_needed:
        return f"Nonlinearity is needed: {_falls_short(linear, rules)}."
    if claims.nonlinearity_needed is False:
        return (
            f"Nonlinearity is not needed in a typical run: one of P=0 {_gap(linear, rules)}, and "
            f"{_good(linear, rules)} (at least {percent(linear.share_low)})."
        )
    return (
        f"Whether nonlinearity is needed cannot be told: a typical run of P=0 {_gap(linear, rules)}, and "
        f"{_good(linear, rules)} ({percent(linear.share_low)} to {percent(linear.share_high)})."
    )


def enough(claims: Claims, estimates: Sequence[Estimate], rules: Rules) -> str:
    """Which P are enough, in a sentence or two."""
    chosen = [one for one in estimates if one.nonlinear_units in claims.sufficient]
    if not chosen:
        return f"Which P are enough cannot be told{_why_not(estimates, rules)}."
    several = len(chosen) > 1
    counts = list(dict.fromkeys(f"{one.good} of {one.tried}" for one in chosen))
    if len(counts) > 1:
        counts = [f"{one.good} of {one.tried}" for one in chosen]
    # a P may be the best itself
    worse = "worse than the best by" if any(one.gap for one in chosen) else "the best, or worse by"
    said = (
        f"{units([one.nonlinear_units for one in chosen])} {'are' if several else 'is'} enough in a typical run: "
        f"{worse} at most {number(max(one.gap_high for one in chosen))} (the tolerance is {number(rules.tolerance)}), "
        f"and {listed(counts)} {'runs of each' if several and len(counts) == 1 else 'runs'} {_verb(rules)} "
        f"(at least {percent(min(one.share_low for one in chosen))})."
    )
    smaller = [
        one.nonlinear_units
        for one in estimates
        if one.nonlinear_units < chosen[0].nonlinear_units and not is_insufficient(one, rules)
    ]
    if smaller:
        said += f" That {units(smaller, 'or')} is enough is not shown."
    return said


def sparse(claims: Claims, estimates: Sequence[Estimate], rules: Rules, hidden_size: int | None) -> str:
    """Whether fewer nonlinear units beat all of them, in a sentence."""
    full = next((one for one in estimates if one.nonlinear_units == hidden_size), None)
    if claims.sparse_beats_full and full is not None:
        return f"Fewer nonlinear units beat all of them: {_falls_short(full, rules)}."
    if claims.sparse_beats_full is False:
        return (
            f"Fewer nonlinear units do not beat all of them beyond the tolerance: P=M={hidden_size} is enough itself."
        )
    if hidden_size is None:
        why = "M is unknown or differs"
    elif full is None:
        why = f"P=M={hidden_size} was not run"
    else:
        reason = status(full, rules)
        may_be = f"is {reason}" if not full.compared else f"may be enough or not, {reason.removeprefix('not shown: ')}"
        why = f"P=M={hidden_size} {may_be}"
    return f"Whether fewer nonlinear units beat all of them cannot be told: {why}."


def status(estimate: Estimate, rules: Rules) -> str:
    """Whether P is "enough" or "not enough"; or "not shown", with what the runs leave possible."""
    if is_sufficient(estimate, rules):
        return "enough"
    if is_insufficient(estimate, rules):
        return "not enough"
    if not estimate.compared:
        return "not compared"
    reasons = []
    if estimate.gap_high > rules.margin:
        bounded = math.isfinite(estimate.gap_high)
        reasons.append(f"gap up to {number(estimate.gap_high)}" if bounded else "any gap")
    if estimate.share_high < 0.5:
        reasons.append(f"good runs at most {percent(estimate.share_high)}")
    elif estimate.share_low < 0.5:
        reasons.append(f"good runs from {percent(estimate.share_low)}")
    return f"not shown: {', '.join(reasons)}"


def learning(times: Sequence[LearningTime]) -> str:
    """Which P reach the threshold in validation, and how late, in a few sentences; "" without learning times."""
    if not times:
        return ""
    if not any(one.reached for one in times):
        return f"No run of any P reached the threshold within {counted(max(one.epochs for one in times), 'epoch')}."
    return " ".join([*_able(times), *_late(times), *_unable(times), *_untold(times)])


def learning_status(time: LearningTime) -> str:
    """Whether a P reaches the threshold and is late, such as "late" or "unable within 100 epochs"."""
    if time.reaches:
        return "late" if time.later else "reaches it"
    if time.reaches is False:
        return f"unable within {counted(time.epochs, 'epoch')}"
    return "late or unable" if time.later else "cannot be told"


def learning_span(time: LearningTime) -> str:
    """Epochs that a typical run takes to reach the threshold, such as "40 (31 to 52)" or "not within 100"."""
    said = f"not within {time.epochs}" if math.isinf(time.typical) else number(time.typical)
    if math.isinf(time.low):
        return said
    if math.isfinite(time.high):
        return f"{said} ({number(time.low)} to {number(time.high)})"
    return f"{said} ({f'at least {number(time.low)}' if time.low else 'no limits yet'})"


def with_size(said: str, train_size: int | None) -> str:
    """Sentences about one of several sizes of training data, with the size before them."""
    first = said[0] if said.startswith(("P=", "P ")) else said[0].lower()
    return f"With {train_size} training sequences, {first}{said[1:]}"


def fewest_seeds(alpha: float) -> int:
    """The fewest seeds at which all good runs, or none, show that a share lies on one side of a half.

    Example:
        >>> fewest_seeds(0.05), fewest_seeds(0.01)
        (5, 7)
    """
    seeds = 1
    while share_interval(seeds, seeds, alpha).low < 0.5:
        seeds += 1
    return seeds


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names with commas and a word before the last.

    Example:
        >>> listed(["0", "1", "5"])
        '0, 1 and 5'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def counted(count: int, noun: str) -> str:
    """A number of things, such as "1 run" or "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def units(numbers: Sequence[int], last: str = "and") -> str:
    """Several P, such as "P=1, 2 and 5"."""
    return f"P={listed([str(p) for p in numbers], last)}"


def number(value: float) -> str:
    """A number with three digits; a dash where it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent, such as "26 %"."""
    return f"{100 * share:.0f} %"


def _able(times: Sequence[LearningTime]) -> list[str]:
    """The P that reach the threshold, and the fastest of them."""
    able = [one for one in times if one.reaches]
    if not able:
        return []
    fastest = min(able, key=lambda one: one.typical)
    after = f"after {learning_span(fastest)} epochs"
    if len(able) > 1:
        after = f"the fastest here is P={fastest.nonlinear_units}, {after}"
    numbers = units([one.nonlinear_units for one in able])
    said = f"A typical run of {numbers} reaches the threshold{'; ' if len(able) > 1 else ' '}{after}."
    slower = [one.nonlinear_units for one in able if not one.later and one.typical > fastest.typical]
    slower = [p for p in slower if p < fastest.nonlinear_units]
    return [said, f"That {units(slower, 'or')} is later is not shown."] if slower else [said]


def _late(times: Sequence[LearningTime]) -> list[str]:
    """How late the P are that are shown to be."""
    late = [one for one in times if one.reaches and one.later]
    if not late:
        return []
    are, delays = "is" if len(late) == 1 else "are", listed([number(one.delay) for one in late])
    return [
        f"{units([one.nonlinear_units for one in late])} {are} late, not unable: a typical run takes "
        f"{listed([learning_span(one) for one in late])} epochs, at least {delays} more than one of the fastest P."
    ]


def _unable(times: Sequence[LearningTime]) -> list[str]:
    """The P of which fewer than half of the runs reach the threshold."""
    unable: dict[int, list[LearningTime]] = {}
    for one in times:
        if one.reaches is False:
            unable.setdefault(one.epochs, []).append(one)
    return [
        f"{units([one.nonlinear_units for one in same])} {'is' if len(same) == 1 else 'are'} unable within "
        f"{counted(epochs, 'epoch')}: a typical run does not reach the threshold ({_reached(same)} did)."
        for epochs, same in unable.items()
    ]


def _untold(times: Sequence[LearningTime]) -> list[str]:
    """The P of which it cannot be told whether more or less than half of the runs reach the threshold."""
    later, others = ([one for one in times if one.reaches is None and one.later is late] for late in (True, False))
    said = []
    if later:
        are = "is" if len(later) == 1 else "are"
        said.append(
            f"{units([one.nonlinear_units for one in later])} {are} later than the fastest P; whether late or unable "
            f"cannot be told ({_reached(later)} reached the threshold)."
        )
    if others:
        numbers = units([one.nonlinear_units for one in others], "or")
        said.append(
            f"Whether a typical run of {numbers} reaches the threshold cannot be told ({_reached(others)} did)."
        )
    return said


def _reached(times: Sequence[LearningTime]) -> str:
    """How many runs reached the threshold."""
    counts = [f"{one.reached} of {one.tried}" for one in times]
    if len(times) > 1 and len(set(counts)) == 1:
        return f"{counts[0]} runs of each"
    return f"{listed(counts)} runs"


def _falls_short(estimate: Estimate, rules: Rules) -> str:
    """How a P falls short."""
    count = f"{estimate.good} of {estimate.tried}"
    if estimate.diverged:
        count += f"; {estimate.diverged} diverged"
    return (
        f"a typical run of P={estimate.nonlinear_units} {_gap(estimate, rules)}, and at most "
        f"{percent(estimate.share_high)} of its runs {_verb(rules)} ({count})"
    )


def _gap(estimate: Estimate, rules: Rules) -> str:
    """How a typical run compares with the best, with limits and the tolerance."""
    if not math.isfinite(estimate.gap):
        return "diverges"
    if estimate.gap:
        said = f"is worse than the best by {number(estimate.gap)} ("
    else:
        said = "is as good as the best (" + ("worse by " if math.isfinite(estimate.gap_high) else "")
    return f"{said}{limits(estimate)}; the tolerance is {number(rules.tolerance)})"


def limits(estimate: Estimate) -> str:
    """The limits of a gap that there are, such as "0.149 to 0.158", "at most 0.02" or "at least 0.149"."""
    if math.isfinite(estimate.gap_high):
        high = number(estimate.gap_high)
        return f"{number(estimate.gap_low)} to {high}" if estimate.gap_low else f"at most {high}"
    return f"at least {number(estimate.gap_low)}" if estimate.gap_low else "no limits yet"


def _why_not(estimates: Sequence[Estimate], rules: Rules) -> str:
    """The P whose runs vary too much for their number, where that keeps all others from being bounded."""
    compared = [one for one in estimates if one.compared]
    wide = [one for one in compared if one.diverged or np.std([*one.scores.values()], ddof=1) > rules.tolerance]
    if any(math.isfinite(one.gap_high) for one in compared) or not wide:
        return ""
    names = units([one.nonlinear_units for one in wide])
    return f": runs of {names} differ by more than the tolerance, and there are too few to bound a typical one"


def _good(estimate: Estimate, rules: Rules) -> str:
    return f"{estimate.good} of its {estimate.tried} runs {_verb(rules)}"


def _verb(rules: Rules) -> str:
    return "solve the task" if rules.solved is not None else "do as well as the best"
