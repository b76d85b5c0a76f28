"""The page of results shows what the runs wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripts import load_script

from lightning_alrnn.configs import shipped_configs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- begin docs/results/(\w+)\.md -->", PAGE)

results = load_script(ROOT / "docs" / "results.py")


def test_tasks_have_configurations() -> None:
    assert {task.config for task in results.TASKS.values()} <= shipped_configs().keys()
    assert set(SHOWN) <= results.TASKS.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_each_task_is_shown_with_every_run(name: str) -> None:
    task = results.TASKS[name]
    runs = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert {(run["P"], run["seed"]) for run in runs} == {(P, seed) for P in task.units for seed in range(task.seeds)}
    assert (FOLDER / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    table = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)(?:, ([^|]+))? \| (.+) \|$", table, flags=re.MULTILINE)
    assert len(rows) == len(task.units) * (1 + len(task.retest) + len(task.shown))
    keys = {"": f"test/{task.score}"} | {results._spoken(key): key for key in task.shown}
    for units, retest, row in rows:
        *scores, mean = map(float, row.split(" | "))
        same_units = sorted((run for run in runs if run["P"] == int(units)), key=lambda run: run["seed"])
        expected = [run["metrics"][keys.get(retest, retest)] for run in same_units]
        assert scores == pytest.approx(expected, rel=5e-3)
        assert mean == pytest.approx(sum(expected) / len(expected), rel=5e-3)
