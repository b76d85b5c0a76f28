"""The verdict as it is handed over: a page, a file for programs, a figure, and a table for the terminal."""

from __future__ import annotations

import json
import math
import os
import statistics
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_alrnn.files import write_file, write_json
from lightning_alrnn.metrics.threshold import THRESHOLD
from lightning_alrnn.plotting.page import Page, save_figure
from lightning_alrnn.plotting.sweep import plot_verdict
from lightning_alrnn.readings import configured_readings
from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.claims import Claims
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.rules import Run, Value
from lightning_alrnn.sweep.store import Record, read_records, run_folder
from lightning_alrnn.sweep.suggestion import next_command
from lightning_alrnn.sweep.verdict import ALPHA, TRAIN_SIZE, SizeVerdict, Verdict, judge

_NONE = "–"
_WIDTH = 100
_SMALLER_TOLERANCES = (0.75, 0.5, 0.25, 0.1)


class Uncounted(NamedTuple):
    """A run that has no score."""

    name: str
    state: str  # "diverged", "failed" or "not done"
    error: str  # last line of its traceback; "" if there is none


def write_verdict(
    folder: str | os.PathLike[str],
    *,
    score: str | None = None,
    tolerance: float | None = None,
    solved: float | None = None,
    alpha: float = ALPHA,
    seeds: int | None = None,
) -> Verdict:
    """Judge the runs of a sweep and write verdict.html, verdict.json, verdict.png and verdict.svg beside them.

    A sweep that adds seeds until it knows (``--seeds 5..40``) is judged on the seeds of its last complete look, at the
    level divided by the number of looks; ``seeds`` states another number. The rest is as for :func:`judge`.
    """
    root = Path(folder)
    records = read_records(root)
    sweep = _read_sweep(root)
    looks = sweep.get("looks") or []
    if looks:
        seeds = seeds or _last_look(records, looks, sweep.get("runs_per_seed", 1))
        alpha /= len(looks)
    if seeds is not None:
        records = [record for record in records if record.run.seed < seeds]
    if not any(record.status == "done" for record in records):
        raise ValueError(_why_nothing(root, records))
    runs = [_as_run(record) for record in records]
    verdict = judge(runs, score=score, tolerance=tolerance, solved=solved, alpha=alpha)
    suggested = _suggested_tolerances(root)
    if tolerance in suggested:
        rule = "suggested by an earlier verdict on the scores it judges"
        verdict = verdict._replace(rules=verdict.rules._replace(tolerance_rule=rule, exploratory=True))
    most = len({run.seed for run in runs})
    stated = _stated(score, tolerance, solved, alpha if not looks else ALPHA)
    verdict = verdict._replace(
        next_command=_suggest(root, sweep.get("arguments") or [], runs, verdict, stated, suggested),
        looks=tuple(looks),
        # with fewer seeds no claim could have been made
        earlier_looks=tuple(look for look in sweep.get("judged", ()) if words.fewest_seeds(alpha) <= look < most),
    )
    uncounted = find_uncounted(records, verdict.rules.score)
    readings = _medians_by_size(root, records)
    content = verdict_json(verdict, uncounted) | {"suggested_tolerances": suggested}
    content |= {"readings": readings} if readings else {}
    write_json(root / "verdict.json", content)
    save_figure(plot_verdict(verdict), root / "verdict")
    page = verdict_page(verdict, uncounted, root.resolve().name)
    if readings:
        sizes = sorted({p for medians in readings.values() for p in medians}, key=int)
        page.section("What the networks do")
        page.table(
            ("P", *readings),
            [(p, *(words.number(of[p]) if p in of else _NONE for of in readings.values())) for p in sizes],
            "Readings of your own: the median over the runs of each number of nonlinear units.",
        )
    write_file(root / "verdict.html", page.html())
    return verdict


