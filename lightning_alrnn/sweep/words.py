"""The sentences of a verdict: each says what it is about and carries its interval."""

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
    """The claims at one size of training data, and the estimates that they rest on."""
    compared = [one for one in estimates if one.compared]
    most, fewest = max((one.tried for one in estimates), default=0), fewest_seeds(alpha)
    if not compared:
        return "The P cannot be compared: no combination of the other settings was run with every P."
    if len(compared) < 2:
        return f"P={compared[0].nonlinear_units} cannot be compared: a claim needs at least two P."
    if most < fewest:
        seeds = counted(most, "seed")
        return f"No claim can be made with {seeds}: a claim at the level {alpha:.3g} needs at least {fewest} seeds."
    if all(math.isnan(one.typical) for one in compared):
        return (
            "No claim can be made: a typical run of every P diverges. Try a lower learning rate or gradient clipping."
        )
    sentences = [needed(claims, estimates, rules), enough(claims, estimates, rules)]
    if few := [one.nonlinear_units for one in estimates if not one.compared and one.nonlinear_units]:
        sentences.append(f"{units(few)} {'has' if len(few) == 1 else 'have'} too few runs to be compared.")
    if claims.sparse_beats_full:
        sentences.append(sparse(claims, estimates, rules, hidden_size))
    if rules.exploratory:
        sentences.append(f"This is exploratory: the tolerance of {number(rules.tolerance)} is {rules.tolerance_rule}.")
    return " ".join(sentences)


def needed(claims: Claims, estimates: Sequence[Estimate], rules: Rules) -> str:
    """Whether nonlinearity is needed."""
    linear = next((one for one in estimates if one.nonlinear_units == 0), None)
    if linear is None or not linear.compared:
        why = "was not run" if linear is None else f"has {counted(linear.tried, 'run')}, too few to be compared"
        return f"The runs do not show whether nonlinearity is needed: P=0 {why}."
    if claims.nonlinearity_needed:
        return f"Nonlinearity is needed: {_falls_short(linear, rules)}."
    said, limit = "The runs do not show whether nonlinearity is needed", share(linear)
    if claims.nonlinearity_needed is False:
        said, limit = "Nonlinearity is not needed in a typical run", f"at least {percent(linear.share_low)}"
    return (
        f"{said}: a typical run of P=0 {_gap(linear, rules)}, and {linear.good} of its {linear.tried} runs "
        f"{_verb(rules)} ({limit})."
    )


def enough(claims: Claims, estimates: Sequence[Estimate], rules: Rules) -> str:
    """Which P are enough."""
    chosen = [one for one in estimates if one.nonlinear_units in claims.sufficient]
    if not chosen:
        return f"The runs do not show which P are enough{_why_not(estimates, rules)}."
    said = (
        f"{units(claims.sufficient)} {_are(chosen)} enough in a typical run: it is worse than the best by at most "
        f"{number(max(one.gap_high for one in chosen))} (the tolerance is {number(rules.tolerance)}), and "
        f"{_counts([(one.good, one.tried) for one in chosen])} {_verb(rules)} "
        f"(at least {percent(min(one.share_low for one in chosen))})."
    )
    smaller = [
        one.nonlinear_units
        for one in estimates
        if one.nonlinear_units < chosen[0].nonlinear_units and not is_insufficient(one, rules)
    ]
    return f"{said} The runs do not show that {units(smaller, 'or')} is enough." if smaller else said


def sparse(claims: Claims, estimates: Sequence[Estimate], rules: Rules, hidden_size: int | None) -> str:
    """Whether fewer nonlinear units beat all of them."""
    full = next((one for one in estimates if one.nonlinear_units == hidden_size), None)
    if claims.sparse_beats_full and full is not None:
        return f"Fewer nonlinear units beat all of them: {_falls_short(full, rules)}."
    if claims.sparse_beats_full is False:
        return f"Fewer nonlinear units do not beat all of them by more than the tolerance: P=M={hidden_size} is enough."
    if hidden_size is None:
        why = "M is unknown or differs between runs"
    elif full is None:
        why = f"P=M={hidden_size} was not run"
    elif not full.compared:
        why = f"P=M={hidden_size} is not compared"
    else:
        why = f"P=M={hidden_size} may be enough or not ({status(full, rules).removeprefix('not shown: ')})"
    return f"The runs do not show whether fewer nonlinear units beat all of them: {why}."


