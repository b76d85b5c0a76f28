"""The scores of predictors without a network, beside the runs of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_runs import baseline, runs

from lightning_alrnn.plotting.sweep import plot_verdict
from lightning_alrnn.sweep.baselines import with_baselines, write_baselines
from lightning_alrnn.sweep.verdict import judge
from lightning_alrnn.sweep.verdict_page import format_verdict


class Data:
    """A DataModule whose baselines are known."""

    def __init__(self, level: float) -> None:
        self.level, self.calls = level, 0

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        self.calls += 1
        if self.level < 0:
            raise ValueError("no data")
        return {"mean": {"mse": 0.9, "accuracy": 0.1}, "linear model": {"mse": self.level}, split: {"mse": 1.0}}


def test_they_stand_beside_the_runs_and_affect_no_claim(tmp_path: Path) -> None:
    data = [Data(level) for level in (0.3, 0.1, 0.2, 0.3, 0.1, 0.7)]
    for seed, one in enumerate(data):
        write_baselines(tmp_path, seed, {}, one)
        write_baselines(tmp_path, seed, {}, one)  # another P of the same seed
    assert [one.calls for one in data] == [1, 1, 1, 1, 1, 0]  # the data of five seeds are enough
    judged = judge([*runs({0: [0.5] * 6, 1: [0.3] * 6}, "test/mse"), *baseline("GRU", [0.25] * 6, "test/mse")])
    verdict = with_baselines(judged, tmp_path)
    assert verdict.claims == judged.claims
    assert verdict.sizes[-1].baselines[0] == judged.sizes[-1].baselines[0]
    mean, linear, split = verdict.sizes[-1].baselines[1:]
    assert (mean.core, mean.typical, split.core) == ("mean", 0.9, "test")
    assert (linear.typical, linear.scores) == (0.2, dict(enumerate([0.3, 0.1, 0.2, 0.3, 0.1])))
    said = " ".join(format_verdict(verdict).split())
    assert "A typical run of the best P (0.3) is no better than GRU (0.25) or a linear model (0.2)." in said
    ticks = [label.get_text() for label in plot_verdict(verdict).axes[0].get_xticklabels()]
    assert ticks[-4:] == ["GRU", "mean", "linear\nmodel", "test"]
    other = judge(runs({0: [0.5] * 6, 1: [0.7] * 6}))
    assert [one.core for one in with_baselines(other, tmp_path).sizes[-1].baselines] == ["mean"]


def test_each_size_of_training_data_has_its_own(tmp_path: Path) -> None:
    sizes = {100: 0.5, 1000: 0.25}
    for size, level in sizes.items():
        write_baselines(tmp_path, 0, {"data.train_size": size}, Data(level))
    made = [
        run._replace(settings={"data.train_size": size}) for size in sizes for run in runs({0: [0.5] * 6}, "test/mse")
    ]
    verdict = with_baselines(judge(made), tmp_path)
    assert {one.train_size: one.baselines[1].typical for one in verdict.sizes} == sizes


def test_a_damaged_file_is_left_out_with_a_warning(tmp_path: Path) -> None:
    judged = judge(runs({0: [0.5] * 6, 1: [0.3] * 6}, "test/mse"))
    for seed in range(3):
        write_baselines(tmp_path, seed, {}, Data(0.3))
    path = tmp_path / "baselines" / "sizeNone-seed1.json"
    for content in (
        "",
        "[]",
        '{"train_size": null, "seed": "1", "scores": {}}',
        '{"scores": {"mean": {"mse": "low"}}}',
    ):
        path.write_text(content)
        with pytest.warns(UserWarning, match=f"^{path} cannot be read: .* its predictors are left out"):
            verdict = with_baselines(judged, tmp_path)
        assert [one.tried for one in verdict.sizes[-1].baselines] == [2, 2, 2]


def test_data_without_baselines(tmp_path: Path) -> None:
    write_baselines(tmp_path, 0, {}, None)
    assert json.loads((tmp_path / "baselines/sizeNone-seed0.json").read_text())["scores"] == {}
    with pytest.warns(UserWarning, match="no baselines of seed 1: no data"):
        write_baselines(tmp_path, 1, {}, Data(-1.0))
    write_baselines(tmp_path, 2, {"data.noise": 0.1}, Data(0.1))  # networks of several tasks
    assert len([*tmp_path.glob("baselines/*")]) == 1
