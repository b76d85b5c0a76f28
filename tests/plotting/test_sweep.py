"""The figure of a verdict shows each run and each limit of any sweep, and no text covers another."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from figures import check_drawn, texts, y_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from sweep_runs import ADDITION, GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, learned, runs

from lightning_alrnn.plotting import plot_verdict
from lightning_alrnn.plotting.sweep import _CHARACTERS
from lightning_alrnn.sweep import Run, Verdict, judge

UNITS = (0, 1, 2, 5, 10, 25, 50)
ENOUGH, NOT_ENOUGH, NOT_SHOWN, NOT_COMPARED = "o", "X", "D", "_"


def addition(seeds: int = 5) -> list[Run]:
    curve = {0: around(0.163, 0.002, seeds, 0), **{p: around(0.0006, 0.00005, seeds, p) for p in UNITS[1:]}}
    made = runs(curve, "test/mse", hidden_size=50)
    return [run._replace(metrics={**run.metrics, "test/constant_mse": 0.163}) for run in made]


def sizes() -> list[Run]:
    made = []
    for size, mean in ((100, 0.8), (300, 0.9), (1000, 0.95)):
        curve = {0: around(0.6, 0.004, 8, size), **{p: around(mean, 0.004, 8, size + p) for p in (1, 2, 5, 25)}}
        curve[50] = around(0.7 if size == 100 else mean, 0.004, 8, size + 50)
        made += runs(curve, settings={"data.train_size": size}, hidden_size=50)
    return made


TWO_PEAKS = {p: [0.95] * good + [0.5] * (10 - good) for p, good in {0: 0, 1: 5, 2: 9, 5: 10, 10: 10}.items()}
STEADY = {p: around(0.9, 0.003, 5, p) for p in (1, 2, 5, 10, 25)}
BASELINES = {"GRU": 4e-4, "LSTM": 4.1e-4, "Transformer": 0.15}
SWEEPS = {
    "needed": addition(),
    "sufficient": runs({p: around(0.9, 0.003, 5, p) for p in UNITS}, hidden_size=50),
    "two peaks": runs(jitter(TWO_PEAKS)),
    "undecided": runs({p: around(0.8 + 0.01 * p**0.5, 0.06, 5, p) for p in UNITS}, hidden_size=50),
    "contextual": [
        *runs(jitter(NEAR_IDENTITY), settings={"model.init": "near_identity"}),
        *runs(jitter(GAUSSIAN), settings={"model.init": "gaussian"}),
    ],
    "baselines": [
        *addition(),
        *(run for core, mse in BASELINES.items() for run in baseline(core, [mse] * 3, "test/mse")),
        Run("RNN", None, 0, {}, {}, diverged=True),
    ],
    "sizes": sizes(),
    "sizes, diverged": [
        run._replace(metrics={}, diverged=True) if run.settings["data.train_size"] == 100 and p <= 1 else run
        for run in sizes()
        if (p := run.nonlinear_units) is not None
    ],
    "one seed": runs({p: scores[:1] for p, scores in ADDITION.items()}, "test/mse", hidden_size=50),
    "diverged": runs({0: [None] * 5, **STEADY, 50: [0.9, 0.9, None, 0.9, 0.89]}, hidden_size=50),
    "errors diverged": runs({0: [None] * 5, 1: [1e-3] * 5, 2: [1e-4, 1e-4, 1e-4, 1e-4, None]}, "test/mse"),
    "mostly diverged": runs({0: [None] * 5, 1: [0.9] + [None] * 4, 2: [0.9, 0.9] + [None] * 3}),
    "zero": runs({0: [0.2] * 5, 1: [0.0, 0.001, 0.0, 0.0, 0.0], 2: [0.0] * 5}, "test/mse"),
    "equal": runs({0: [0.9] * 5, 10: [0.9] * 5}, "test/task_loss"),
    "small": runs({p: [(2 + p + 0.01 * seed) * 1e-6 for seed in range(5)] for p in (0, 1, 10)}, "test/mse"),
    "few runs of a P": runs({0: around(0.6, 0.003, 6, 0), 1: around(0.9, 0.003, 6, 1), 2: [0.9, 0.8]}),
    "many P": runs({p: around(0.9 if p > 3 else 0.6, 0.003, 10, p) for p in range(41)}, hidden_size=40),
    "late": learned({0: [None] * 8, 1: [*range(60, 67), None], 2: [*range(20, 28)], 5: [10] * 8, 10: [12] * 8}),
    "seldom learned": learned({0: [None] * 3, 1: [None, 90, 80], 2: [12, None, 4]}),
    "one P": runs({5: [0.9] * 5}),
    "without callbacks": [
        run._replace(metrics={"test/accuracy": run.metrics["test/accuracy"]})
        for run in runs({0: STEADY[1], 2: STEADY[2]})
    ],
}
SOLVED = {"baselines": 0.08, "two peaks": 0.9}


@cache
def judged(name: str) -> Verdict:
    return judge(SWEEPS[name], solved=SOLVED.get(name))


@cache
def drawn(name: str) -> Figure:
    return plot_verdict(judged(name))


def written(figure: Figure) -> list[Text]:
    """Texts that are visible; labels of ticks beyond an axis are not."""
    beyond = []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [
            tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if not low <= tick.get_loc() <= high
        ]
        beyond += [label for tick in ticks for label in (tick.label1, tick.label2)]
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in beyond]
    return [text for text in found if text.get_text() and text.get_visible()]


def line_boxes(text: Text, box: Bbox) -> list[tuple[str, Bbox]]:
    """Each line of a text that is centred, where it stands: below a tick a short one stands above a long one."""
    lines = text.get_text().split("\n")
    if text.get_horizontalalignment() != "center" or text.get_rotation():
        return [(text.get_text(), box)]
    middle, high = (box.x0 + box.x1) / 2, box.height / len(lines)
    halves = [box.width / 2 * len(line) / max(map(len, lines)) for line in lines]
    return [
        (line, Bbox.from_extents(middle - half, box.y1 - (row + 1) * high, middle + half, box.y1 - row * high))
        for row, (line, half) in enumerate(zip(lines, halves, strict=True))
    ]


def panel(name: str, title: str) -> Axes:
    return next(axes for axes in drawn(name).axes if title in axes.get_title())


def marks(axes: Axes) -> list[Line2D]:
    """Of typical runs, in the order of sizes and P."""
    return [line for line in axes.lines if line.get_zorder() == 3]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = drawn(name)
    check_drawn(figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    boxes = [box for text in written(figure) for box in line_boxes(text, text.get_window_extent(canvas.get_renderer()))]
    for index, (said, box) in enumerate(boxes):
        assert box.x0 >= -1, said
        assert box.x1 <= figure.bbox.x1 + 1, said
        assert box.y1 <= figure.bbox.y1 + 1, said
        for other, against in boxes[index + 1 :]:
            assert not box.padded(-1).overlaps(against.padded(-1)), (said, other)


def test_the_whole_answer_is_the_title() -> None:
    title = drawn("sizes").get_suptitle()
    assert title.replace("\n", " ").replace("\u00a0", " ") == judged("sizes").answer


def test_no_line_of_the_title_begins_with_the_sign_of_a_percentage(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = f"{'x' * (_CHARACTERS - 3)} 32 % of its runs are good."
    monkeypatch.setattr(Verdict, "answer", answer)
    title = plot_verdict(judged("sizes")).get_suptitle()
    assert [line.split()[0] for line in title.split("\n")] == ["x" * (_CHARACTERS - 3), "32"]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_run_is_a_point(name: str) -> None:
    axes = drawn(name).axes[0]
    points = np.concatenate([np.asarray(drawn.get_offsets()) for drawn in axes.collections])
    key = judged(name).rules.score
    scores = sorted(run.metrics[key] for run in SWEEPS[name] if not run.diverged)
    assert sorted(points[:, 1].tolist()) == pytest.approx(scores)
    # P=1 stands at the second place, and its runs around it
    assert np.abs(points[:, 0].round() - points[:, 0]).max() < 0.35


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("needed", NOT_ENOUGH + 6 * ENOUGH),
        ("sufficient", 7 * ENOUGH),
        ("two peaks", NOT_ENOUGH + 2 * NOT_SHOWN + 2 * ENOUGH),
        ("undecided", 7 * NOT_SHOWN),
        ("few runs of a P", NOT_ENOUGH + ENOUGH + NOT_COMPARED),
    ],
)
def test_what_is_shown_of_each_p_can_be_read(name: str, shown: str) -> None:
    figure = drawn(name)
    assert "".join(str(mark.get_marker()) for mark in marks(figure.axes[0])) == shown
    legend = figure.axes[0].get_legend()
    assert legend is not None
    labels = set(texts(legend))
    names = {ENOUGH: "P is enough", NOT_ENOUGH: "P is not enough", NOT_SHOWN: "neither is shown"}
    assert {said for marker, said in names.items() if marker in shown} == labels & set(names.values())
    # the same marks stand in the panels below, except for P that are not compared
    for title in ("worse", "share"):
        assert "".join(str(mark.get_marker()) for mark in marks(panel(name, title))) == shown.strip(NOT_COMPARED)
    colours = {(mark.get_marker(), mark.get_markerfacecolor()) for mark in marks(figure.axes[0])}
    assert len(colours) == len(set(shown))


@pytest.mark.parametrize("name", ["needed", "two peaks", "sizes", "zero", "equal"])
def test_gaps_and_shares_are_those_of_the_estimates(name: str) -> None:
    estimates = [one for size in judged(name).sizes for one in size.estimates]
    wanted = {
        "worse": [(one.gap, one.gap_low, one.gap_high) for one in estimates],
        "share": [(one.good / one.tried, one.share_low, one.share_high) for one in estimates],
    }
    for title, numbers in wanted.items():
        axes = panel(name, title)
        limits = [y_of(line) for line in axes.lines if line.get_marker() == "_"]
        found = [(y_of(mark)[0], *limit) for mark, limit in zip(marks(axes), limits, strict=True)]
        assert np.allclose(found, numbers, rtol=0, atol=1e-15)


def test_infinite_limits_are_arrows_to_the_edge() -> None:
    axes = panel("undecided", "worse")
    arrows = [text for text in axes.texts if isinstance(text, Annotation) and text.arrow_patch is not None]
    estimates = judged("undecided").estimates
    assert [math.isinf(one.gap_high) for one in estimates] == [True] * len(arrows)
    assert {arrow.xy[1] for arrow in arrows} == {axes.get_ylim()[1]}
    assert [arrow.xyann for arrow in arrows] == [(place, one.gap_low) for place, one in enumerate(estimates)]


def test_what_a_typical_run_is_held_against() -> None:
    rules, best = judged("needed").rules, min(one.typical for one in judged("needed").estimates)
    axes = drawn("needed").axes[0]
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((best, best + rules.tolerance))
    labels = texts(panel("needed", "worse").get_yticklabels())
    assert labels == ["0", "tolerance\n0.00815", "0.0815"]
    assert rules.tolerance in [y_of(line)[0] for line in panel("needed", "worse").lines]
    assert 0.5 in [y_of(line)[0] for line in panel("needed", "share").lines]


def test_what_is_written() -> None:
    figure = drawn("baselines")
    said = [text.get_text() for text in written(figure)]
    ticks = texts(figure.axes[0].get_xticklabels())
    assert ticks == ["0\nlinear", "1", "2", "5", "10", "25", "50\nfully nonlinear", "GRU", "LSTM", "RNN", "Transformer"]
    assert {"solved: ≤ 0.08", "share of runs that solve the task", "test/mse (lower is better)", "1 of 1"} <= set(said)
    assert "share of runs as good as the best's typical run" in [text.get_text() for text in written(drawn("needed"))]


def test_scales_and_panels_follow_what_there_is() -> None:
    assert drawn("needed").axes[0].get_yscale() == "log"
    assert drawn("zero").axes[0].get_yscale() == "symlog"
    assert drawn("contextual").axes[0].get_yscale() == "linear"
    assert [len(drawn(name).axes) for name in ("needed", "without callbacks")] == [5, 3]


def test_epochs_until_the_threshold() -> None:
    axes = panel("late", "epochs until")
    times = judged("late").learning_times
    assert [y_of(mark)[0] for mark in marks(axes)[1:]] == [one.typical for one in times[1:]]
    limits = [y_of(line) for line in axes.lines if line.get_marker() == "_"]
    assert limits[1:] == [[one.low, one.high] for one in times[1:]]
    never = y_of(marks(axes)[0])[0]
    labels = texts(axes.get_yticklabels())
    assert labels[axes.get_yticks().tolist().index(never)] == "not within\n100"
    assert max(limits[1]) < never < axes.get_ylim()[1]
    nobody = plot_verdict(judge(learned({0: [None] * 6, 1: [None] * 6, 2: [5] * 6})))
    assert not any("epochs" in axes.get_title() for axes in nobody.axes)  # there is nothing to compare


def test_a_colour_for_each_size() -> None:
    axes = drawn("sizes").axes[0]
    legend = axes.get_legend()
    assert legend is not None
    labels = texts(legend)
    assert labels[:3] == ["100 sequences", "300 sequences", "1000 sequences"]
    assert len({str(mark.get_markerfacecolor()) for mark in marks(axes)}) == 3
    shown = "".join(str(mark.get_marker()) for mark in marks(axes))
    assert shown == NOT_ENOUGH + 4 * ENOUGH + NOT_ENOUGH + 2 * (NOT_ENOUGH + 5 * ENOUGH)


@pytest.mark.parametrize(("name", "worse_end"), [("diverged", 0), ("errors diverged", 1)])
def test_diverged_runs_are_counted_at_the_worse_end(name: str, worse_end: int) -> None:
    axes = drawn(name).axes[0]
    assert {text.get_text() for text in axes.texts} == {"5 of 5", "1 of 5"}
    limits, scores = axes.get_ylim(), [score for one in judged(name).estimates for score in one.scores.values()]
    at_edge, worst = y_of(marks(axes)[0])[0], (min, max)[worse_end](scores)
    assert min(limits[worse_end], worst) < at_edge < max(limits[worse_end], worst)
    for axes in (drawn(name).axes[0], panel(name, "worse")):
        places = [round(float(place), 9) for place in axes.get_yticks()]
        labels = dict(zip(places, texts(axes.get_yticklabels()), strict=True))
        assert labels[round(y_of(marks(axes)[0])[0], 9)] == "diverged"