def beaten_by(estimates: Sequence[Estimate], names: Sequence[str], levels: Sequence[float], rules: Rules) -> str:
    """Which baselines, by their typical scores, are at least as good as the typical run of the best P; "" if none."""
    typical = [one.typical for one in estimates if math.isfinite(one.typical)]
    best = max(typical, key=lambda score: rules.sign * score, default=math.nan)
    better = [
        f"{name} ({number(level)})"
        for name, level in zip(names, levels, strict=True)
        if rules.sign * (level - best) >= 0
    ]
    return f"A typical run of the best P ({number(best)}) is no better than {listed(better, 'or')}." if better else ""


def status(estimate: Estimate, rules: Rules) -> str:
    """Whether P is "enough" or "not enough"; or "not shown", followed by the limits that leave it open."""
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
    """Which P reach the threshold in validation, and how late; "" without learning times."""
    if not times:
        return ""
    if not any(one.reached for one in times):
        return f"No run of any P reached the threshold within {counted(max(one.epochs for one in times), 'epoch')}."
    return " ".join([*_able(times), *_late(times), *_unable(times), *_open(times)])


def learning_status(time: LearningTime) -> str:
    """Whether a P reaches the threshold and is late, such as "late" or "unable within 100 epochs"."""
    if time.reaches:
        return "late" if time.later else "reaches it"
    if time.reaches is False:
        return f"unable within {counted(time.epochs, 'epoch')}"
    return "late or unable" if time.later else "cannot be told"


def learning_span(time: LearningTime) -> str:
    """Epochs until a typical run reaches the threshold, such as "40 (31 to 52)" or "not within 100"."""
    said = f"not within {time.epochs}" if math.isinf(time.typical) else number(time.typical)
    if math.isinf(time.low):
        return said
    if math.isfinite(time.high):
        return f"{said} ({number(time.low)} to {number(time.high)})"
    return f"{said} ({f'at least {number(time.low)}' if time.low else 'no limits yet'})"


def with_size(said: str, train_size: int | None) -> str:
    """Sentences about one of several sizes of training data, which stands before them."""
    first = said[0] if said.startswith(("P=", "P ")) else said[0].lower()
    return f"With {train_size} training sequences, {first}{said[1:]}"


def fewest_seeds(alpha: float) -> int:
    """The fewest seeds that can show that a share lies on one side of a half; 5 at the level 0.05."""
    seeds = 1
    while share_interval(seeds, seeds, alpha).low < 0.5:
        seeds += 1
    return seeds


def listed(names: Sequence[object], last: str = "and") -> str:
    """Names with commas, and a word before the last.

    Example:
        >>> listed([0, 1, 5])
        '0, 1 and 5'
    """
    *most, end = map(str, names)
    return f"{', '.join(most)} {last} {end}" if most else end


