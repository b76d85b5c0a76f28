"""Figures: they draw at every edge, and show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from figures import LONG, check_drawn, heights, texts, y_of
from matplotlib.image import imread
from matplotlib.legend import Legend

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes, fixed_points
from lightning_alrnn.analysis.phases import phase_activity
from lightning_alrnn.analysis.regime_statistics import count_regimes, count_regimes_by_group, regime_sharing
from lightning_alrnn.analysis.spectrum import principal_components, regime_spectrum
from lightning_alrnn.analysis.tracking import TrackedFixedPoints
from lightning_alrnn.analysis.units import unit_activity
from lightning_alrnn.metrics import ConditionAverages, SpikeAgreement
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting import (
    ExampleTrial,
    Trajectory,
    plot_ablation,
    plot_eigenvalues,
    plot_group_regimes,
    plot_length_accuracy,
    plot_neural_fit,
    plot_phases,
    plot_regime_sharing,
    plot_regimes,
    plot_spectrum,
    plot_spike_agreement,
    plot_state_space,
    plot_tracking,
    plot_trajectories,
    plot_units,
)
from lightning_alrnn.plotting.style import encode_png


def trained(hidden: int, nonlinear: int) -> ALRNN:
    torch.manual_seed(0)
    rnn = ALRNN(2, hidden, nonlinear)
    with torch.no_grad():
        rnn.W.normal_(std=0.8 / hidden**0.5)
        rnn.h.normal_()
    return rnn


@pytest.mark.parametrize(
    ("hidden", "nonlinear", "batch", "time"),
    [(6, 0, 9, 12), (6, 3, 9, 12), (6, 6, 1, 1), (1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 9, 12), (40, 30, 9, 12)],
)
def test_all_figures_draw(hidden: int, nonlinear: int, batch: int, time: int) -> None:
    rnn = trained(hidden, nonlinear)
    states = rnn(torch.randn(batch, time, 2)).states.detach()
    lengths = torch.full((batch,), time)
    regimes = count_regimes(states, nonlinear)
    points = fixed_points(rnn, visited=regimes.codes)
    check_drawn(
        plot_regimes(regimes),
        plot_units(unit_activity(states, nonlinear)),
        plot_eigenvalues(points, regimes.codes, eigenvalues_of_regimes(rnn, regimes.codes)),
        plot_eigenvalues(points),
        plot_state_space(states, lengths, points),
        plot_spectrum(regime_spectrum(rnn, regimes), principal_components(states)),
        plot_phases(phase_activity(states, nonlinear, torch.arange(time).expand(batch, time), states)),
    )


def test_occupancy_bars_are_the_shares() -> None:
    states = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]]])
    axes = plot_regimes(count_regimes(states, 2)).axes[0]
    assert heights(axes) == [0.75, 0.25]
    assert texts(axes.get_xticklabels()) == ["11", "01"]
    assert "2 of" in axes.get_title()


def test_each_phase_has_a_row() -> None:
    states = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]]])
    found = phase_activity(states, 2, torch.tensor([[0, 0, 4, 4]]), torch.tensor([[[1.0], [3.0], [0.0], [-0.5]]]))
    occupancy, units, gains, *_ = plot_phases(found, ["cue", "go $x"]).axes
    assert texts(occupancy.get_yticklabels()) == ["cue", r"go \$x"]
    assert texts(occupancy.get_xticklabels()) == ["11", "01"]
    assert texts(occupancy.texts) == ["100", "50", "50"]  # cue is never in 01
    assert texts(units.texts) == ["100", "100", "50", "100"]
    assert texts(gains.texts) == ["2", "0.25"]
    linear = phase_activity(states, 0, torch.tensor([[0, 0, 4, 4]]), torch.zeros(1, 4, 1))
    assert len(plot_phases(linear).axes) == 2  # what inputs count, and its scale


def test_many_regimes_show_the_most_frequent() -> None:
    torch.manual_seed(0)
    axes = plot_regimes(count_regimes(torch.randn(9, 50, 20), 20), top=5).axes[0]
    assert len(axes.patches) == 5
    assert "the 5 shown hold" in axes.texts[0].get_text()


@pytest.mark.parametrize(
    ("nonlinear", "groups", "empty"), [(0, 3, 0), (8, 1, 0), (2, 1, 1), (8, 11, 2), (30, 20, 0), (8, 64, 3)]
)
def test_figures_of_groups_draw(nonlinear: int, groups: int, empty: int) -> None:
    torch.manual_seed(0)
    group = torch.arange(-1 if groups == empty else 0, groups - empty)
    found = count_regimes_by_group(torch.randn(len(group), 9, 30), nonlinear, group, groups=groups)
    sharing, names = regime_sharing(found), LONG[:groups]
    check_drawn(plot_group_regimes(found, names), plot_regime_sharing(sharing, names))
    if groups == 3:
        check_drawn(plot_group_regimes(found), plot_regime_sharing(sharing))


def test_group_cells_are_the_shares() -> None:
    a, b = [1.0, 1.0], [-1.0, 1.0]
    found = count_regimes_by_group(torch.tensor([[a, a, a, b], [a, a, a, a]]), 2, torch.tensor([0, 1]), groups=3)
    axes = plot_group_regimes(found, ["one", "two", "three"]).axes[0]
    cells = axes.images[0].get_array()
    assert cells is not None
    np.testing.assert_array_equal(cells, [[0.75, 0.25], [1.0, np.nan], [np.nan, np.nan]])
    assert texts(axes.get_xticklabels()) == ["11", "01"]
    assert texts(axes.get_yticklabels()) == ["one", "two", "three"]
    assert texts(axes.texts) == ["75", "25", "100"]
    assert texts(axes.child_axes[0].get_yticklabels()) == ["2", "1", "0"]
    cut = plot_group_regimes(found, top=1).axes[0]
    assert "2 of" in cut.get_title()
    assert "the 1 shown hold 88% of steps" in cut.get_title()
    assert texts(cut.get_yticklabels()) == ["0", "1", "2"]


def test_sharing_cells_are_the_measures() -> None:
    torch.manual_seed(0)
    sharing = regime_sharing(count_regimes_by_group(torch.randn(3, 9, 3), 3, torch.arange(3)))
    left, right, *_ = plot_regime_sharing(sharing, ["a", "b", "c"]).axes
    for axes, matrix, mean in ((left, sharing.jaccard, sharing.mean_jaccard), (right, sharing.js, sharing.mean_js)):
        np.testing.assert_array_equal(axes.images[0].get_array(), matrix.numpy())
        assert [float(text.get_text()) for text in axes.texts] == pytest.approx(matrix.flatten().tolist(), abs=0.0051)
        assert f"mean {mean:.2f}" in axes.get_title()


def test_states_that_never_move() -> None:
    check_drawn(plot_state_space(torch.ones(3, 5, 4), torch.full((3,), 5), fixed_points(trained(4, 2))), least=0)


def test_states_are_drawn_by_condition() -> None:
    torch.manual_seed(0)
    states, lengths = torch.randn(6, 5, 4).cumsum(dim=1), torch.tensor([5, 3, 5, 3, 2, 4])
    labels = torch.tensor([1, 0, 0, 0, 0, -1])
    axes = plot_state_space(states, lengths, fixed_points(trained(4, 2)), labels, ["go", "$stop"]).axes[0]
    drawn = {str(line.get_label()): line.get_xydata() for line in axes.lines if line.get_linewidth() == 2.0}
    assert list(drawn) == ["go", r"\$stop"]
    components = principal_components(states, lengths)
    # of "go", four sequences last 2 steps, three last 3, and one lasts 5
    means = [states[1:5, step][lengths[1:5] > step].mean(dim=0) for step in range(3)]
    for name, path in (("go", torch.stack(means)), (r"\$stop", states[0])):
        expected = (path.double() - components.mean) @ components.directions[:2].T
        np.testing.assert_allclose(drawn[name], expected, rtol=1e-5, atol=1e-6)
    thin = [line for line in axes.lines if line.get_linewidth() == 0.6]
    assert [len(line.get_xydata()) for line in thin] == [3, 5, 3, 5]  # three of "go", one of "stop"
    axes = plot_state_space(states, lengths, fixed_points(trained(4, 2)), labels.clamp(max=-1)).axes[0]
    assert texts(axes.get_legend())[:6] == [f"sequence {index}" for index in range(6)]


def test_png_holds_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tmp_path / "image.png").write_bytes(encode_png(image))
    assert np.array_equal((imread(tmp_path / "image.png")[..., :3] * 255).round().astype(np.uint8), image)


def test_accuracy_by_length() -> None:
    right, total = torch.tensor([0, 3, 0, 0]), torch.tensor([0, 4, 0, 2])
    figure = plot_length_accuracy(right, total)
    top, bottom = figure.axes
    bars = [(round(bar.get_x() + bar.get_width() / 2, 6), bar.get_height()) for bar in top.patches]  # type: ignore[attr-defined]
    assert bars == [(1, 0.75), (3, 0.0)]
    assert heights(bottom) == [4, 2]
    assert "50.0% of 6 sequences" in top.get_title()
    check_drawn(figure)
    check_drawn(plot_length_accuracy(torch.zeros(4), torch.zeros(4)), least=0)


def test_bars_and_points_of_the_slowest_mode() -> None:
    rnn = ALRNN(None, 3, 0)
    with torch.no_grad():
        rnn.W.copy_(torch.diag(torch.tensor([0.2, 0.9, 0.5])))
    states = torch.tensor([[[6.0, 0.0, 0.0], [-6.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, -3.0, 0.0]]])
    left, right, *_ = plot_spectrum(regime_spectrum(rnn, count_regimes(states, 0)), principal_components(states)).axes
    assert heights(right) == pytest.approx([0.8, 0.2, 0])
    points = np.asarray(right.lines[0].get_ydata())
    np.testing.assert_allclose(points, [0, 1, 0], atol=1e-12)
    assert "90.0°" in right.get_title()
    assert [float(x) for x in np.asarray(left.lines[-1].get_xdata())] == pytest.approx([0.9])
    slowest, *_ = (one for one in left.get_children() if isinstance(one, Legend))
    assert slowest.get_texts()[0].get_text() == "slowest mode: λ = 0.9000, decays in 9.49 steps"


@pytest.mark.parametrize(
    ("nonlinear", "conditions", "batch", "time", "units"),
    [(0, 1, 1, 1, 1), (1, 1, 1, 1, 1), (30, 2, 9, 12, 4), (3, 10, 30, 7, 50)],
)
def test_figures_of_spikes_draw(nonlinear: int, conditions: int, batch: int, time: int, units: int) -> None:
    torch.manual_seed(0)
    rates = torch.rand(batch, time, units)
    spikes, lengths = torch.poisson(rates), torch.randint(1, time + 1, (batch,))
    group = torch.arange(batch) % max(conditions - 1, 1)
    averages = ConditionAverages(conditions, units, nonlinear, 10)
    averages.update(spikes, rates, torch.randn(batch, time, 30), lengths, group)
    agreement = SpikeAgreement(units, conditions)
    agreement.update(spikes, rates, rates, lengths, group)
    examples = [ExampleTrial(0, spikes[0, : lengths[0]], spikes[0, : lengths[0]])]
    check_drawn(plot_neural_fit(averages.compute(), examples, LONG), plot_spike_agreement(agreement.statistics()))
    if conditions == 2:
        check_drawn(plot_neural_fit(averages.compute()))


def test_figures_of_no_spikes() -> None:
    averages, agreement = ConditionAverages(2, 3, 1), SpikeAgreement(3, 2)
    nothing = torch.zeros(0, 4, 3)
    averages.update(nothing, nothing, nothing, torch.zeros(0, dtype=torch.int64))
    agreement.update(nothing, nothing, nothing, torch.zeros(0, dtype=torch.int64))
    assert plot_neural_fit(averages.compute()).axes[0].texts[0].get_text() == "no trials"
    check_drawn(plot_spike_agreement(agreement.statistics()), least=0)


def test_spike_panels_show_the_averages() -> None:
    spikes = torch.tensor([[[0.0, 2.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])  # the second unit fires most
    states = torch.tensor([[[0.0, 1.0], [0.0, -1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    averages = ConditionAverages(2, 2, 1)
    averages.update(spikes, spikes / 2, states, torch.tensor([2, 1]), torch.tensor([0, 0]))
    recorded, model, regimes = plot_neural_fit(averages.compute(), (), ["a", "b"]).axes[2:5]
    np.testing.assert_array_equal(recorded.images[0].get_array(), [[1.0, 4.0], [0.5, 0.0]])
    np.testing.assert_array_equal(model.images[0].get_array(), [[0.5, 2.0], [0.25, 0.0]])
    corners = regimes.collections[0].get_paths()[0].vertices
    assert {(round(x), round(y, 6)) for x, y in np.asarray(corners) if y > 0} == {(0, 1.0)}


def test_points_of_spike_agreement_are_the_rates() -> None:
    torch.manual_seed(0)
    rates = torch.rand(6, 4, 3)
    agreement = SpikeAgreement(3, 2)
    agreement.update(torch.poisson(rates), rates, rates, torch.full((6,), 4), torch.arange(6) % 2)
    found = agreement.statistics()
    figure = plot_spike_agreement(found)
    assert len(figure.axes) == 4
    line = figure.axes[0].lines[1]
    np.testing.assert_allclose(np.asarray(line.get_xdata()), found.rates.flatten().numpy())
    np.testing.assert_allclose(np.asarray(line.get_ydata()), found.expected_rates.flatten().numpy())
    assert "mean counts a bin, r = " in figure.axes[0].get_title()


def test_tracked_points_lines_and_counts() -> None:
    def one(epoch: int, identities: list[int], stability: list[str], coordinates: list[float]) -> TrackedFixedPoints:
        counts = [stability.count(name) for name in ("stable", "saddle", "unstable", "marginal")]
        return TrackedFixedPoints(epoch, epoch, identities, stability, coordinates, counts, epoch == 1)

    seen = [one(0, [0], ["stable"], [1.0]), one(1, [0, 1], ["saddle", "stable"], [1.5, 2.0])]
    figure = plot_tracking(seen, [1])
    top, bottom = figure.axes
    (segments,) = (lines.get_segments() for lines in top.collections)  # type: ignore[attr-defined]
    assert [segment.tolist() for segment in segments] == [[[0, 1], [1, 1.5]], [[1, 2]]]
    by_label = {line.get_label(): line for line in top.lines}
    assert np.asarray(by_label["stable"].get_xydata()).tolist() == [[0, 1], [1, 2]]
    assert np.asarray(by_label["saddle"].get_xydata()).tolist() == [[1, 1.5]]
    assert [y_of(line) for line in bottom.lines[2::2]] == [[1, 1], [0, 1]]
    assert top.get_title() == "2 fixed points followed, 1 bifurcation"
    far = seen[1]._replace(coordinates=[1.5, 1e9])
    assert plot_tracking([seen[0], far], complete=False).axes[0].get_yscale() == "symlog"
    check_drawn(figure)
    check_drawn(plot_tracking([TrackedFixedPoints(3, 3, [], [], [], [0, 0, 0, 0], False)]), least=0)


@pytest.mark.parametrize(("nonlinear", "hidden", "labels"), [(0, 1, 1), (0, 1, 30), (2, 2, 1), (14, 20, 30)])
def test_figures_of_trajectories_draw(nonlinear: int, hidden: int, labels: int) -> None:
    torch.manual_seed(0)
    states = torch.randn(40, 6, hidden)
    steps = torch.arange(1, 7)
    seen = [Trajectory(one, steps, index % labels, index % 3 - 1) for index, one in enumerate(states)]
    figure = plot_trajectories(seen, principal_components(states), nonlinear, LONG[:labels])
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == ["by class", "by group", "by regime"]
    plain = [one._replace(class_index=-1, group_index=-1) for one in seen]
    check_drawn(figure)
    check_drawn(plot_trajectories(plain, principal_components(states), nonlinear), least=0)


def test_points_of_regimes_are_coloured_by_them() -> None:
    states = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [-1.0, -2.0], [3.0, 2.0]])
    axes = plot_trajectories([Trajectory(states, torch.arange(1, 5))], principal_components(states[None]), 2).axes[1]
    counts = {str(line.get_label()).split()[0]: len(np.asarray(line.get_xdata())) for line in axes.lines}
    assert counts == {"11": 2, "01": 1, "00": 1}


@pytest.mark.parametrize(("units", "loss"), [(0, np.nan), (1, 0.0), (60, 0.5), (60, np.nan)])
def test_bars_of_ablation(units: int, loss: float) -> None:
    increase = torch.linspace(0, 1, units).double()
    endless = increase.clone()
    endless[-1:] = np.inf
    for accuracy in (0.9, np.nan):
        scores = AblationScores(loss, increase, endless, accuracy, increase / 2, increase / 3)
        figure = plot_ablation(scores)
        assert len(figure.axes) == (1 if np.isnan(accuracy) else 2)
        assert heights(figure.axes[0])[:units] == increase.tolist()
        check_drawn(figure, least=2)
