"""The figure of a verdict: it draws whatever the sweep, shows each run, and no text covers another."""

from __future__ import annotations

from functools import cache

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from sweep_runs import ADDITION, GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, runs

from lightning_alrnn.plotting import plot_verdict
from lightning_alrnn.plotting.style import render
from lightning_alrnn.sweep.verdict import Run, judge


def sizes() -> list[Run]:
    made = []
    for size, mean in ((100, 0.8), (300, 0.9), (1000, 0.95)):
        curve = {0: around(0.6, 0.004, 5, size), **{p: around(mean, 0.004, 5, size + p) for p in (1, 2, 5, 25, 50)}}
        made += runs(curve, settings={"data.train_size": size}, hidden_size=50)
    return made


def starts() -> list[Run]:
    near = runs(jitter(NEAR_IDENTITY), settings={"model.init": "near_identity"})
    return near + runs(jitter(GAUSSIAN), settings={"model.init": "gaussian"})


def without_callbacks() -> list[Run]:
    made = runs({p: around(0.9, 0.003, 5, p) for p in (0, 2)})
    return [run._replace(metrics={"test/accuracy": run.metrics["test/accuracy"]}) for run in made]


BASELINES = {"GRU": 4e-4, "LSTM": 4.1e-4, "RNN": 0.15}
SWEEPS = {
    "contextual": starts(),
    "baselines": runs(ADDITION, "test/mse", hidden_size=50)
    + [run for core, mse in BASELINES.items() for run in baseline(core, [mse] * 3, "test/mse")],
    "sizes": sizes(),
    "one seed": runs({p: scores[:1] for p, scores in ADDITION.items()}, "test/mse", hidden_size=50),
    "diverged": runs({**jitter(NEAR_IDENTITY), 5: [None] * 5, 2: [0.95, 0.96, 0.95, 0.95, None]}),
    "zero": runs({0: [0.2] * 3, 1: [0.0, 0.001, 0.0], 2: [0.0] * 3}, "test/mse"),
    "equal": runs({0: [0.9] * 3, 10: [0.9] * 3}),
    "one P": runs({5: [0.9] * 3}),
    "without callbacks": without_callbacks(),
}


@cache
def drawn(name: str) -> Figure:
    return plot_verdict(judge(SWEEPS[name]))


def texts(figure: Figure) -> list[Text]:
    """What is written; the labels of ticks beyond an axis are not."""
    beyond = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            beyond += [
                label for tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)
            ]
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in beyond]
    return [text for text in found if text.get_text() and text.get_visible()]


def score_axes(figure: Figure) -> Axes:
    return figure.axes[0]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = drawn(name)
    assert render(figure).std() > 5
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts(figure)]
    for index, (said, box) in enumerate(boxes):
        assert box.x0 >= -1, said
        assert box.x1 <= figure.bbox.x1 + 1, said
        assert box.y1 <= figure.bbox.y1 + 1, said
        for other, against in boxes[index + 1 :]:
            assert not box.padded(-1).overlaps(against.padded(-1)), (said, other)


def test_every_run_is_a_point() -> None:
    figure = drawn("contextual")
    points = [tuple(offset) for drawn in score_axes(figure).collections for offset in drawn.get_offsets().tolist()]
    scores = sorted(run.metrics["test/accuracy"] for run in starts())
    assert sorted(y for _, y in points if y)[-len(scores) :] == pytest.approx(scores)
    # P=1 stands at the second place, and its runs around it
    assert all(abs(round(x) - x) < 0.2 for x, _ in points)


def test_what_is_marked() -> None:
    figure = drawn("baselines")
    said = [text.get_text() for text in texts(figure)]
    assert {"GRU", "LSTM", "RNN", "P=1 is enough", "0\nlinear", "50\nfully nonlinear"} <= set(said)
    assert any(one.startswith("solved ≤ 0.08") for one in said)
    assert score_axes(figure).get_yscale() == "log"
    assert [tick.get_text() for tick in score_axes(figure).get_xticklabels()][1:-1] == ["1", "2", "5", "10", "25"]
    assert len(figure.axes) == 4
    assert "test/mse (lower is better)" in said


def test_scales_and_panels_follow_what_there_is() -> None:
    assert score_axes(drawn("zero")).get_yscale() == "symlog"
    assert score_axes(drawn("contextual")).get_yscale() == "linear"
    assert len(drawn("without callbacks").axes) == 1
    assert len(drawn("equal").axes) == 3  # without a threshold there is no share


def test_a_curve_for_each_size() -> None:
    legend = score_axes(drawn("sizes")).get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.split(",")[0] for label in labels] == [f"{size} training sequences" for size in (100, 300, 1000)]
    assert all(label.endswith("P=1 is enough") for label in labels)


def test_diverged_runs_are_counted_in_the_figure() -> None:
    said = [text.get_text() for text in texts(drawn("diverged"))]
    assert {"× 5\ndiverged", "× 1\ndiverged"} <= set(said)
