"""The verdict as it is handed over: a page, a file for programs, a figure, and a table for the terminal."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_alrnn.files import write_file
from lightning_alrnn.plotting.page import Page, save_figure
from lightning_alrnn.plotting.sweep import plot_verdict
from lightning_alrnn.sweep.statistics import seeds_needed
from lightning_alrnn.sweep.store import Record, read_records
from lightning_alrnn.sweep.verdict import TRAIN_SIZE, Claims, Dependence, Run, SizeVerdict, Units, Value, Verdict, judge

_CLAIMS = ("nonlinearity_needed", "smallest_sufficient", "sparse_beats_full")
_NONE = "–"
_WIDTH = 100


class Uncounted(NamedTuple):
    """A run that has no score.

    Attributes:
        name: of the run, and of its folder below ``runs/``.
        state: "diverged", "failed" or "not done".
        error: last line of its traceback; "" if there is none.
    """

    name: str
    state: str
    error: str


def write_verdict(
    folder: str | os.PathLike[str],
    score: str | None = None,
    solved: float | None = None,
    tolerance: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Judge the runs of a sweep and write verdict.html, verdict.json, verdict.png and verdict.svg beside them.

    Args:
        folder: of the sweep.
        score: key of the metric, see :func:`lightning_alrnn.sweep.verdict.judge`.
        solved: the score from which on a run solves the task.
        tolerance: how much worse does not count.
        alpha: level of the claims.

    Returns:
        The verdict.

    Raises:
        ValueError: if there is no sweep in the folder, or none of its runs has a score.
    """
    root = Path(folder)
    records = read_records(root)
    if not any(record.status == "done" and record.run.metrics for record in records):
        raise ValueError(_why_nothing(root, records))
    verdict = judge([_as_run(record) for record in records], score, solved, tolerance, alpha)
    uncounted = find_uncounted(records, verdict.rules.score)
    write_file(root / "verdict.json", json.dumps(verdict_json(verdict, uncounted), indent=1, allow_nan=False) + "\n")
    save_figure(plot_verdict(verdict), root / "verdict")
    write_file(root / "verdict.html", verdict_page(verdict, uncounted, root.resolve().name).html())
    return verdict


def find_uncounted(records: Iterable[Record], score: str) -> list[Uncounted]:
    """The runs without a score, those that diverged among them.

    Args:
        records: of all runs of a sweep.
        score: key of the metric.

    Returns:
        With the reason for each, in the order of the records.
    """
    found = []
    for record in records:
        if record.status == "failed":
            found.append(Uncounted(record.name, "failed", record.error))
        elif record.status != "done":
            found.append(Uncounted(record.name, "not done", ""))
        elif record.run.diverged or not math.isfinite(record.run.metrics.get(score, 0.0)):
            found.append(Uncounted(record.name, "diverged", record.error))
        elif score not in record.run.metrics:
            found.append(Uncounted(record.name, "failed", f"has no {score}"))
    return found


def verdict_json(verdict: Verdict, uncounted: Sequence[Uncounted] = ()) -> dict[str, Any]:
    """The verdict as what JSON can hold: everything in it by name, ``None`` for what is not finite.

    Args:
        verdict: the verdict.
        uncounted: the runs without a score.

    Returns:
        ``nonlinearity_needed``, ``smallest_sufficient``, ``sparse_beats_full`` and ``answer`` at the largest size of
        training data, then ``rules``, ``sizes`` with the claims, numbers and baselines of each, ``dependence`` on what
        else was varied, and ``runs``.
    """
    content: dict[str, Any] = {name: getattr(verdict.claims, name) for name in _CLAIMS}
    content |= {
        "answer": verdict.answer,
        "enough_seeds": verdict.claims.enough_seeds,
        "rules": _plain(verdict.rules),
        "sizes": [_plain(size) for size in verdict.sizes],
        "dependence": [_plain(one) for one in verdict.dependence],
        "runs": {
            "finished": verdict.finished,
            "diverged": verdict.diverged,
            "without_score": verdict.without_score,
            "uncounted": _plain(uncounted),
        },
    }
    return content