def _medians_by_size(folder: Path, records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Medians over runs by P of what a user's own readings name in ``by_size``."""
    done = [record for record in records if record.status == "done"]
    configs = (run_folder(folder, record.name) / "config.yaml" for record in done)
    config = next((path for path in configs if path.is_file()), None)
    try:
        keys = [] if config is None else [key for reading in configured_readings(config) for key in reading.by_size]
    except ValueError as error:  # the claims do not hang on it
        warnings.warn(f"the verdict goes without a reading: {error}", stacklevel=2)
        keys = []
    medians: dict[str, dict[str, float]] = {}
    for key in keys:
        values: dict[int, list[float]] = defaultdict(list)
        for record in done:
            units = record.run.nonlinear_units
            if units is not None and key in record.run.metrics:
                values[units].append(record.run.metrics[key])
        medians[key] = {str(p): statistics.median(values[p]) for p in sorted(values)}
    return {key: of_sizes for key, of_sizes in medians.items() if of_sizes}


def find_uncounted(records: Iterable[Record], score: str) -> list[Uncounted]:
    """The runs without a score, those that diverged among them."""
    uncounted = []
    for record in records:
        if record.status == "failed":
            uncounted.append(Uncounted(record.name, "failed", record.error))
        elif record.status != "done":
            uncounted.append(Uncounted(record.name, "not done", ""))
        elif record.run.diverged or not math.isfinite(record.run.metrics.get(score, 0.0)):
            uncounted.append(Uncounted(record.name, "diverged", record.error))
        elif score not in record.run.metrics:
            uncounted.append(Uncounted(record.name, "failed", f"has no {score}"))
    return uncounted


def verdict_json(verdict: Verdict, uncounted: Sequence[Uncounted] = ()) -> dict[str, Any]:
    """What verdict.json holds."""
    names = "answer claims estimates untold seeds_needed learning learning_times next_command looks earlier_looks"
    runs = {name: getattr(verdict, name) for name in ("finished", "diverged", "without_score")}
    content = {name: getattr(verdict, name) for name in f"{names} rules sizes dependence".split()}
    return content | {"runs": runs | {"uncounted": uncounted}}


def format_verdict(verdict: Verdict) -> str:
    """The table of estimates and the answer, as text for the terminal.

    Example:
        >>> print(format_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9 + p / 100}) for p in (0, 5)])))
        test/accuracy, higher is better; 2 runs with a score
        tolerance: 0.02 (0.02 of a share)
        <BLANKLINE>
        P  runs  typical run  worse than the best by  as good as the best    enough
        0  1/1   0.9          0.05 (no limits yet)    0 of 1 (0 % to 95 %)   not shown: any gap, good runs from 0 %
        5  1/1   0.95         0 (no limits yet)       1 of 1 (5 % to 100 %)  not shown: any gap, good runs from 5 %
        <BLANKLINE>
        Nothing can be told with 1 seed: a claim needs at least 5 at the level 0.05.
        If further runs are like these, about 5 seeds would tell which P are enough and about 6 seeds would
        tell whether nonlinearity is needed.
    """
    rules = verdict.rules
    lines = [f"{rules.score}, {_direction(verdict)}; {_counted(verdict)}"]
    lines += [f"tolerance: {words.number(rules.tolerance)} ({rules.tolerance_rule})"]
    if rules.solved is not None:
        lines.append(f"solved: {_bound(verdict)} (as stated)")
    lines.append("")
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            lines.append(f"{size.train_size} training sequences")
        lines += [*_aligned(*_score_table(verdict, size)), ""]
    told = any(one.reaches is not None or one.later for one in verdict.learning_times)
    learning = [f"{verdict.learning} (The threshold is {THRESHOLD}.)"] if told else []
    for paragraph in (verdict.answer, *learning, *_further(verdict)):
        lines += textwrap.wrap(paragraph, _WIDTH)
    if verdict.next_command:
        lines.append(verdict.next_command)
    return "\n".join(lines)


def verdict_page(verdict: Verdict, uncounted: Sequence[Uncounted] = (), name: str = "") -> Page:
    """The verdict as a page: the answer, the figure, the estimates, and the rules."""
    page = Page("How many nonlinear units does it need?", f"Sweep {name}. {_counted(verdict)}".replace("Sweep . ", ""))
    page.section("Answer")
    page.text(verdict.answer, answer=True)
    for paragraph in _further(verdict):
        page.text(paragraph)
    if verdict.next_command:
        page.code(verdict.next_command)
    page.section("Estimates")
    _write_estimates(page, verdict)
    _write_learning(page, verdict)
    _write_sizes(page, verdict)
    _write_dependence(page, verdict)
    page.section("How to read it")
    _write_rules(page, verdict)
    _write_uncounted(page, uncounted)
    return page


def _write_estimates(page: Page, verdict: Verdict) -> None:
    caption = "Each run, the typical run (median) of each P, and what claims are read off: both must allow one."
    if any(one.other_scores for size in verdict.sizes for one in size.estimates):
        caption += " Hollow: runs with other settings than the one chosen for that P."
    page.figure(plot_verdict(verdict), caption)
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            page.subsection(f"{size.train_size} training sequences")
        page.table(*_score_table(verdict, size))
    if any(size.baselines for size in verdict.sizes):
        page.text("Baselines stand beside for comparison, and bear on no claim.")


def _write_learning(page: Page, verdict: Verdict) -> None:
    """When each P has learned the task, where the runs say so."""
    if not verdict.learning:
        return
    page.section("Late or unable?")
    page.text(verdict.learning)
    for size in verdict.sizes:
        if not any(one.reached for one in size.learning_times):
            continue
        if len(verdict.sizes) > 1:
            page.subsection(f"{size.train_size} training sequences")
        page.table(
            ("P", "runs that reach the threshold", "epochs of a typical run", "shown"),
            [
                (
                    str(one.nonlinear_units),
                    f"{one.reached} of {one.tried}",
                    words.learning_span(one),
                    words.learning_status(one),
                )
                for one in size.learning_times
            ],
        )
    page.text(
        f"The threshold is {THRESHOLD}, in validation. A run that never reaches it, or diverges, counts as later than "
        "all others. Limits are those of the median, at the level of each claim; what is shown pays for the number of "
        "P as well. Nothing of it bears on the claims above."
    )


def _write_sizes(page: Page, verdict: Verdict) -> None:
    if len(verdict.sizes) < 2:
        return
    page.section("Size of the training data")
    page.table(
        ("training sequences", *_CLAIM_HEADS),
        [(str(size.train_size), *_claim_cells(size.claims)) for size in verdict.sizes],
    )
    page.text(
        f"The answer is that at the largest size, by whose tolerance all are judged. Each size is judged at the level "
        f"{verdict.sizes[-1].alpha:.3g}, so that a claim is wrong at any of them with probability "
        f"{verdict.rules.alpha:.3g} at most."
    )


def _write_dependence(page: Page, verdict: Verdict) -> None:
    if not verdict.dependence:
        return
    page.section("What else was varied")
    for one in verdict.dependence:
        page.subsection(one.axis)
        rows = []
        for value, claims in one.claims.items():
            typical = [estimate.typical for estimate in one.estimates[value] if math.isfinite(estimate.typical)]
            best = max(typical, key=lambda score: verdict.rules.sign * score, default=math.nan)
            rows.append((value, words.number(best), *_claim_cells(claims)))
        page.table(("value", "best typical run", *_CLAIM_HEADS), rows)
        if one.differs:
            page.text("The answer depends on it: the values contradict each other.")
    page.text("Each value is judged by itself, at the level divided by the numbers of values and of what was varied.")


def _write_rules(page: Page, verdict: Verdict) -> None:
    rules, size = verdict.rules, verdict.sizes[-1]
    solve = rules.solved is not None
    page.text(
        f"The typical run of a P is the median of the runs that it would have, by {rules.score} "
        f"({_direction(verdict)}); a run that diverged is the worst. P is enough if its typical run is within "
        "the tolerance of the best P's. Nonlinearity is needed if P=0 is not enough. That a smaller P is not shown to "
        "be enough does not say that it is too small."
    )
    page.text(
        f"The tolerance is {words.number(rules.tolerance)} ({rules.tolerance_rule}). A run is good if "
        + (
            f"it solves the task, that is, its score is {_bound(verdict)}."
            if solve
            else "it is within the tolerance of the best P's typical run."
        )
        + " Enough is claimed where the gap is at most the tolerance and at least half of the runs are good, both by "
        "their limits; not enough, where the gap is larger and less than half are."
    )
    page.text(
        f"The level is {size.alpha:.3g}: a claim is wrong with that probability at most. The limits of the gaps hold "
        "for all P together; "
        "they come from order statistics, and where the spread of runs is below the tolerance from means as well. "
        "Those of the shares are exact."
    )
    if any(one.setting for one in size.estimates if set(one.setting) - {TRAIN_SIZE}):
        page.table(
            ("P", "setting, chosen in validation"),
            [(str(one.nonlinear_units), _setting(one.setting)) for one in size.estimates],
            "The level is divided by the number of settings that were chosen from.",
        )


def _write_uncounted(page: Page, uncounted: Sequence[Uncounted]) -> None:
    if not uncounted:
        return
    page.section("Runs without a score")
    page.text(
        "A run that diverged counts as the worst. One that failed or is not done counts for nothing: the same sweep, "
        "started again, runs it. Tracebacks are in runs/NAME/record.json."
    )
    page.table(("run", "state", "error"), [tuple(one) for one in uncounted])


def _further(verdict: Verdict) -> list[str]:
    """What the answer leaves open: whether few units beat all, and how many seeds would tell."""
    size = verdict.sizes[-1]
    paragraphs = []
    trained = [one for one in size.estimates if one.compared and math.isfinite(one.typical)]
    enough_seeds = max((one.tried for one in trained), default=0) >= words.fewest_seeds(size.alpha)
    if verdict.claims.sparse_beats_full is not True and enough_seeds:
        paragraphs.append(words.sparse(size.claims, size.estimates, verdict.rules, size.hidden_size))
    if verdict.looks:
        looks = words.listed([str(look) for look in verdict.looks])
        paragraphs.append(
            f"The sweep looks at {looks} seeds, each time at the level {verdict.rules.alpha:.3g}: over all looks a "
            f"claim is wrong with probability {verdict.rules.alpha * len(verdict.looks):.3g} at most."
        )
    by_seeds: dict[int, list[str]] = defaultdict(list)
    for question, seeds in verdict.seeds_by_question.items():
        if seeds is not None:
            by_seeds[seeds].append(question)
    needed = [f"about {seeds} seeds would tell {words.listed(by_seeds[seeds])}" for seeds in sorted(by_seeds)]
    if needed:
        paragraphs.append(f"If further runs are like these, {words.listed(needed)}.")
    return paragraphs


def _suggested_tolerances(root: Path) -> list[float]:
    """Tolerances that earlier verdicts on the sweep have suggested."""
    path = root / "verdict.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return list(content.get("suggested_tolerances", ()))


def _stated(score: str | None, tolerance: float | None, solved: float | None, alpha: float) -> list[str]:
    """The options of ``alrnn verdict`` that were used."""
    options = {"--score": score, "--solved": solved, "--tolerance": tolerance, "--alpha": alpha}
    defaults = {"--alpha": ALPHA}
    return [
        word
        for option, value in options.items()
        if value is not None and value != defaults.get(option)
        for word in (option, str(value))
    ]


def _suggest(
    root: Path,
    arguments: Sequence[str],
    runs: Sequence[Run],
    verdict: Verdict,
    stated: Sequence[str],
    suggested: list[float],
) -> str | None:
    """The command that would tell what the verdict does not; a tolerance that it suggests is added to the list."""
    size = verdict.sizes[-1]
    units = {one.nonlinear_units for one in size.estimates}
    ends = units | {0} | ({size.hidden_size} if size.hidden_size is not None else set())
    seeds = min((number for number in verdict.seeds_by_question.values() if number), default=None)
    tolerance = None
    if verdict.untold and seeds is None:
        tolerance = _telling_tolerance(runs, verdict)
    if not arguments or (ends == units and seeds is None and tolerance is None):
        return None
    if ends == units and seeds is None and tolerance is not None:
        suggested.append(tolerance)
    return next_command(
        arguments,
        folder=str(root),
        seeds=seeds,
        nonlinear_units=sorted(ends) if ends != units else None,
        tolerance=tolerance,
        stated=stated,
    )


def _telling_tolerance(runs: Sequence[Run], verdict: Verdict) -> float | None:
    """A smaller tolerance by which the runs would tell some of it."""
    rules = verdict.rules
    for factor in _SMALLER_TOLERANCES:
        smaller = float(f"{factor * rules.tolerance:.1g}")
        other = judge(runs, score=rules.score, tolerance=smaller, solved=rules.solved, alpha=rules.alpha)
        if not set(verdict.untold) <= set(other.untold):
            return smaller
    return None


_CLAIM_HEADS = ("needed", "enough", "few beat all")


def _claim_cells(claims: Claims) -> tuple[str, str, str]:
    names = {True: "yes", False: "no", None: "not told"}
    enough = words.units(claims.sufficient) if claims.sufficient else "not told"
    return names[claims.nonlinearity_needed], enough, names[claims.sparse_beats_full]


def _score_table(verdict: Verdict, size: SizeVerdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the estimates, baselines below."""
    solved = verdict.rules.solved is not None
    header = [
        "P",
        "runs",
        "typical run",
        "worse than the best by",
        "solve the task" if solved else "as good as the best",
    ]
    logged = [
        (name, [getattr(one, field) for one in size.estimates])
        for name, field in (("regimes", "regimes"), ("effective", "effective_regimes"), ("active", "active"))
    ]
    logged = [(name, columns) for name, columns in logged if any(columns)]
    header += [*(name for name, _ in logged), "enough"]
    rows = []
    for place, one in enumerate(size.estimates):
        row = [str(one.nonlinear_units), f"{len(one.scores)}/{one.tried}", words.number(one.typical)]
        row += [_gap(one), _share(one)] if one.compared else [_NONE, _NONE]
        row += [_mean(columns[place]) for _, columns in logged]
        rows.append((*row, words.status(one, verdict.rules)))
    for baseline in size.baselines:
        done = f"{len(baseline.scores)}/{baseline.tried}"
        row = [baseline.core, done, words.number(baseline.typical), *[_NONE] * (len(logged) + 3)]
        rows.append(tuple(row))
    return tuple(header), rows


def _gap(one: Estimate) -> str:
    return f"{words.number(one.gap)} ({words.limits(one)})" if math.isfinite(one.gap) else "diverges"


def _share(one: Estimate) -> str:
    return f"{one.good} of {one.tried} ({words.percent(one.share_low)} to {words.percent(one.share_high)})"


def _mean(values: Sequence[float]) -> str:
    return words.number(sum(values) / len(values)) if values else _NONE


def _counted(verdict: Verdict) -> str:
    """How many runs there are, by what became of them."""
    said = f"{words.counted(verdict.finished, 'run')} with a score"
    said += f", {verdict.diverged} diverged" if verdict.diverged else ""
    return said + (f", {verdict.without_score} failed or not done" if verdict.without_score else "")


def _read_sweep(root: Path) -> dict[str, Any]:
    path = root / "sweep.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _last_look(records: Sequence[Record], looks: Sequence[int], runs_per_seed: int) -> int:
    """The number of seeds of the last look whose runs are all done; that of the first where none is complete."""
    done = [record.run.seed for record in records if record.status == "done"]
    complete = [look for look in looks if sum(seed < look for seed in done) >= look * runs_per_seed]
    return max(complete, default=looks[0])


def _why_nothing(root: Path, records: Sequence[Record]) -> str:
    """What there is in place of runs with a score."""
    if not records:
        return f"no run of the sweep in {root} has begun: there is nothing to judge"
    failed = [record for record in records if record.status == "failed"]
    said = f"none of the {len(records)} runs in {root} is done: {len(failed)} failed"
    if failed:
        said += f", the last with {failed[-1].error!r}; the same `alrnn sweep` runs them again"
    return said


def _as_run(record: Record) -> Run:
    """A run for the verdict; one that is not done has no metrics yet."""
    return record.run if record.status == "done" else record.run._replace(metrics={}, diverged=False)


def _direction(verdict: Verdict) -> str:
    return "higher is better" if verdict.rules.higher_is_better else "lower is better"


def _bound(verdict: Verdict) -> str:
    side = "at least" if verdict.rules.higher_is_better else "at most"
    return f"{side} {words.number(verdict.rules.solved or 0.0)}"


def _setting(setting: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(setting.items()) if key != TRAIN_SIZE) or _NONE


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