def counted(count: int, noun: str) -> str:
    """A number of things, such as "1 run" or "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def units(numbers: Sequence[int], last: str = "and") -> str:
    """Several P, such as "P=1, 2 and 5"."""
    return f"P={listed(numbers, last)}"


def number(value: float) -> str:
    """A number with three digits; a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share in percent, such as "26 %"."""
    return f"{100 * value:.0f} %"


def share(estimate: Estimate) -> str:
    """The limits of the share of good runs, such as "26 % to 74 %"."""
    return f"{percent(estimate.share_low)} to {percent(estimate.share_high)}"


def limits(estimate: Estimate) -> str:
    """The limits of a gap, such as "0.149 to 0.158", "at most 0.02" or "at least 0.149"."""
    if math.isfinite(estimate.gap_high):
        high = number(estimate.gap_high)
        return f"{number(estimate.gap_low)} to {high}" if estimate.gap_low else f"at most {high}"
    return f"at least {number(estimate.gap_low)}" if estimate.gap_low else "no limits yet"


def _able(times: Sequence[LearningTime]) -> list[str]:
    able = [one for one in times if one.reaches]
    if not able:
        return []
    fastest = min(able, key=lambda one: one.typical)
    after = f"after {learning_span(fastest)} epochs"
    if len(able) > 1:
        after = f"the fastest of these is P={fastest.nonlinear_units}, {after}"
    said = f"A typical run of {_units(able)} reaches the threshold{'; ' if len(able) > 1 else ' '}{after}."
    slower = [one for one in able if not one.later and one.typical > fastest.typical]
    slower = [one for one in slower if one.nonlinear_units < fastest.nonlinear_units]
    return [said, f"The runs do not show that {_units(slower, 'or')} is later."] if slower else [said]


def _late(times: Sequence[LearningTime]) -> list[str]:
    late = [one for one in times if one.reaches and one.later]
    if not late:
        return []
    spans, delays = map(listed, ([learning_span(one) for one in late], [number(one.delay) for one in late]))
    return [
        f"{_units(late)} {_are(late)} late, not unable: a typical run takes {spans} epochs, at least {delays} more "
        "than a typical run of the fastest P."
    ]


def _unable(times: Sequence[LearningTime]) -> list[str]:
    unable: dict[int, list[LearningTime]] = {}
    for one in times:
        if one.reaches is False:
            unable.setdefault(one.epochs, []).append(one)
    return [
        f"{_units(same)} {_are(same)} unable within {counted(epochs, 'epoch')}: a typical run does not reach the "
        f"threshold ({_reached(same)} did)."
        for epochs, same in unable.items()
    ]


def _open(times: Sequence[LearningTime]) -> list[str]:
    """The P for which the runs do not show whether more or fewer than half of them reach the threshold."""
    later, others = ([one for one in times if one.reaches is None and one.later is late] for late in (True, False))
    said = []
    if later:
        it_is = "it is" if len(later) == 1 else "they are"
        said.append(
            f"{_units(later)} {_are(later)} later than the fastest P, but the runs do not show whether {it_is} late or "
            f"unable ({_reached(later)} reached the threshold)."
        )
    if others:
        said.append(
            f"The runs do not show whether a typical run of {_units(others, 'or')} reaches the threshold "
            f"({_reached(others)} did)."
        )
    return said


def _reached(times: Sequence[LearningTime]) -> str:
    return _counts([(one.reached, one.tried) for one in times])


def _counts(shares: Sequence[tuple[int, int]]) -> str:
    """Numbers of runs, such as "5 of 5 runs of each" or "4 of 5 and 5 of 5 runs"."""
    each = f"{shares[0][0]} of {shares[0][1]} runs"
    if len(set(shares)) > 1:
        return f"{listed([f'{good} of {tried}' for good, tried in shares])} runs"
    return f"{each} of each" if len(shares) > 1 else each


def _units(group: Sequence[Estimate] | Sequence[LearningTime], last: str = "and") -> str:
    return units([one.nonlinear_units for one in group], last)


def _are(group: Sequence[object]) -> str:
    return "is" if len(group) == 1 else "are"


def _falls_short(estimate: Estimate, rules: Rules) -> str:
    diverged = f"; {estimate.diverged} diverged" if estimate.diverged else ""
    return (
        f"a typical run of P={estimate.nonlinear_units} {_gap(estimate, rules)}, and at most "
        f"{percent(estimate.share_high)} of its runs {_verb(rules)} ({estimate.good} of {estimate.tried}{diverged})"
    )


def _gap(estimate: Estimate, rules: Rules) -> str:
    """How a typical run compares with the best, with limits and the tolerance."""
    if not math.isfinite(estimate.gap):
        return "diverges"
    said = f"is worse than the best by {number(estimate.gap)} ("
    if not estimate.gap:
        said = "is as good as the best (" + ("worse by " if math.isfinite(estimate.gap_high) else "")
    return f"{said}{limits(estimate)}; the tolerance is {number(rules.tolerance)})"


def _why_not(estimates: Sequence[Estimate], rules: Rules) -> str:
    """The P whose runs vary too much for their number, if that leaves no P with an upper limit."""
    compared = [one for one in estimates if one.compared]
    wide = [one for one in compared if one.diverged or np.std([*one.scores.values()], ddof=1) > rules.tolerance]
    if any(math.isfinite(one.gap_high) for one in compared) or not wide:
        return ""
    return f": the scores of {_units(wide)} vary by more than the tolerance, and there are too few runs for a limit"


def _verb(rules: Rules) -> str:
    return "solve the task" if rules.solved is not None else "do as well as the best"