def format_verdict(verdict: Verdict) -> str:
    """The table of scores against P and the answer, as text for the terminal.

    Args:
        verdict: the verdict.

    Returns:
        Lines of text; sentences are wrapped at 100 characters.

    Example:
        >>> print(format_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9 + p / 100}) for p in (0, 5)])))
        test/accuracy, higher is better; 2 runs with a score
        tolerance: 0.02 (0.02 of a share)
        <BLANKLINE>
        P  runs  mean  95 % band  best  enough
        0  1/1   0.9   –          0.9   –
        5  1/1   0.95  –          0.95  –
        <BLANKLINE>
        Not enough seeds to tell: 1 with scores to compare, and a claim needs at least 5 at the level 0.05.
    """
    rules = verdict.rules
    lines = [f"{rules.score}, {_direction(verdict)}; {_counted(verdict)}"]
    if rules.threshold is not None:
        lines.append(f"solved: {_bound(verdict)} ({rules.threshold_rule})")
    lines += [f"tolerance: {_number(rules.tolerance)} ({rules.tolerance_rule})", ""]
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            lines.append(f"{size.train_size} training sequences")
        header, rows = _score_table(verdict, size)
        lines += [*_aligned(header, rows), ""]
    lines += [*textwrap.wrap(verdict.answer, _WIDTH)]
    if verdict.claims.enough_seeds:
        for reason in verdict.claims.reasons:
            lines += textwrap.wrap(reason, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def verdict_page(verdict: Verdict, uncounted: Sequence[Uncounted] = (), name: str = "") -> Page:
    """The verdict as a page: the answer, the figure, the tables, and by which rules and tests it was come to.

    Args:
        verdict: the verdict.
        uncounted: the runs without a score.
        name: of the sweep.

    Returns:
        The page, which is not written to a file yet.
    """
    page = Page("How many nonlinear units does it need?", f"Sweep {name}. {_counted(verdict)}".replace("Sweep . ", ""))
    _write_answer(page, verdict)
    _write_scores(page, verdict)
    _write_reliability(page, verdict)
    _write_sparse(page, verdict)
    _write_dependence(page, verdict)
    _write_sizes(page, verdict)
    _write_baselines(page, verdict)
    _write_units(page, verdict)
    _write_rules(page, verdict)
    _write_uncounted(page, uncounted)
    return page


def _write_answer(page: Page, verdict: Verdict) -> None:
    page.section("Answer")
    page.text(verdict.answer, answer=True)
    if verdict.claims.enough_seeds:
        for reason in verdict.claims.reasons:
            page.text(reason)


def _write_scores(page: Page, verdict: Verdict) -> None:
    page.section("Score against P")
    caption = (
        f"{verdict.rules.score} of each run, by the number of nonlinear units; the mean and its 95 % bootstrap band, "
        "which with few seeds is too narrow."
    )
    if any(units.other_scores for size in verdict.sizes for units in size.units):
        caption += " Hollow: runs with other settings than the one chosen for that P."
    if verdict.sizes[-1].baselines:
        caption += " Grey: the baselines' means and bands."
    page.figure(plot_verdict(verdict), caption)
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            page.subsection(f"{size.train_size} training sequences")
        page.table(*_score_table(verdict, size))
    page.text(
        f"Enough: shown to be no worse than any other P beyond the tolerance of {_number(verdict.rules.tolerance)}, as "
        "the rules below say. A P that is not shown to be enough may be so: more seeds would tell."
    )


def _write_reliability(page: Page, verdict: Verdict) -> None:
    rules = verdict.rules
    page.section("Capability and reliability")
    if rules.threshold is None:
        page.text(f"Not asked: there is no score from which on a run solves the task ({rules.threshold_rule}).")
        return
    page.text(
        f"A run solves the task if its score is {_bound(verdict)} ({rules.threshold_rule}). A P is capable if any of "
        "its runs does, whatever the seed and the settings. If none does, it may be unable, or none trained well. The "
        "share of runs, with the chosen setting, that do says how reliable it is."
    )
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            page.subsection(f"{size.train_size} training sequences")
        page.table(
            ("P", "capable", "solved", "95 % (Wilson)", "score among the solved", "p less often than the rest"),
            [
                (
                    str(units.nonlinear_units),
                    "yes" if units.capable else f"in none of {units.attempts} runs",
                    f"{units.solved}/{units.tried}",
                    _share(units.solved_low, units.solved_high),
                    _number(units.solved_mean),
                    _number(units.less_reliable_p),
                )
                for units in size.units
            ],
        )
    page.text("The last column is Fisher's exact test, one-sided, adjusted over P by Holm's method.")


def _write_sparse(page: Page, verdict: Verdict) -> None:
    page.section("Few nonlinear units against all")
    for size in verdict.sizes:
        page.text(f"{_at(verdict, size)}{size.claims.reasons[2]}")
    if len(verdict.sizes) > 1:
        page.text(
            f"As it is asked at {len(verdict.sizes)} sizes, each test has the level "
            f"{verdict.rules.alpha:g}/{len(verdict.sizes)}."
        )


def _write_dependence(page: Page, verdict: Verdict) -> None:
    if not verdict.dependence:
        return
    page.section("What else it depends on")
    for one in verdict.dependence:
        page.subsection(one.axis)
        page.text(_dependence_text(one, verdict.rules.alpha))
        rows = []
        for level, claims in one.claims.items():
            solved = f"{one.solved[level][0]}/{one.solved[level][1]}" if one.solved and level in one.solved else _NONE
            compared = ", ".join(map(str, claims.compared))
            rows.append((level, compared, _number(one.means.get(level, math.nan)), solved, *_claim_cells(claims)))
        page.table(("level", "P compared", "mean score", "solved", "needed", "enough", "few beat all"), rows)
    page.text("Means and shares are over those P, and other settings, that have runs at every level.")


def _write_sizes(page: Page, verdict: Verdict) -> None:
    if len(verdict.sizes) < 2:
        return
    page.section("Size of the training data")
    page.table(
        ("training sequences", "needed", "enough", "few beat all", "best mean"),
        [
            (str(size.train_size), *_claim_cells(size.claims), _number(_best_mean(verdict, size.units)))
            for size in verdict.sizes
        ],
    )
    page.text("The answer above is that at the largest size, whose threshold and tolerance all sizes are judged by.")


def _write_baselines(page: Page, verdict: Verdict) -> None:
    if not any(size.baselines for size in verdict.sizes):
        return
    page.section("Baselines")
    for size in verdict.sizes:
        if len(verdict.sizes) > 1:
            page.subsection(f"{size.train_size} training sequences")
        rows = [
            (
                baseline.core,
                f"{len(baseline.scores)}/{baseline.tried}",
                _number(baseline.mean),
                _interval(baseline.low, baseline.high),
                _NONE if baseline.solved is None else f"{baseline.solved}/{baseline.tried}",
                _setting(baseline.setting),
            )
            for baseline in size.baselines
        ]
        page.table(("core", "runs", "mean", "95 % band", "solved", "settings"), rows)
        page.text(f"The AL-RNN's best mean is {_number(_best_mean(verdict, size.units))}.")
    page.text("They stand beside for comparison, and bear on no claim.")


def _write_units(page: Page, verdict: Verdict) -> None:
    page.section("What further units do")
    size = verdict.sizes[-1]
    if not any(units.regimes_runs or units.active_runs for units in size.units):
        page.text("Neither regimes nor active units were logged: the callbacks RegimeOccupancy and ActiveUnits do.")
        return
    page.text(_units_text(size))
    page.table(
        ("P", "score", "regimes visited", "effective regimes", "active units"),
        [
            (
                str(units.nonlinear_units),
                *map(_number, (units.mean, units.regimes, units.effective_regimes, units.active)),
            )
            for units in size.units
        ],
        "Means over the runs" + (f" with {size.train_size} training sequences." if len(verdict.sizes) > 1 else "."),
    )


def _write_rules(page: Page, verdict: Verdict) -> None:
    rules = verdict.rules
    page.section("Rules and tests")
    page.text(f"Score: {rules.score}, {_direction(verdict)}. Level of each claim: {rules.alpha:g}.")
    threshold = _NONE if rules.threshold is None else _number(rules.threshold)
    page.text(f"Threshold from which on a run solves the task: {threshold} ({rules.threshold_rule}).")
    page.text(f"Tolerance, how much worse does not count: {_number(rules.tolerance)} ({rules.tolerance_rule}).")
    page.text(
        "Whether nonlinearity is needed: P=0 against the best of the others, paired by seed, by a permutation test "
        "that takes into account that the best was picked. It is needed if P=0 is worse by more than the tolerance "
        "and, where there is a threshold, none of its runs, whatever the settings, solves the task. It is not needed "
        "if one does, or without a threshold if P=0 is shown to be no worse than any other."
    )
    page.text(
        "Which P is enough: one-sided t-tests on the differences within seeds, against each other P; all of them must "
        "show that less than the tolerance is lacking, and the p-values are adjusted over P by Holm's method. With a "
        "threshold only runs that solve the task are compared, and only P that solve it in at least half of their "
        "runs and in 3 or more; one that is enough must also solve it in a share at most 0.1 below that of any other."
    )
    page.text(
        "Whether few nonlinear units beat all: P=M against the best of the others, by the same permutation test, at "
        "the level divided by the number of sizes."
    )
    page.text(
        "A seed counts where it has a score at two or more of the P compared; two P are compared over the seeds that "
        "both have. A P with less than half as many scores as the one with most is not compared. Where something else "
        "was varied, each P takes the setting with the best mean in validation, among those that were tried at every P."
    )
    for size in verdict.sizes:
        claims = size.claims
        page.text(
            f"{_at(verdict, size)}compared are P={', '.join(map(str, claims.compared))} over the seeds "
            f"{', '.join(map(str, claims.seeds)) or 'none'}; a claim needs at least "
            f"{seeds_needed(max(2, len(claims.compared)), rules.alpha)}."
        )
        page.table(
            ("P", "p worse than the best", "p no worse than any", "settings"),
            [
                (
                    str(units.nonlinear_units),
                    _number(units.worse_p),
                    _number(units.not_worse_p),
                    _setting(units.setting),
                )
                for units in size.units
            ],
            "Both adjusted over P by Holm's method. The claims on P=0 and P=M are single questions: their p-values "
            "above are not adjusted.",
        )


def _write_uncounted(page: Page, uncounted: Sequence[Uncounted]) -> None:
    if not uncounted:
        return
    page.section("Runs without a score")
    page.text(
        "A run that diverged counts as one that does not solve the task. One that failed or is not done counts for "
        "nothing: the same sweep, started again, runs it. Tracebacks are in runs/NAME/record.json."
    )
    page.table(("run", "state", "error"), [tuple(one) for one in uncounted])


def _dependence_text(one: Dependence, alpha: float) -> str:
    parts = []
    if one.answer_differs:
        parts.append("The answer depends on it: at some levels the opposite holds.")
    elif one.claims_differ:
        parts.append("What can be told depends on it, see the table; a claim may also be missed by chance.")
    else:
        parts.append("Each level by itself leads to the same claims.")
    if one.p_value is None:
        parts.append("Scores cannot be compared: no seed has a score at each level.")
    elif one.p_value <= alpha:
        parts.append(f"The scores depend on it (permutation test, p = {one.p_value:.2g}).")
    else:
        parts.append(f"That the scores depend on it is not shown (permutation test, p = {one.p_value:.2g}).")
    return " ".join(parts)


def _units_text(size: SizeVerdict) -> str:
    """What changes between the smallest sufficient P and the largest."""
    start, last = size.claims.smallest_sufficient, size.units[-1]
    if start is None or start == last.nonlinear_units:
        return "No claim is made on how many are enough, so that none of them can be called further ones."
    first = next(units for units in size.units if units.nonlinear_units == start)
    changes = [
        f"{name} {_number(before)} → {_number(after)}"
        for name, before, after in (
            ("mean score", first.mean, last.mean),
            ("regimes visited", first.regimes, last.regimes),
            ("effective regimes", first.effective_regimes, last.effective_regimes),
            ("active units", first.active, last.active),
        )
        if math.isfinite(before) and math.isfinite(after)
    ]
    return f"From P={start}, the smallest shown to be enough, to P={last.nonlinear_units}: {'; '.join(changes)}."


def _score_table(verdict: Verdict, size: SizeVerdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows, baselines below."""
    solved = verdict.rules.threshold is not None
    logged: list[tuple[str, Callable[[Units], float]]] = [
        (name, get)
        for name, get, runs in (
            ("regimes", lambda units: units.regimes, lambda units: units.regimes_runs),
            ("active", lambda units: units.active, lambda units: units.active_runs),
        )
        if any(map(runs, size.units))
    ]
    header = ["P", "runs", "mean", "95 % band", "best"]
    header += ["solved", "95 % (Wilson)", "among solved"] if solved else []
    header += [name for name, _ in logged] + ["enough"]
    rows = []
    for units in size.units:
        row = [str(units.nonlinear_units), f"{len(units.scores)}/{units.tried}", _number(units.mean)]
        row += [_interval(units.low, units.high), _number(units.best)]
        if solved:
            row.append(f"{units.solved}/{units.tried}")
            row += [_share(units.solved_low, units.solved_high), _number(units.solved_mean)]
        row += [_number(get(units)) for _, get in logged]
        row.append(_enough(units, size.claims))
        rows.append(tuple(row))
    for baseline in size.baselines:
        row = [baseline.core, f"{len(baseline.scores)}/{baseline.tried}", _number(baseline.mean)]
        row += [_interval(baseline.low, baseline.high), _NONE]
        row += [f"{baseline.solved}/{baseline.tried}", _NONE, _NONE] if solved else []
        rows.append((*row, *[_NONE] * (len(logged) + 1)))
    return tuple(header), rows


def _enough(units: Units, claims: Claims) -> str:
    if not claims.enough_seeds:
        return _NONE
    if units.nonlinear_units not in claims.compared:
        return "not compared"
    return "yes" if units.sufficient else "not shown"


def _claim_cells(claims: Claims) -> tuple[str, str, str]:
    names = {True: "yes", False: "no", None: "not told"}
    smallest = claims.smallest_sufficient
    return (
        names[claims.nonlinearity_needed],
        "not told" if smallest is None else f"P={smallest}",
        names[claims.sparse_beats_full],
    )


def _counted(verdict: Verdict) -> str:
    """How many runs there are, by what became of them."""
    said = f"{verdict.finished} runs with a score"
    said += f", {verdict.diverged} diverged" if verdict.diverged else ""
    return said + (f", {verdict.without_score} failed or not done" if verdict.without_score else "")


def _why_nothing(root: Path, records: Sequence[Record]) -> str:
    """What there is in place of runs with a score."""
    if not records:
        return f"no run of the sweep in {root} has begun: there is nothing to judge"
    diverged = sum(record.run.diverged for record in records)
    failed = [record for record in records if record.status == "failed"]
    said = f"none of the {len(records)} runs in {root} has a score: {diverged} diverged, {len(failed)} failed"
    if failed:
        said += f", the last with {failed[-1].error!r}; the same `alrnn sweep` runs them again"
    elif diverged:
        said += "; a lower learning rate or gradient clipping may help"
    return said


def _as_run(record: Record) -> Run:
    """A run for the verdict; one that is not done has no metrics yet."""
    return record.run if record.status == "done" else record.run._replace(metrics={}, diverged=False)


def _best_mean(verdict: Verdict, units: Sequence[Units]) -> float:
    means = [one.mean for one in units if math.isfinite(one.mean)]
    return max(means, key=lambda mean: verdict.rules.sign * mean, default=math.nan)


def _at(verdict: Verdict, size: SizeVerdict) -> str:
    return f"{size.train_size} training sequences: " if len(verdict.sizes) > 1 else ""


def _direction(verdict: Verdict) -> str:
    return "higher is better" if verdict.rules.higher_is_better else "lower is better"


def _bound(verdict: Verdict) -> str:
    side = "at least" if verdict.rules.higher_is_better else "at most"
    return f"{side} {_number(verdict.rules.threshold or 0.0)}"


def _setting(setting: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(setting.items()) if key != TRAIN_SIZE) or _NONE


def _number(value: float) -> str:
    if not math.isfinite(value):
        return _NONE
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def _interval(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if math.isfinite(low) else _NONE


def _share(low: float, high: float) -> str:
    return f"{low:.0%} to {high:.0%}" if math.isfinite(low) else _NONE


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def _plain(value: Any) -> Any:
    """Named tuples and mappings as objects, other sequences as lists; no number that is not finite."""
    if hasattr(value, "_asdict"):
        return {name: _plain(field) for name, field in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
