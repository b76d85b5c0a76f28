"""The verdict as a page, as JSON, as a figure and as text for the terminal."""

from __future__ import annotations

import math
import os
import statistics
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from lightning_alrnn.files import write_file, write_json
from lightning_alrnn.metrics.threshold import THRESHOLD
from lightning_alrnn.parsing import read_json
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.plotting.sweep import plot_verdict
from lightning_alrnn.readings.configured import configured_readings
from lightning_alrnn.scores import phrase
from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.baselines import with_baselines
from lightning_alrnn.sweep.claims import Claims
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.rules import DATA_SEED, Run, Value
from lightning_alrnn.sweep.store import Record, read_records, read_settings, run_folder
from lightning_alrnn.sweep.suggestion import next_command
from lightning_alrnn.sweep.verdict import ALPHA, TRAIN_SIZE, SizeVerdict, Verdict, judge

_NONE = "–"
_WIDTH = 100
_SMALLER_TOLERANCES = (0.75, 0.5, 0.25, 0.1)


class Uncounted(NamedTuple):
    """A run without a score."""

    name: str
    state: str  # "diverged", "failed" or "not done"
    error: str  # last line of the traceback; "" if there is none


class JudgedSweep(NamedTuple):
    """The verdict on the sweep in a folder, and what else its page shows.

    Attributes:
        verdict: The verdict.
        name: Name of the folder.
        uncounted: Runs without a score.
        readings: Medians by P of the keys of the user's own readings.
        suggested: Tolerances that verdicts on this sweep have suggested.
    """

    verdict: Verdict
    name: str
    uncounted: Sequence[Uncounted]
    readings: Mapping[str, Mapping[str, float]]
    suggested: Sequence[float]

    def write(self, folder: Path) -> None:
        """Write verdict.html, .json, .png and .svg."""
        content = verdict_json(self.verdict, self.uncounted) | {"suggested_tolerances": self.suggested}
        content |= {"readings": self.readings} if self.readings else {}
        write_json(folder / "verdict.json", content)
        page = make_page(self.verdict, self.uncounted, self.name, folder / "verdict")
        if self.readings:
            sizes = sorted({p for medians in self.readings.values() for p in medians}, key=int)
            page.section("Your own readings")
            page.table(
                ("P", *self.readings),
                [(p, *(words.number(of[p]) if p in of else _NONE for of in self.readings.values())) for p in sizes],
                "Median over the runs of each P.",
            )
        write_file(folder / "verdict.html", page.html())


def write_verdict(folder: str | os.PathLike[str], **options: Any) -> Verdict:
    """Judge the runs of a sweep as :func:`judge_sweep` does, and write the files of the verdict into its folder."""
    judged = judge_sweep(folder, **options)
    judged.write(Path(folder))
    return judged.verdict


def judge_sweep(
    folder: str | os.PathLike[str],
    *,
    output_dir: Path | None = None,
    score: str | None = None,
    tolerance: float | None = None,
    solved: float | None = None,
    alpha: float = ALPHA,
    seeds: int | None = None,
) -> JudgedSweep:
    """Judge the runs of the sweep in a folder as :func:`judge` does; ``output_dir`` may have earlier verdicts on it."""
    root = Path(folder)
    records = read_records(root)
    sweep: Mapping[str, Any] = read_settings(root) or {}
    looks = sweep.get("looks") or []
    if looks:  # a sweep that adds seeds is judged at its last complete look
        seeds = seeds or _last_look(records, looks, sweep.get("runs_per_seed", 1))
        alpha /= len(looks)
    if seeds is not None:
        records = [record for record in records if record.run.seed < seeds]
    if not any(record.status == "done" for record in records):
        raise ValueError(_why_nothing(root, records))
    # a run that is not done has no metrics that count
    runs = [one.run if one.status == "done" else one.run._replace(metrics={}, diverged=False) for one in records]
    of_sweep = sweep.get("tolerance") if tolerance is None else tolerance
    verdict = judge(runs, score=score, tolerance=of_sweep, solved=solved, alpha=alpha)
    verdict = with_baselines(verdict, root)
    suggested = sorted({tolerance for place in {root, output_dir or root} for tolerance in _suggested_before(place)})
    if tolerance in suggested:
        rule = "suggested by an earlier verdict on the scores that it judges"
        verdict = verdict._replace(rules=verdict.rules._replace(tolerance_rule=rule, exploratory=True))
    most = len({run.seed for run in runs})
    stated = _stated(score, tolerance, solved, alpha if not looks else ALPHA, output_dir)
    verdict = verdict._replace(
        next_command=_suggest(root, sweep.get("arguments") or [], runs, verdict, stated, suggested),
        looks=tuple(looks),
        seeds_change=_seeds_change(sweep),
        # earlier looks at fewer seeds could not make a claim
        earlier_looks=tuple(look for look in sweep.get("judged", ()) if words.fewest_seeds(alpha) <= look < most),
    )
    uncounted = find_uncounted(records, verdict.rules.score)
    return JudgedSweep(verdict, root.resolve().name, uncounted, _medians_by_size(root, records), suggested)


