"""What `make claims` says of runs whose truth is known, and the sweeps that it would train."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_runs import LAST, fit
from scripts import load_script
from sweep_runs import runs

from configs import shipped_configs
from lightning_alrnn import ALRNNModule, MultiTask
from lightning_alrnn.commands.analyze import analyze_network
from lightning_alrnn.sweep.plan import read_config
from lightning_alrnn.sweep.store import Record, write_record
from lightning_alrnn.sweep.verdict import judge

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
claims = load_script(BENCHMARKS / "claims.py")
sys.path.remove(str(BENCHMARKS))
ENTRIES = yaml.safe_load((BENCHMARKS / "claims.yaml").read_text(encoding="utf-8"))
SWEEP = claims.Sweep("x", "X", "digits", [0, 1, 10], [1])
JOB = claims.Job(SWEEP, Path("x"), [], range(10), None)

GOOD, BAD, MIXED = [0.9] * 10, [0.5] * 10, [0.9] * 5 + [0.5] * 5


def verdict(**curve: list[float]):
    return judge(runs({int(p[1:]): scores for p, scores in curve.items()}, hidden_size=10))


@pytest.mark.parametrize("name", ENTRIES)
def test_each_sweep_is_one(name: str) -> None:
    sweep = claims.Sweep(name, **ENTRIES[name])
    config = yaml.safe_load(shipped_configs()[sweep.config].read_text(encoding="utf-8"))
    size = config["model"]["init_args"]["hidden_size"]
    assert 0 <= min(sweep.units) < max(sweep.units) <= size
    assert set(sweep.claims) <= claims.CLAIMS.keys()
    assert (0 in sweep.units) or sweep.claims == [4]
    assert 4 not in sweep.claims or (size in sweep.units and len(sweep.train_sizes) >= 3)
    assert (Path(__file__).parents[2] / "docs" / "tasks" / f"{sweep.page}.md").is_file() or sweep.train_sizes
    for job in claims.jobs_of(sweep, Path("runs"), [3], Path("data")):
        assert (job.train_size is None) == (not sweep.train_sizes)
    options = [one for one in sweep.options if not one.startswith("--population")]
    assert read_config([f"--config={sweep.config}", *options])["model.hidden_size"] == size


def test_linear_is_enough_or_not() -> None:
    for claim, curve, status in [
        (1, {"p0": GOOD, "p1": GOOD}, "held"),
        (1, {"p0": BAD, "p1": GOOD}, "refuted"),
        (2, {"p0": BAD, "p1": GOOD}, "held"),
        (2, {"p0": GOOD, "p1": GOOD}, "refuted"),
        (1, {"p0": MIXED, "p1": GOOD}, "undecided"),
    ]:
        finding = claims.judge_linear(JOB, verdict(**curve), claim)
        assert (finding.status, finding.claim, finding.seeds, finding.task) == (status, claim, 10, "X")
        assert "nonlinearity is" in finding.sentence.lower()


def test_few_units_suffice_or_not() -> None:
    for curve, status in [
        ({"p0": BAD, "p2": GOOD, "p10": GOOD}, "held"),
        ({"p0": BAD, "p2": BAD, "p10": GOOD}, "refuted"),
        ({"p0": BAD, "p2": MIXED, "p10": GOOD}, "undecided"),
        ({"p0": GOOD, "p5": GOOD, "p10": GOOD}, "undecided"),  # no P up to M/4 but 0
    ]:
        assert claims.judge_few(JOB, verdict(**curve)).status == status


def test_an_open_finding_says_what_it_would_take() -> None:
    most = [0.9] * 7 + [0.5] * 3
    for finding, seeds in [
        (claims.judge_linear(JOB, verdict(p0=most, p1=GOOD), 1), "About"),
        (claims.judge_linear(JOB, verdict(p0=MIXED, p1=GOOD), 1), "Not even 1,000"),
        (claims.judge_few(JOB, verdict(p0=BAD, p2=most, p10=GOOD)), "About"),
        (claims.judge_few(JOB, verdict(p0=GOOD, p5=GOOD, p10=GOOD)), "Not even 1,000"),
        (claims.judge_sizes(SWEEP, {1: verdict(p1=GOOD, p10=most), 2: verdict(p1=GOOD, p10=GOOD)}), "About"),
        (claims.judge_sizes(SWEEP, {1: verdict(p1=GOOD, p10=most), 2: verdict(p1=GOOD, p10=MIXED)}), "Not even 1,000"),
    ]:
        assert finding.status == "undecided"
        assert f"{seeds} " in finding.sentence
        assert "seeds would show it, if further runs are like these." in finding.sentence


def test_with_little_data_sparse_beats_full_or_not() -> None:
    beaten, equal, open_ = ({"p1": GOOD, "p10": full} for full in (BAD, GOOD, MIXED))
    for curves, status in [
        ((beaten, equal, equal), "held"),
        ((equal, equal, equal), "refuted"),
        ((equal, open_, equal), "undecided"),
    ]:
        finding = claims.judge_sizes(SWEEP, {100 * k: verdict(**curve) for k, curve in enumerate(curves, start=1)})
        assert (finding.status, finding.seeds) == (status, 10)
        assert "With 300 training sequences" in finding.sentence
        assert "10 of 10 runs with P=1 and" in finding.sentence
    assert claims.judge_sizes(SWEEP, {100: verdict(**equal), 200: None}).status == "undecided"
    assert claims.judge_sizes(SWEEP, {100: None}).seeds == 0


def test_sparse_networks_share_more_or_less() -> None:
    judged = verdict(p0=BAD, p5=GOOD, p10=GOOD)

    def sharing(**gains: float) -> dict[str, dict[int, dict[int, float]]]:
        seeds = range(10)
        return {
            name: {5: {s: gain + s / 99 for s in seeds}, 10: {s: s / 99 for s in seeds}} for name, gain in gains.items()
        }

    for gains, status in [
        ({"a": 0.1, "b": 0.0}, "held"),
        ({"a": -0.1, "b": 0.0}, "refuted"),
        ({"a": 0.1, "b": -0.1}, "undecided"),
        ({"a": 0.0, "b": 0.0, "clusters": 0.1}, "undecided"),
    ]:
        assert claims.judge_sharing(JOB, judged, sharing(**gains)).status == status
    none = claims.judge_sharing(JOB, verdict(p0=BAD, p1=GOOD, p10=GOOD), sharing(a=0.1))
    assert (none.status, "no sparse network" in none.sentence) == ("undecided", True)
    none = claims.judge_sharing(JOB, judged, {"a": {5: {0: 1.0}, 10: {1: 1.0}}})
    assert (none.status, none.sentence) == ("undecided", "No seed is trained with both P=5 and P=M=10.")


def test_a_step_takes_less_time_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for ratios, status in [([0.7, 0.8], "held"), ([0.96, 1.1], "refuted"), ([0.7, 1.1], "undecided")]:
        blocks = itertools.cycle(ratios)

        def measured(runs: dict[str, object], _: int, blocks: Iterator[float] = blocks) -> dict[str, dict[str, float]]:
            return {name: {"median": 1.0} for name in runs} | {"25": {"median": next(blocks)}}

        monkeypatch.setattr(claims, "measure", measured)
        (timed, counted), _ = claims.judge_cost()
        assert (timed.status, counted.status) == (status, "refuted")
        assert f"({ratios[0]:.0%} to {ratios[1]:.0%})" in timed.sentence


def test_tasks_that_are_the_same_share_all() -> None:
    data = MultiTask(test_size=300)
    torch.manual_seed(0)
    module = ALRNNModule.for_data(data, hidden_size=20, nonlinear_units=8, init="near_identity").eval()
    batch = data.build("test")
    different = claims.shared_computations(module, batch, 0)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    same = claims.shared_computations(module, batch._replace(group=batch.group[shuffled]), 0)
    assert all(abs(value) < 0.1 for value in same.values())
    assert all(different[name] < -0.2 for name in ("Jensen-Shannon", "Jaccard", "units"))
    linear = ALRNNModule.for_data(data, hidden_size=20, nonlinear_units=0).eval()
    assert math.isnan(claims.shared_computations(linear, batch, 0)["Jaccard"])

    # three clusters of units, each for a task of its own, and none
    points = torch.eye(3).repeat(10, 1) + 0.01 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    assert claims.silhouette(points) > 0.9
    assert claims.silhouette(torch.rand(100, 3, generator=torch.Generator().manual_seed(0))) < 0.4


@pytest.mark.parametrize("core", claims.CORES)
@pytest.mark.parametrize(("inputs", "networks", "direct"), [(8, 1, False), (50, 1, True), (64, 2, False)])
def test_other_cores_have_as_many_parameters(core: str, inputs: int, networks: int, direct: bool) -> None:
    size = claims.equal_size(core, 50, inputs, 10, networks, direct=direct)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[core]
    parameters = networks * gates * (size * inputs + size * size + 2 * size) + 10 * (size + 1)
    alrnn = networks * (50 + 50 * 50 + (0 if direct else 50 * inputs) + 50) + 10 * 51
    assert abs(parameters / alrnn - 1) < 0.05


def test_a_network_is_read_as_the_command_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ["--data=Addition", "--data.sequence_length=7", "--data.train_size=32", "--data.test_size=600"]
    checkpoint = fit(tmp_path, *data, "--model.hidden_size=6", "--model.nonlinear_units=2") / LAST
    calls: list[Any] = []
    monkeypatch.setattr("lightning_alrnn.commands.analyze.write_report", lambda *call: calls.append(call) or {})
    analyze_network(["--ckpt_path", str(checkpoint), "--time_limit", "0.1"])
    assert claims.primitives(checkpoint) == {name: one.found for name, one in calls[0][1].primitives.items()}


def test_the_page_shows_both_runs_and_what_networks_do(tmp_path: Path) -> None:
    first = [claims.Finding(1, "X", "held", 10, "P=0 is enough."), claims.Finding(6, "time", "refuted", 0, "Flat.")]
    claims.write_list(tmp_path / "claims.json", first)
    claims.write_page(tmp_path)
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "| 1. Linear recurrence is often enough | X | – | – |\n" in page
    assert "| X | held | 10 |\n" in page
    assert "other seeds" not in page
    assert "- **X.** P=0 is enough.\n" in page
    again = [claims.Finding(1, "X", "undecided", 10, "Who knows.")]
    claims.write_list(tmp_path / "claims" / "again.json", again)
    claims.write_list(
        tmp_path / "claims" / "mechanisms.json", [claims.Mechanisms("X", 2, {"gating": (9, 10), "integration": (0, 0)})]
    )
    claims.write_page(tmp_path)
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "Of 1 findings, 0 are held or refuted alike" in page
    assert "0 are undecided with both, and 1 differ;\n0 are held with one set" in page
    assert "| X | held | 10 | undecided |\n" in page
    assert "- **X.** P=0 is enough.\n    - *Other seeds.* Who knows.\n" in page
    assert "| time | refuted | – | – |\n" in page
    assert "## 2. Elsewhere nonlinearity is needed" not in page
    assert "| X | 2 | 9 of 10 | – |\n" in page


def test_what_a_command_does_not_train_stays_on_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    kept, lost = claims.Finding(1, "IMDb", "held", 6, "x"), claims.Finding(1, "of old", "held", 6, "x")
    claims.write_list(docs / "claims.json", [lost, kept, claims.Finding(1, "Copy", "held", 6, "x")])
    mechanisms = docs / "claims" / "mechanisms.json"
    read = [claims.Mechanisms(task, 2, {"gating": (1, 2)}) for task in ("IMDb", "of old", "Addition")]
    claims.write_list(mechanisms, read)
    (docs / "results.md").write_text("# Results\n\n## Of old\n\nx\n\n## Addition\n\nx\n", encoding="utf-8")
    timed = claims.Finding(6, claims.COST[0], "refuted", 0, "x")
    monkeypatch.setattr(claims, "judge_cost", lambda: ([timed], {"ms": {0: [1.0]}}))
    monkeypatch.setattr(claims, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[tuple[int, str], Any]:
        threads = torch.get_num_threads()
        monkeypatch.setattr("sys.argv", ["claims.py", "--minutes=0", *arguments])
        claims.main()
        torch.set_num_threads(threads)
        return {(one.claim, one.task): one for one in claims.read_list(docs / "claims.json", claims.Finding)}

    written = run()
    assert written[1, "IMDb"] == kept
    assert written[6, claims.COST[0]] == timed
    assert written[1, "Copy"].sentence == "No run is done."
    assert written[1, ENTRIES["scan"]["title"]].sentence == "Not run: its data (scan) were not in --data_dir."
    assert (1, "of old") not in written
    assert (docs / "results.md").read_text(encoding="utf-8").partition("\n## ")[2] == "Addition\n\nx\n"
    assert {key: one for key, one in run("--further").items() if one.seeds} == {(1, "IMDb"): kept}
    assert [one.task for one in claims.read_list(mechanisms, claims.Mechanisms)] == ["IMDb"]
    assert run("--again").keys() == written.keys() | {(1, "Sequential MNIST, pixel by pixel")}
    again = claims.read_list(docs / "claims" / "again.json", claims.Finding)
    assert not again  # nothing is trained in full
    assert (docs / "claims.md").is_file()


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "roots.json"
    assert claims.read_once(path, math.sqrt, {"a": 4.0}) == {"a": 2.0}
    assert claims.read_once(path, math.sqrt, {"a": -1.0, "b": 9.0}) == {"a": 2.0, "b": 3.0}


def test_a_sweep_is_trained_when_all_its_runs_have_ended(tmp_path: Path) -> None:
    job = claims.Job(SWEEP, tmp_path, [], range(1), None)
    assert not claims.is_trained(job)
    for run, status in zip(runs({p: [0.9] for p in SWEEP.units}), ("done", "failed", "running"), strict=True):
        write_record(tmp_path, Record(f"P{run.nonlinear_units}", run, status))
    assert not claims.is_trained(job)
    write_record(tmp_path, Record("P10", run, "done"))
    assert claims.is_trained(job)