def _medians_by_size(folder: Path, records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Medians by P of the keys that the user's own readings list in ``by_size``."""
    done = [record for record in records if record.status == "done"]
    configs = (run_folder(folder, record.name) / "config.yaml" for record in done)
    config = next((path for path in configs if path.is_file()), None)
    try:
        keys = [] if config is None else [key for reading in configured_readings(config) for key in reading.by_size]
    except ValueError as error:  # the claims do not depend on it
        warnings.warn(f"the verdict leaves a reading out: {error}", stacklevel=2)
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
    """The runs without a score, including those that diverged."""
    uncounted = []
    for record in records:
        state, error = "", record.error
        if record.status == "failed":
            state = "failed"
        elif record.status != "done":
            state, error = "not done", ""
        elif record.run.diverged or not math.isfinite(record.run.metrics.get(score, 0.0)):
            state = "diverged"
        elif score not in record.run.metrics:
            state, error = "failed", f"has no {score}"
        if state:
            uncounted.append(Uncounted(record.name, state, error))
    return uncounted


def verdict_json(verdict: Verdict, uncounted: Sequence[Uncounted] = ()) -> dict[str, Any]:
    """The content of verdict.json."""
    names = "answer claims estimates untold seeds_needed learning learning_times next_command looks earlier_looks rules"
    content = {name: getattr(verdict, name) for name in (*names.split(), "seeds_change", "sizes", "dependence")}
    runs = {name: getattr(verdict, name) for name in ("finished", "diverged", "without_score")}
    return content | {"runs": runs | {"uncounted": uncounted}}


def format_verdict(verdict: Verdict) -> str:
    """The table of estimates and the answer, as text for the terminal.

    Example:
        >>> print(format_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9 + p / 100}) for p in (0, 5)])))
        test/accuracy, higher is better; 2 runs with a score
        tolerance: 0.02 (default for a share such as the accuracy)
        <BLANKLINE>
        P  runs  typical run  worse than the best by  as good as the best    enough
        0  1/1   0.9          0.05 (no limits yet)    0 of 1 (0 % to 95 %)   not shown: any gap, good runs from 0 %
        5  1/1   0.95         0 (no limits yet)       1 of 1 (5 % to 100 %)  not shown: any gap, good runs from 5 %
        <BLANKLINE>
        No claim can be made with 1 seed: a claim at the level 0.05 needs at least 5 seeds.
        If further runs are like these, about 5 seeds would show which P are enough and about 6 seeds would
        show whether nonlinearity is needed.
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
    learning = []
    if any(one.reaches is not None or one.later for one in verdict.learning_times):
        learning = [f"{verdict.learning} (The threshold is {THRESHOLD}.)"]
    for paragraph in (verdict.answer, *learning, *_further(verdict)):
        lines += textwrap.wrap(paragraph, _WIDTH)
    return "\n".join([*lines, *([verdict.next_command] if verdict.next_command else [])])


def make_page(
    verdict: Verdict, uncounted: Sequence[Uncounted] = (), name: str = "", figure_path: Path | None = None
) -> Page:
    """The verdict as a page: the answer, the figure, which is also written to files, the estimates, and the rules."""
    page = Page(
        "How many nonlinear units does the task need?", f"{f'Sweep {name}. ' if name else ''}{_counted(verdict)}"
    )
    page.section("Answer")
    page.text(verdict.answer, answer=True)
    for paragraph in _further(verdict):
        page.text(paragraph)
    if verdict.next_command:
        page.code(verdict.next_command)
    page.section("Estimates")
    write_estimates(page, verdict, figure_path)
    _write_learning(page, verdict)
    _write_sizes(page, verdict)
    _write_dependence(page, verdict)
    page.section("How to read it")
    _write_rules(page, verdict)
    if uncounted:
        page.section("Runs without a score")
        page.text(
            "A run that diverged counts as the worst. A run that failed or is not done is not counted; repeat the "
            "command of the sweep to run it. The tracebacks are in runs/NAME/record.json."
        )
        page.table(("run", "state", "error"), [tuple(one) for one in uncounted])
    return page


def write_estimates(page: Page, verdict: Verdict, figure_path: Path | None = None) -> None:
    """Add the figure and the table of the estimates to a page, and write the figure to files if a path is given."""
    caption = (
        "Each run, the typical run (median) of each P, and the two estimates that each claim rests on. A claim is made "
        "only if both allow it."
    )
    if any(one.other_scores for size in verdict.sizes for one in size.estimates):
        caption += " Hollow circles are runs with other settings than the one chosen for that P."
    page.figure(plot_verdict(verdict), caption, figure_path)
    _write_size_tables(page, verdict, lambda size: _score_table(verdict, size))
    if any(size.baselines for size in verdict.sizes):
        page.text("The baselines below the P, other networks or predictors without a network, affect no claim.")


def _write_size_tables(
    page: Page, verdict: Verdict, make: Callable[[SizeVerdict], tuple[tuple[str, ...], list[tuple[str, ...]]] | None]
) -> None:
    """Write a table for each size of training data that has one."""
    for size in verdict.sizes:
        if (table := make(size)) is not None:
            if len(verdict.sizes) > 1:
                page.subsection(f"{size.train_size} training sequences")
            page.table(*table)


def _write_learning(page: Page, verdict: Verdict) -> None:
    if not verdict.learning:
        return
    page.section("Late or unable?")
    page.text(verdict.learning)
    _write_size_tables(page, verdict, _learning_table)
    page.text(
        f"The threshold is {THRESHOLD}, in validation. A run that diverges or never reaches the threshold counts as "
        "later than all others. The limits are those of the median, at the level of each claim; the last column is "
        "also corrected for the number of P. These results do not affect the claims above."
    )


def _learning_table(size: SizeVerdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    if not any(one.reached for one in size.learning_times):
        return None
    rows: list[tuple[str, ...]] = []
    for one in size.learning_times:
        reached = f"{one.reached} of {one.tried}"
        rows.append((str(one.nonlinear_units), reached, words.learning_span(one), words.learning_status(one)))
    return ("P", "runs that reach the threshold", "epochs of a typical run", "result"), rows


def _write_sizes(page: Page, verdict: Verdict) -> None:
    if len(verdict.sizes) < 2:
        return
    page.section("Size of the training data")
    page.table(
        ("training sequences", *_CLAIM_HEADS),
        [(str(size.train_size), *_claim_cells(size.claims)) for size in verdict.sizes],
    )
    page.text(
        "The answer is that of the largest size, whose tolerance holds for all sizes. Each size is judged at the level "
        f"{verdict.sizes[-1].alpha:.3g}, so a claim at any of them is wrong with probability at most "
        f"{verdict.rules.alpha:.3g}."
    )


def _write_dependence(page: Page, verdict: Verdict) -> None:
    if not verdict.dependence:
        return
    page.section("Other settings")
    for one in verdict.dependence:
        page.subsection(one.axis)
        rows = []
        for value, claims in one.claims.items():
            typical = [estimate.typical for estimate in one.estimates[value] if math.isfinite(estimate.typical)]
            best = max(typical, key=lambda score: verdict.rules.sign * score, default=math.nan)
            rows.append((value, words.number(best), *_claim_cells(claims)))
        page.table(("value", "best typical run", *_CLAIM_HEADS), rows)
        if one.differs:
            page.text("The answer depends on this setting: its values contradict each other.")
    page.text("Each value is judged separately, at the level divided by the numbers of values and of settings.")


def _write_rules(page: Page, verdict: Verdict) -> None:
    rules, size = verdict.rules, verdict.sizes[-1]
    good = "its score is within the tolerance of the typical run of the best P"
    if rules.solved is not None:
        good = f"it solves the task: its score is {_bound(verdict)}"
    page.text(
        f"The typical run of a P is the median of all runs that this P could have, by {rules.score} "
        f"({_direction(verdict)}). A run that diverged is the worst. P is enough if its typical run is within the "
        "tolerance of the typical run of the best P. Nonlinearity is needed if P=0 is not enough. A smaller P that is "
        "not shown to be enough is not necessarily too small."
    )
    page.text(
        f"The tolerance is {words.number(rules.tolerance)} ({rules.tolerance_rule}). A run is good if {good}. P is "
        "claimed to be enough if, by their limits, the gap is at most the tolerance and at least half of the runs are "
        "good. It is claimed not to be enough if, by their limits, the gap is larger and fewer than half of the runs "
        "are good."
    )
    page.text(
        f"The level is {size.alpha:.3g}: a claim is wrong with at most this probability. The limits of the gaps hold "
        "for all P together. They come from order statistics and, if the standard deviation of the runs is at most the "
        "tolerance, also from means. The limits of the shares are exact."
    )
    if any(set(one.setting) - {TRAIN_SIZE} for one in size.estimates):
        page.table(
            ("P", "setting, chosen in validation"),
            [(str(one.nonlinear_units), _setting(one.setting)) for one in size.estimates],
            "The level is divided by the number of settings that validation chose from.",
        )


def _further(verdict: Verdict) -> list[str]:
    """Paragraphs after the answer: baselines that are no worse, whether few units beat all, the looks, more seeds."""
    size = verdict.sizes[-1]
    names, levels = [phrase(one.core) for one in size.baselines], [one.typical for one in size.baselines]
    warning = words.beaten_by(size.estimates, names, levels, verdict.rules)
    paragraphs = [warning] if warning else []
    trained = [one for one in size.estimates if one.compared and math.isfinite(one.typical)]
    enough_seeds = max((one.tried for one in trained), default=0) >= words.fewest_seeds(size.alpha)
    if verdict.claims.sparse_beats_full is not True and enough_seeds:
        paragraphs.append(words.sparse(size.claims, size.estimates, verdict.rules, size.hidden_size))
    if verdict.seeds_change:
        paragraphs.append(f"Seeds change {verdict.seeds_change}.")
    if verdict.looks:
        alpha = verdict.rules.alpha
        paragraphs.append(
            f"The sweep looks at its runs with {words.listed(verdict.looks)} seeds, each time at the level "
            f"{alpha:.3g}, so a claim is wrong with probability at most {alpha * len(verdict.looks):.3g} over all "
            "looks."
        )
    by_seeds: dict[int, list[str]] = defaultdict(list)
    for question, seeds in verdict.seeds_by_question.items():
        if seeds is not None:
            by_seeds[seeds].append(question)
    if by_seeds:
        needed = [f"about {seeds} seeds would show {words.listed(by_seeds[seeds])}" for seeds in sorted(by_seeds)]
        paragraphs.append(f"If further runs are like these, {words.listed(needed)}.")
    return paragraphs


def _stated(
    score: str | None, tolerance: float | None, solved: float | None, alpha: float, output_dir: Path | None
) -> list[str]:
    """The options of ``alrnn verdict`` that were used."""
    options: dict[str, object] = {"--score": score, "--solved": solved, "--tolerance": tolerance}
    options["--output_dir"] = output_dir
    options["--alpha"] = None if alpha == ALPHA else alpha
    return [word for option, value in options.items() if value is not None for word in (option, str(value))]


def _suggest(
    root: Path,
    arguments: Sequence[str],
    runs: Sequence[Run],
    verdict: Verdict,
    stated: Sequence[str],
    suggested: list[float],
) -> str | None:
    """The command that would answer an open question; a tolerance that it suggests is added to the list."""
    if not arguments:
        return None
    size = verdict.sizes[-1]
    units = {one.nonlinear_units for one in size.estimates}
    missing = {p for p in (0, size.hidden_size) if p is not None} - units
    seeds = min((number for number in verdict.seeds_by_question.values() if number), default=None)
    tolerance = _telling_tolerance(runs, verdict) if verdict.untold and seeds is None else None
    if not missing and tolerance is not None:
        suggested.append(tolerance)
    return next_command(
        arguments,
        folder=str(root),
        seeds=seeds,
        nonlinear_units=sorted(units | missing) if missing else None,
        tolerance=tolerance,
        stated=stated,
    )


def _telling_tolerance(runs: Sequence[Run], verdict: Verdict) -> float | None:
    """A smaller tolerance at which the runs would answer an open question."""
    rules = verdict.rules
    for factor in _SMALLER_TOLERANCES:
        smaller = float(f"{factor * rules.tolerance:.1g}")
        other = judge(runs, score=rules.score, tolerance=smaller, solved=rules.solved, alpha=rules.alpha)
        if not set(verdict.untold) <= set(other.untold):
            return smaller
    return None


_CLAIM_HEADS = ("needed", "enough", "few beat all")


def _claim_cells(claims: Claims) -> tuple[str, str, str]:
    names = {True: "yes", False: "no", None: "not shown"}
    enough = words.units(claims.sufficient) if claims.sufficient else "not shown"
    return names[claims.nonlinearity_needed], enough, names[claims.sparse_beats_full]


def _score_table(verdict: Verdict, size: SizeVerdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the estimates, followed by the baselines."""
    logged = {"regimes": "regimes", "effective": "effective_regimes", "active": "active"}
    logged = {name: field for name, field in logged.items() if any(getattr(one, field) for one in size.estimates)}
    good = "as good as the best" if verdict.rules.solved is None else "solve the task"
    header = ("P", "runs", "typical run", "worse than the best by", good, *logged, "enough")
    rows = []
    for one in size.estimates:
        row = [str(one.nonlinear_units), f"{len(one.scores)}/{one.tried}", words.number(one.typical)]
        good_runs = f"{one.good} of {one.tried} ({words.share(one)})"
        row += [_gap(one), good_runs] if one.compared else [_NONE, _NONE]
        row += [_mean(getattr(one, field)) for field in logged.values()]
        rows.append((*row, words.status(one, verdict.rules)))
    for baseline in size.baselines:
        row = [baseline.core, f"{len(baseline.scores)}/{baseline.tried}", words.number(baseline.typical)]
        rows.append((*row, *[_NONE] * (len(logged) + 3)))
    return header, rows


def _gap(one: Estimate) -> str:
    return f"{words.number(one.gap)} ({words.limits(one)})" if math.isfinite(one.gap) else "diverges"


def _mean(values: Sequence[float]) -> str:
    return words.number(statistics.fmean(values)) if values else _NONE


def _counted(verdict: Verdict) -> str:
    said = f"{words.counted(verdict.finished, 'run')} with a score"
    said += f", {verdict.diverged} diverged" if verdict.diverged else ""
    return said + (f", {verdict.without_score} failed or not done" if verdict.without_score else "")


class _EarlierVerdict(TypedDict, total=False):
    suggested_tolerances: list[float]


def _suggested_before(folder: Path) -> list[float]:
    """The tolerances that an earlier verdict in a folder has suggested."""
    path = folder / "verdict.json"
    try:
        verdict: _EarlierVerdict = read_json(path, _EarlierVerdict)
    except FileNotFoundError:
        return []
    except ValueError as error:  # a tolerance that it suggested would count as stated before the scores
        raise ValueError(f"{error}: put a copy of it in its place, or remove it") from error
    return verdict.get("suggested_tolerances", [])


def _seeds_change(sweep: Mapping[str, Any]) -> str:
    """What the seeds of a sweep change, from its sweep.json; "" if it has none."""
    if not sweep:
        return ""
    return "the weights and the data" if DATA_SEED in sweep.get("varied", ()) else "the weights, not the data"


def _last_look(records: Sequence[Record], looks: Sequence[int], runs_per_seed: int) -> int:
    """Number of seeds of the last look whose runs are all done; that of the first look if none is complete."""
    done = [record.run.seed for record in records if record.status == "done"]
    complete = [look for look in looks if sum(seed < look for seed in done) >= look * runs_per_seed]
    return max(complete, default=looks[0])


def _why_nothing(root: Path, records: Sequence[Record]) -> str:
    """Why there is no run to judge."""
    if not records:
        return f"there is nothing to judge: no run of the sweep in {root} has begun"
    failed = [record for record in records if record.status == "failed"]
    said = f"none of the {len(records)} runs in {root} is done: {len(failed)} failed"
    if failed:
        said += f", the last one with {failed[-1].error!r}; repeat the command of the sweep to run them again"
    return said


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
