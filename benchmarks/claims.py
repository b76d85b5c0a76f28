"""Test six claims of Brenner & Koppe (TMLR 2026) by sweeps: docs/claims.md, docs/claims.json and their figures.

    python benchmarks/claims.py --data_dir data  # an hour or two on two cores; without --data_dir, the generated tasks
    python benchmarks/claims.py --quick          # three sweeps with five seeds, in runs/claims-quick
    python benchmarks/claims.py --again          # the generated tasks with other seeds: docs/claims/again.json
    python benchmarks/claims.py --further        # the reference settings, and further data

The sweeps stand in benchmarks/claims.yaml and are trained in runs/claims; a command that was stopped goes on. What
``--minutes`` leaves no time for is judged by the runs that are there. Every sentence is generated from the runs. The
pages also keep what the other commands found before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from itertools import combinations, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import yaml
from common import measure, table
from scipy.stats import binomtest, wilcoxon
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score
from torch import Tensor

from lightning_alrnn import ALRNNModule, MultiTask
from lightning_alrnn.analysis import find_primitives, shared_regimes
from lightning_alrnn.analysis.primitives import input_gain
from lightning_alrnn.batch import SequenceBatch, valid_steps
from lightning_alrnn.commands.analyze import quiet, read_network
from lightning_alrnn.commands.sweep import run_sweep
from lightning_alrnn.extensions.checkpoints import log_directory
from lightning_alrnn.files import write_file
from lightning_alrnn.modules.sequence import build_core
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting.style import BLUE, GREEN, GREY, ORANGE, new_figure, tidy
from lightning_alrnn.plotting.sweep import plot_verdict
from lightning_alrnn.scores import phrase
from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.claims import is_insufficient, is_sufficient, make_claims, with_more_seeds
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.intervals import bound_rank
from lightning_alrnn.sweep.plan import read_config
from lightning_alrnn.sweep.store import Record, read_records
from lightning_alrnn.sweep.verdict import ALPHA, Baseline, Verdict
from lightning_alrnn.sweep.verdict_page import judge_sweep
from lightning_alrnn.sweep.workers import prepare_workers

ROOT = Path(__file__).parents[1]
CLAIMS = {
    1: "Linear recurrence is often enough",
    2: "Elsewhere nonlinearity is needed",
    3: "Few nonlinear units suffice",
    4: "With little data, few nonlinear units beat all of them",
    5: "Sparse nonlinearity shares computations between tasks",
    6: "Fewer nonlinear operations cost less",
}
RULES = {
    1: "The claim is held if the verdict shows that P=0 is enough in a typical run, compared with the best P that was "
    "trained. It is refuted if the verdict shows that nonlinearity is needed.",
    2: "The claim is held if the verdict shows that nonlinearity is needed, and refuted if it shows that P=0 is "
    "enough.",
    3: "The claim is held if the verdict shows that a P of at most M/4 is enough, and refuted if it shows of each such "
    "P that was trained that it is not.",
    4: "The claim is held if the verdict shows at one size of training data that P=M is not enough. It is refuted if "
    "the verdict shows at all sizes that P=M is enough. Each of three sizes is tested at a third of the level. All "
    "sizes are trained for about as many steps, and validated about as often.",
    5: "Four measures compare what the tasks share with the smallest P of at least 3 that is enough and with P=M, "
    "seed by seed (Wilcoxon's signed-rank test, two-sided, at a quarter of the level). The claim is held if the "
    "tasks share more by one measure and less by none, and refuted if they share less by one and more by none. "
    "*Jensen-Shannon* and *Jaccard* tell how alike the regimes of the tasks are, for sets of three units that "
    "visit all their eight regimes, so that as many are visited with each P. *Gains* tells how alike the effects "
    "of the stimuli on the answer are, and *units* in how many tasks a unit varies. Beside them, *clusters* tells "
    "how well the units fall into clusters by the tasks in which they vary (silhouette): how the work is divided, "
    "and not how much is shared. From each measure its value with shuffled labels of the tasks is subtracted.",
    6: "The claim is held if the cost with P=M/4 is at most 90 % of that with P=M, and refuted if it is at least 95 % "
    "of it. For the time, both limits of the interval are.",
}
STIMULI = 7  # inputs of the eleven tasks that are stimuli and rules; the others name the task
CORES = {"GRU": "a GRU", "LSTM": "an LSTM", "RNN": "an nn.RNN"}
COST = ("time of a step", "operations of a step")  # the tasks of claim 6
_UNITS_AT_A_TIME = 3
_FEW = 0.25
_BLOCKS = 20  # of measured times
_READ_NETWORKS = 10  # of each task
_READ_TRIALS = 512  # of each network, as `alrnn analyze` reads
_OTHER_SEEDS = 100  # the first of --again


class Sweep(NamedTuple):
    """An entry of claims.yaml."""

    name: str
    title: str
    config: str
    units: list[int]
    claims: list[int]
    seeds: int = 10
    options: list[str] = []  # noqa: RUF012
    page: str = ""
    data: str = ""
    core: list[int] | None = None
    core_seeds: int = 10
    train_sizes: dict[int, int] = {}  # noqa: RUF012
    quick: bool = False
    further: bool = False


class Finding(NamedTuple):
    """What the runs say of a claim on a task."""

    claim: int
    task: str
    status: str  # "held", "refuted" or "undecided"
    seeds: int
    sentence: str


class Mechanisms(NamedTuple):
    """In how many networks `alrnn analyze` finds each primitive, and in how many it could tell."""

    task: str
    nonlinear_units: int
    counts: dict[str, tuple[int, int]]


_Entry = TypeVar("_Entry", Finding, Mechanisms)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Job(NamedTuple):
    """A sweep to train: one size of training data of an entry."""

    sweep: Sweep
    folder: Path
    arguments: list[str]  # without core, size and seeds
    seeds: Sequence[int]
    train_size: int | None


def jobs_of(sweep: Sweep, folder: Path, seeds: Sequence[int], data_dir: Path | None) -> list[Job]:
    """The sweeps of an entry, one for each size of training data."""
    shared = [f"--config={sweep.config}", *sweep.options, "--trainer.accelerator=cpu"]
    if data_dir is not None and sweep.data:
        shared.append(f"--data.data_dir={data_dir / sweep.data}")
    if not sweep.train_sizes:
        return [Job(sweep, folder / sweep.name, [*shared, f"--output_dir={folder / sweep.name}"], seeds, None)]
    jobs = []
    for size, epochs in sweep.train_sizes.items():
        place = folder / f"{sweep.name}_{size}"
        validated = epochs // min(sweep.train_sizes.values())  # as often for each size
        sized = [f"--data.train_size={size}", f"--trainer.max_epochs={epochs}", f"--output_dir={place}"]
        sized.append(f"--trainer.check_val_every_n_epoch={validated}")
        jobs.append(Job(sweep, place, [*shared, *sized], seeds, size))
    return jobs


def commands_of(job: Job) -> list[list[str]]:
    """The arguments that train the ALRNNs of a sweep, and those of each other core."""
    commands = [["--nonlinear_units=" + ",".join(map(str, job.sweep.units)), _seeds(job.seeds)]]
    if job.sweep.core is not None:
        config = read_config(job.arguments[:1])
        direct = config.get("model.input_matrix") == "identity"
        for core in CORES:
            hidden = equal_size(core, config["model.hidden_size"], *job.sweep.core, direct=direct)
            network = [f"--core={core}", f"--model.hidden_size={hidden}", *["--model.input_matrix=learned"] * direct]
            commands.append([*network, _seeds(job.seeds[: job.sweep.core_seeds])])
    return [[*job.arguments, *command] for command in commands]


def sweep_until(end: float, arguments: Sequence[str]) -> bool:
    """Run ``alrnn sweep``, interrupted as by Ctrl-C at the end of the time; return whether the time was enough."""
    if end <= time.monotonic():
        return False
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, end - time.monotonic())
    try:
        with redirect_stdout(StringIO()):
            run_sweep(arguments)
    except (KeyboardInterrupt, SystemExit) as stopped:
        if end <= time.monotonic():
            return False
        if not (isinstance(stopped, SystemExit) and stopped.code == 1):  # 1: some runs failed, which the verdict says
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def is_trained(job: Job) -> bool:
    """Whether every run of an ALRNN has ended."""
    records = read_records(job.folder) if (job.folder / "runs").is_dir() else []
    ended = {(one.run.nonlinear_units, one.run.seed) for one in records if one.status != "running"}
    return ended >= {(p, seed) for p in job.sweep.units for seed in job.seeds}


def _seeds(seeds: Sequence[int]) -> str:
    """The option; a single number would be that of seeds."""
    return "--seeds=" + ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def equal_size(
    core: str, hidden_size: int, inputs: int, outputs: int, networks: int = 1, *, direct: bool = False
) -> int:
    """The size of other cores with about as many parameters, with the readout, as ALRNNs, which may lack C."""

    def parameters(network: torch.nn.Module, size: int) -> int:
        return networks * sum(one.numel() for one in network.parameters()) + outputs * (size + 1)

    wanted = parameters(ALRNN(None if direct else inputs, hidden_size, 0), hidden_size)
    sizes = range(1, 2 * hidden_size)
    return min(sizes, key=lambda size: abs(parameters(build_core(core, inputs, size), size) - wanted))


def judged(job: Job, alpha: float = ALPHA) -> Verdict | None:
    """The verdict on a sweep; ``None`` if no run is done."""
    try:
        return judge_sweep(job.folder, alpha=alpha).verdict
    except ValueError:
        return None


def seeds_of(verdict: Verdict) -> int:
    """The number of seeds of a sweep."""
    return max(one.tried for one in verdict.estimates)


def finding(job: Job, verdict: Verdict, claim: int, held: bool | None, sentence: str) -> Finding:
    """A finding of a sweep."""
    said = f"{sentence} {verdict.level}" if verdict.level else sentence
    return Finding(claim, job.sweep.title, decided(held), seeds_of(verdict), said)


def first_of_each(entries: Iterable[_Entry], tasks: Sequence[str]) -> list[_Entry]:
    """The first entry about each claim and task, in their order; none about another task."""
    first: dict[tuple[int, int], _Entry] = {}
    for one in entries:
        if one.task in tasks:
            first.setdefault((one.claim if isinstance(one, Finding) else 0, tasks.index(one.task)), one)
    return [first[subject] for subject in sorted(first)]


def decided(held: bool | None) -> str:
    """The status of a finding."""
    return "undecided" if held is None else "held" if held else "refuted"


def what_it_takes(verdicts: Iterable[Verdict], answer: Callable[[Sequence[Sequence[Estimate]]], bool | None]) -> str:
    """How many seeds would answer an open question about the estimates of one or more verdicts."""
    foreseen = zip(*(with_more_seeds(one.estimates, one.rules, one.sizes[-1].alpha) for one in verdicts), strict=False)
    seeds = next((of[0][0] for of in foreseen if answer([estimates for _, estimates in of]) is not None), None)
    return f"{f'About {seeds}' if seeds else 'Not even 1,000'} seeds would show it, if further runs are like these."


def judge_linear(job: Job, verdict: Verdict, claim: int) -> Finding:
    """Claims 1 and 2: whether P=0 is enough."""
    size = verdict.sizes[-1]
    needed = size.claims.nonlinearity_needed
    sentence = words.needed(size.claims, size.estimates, verdict.rules)
    cores, others = baselines_of(verdict)
    if cores:
        levels = [f"{words.number(one.typical)} with {CORES[one.core]}" for one in cores]
        few = f" (of {cores[0].tried} runs)" if cores[0].tried < seeds_of(verdict) else ""
        best = words.number(min(size.estimates, key=lambda one: one.gap).typical)
        sentence += f" A typical run{few} scores {words.listed(levels)} of as many parameters trained likewise, and "
        sentence += f"{best} with the best P."
    names, typical = [phrase(one.core) for one in others], [one.typical for one in others]
    beaten = words.beaten_by(size.estimates, names, typical, verdict.rules)
    sentence += f" {beaten}" if beaten else ""
    if needed is None:
        foreseen = what_it_takes([verdict], lambda of: make_claims(of[0], verdict.rules, None).nonlinearity_needed)
        sentence += f" {foreseen}"
    held = None if needed is None else needed == (claim == 2)
    return finding(job, verdict, claim, held, sentence)


def baselines_of(verdict: Verdict) -> tuple[list[Baseline], list[Baseline]]:
    """The other cores, and the predictors without a network."""
    baselines = verdict.sizes[-1].baselines
    return [one for one in baselines if one.core in CORES], [one for one in baselines if one.core not in CORES]


def judge_few(job: Job, verdict: Verdict) -> Finding:
    """Claim 3: whether a P of at most M/4 is enough."""
    size = verdict.sizes[-1]
    most = _FEW * (size.hidden_size or math.nan)

    def held(estimates: Sequence[Estimate]) -> bool | None:
        few = [one for one in estimates if 0 < one.nonlinear_units <= most]
        if any(is_sufficient(one, verdict.rules) for one in few):
            return True
        return False if few and all(is_insufficient(one, verdict.rules) for one in few) else None

    sentence = words.enough(size.claims, size.estimates, verdict.rules)
    sentence += f" {verdict.learning}" if verdict.learning else ""
    if held(size.estimates) is None:
        foreseen = what_it_takes([verdict], lambda of: held(of[0]))
        sentence += f" Whether a P of at most M/4 is enough is open. {foreseen}"
    return finding(job, verdict, 3, held(size.estimates), sentence)


def judge_sizes(sweep: Sweep, verdicts: Mapping[int, Verdict | None]) -> Finding:
    """Claim 4: whether P=M is not enough at some size of training data."""
    done = {size: verdict for size, verdict in verdicts.items() if verdict is not None}
    last = [verdict.sizes[-1] for verdict in done.values()]

    def held(estimates: Sequence[Sequence[Estimate]]) -> bool | None:
        beats = [
            make_claims(of_size, verdict.rules, one.hidden_size).sparse_beats_full
            for of_size, verdict, one in zip(estimates, done.values(), last, strict=True)
        ]
        return True if True in beats else False if len(beats) == len(verdicts) and set(beats) == {False} else None

    status = held([one.estimates for one in last])
    sentences = []
    for (size, verdict), one in zip(done.items(), last, strict=True):
        said = words.sparse(one.claims, one.estimates, verdict.rules, one.hidden_size)
        sentences += [words.with_size(said, size), *differences(one.estimates, one.alpha)]
    if status is None and len(done) == len(verdicts):
        sentences.append(what_it_takes(done.values(), held))
    seeds = min((seeds_of(one) for one in done.values()), default=0)
    return Finding(4, sweep.title, decided(status), seeds, " ".join(sentences) or "No run is done.")


def differences(estimates: Sequence[Estimate], alpha: float) -> list[str]:
    """How P=M differs from a smaller P: in typical scores, and in the share of good runs (Newcombe 1998, method 10)."""
    few, full = min(estimates), max(estimates)
    if few is full or not (few.compared and full.compared):
        return []
    rates = [one.good / one.tried for one in (few, full)]
    (low, high), (full_low, full_high) = (
        binomtest(one.good, one.tried).proportion_ci(1 - alpha, "wilson") for one in (few, full)
    )
    gain = rates[0] - rates[1]
    least = gain - math.hypot(rates[0] - low, full_high - rates[1])
    most = gain + math.hypot(high - rates[0], rates[1] - full_low)
    return [
        f"A typical run of P=M is worse than the best by {words.number(full.gap)} ({words.limits(full)}), and "
        f"{few.good} of {few.tried} runs with P={few.nonlinear_units} and {full.good} of {full.tried} with P=M do as "
        f"well as the best (a difference of {words.percent(gain)}, {words.percent(least)} to {words.percent(most)})."
    ]


def shared_computations(module: ALRNNModule, batch: SequenceBatch, seed: int) -> dict[str, float]:
    """How alike the tasks of one network are, less the same with the tasks of trials exchanged: 0 if all are the same.

    ``Jensen-Shannon`` is 1 minus the mean divergence (bits) between the regimes of two tasks, and ``Jaccard`` the mean
    share of the regimes of two tasks that both visit, over sets of three switching units that visit all eight regimes,
    so that the number of visited regimes is the same for all P; ``gains`` is the mean correlation, over pairs of tasks,
    of the gains of the stimuli on the two outputs that give the direction; ``units`` is the mean participation ratio,
    over units, of the variances that a unit has in the tasks; ``clusters`` is the silhouette of the units by these
    variances.
    """
    assert isinstance(module.core, ALRNN)
    assert batch.group is not None
    with torch.no_grad():
        states = module(batch.inputs, batch.lengths).states.double()
    units, size = module.core.nonlinear_units, module.core.hidden_size
    valid = valid_steps(batch.lengths, states.shape[1])
    on = states[..., size - units :] > 0
    share = on[valid].double().mean(dim=0)
    switching = ((share > 0.01) & (share < 0.99)).nonzero()[:, 0].numpy()
    rng = np.random.default_rng(seed)
    draws = range(400) if len(switching) >= _UNITS_AT_A_TIME else ()
    drawn = (torch.from_numpy(rng.choice(switching, _UNITS_AT_A_TIME, replace=False)) for _ in draws)
    sets = [*islice((few for few in drawn if _visit_all(on[valid][:, few])), 20)]
    rows = module.readout.weight.detach().double()[1:]
    gains = torch.stack([input_gain(module.core, states, row, batch.lengths) for row in rows], dim=-1)
    late = gains[..., :STIMULI, :].flatten(2)

    def measures(group: Tensor) -> dict[str, float]:
        shared = [
            shared_regimes(states[..., size - units + chosen], len(chosen), group, batch.lengths) for chosen in sets
        ]
        tasks = torch.unique(group)
        variances = torch.stack([states[group == one][valid[group == one]].var(dim=0) for one in tasks])
        variances = variances[:, variances.sum(dim=0) > 0]
        return {
            "Jensen-Shannon": statistics.fmean(1 - one.mean_js for one in shared) if shared else math.nan,
            "Jaccard": statistics.fmean(one.mean_jaccard for one in shared) if shared else math.nan,
            "gains": _mean_correlation(_means_at_the_end(late, batch.lengths, group)),
            "units": float((variances.sum(dim=0).square() / variances.square().sum(dim=0)).mean()) / len(tasks),
            "clusters": silhouette((variances / variances.amax(dim=0)).T),
        }

    measured, exchanged = measures(batch.group), measures(batch.group[torch.from_numpy(rng.permutation(len(states)))])
    return {name: value - exchanged[name] for name, value in measured.items()}


def _visit_all(on: Tensor) -> bool:
    """Whether units, of which each row tells which are on, visit all their regimes."""
    return len(torch.unique(on, dim=0)) == 2 ** on.shape[1]


def silhouette(points: Tensor) -> float:
    """Mean silhouette (Rousseeuw 1987) of the best of Ward's partitions of points ``(n, d)`` in 2 to d clusters."""
    partitions = [AgglomerativeClustering(clusters).fit_predict(points) for clusters in range(2, points.shape[1] + 1)]
    return max(float(silhouette_score(points, partition)) for partition in partitions)


def _means_at_the_end(values: Tensor, lengths: Tensor, group: Tensor, steps: int = 20) -> Tensor:
    """Mean of the last steps over the trials of each group, one row for each group."""
    at = (lengths.unsqueeze(1) - torch.arange(1, steps + 1)).clamp(min=0)
    last = values.gather(1, at.unsqueeze(-1).expand(-1, -1, values.shape[2])).flatten(1)
    return torch.stack([last[group == one].mean(dim=0) for one in torch.unique(group)])


def _mean_correlation(rows: Tensor) -> float:
    return statistics.fmean(
        float(torch.nn.functional.cosine_similarity(rows[a], rows[b], dim=0))
        for a, b in combinations(range(len(rows)), 2)
    )


def read_sharing(job: Job) -> dict[str, dict[int, dict[int, float]]]:
    """Measures of the trained networks by name, P and seed."""
    records = {record.name: record for record in alrnns(job)}
    sharing = read_once(job.folder / "sharing.json", partial(sharing_of, job.folder), records)
    result: dict[str, dict[int, dict[int, float]]] = {}
    for record in records.values():
        for name, value in sharing[record.name].items():
            of_units = result.setdefault(name, {}).setdefault(int(record.run.nonlinear_units or 0), {})
            if math.isfinite(value):
                of_units[record.run.seed] = value
    return result


def sharing_of(folder: Path, record: Record) -> dict[str, float]:
    """What the tasks of a trained network share, on the test data of its seed."""
    module = ALRNNModule.load_from_checkpoint(folder / record.checkpoint, map_location="cpu").eval()
    return shared_computations(module, MultiTask(seed=record.run.seed).build("test"), record.run.seed)


def read_once(path: Path, function: Callable[[_Item], _Result], items: Mapping[str, _Item]) -> dict[str, _Result]:
    """The results of a function by name, from a process for each core; those of an earlier call come from a file."""
    results: dict[str, _Result] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    missing = [name for name in items if name not in results]
    prepare_workers()  # else the processes would be copies of one without torch, and so would those of sweeps after it
    with ProcessPoolExecutor(os.cpu_count(), get_context("forkserver")) as pool:
        read = pool.map(function, [items[name] for name in missing])
        for number, (name, result) in enumerate(zip(missing, read, strict=True), start=1):
            results[name] = result
            write_file(path, json.dumps(results, indent=1))
            print(f"[{number}/{len(missing)}] {path.parent} {name}", flush=True)
    return results


def alrnns(job: Job) -> list[Record]:
    """The records of the finished ALRNNs of a sweep."""
    done = [one for one in read_records(job.folder) if one.status == "done" and not one.run.diverged]
    return [one for one in done if one.run.nonlinear_units is not None]


def judge_sharing(job: Job, verdict: Verdict, sharing: Mapping[str, Mapping[int, Mapping[int, float]]]) -> Finding:
    """Claim 5: whether tasks share more in a sparse network than in one with P=M."""
    full = verdict.sizes[-1].hidden_size or 0
    sparse = min((p for p in verdict.claims.sufficient if _UNITS_AT_A_TIME <= p < full), default=None)
    if sparse is None:
        why = f"No P from {_UNITS_AT_A_TIME} to M - 1 is shown to be enough, so there is no sparse network to compare."
        return finding(job, verdict, 5, None, why)
    directions, sentences = {}, []
    tested = sharing.keys() - {"clusters"}
    for name, by_units in sharing.items():
        few, all_units = by_units.get(sparse, {}), by_units.get(full, {})
        gains = [few[seed] - all_units[seed] for seed in few.keys() & all_units.keys()]
        if not gains:
            return finding(job, verdict, 5, None, f"No seed is trained with both P={sparse} and P=M={full}.")
        p = float(wilcoxon(gains).pvalue) if any(gains) else 1.0
        if name in tested:
            directions[name] = math.copysign(1, statistics.median(gains)) if p <= ALPHA / len(tested) else 0.0
        sentences.append(
            f"{name} {words.number(statistics.median(few.values()))} against "
            f"{words.number(statistics.median(all_units.values()))} (p = {p:.2g})"
        )
    most, least = max(directions.values()), min(directions.values())
    held = True if most > 0 <= least else False if least < 0 >= most else None
    sentence = (
        f"How much the tasks share with P={sparse} and with P=M={full}, less what they share with shuffled labels: "
        f"{'; '.join(sentences)}."
    )
    more, less = ([name for name, way in directions.items() if way == sign] for sign in (1, -1))
    if more and less:
        sentence += f" They share more by {words.listed(more)} and less by {words.listed(less)}."
        sentence += " More seeds would not change that; it takes a single measure, chosen beforehand."
    elif not more + less:
        sentence += " No difference is shown; it takes more seeds."
    return finding(job, verdict, 5, held, sentence)


def judge_cost() -> tuple[list[Finding], dict[str, dict[int, list[float]]]]:
    """Claim 6: time of a training step, and operations, against P."""
    size, batch, steps, inputs = 100, 64, 100, 10
    units = (0, 25, 50, 100)
    rng = torch.Generator().manual_seed(0)
    sequences = torch.randn(batch, steps, inputs, generator=rng)

    def step(network: ALRNN) -> None:
        network(sequences).states.square().sum().backward()

    times: dict[int, list[float]] = {p: [] for p in units}
    for _ in range(_BLOCKS):  # with new networks, in a new order
        order = [units[place] for place in torch.randperm(len(units), generator=rng)]
        measured = measure({str(p): partial(step, ALRNN(inputs, size, p)) for p in order}, 5)
        for p in units:
            times[p].append(measured[str(p)]["median"])
    ratios = sorted(few / full for few, full in zip(times[25], times[100], strict=True))
    rank = bound_rank(len(ratios), ALPHA / 2)
    low, high = ratios[rank], ratios[-1 - rank]
    slow = cheaper(low, high)
    timed = (
        f"A training step of M={size}, {batch} sequences of {steps} steps, takes "
        f"{words.listed([f'{statistics.median(of):.2f}' for of in times.values()])} ms with {words.units(units)}, on "
        "one thread of a CPU in the dense form, which multiplies by all of W whatever P: with P=M/4 it takes "
        f"{statistics.median(ratios):.0%} ({low:.0%} to {high:.0%}) of the time of P=M."
    )
    timed += " It takes more repeats, or a quieter machine." if slow is None else ""
    products = size * size + size * inputs + size
    ratio = (products + units[1]) / (products + size)
    counted = (
        f"A step of one sequence rectifies P numbers, {units[1]} instead of {size} with P=M/4, beside {products:,} "
        f"multiplications that do not depend on P: with P=M/4 it has {ratio:.1%} of the operations of P=M."
    )
    findings = [
        Finding(6, name, decided(held), 0, sentence)
        for name, held, sentence in zip(COST, (slow, cheaper(ratio, ratio)), (timed, counted), strict=True)
    ]
    return findings, {"ms per training step": times, "rectifications per step": {p: [float(p)] for p in units}}


def cheaper(low: float, high: float) -> bool | None:
    """Whether P=M/4 costs less than P=M, by the limits of the ratio of their costs."""
    return True if high <= 0.9 else False if low >= 0.95 else None


def read_mechanisms(jobs: Sequence[Job], verdicts: Mapping[str, Verdict]) -> list[Mechanisms]:
    """What `alrnn analyze` finds in the networks of claim 3 with the smallest P that is enough."""
    result = []
    for job in jobs:
        p = verdicts[job.sweep.name].claims.smallest_sufficient if job.sweep.name in verdicts else None
        if p and 3 in job.sweep.claims:
            records = [one for one in alrnns(job) if one.run.nonlinear_units == p][:_READ_NETWORKS]
            checkpoints = {record.name: job.folder / record.checkpoint for record in records}
            answers = read_once(job.folder / "mechanisms.json", primitives, checkpoints)
            by_primitive = {name: [answers[run][name] for run in checkpoints] for name in answers[records[0].name]}
            counts = {name: (of.count(True), len(of) - of.count(None)) for name, of in by_primitive.items()}
            result.append(Mechanisms(job.sweep.title, p, counts))
    return result


def primitives(checkpoint: Path) -> dict[str, bool | None]:
    """Whether a network has each primitive; ``None`` where it cannot be told."""
    config = log_directory(checkpoint) / "config.yaml"
    silent = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
    with quiet(), redirect_stdout(StringIO()), TemporaryDirectory() as folder:
        cli, collector = read_network(checkpoint, (config,), Path(folder), _READ_TRIALS, silent)
    module, sequences = cast(ALRNNModule, cli.model), collector.sequences
    core, weight = cast(ALRNN, module.core).cpu().double(), module.readout.weight.detach().cpu().double()
    trials = sequences.inputs, sequences.states, weight, sequences.targets, sequences.lengths, sequences.group
    results = find_primitives(core, *trials)
    return {
        "gating": results.gating.found,
        "integration": results.integration.found,
        "rule-dependent routing": results.routing.found,
        "memory-dependent transients": results.transients.found,
    }


def draw_gaps(verdicts: Mapping[str, Verdict], title: str) -> Any:
    """Gap of P=0 in tolerances, with its limits, and that of each seed, for each task."""
    figure = new_figure(7, 1.2 + 0.34 * len(verdicts))
    axes = tidy(figure.subplots())
    for place, verdict in enumerate(verdicts.values()):
        linear = next((one for one in verdict.estimates if one.nonlinear_units == 0), None)
        if linear is None:
            continue
        low, gap, high = (value / verdict.rules.tolerance for value in (linear.gap_low, linear.gap, linear.gap_high))
        axes.plot([low, min(high, 1e3)], [place, place], color=BLUE, linewidth=2)
        axes.plot(gap, place, "o", color=BLUE)
        best = min(verdict.estimates, key=lambda one: one.gap).typical
        seeds = [verdict.rules.sign * (best - score) / verdict.rules.tolerance for score in linear.scores.values()]
        axes.plot(seeds, [place] * len(seeds), ".", color=BLUE, alpha=0.35, markersize=5)
        for core, marker in zip(baselines_of(verdict)[0], "^sv", strict=False):
            worse = verdict.rules.sign * (best - core.typical) / verdict.rules.tolerance
            axes.plot(worse, place + 0.2, marker, color=GREY, markersize=4, label=core.core)
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if named:
        axes.legend(named.values(), named, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(verdicts)), list(verdicts))
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(
        xlabel="gap to the best P, in tolerances (dashed: 1): P=0 and its seeds in blue",
        ylim=(len(verdicts) - 0.5, -0.5),
    )
    axes.set_title(title, fontsize="medium")
    return figure


def draw_sufficient(verdicts: Mapping[str, Verdict]) -> Any:
    """Which P are enough, for each task."""
    figure = new_figure(7, 1.2 + 0.34 * len(verdicts))
    axes = tidy(figure.subplots())
    colours = {"enough": BLUE, "not enough": ORANGE}
    for place, verdict in enumerate(verdicts.values()):
        size = verdict.sizes[-1].hidden_size or 1
        for one in verdict.estimates:
            status = verdict.status(one)
            axes.plot(one.nonlinear_units / size, place, "o", color=colours.get(status, "0.8"), clip_on=False)
            label = axes.annotate(str(one.nonlinear_units), (one.nonlinear_units / size, place - 0.2), fontsize=7)
            label.set(ha="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # above the lines
    axes.axvline(_FEW, color=GREY, linestyle="--", linewidth=1)
    for status, colour in {**colours, "not shown": "0.8"}.items():
        axes.plot([], [], "o", color=colour, label=status)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xscale("symlog", linthresh=0.02)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.02, 0.1, 0.25, 1], ["0", "0.02", "0.1", "1/4", "1"])
    axes.set_yticks(range(len(verdicts)), list(verdicts))
    axes.set(xlabel="share of nonlinear units P/M", ylim=(len(verdicts) - 0.5, -0.7))
    return figure


def draw_sizes(sweeps: Mapping[str, Mapping[int, Verdict | None]]) -> Any:
    """Scores of every seed against the number of training sequences, for each P."""
    figure = new_figure(7, 2.8 * math.ceil(len(sweeps) / 2))
    for place, (title, verdicts) in enumerate(sweeps.items(), start=1):
        axes = figure.add_subplot(math.ceil(len(sweeps) / 2), 2, place)
        done = {size: verdict for size, verdict in verdicts.items() if verdict is not None}
        units = sorted({one.nonlinear_units for verdict in done.values() for one in verdict.estimates})
        for shift, (p, colour) in enumerate(zip(units, (BLUE, GREEN, ORANGE), strict=False)):
            medians = []
            for size, verdict in done.items():
                scores = [s for one in verdict.estimates if one.nonlinear_units == p for s in one.scores.values()]
                at = size * 1.12 ** (shift - 1)
                axes.plot([at] * len(scores), scores, ".", color=colour, alpha=0.5, markersize=4)
                medians.append((at, statistics.median(scores) if scores else math.nan))
            axes.plot(*zip(*medians, strict=True), color=colour, label=f"P={p}")
            axes.set_ylabel(next(iter(done.values())).rules.score)
        axes.set_xscale("log")
        axes.set_xticks(list(verdicts), [str(size) for size in verdicts])
        axes.minorticks_off()
        axes.set(xlabel="training sequences")
        axes.set_title(title, fontsize="small")
        if units:
            axes.legend(frameon=False, fontsize="x-small")
        tidy(axes)
    return figure


def draw_series(panels: Mapping[str, Mapping[int, Iterable[float]]], label: str) -> Any:
    """Values against P, a panel for each quantity."""
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(7, 2.6 * rows)
    for place, (title, by_units) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_ylabel("" if place % columns else label)
        ordered = {p: list(values) for p, values in sorted(by_units.items())}
        for p, values in ordered.items():
            axes.plot([p] * len(values), values, "o", color=BLUE, alpha=0.6, markersize=4)
        medians = [statistics.median(values) if values else math.nan for values in ordered.values()]
        axes.plot(list(ordered), medians, color="0.4", linewidth=1)
        axes.set_xticks(list(ordered))
        axes.set(xlabel="nonlinear units P")
        axes.set_title(title, fontsize="small")
        if min(medians, default=0) >= 0:
            axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        tidy(axes)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def read(jobs: Sequence[Job], figures: Path) -> tuple[list[Finding], dict[str, Verdict]]:
    """Findings, and verdicts by name of the sweep; the figures go into a folder."""
    findings: list[Finding] = []
    gaps: dict[int, dict[str, Verdict]] = {1: {}, 2: {}, 3: {}}
    verdicts: dict[str, Verdict] = {}
    sizes: dict[str, dict[int, Verdict | None]] = {}
    by_sweep: dict[str, Sweep] = {}
    for job in jobs:
        sweep = job.sweep
        if job.train_size is not None:
            verdict = judged(job, ALPHA / len(sweep.train_sizes))
            sizes.setdefault(sweep.name, {})[job.train_size] = verdict
            by_sweep[sweep.name] = sweep
            continue
        verdict = judged(job)
        if verdict is None:
            findings += [Finding(claim, sweep.title, "undecided", 0, "No run is done.") for claim in sweep.claims]
            continue
        verdicts[sweep.name] = verdict
        for claim in sweep.claims:
            if claim in (1, 2):
                findings.append(judge_linear(job, verdict, claim))
            elif claim == 3:
                findings.append(judge_few(job, verdict))
            else:
                sharing = read_sharing(job)
                findings.append(judge_sharing(job, verdict, sharing))
                panels = {name: {p: of.values() for p, of in by_units.items()} for name, by_units in sharing.items()}
                save(draw_series(panels, "less that of shuffled labels"), figures / "claim_5.png")
            if claim in gaps:
                gaps[claim][sweep.title] = verdict
    findings += [judge_sizes(by_sweep[name], of_sizes) for name, of_sizes in sizes.items()]
    if any(verdict is not None for of_sizes in sizes.values() for verdict in of_sizes.values()):
        save(draw_sizes({by_sweep[name].title: of_sizes for name, of_sizes in sizes.items()}), figures / "claim_4.png")
    for claim, of_claim in gaps.items():
        if of_claim:
            drawn = draw_sufficient(of_claim) if claim == 3 else draw_gaps(of_claim, CLAIMS[claim])
            save(drawn, figures / f"claim_{claim}.png")
    return findings, verdicts


def read_cost(figures: Path) -> list[Finding]:
    """Findings of claim 6, which needs no sweep; the figure goes into a folder."""
    findings, numbers = judge_cost()
    save(draw_series(numbers, ""), figures / "claim_6.png")
    return findings


def write_page(folder: Path) -> None:
    """Write claims.md from claims.json and the files in claims/."""
    findings, again = (read_list(folder / name, Finding) for name in ("claims.json", "claims/again.json"))
    mechanisms = read_list(folder / "claims" / "mechanisms.json", Mechanisms)
    repeated = {(one.claim, one.task): one for one in again}
    pairs = [
        {one.status, repeated[one.claim, one.task].status} for one in findings if (one.claim, one.task) in repeated
    ]
    alike, undecided = sum(len(pair) == 1 for pair in pairs), pairs.count({"undecided"})
    lines = [
        "# The claims of the paper, tested",
        "",
        "`make claims` trained the networks and wrote this page from them, with every sentence, and",
        "[claims.json](claims.json). `python benchmarks/claims.py --further` did so for IMDb, pixel-wise sequential",
        "MNIST, the eleven tasks with equal amplitudes, and the *reference settings*: those of the configurations",
        "without `_quick`, with the exceptions on the pages of the tasks. A claim about P is *held* or *refuted* on a",
        "task only if the [verdict](verdict.md) shows it at the level 0.05, or at the level in its sentence; all else",
        "is *undecided*. [Results](results.md) has the runs of the claims 1 to 3; the figures of the claims 4 and 5",
        "have a point for each seed.",
        "",
    ]
    if again:
        lines += [
            f"The seeds are those from 0 on. The column *other seeds*, from {_OTHER_SEEDS} on, has the findings of",
            "`python benchmarks/claims.py --again`, which trained other networks on other data. The numbers of seeds",
            "and epochs were chosen with earlier runs of both sets at hand, for which neither the level, where its",
            "sentence does not say so, nor this agreement makes an allowance.",
            f"Of {len(pairs)} findings, {alike - undecided} are held or refuted alike with both sets of seeds,",
            f"{undecided} are undecided with both, and {len(pairs) - alike} differ;",
            f"{pairs.count({'held', 'refuted'})} are held with one set and refuted with the other.",
            "",
        ]
    overview = [
        (f"{claim}. {title}", *(_tasks(findings, claim, status) for status in ("held", "refuted", "undecided")))
        for claim, title in CLAIMS.items()
    ]
    lines += [*table(("claim", "held", "refuted", "undecided"), overview), ""]
    for claim, title in CLAIMS.items():
        of_claim = [one for one in findings if one.claim == claim]
        if not of_claim:
            continue
        others = [repeated.get((claim, one.task)) for one in of_claim]
        rows = [
            (one.task, one.status, str(one.seeds or "–"), *[other.status if other else "–"] * bool(again))
            for one, other in zip(of_claim, others, strict=True)
        ]
        lines += [f"## {claim}. {title}", "", RULES[claim], ""]
        lines += table(("task", "claim", "seeds", *["other seeds"] * bool(again)), rows)
        lines += [""]
        for one, other in zip(of_claim, others, strict=True):
            lines += [f"- **{one.task}.** {one.sentence}"]
            if other:
                lines += [f"    - *Other seeds.* {other.sentence}"]
        if (folder / "claims" / f"claim_{claim}.png").is_file():
            lines += ["", f"![{title}](claims/claim_{claim}.png)"]
        lines += [""]
    if mechanisms:
        names = list(dict.fromkeys(name for one in mechanisms for name in one.counts))
        shares = [
            (one.task, str(one.nonlinear_units), *(_of(one.counts.get(name, (0, 0))) for name in names))
            for one in mechanisms
        ]
        lines += [
            "## What trained networks do",
            "",
            "In how many networks with the smallest P that is enough `alrnn analyze` finds each",
            "[primitive](analysis.md), of those in which it can tell. Integration is a slow mode that remembers a sum",
            "without nonlinear units; the marked values of addition, for example, are also kept by other means:",
            "",
            *table(("task", "P", *names), shares),
            "",
        ]
    (folder / "claims.md").write_text("\n".join(lines), encoding="utf-8")


def _tasks(findings: Sequence[Finding], claim: int, status: str) -> str:
    """A cell with the tasks of some findings."""
    return "; ".join(one.task for one in findings if (one.claim, one.status) == (claim, status)) or "–"


def _of(counts: tuple[int, int]) -> str:
    """A cell such as "9 of 10"."""
    return f"{counts[0]} of {counts[1]}" if counts[1] else "–"


def write_list(path: Path, entries: Sequence[Finding] | Sequence[Mechanisms]) -> None:
    """Write a list as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps([one._asdict() for one in entries], indent=1, ensure_ascii=False)
    path.write_text(content + "\n", encoding="utf-8")


def read_list(path: Path, kind: type[_Entry]) -> list[_Entry]:
    """What :func:`write_list` wrote; nothing without the file."""
    return [kind(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def shown_command(sweep: Sweep) -> str:
    """The sweep of an ALRNN as a reader would run it."""
    data = [f"--data.data_dir=data/{sweep.data}"] if sweep.data else []
    units = ",".join(map(str, sweep.units))
    requested = [f"--nonlinear_units={units}", f"--seeds={sweep.seeds}", f"--output_dir=runs/{sweep.name}"]
    return " ".join(["alrnn sweep", f"--config={sweep.config}", *sweep.options, *data, *requested])


def write_results(path: Path, sweeps: Sequence[Sweep], verdicts: Mapping[str, Verdict]) -> None:
    """Write a page with the verdict and every seed of each sweep, with the figure; other sections remain."""
    lines = [
        "# Results",
        "",
        "How much nonlinearity does each task need? `make claims` wrote this page, and `python benchmarks/claims.py",
        "--further` its sections of IMDb, pixel-wise sequential MNIST, equal amplitudes and reference settings.",
        "",
    ]
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    sections = {section.partition("\n")[0]: section.strip() for section in page.split("\n## ")[1:]}
    sections |= {sweep.title: section(path, sweep, verdicts[sweep.name]) for sweep in sweeps if sweep.name in verdicts}
    for title in dict.fromkeys(sweep.title for sweep in sweeps):
        if title in sections:
            lines += [f"## {sections[title]}", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def section(path: Path, sweep: Sweep, verdict: Verdict) -> str:
    """The section of a sweep on the page of results."""
    save(plot_verdict(verdict), path.parent / "results" / f"{sweep.name}.png")
    seeds = sorted({seed for one in verdict.estimates for seed in one.scores})
    rows = [
        (name, *(words.number(scores.get(seed, math.nan)) for seed in seeds))
        for name, scores in [
            *((f"P={one.nonlinear_units}", one.scores) for one in verdict.estimates),
            *((one.core, one.scores) for one in verdict.sizes[-1].baselines),
        ]
    ]
    about = f"[The task](tasks/{sweep.page}.md); `{shown_command(sweep)}`; seeds change {verdict.seeds_change}"
    lines = [sweep.title, "", verdict.answer, "", f"{about}; {verdict.rules.score} by seed:", ""]
    return "\n".join([*lines, *table(("", *map(str, seeds)), rows), "", f"![{sweep.title}](results/{sweep.name}.png)"])


def main() -> None:
    """Train what is missing, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="folder of the real data: mnist, scan, imdb, speech_commands")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_true", help="three sweeps with five seeds")
    modes.add_argument("--again", action="store_true", help="the generated tasks with the seeds from 100")
    modes.add_argument("--further", action="store_true", help="the reference settings, and further data")
    parser.add_argument("--minutes", type=float, help="time for training (default 110, or 9 with --quick)")
    options = parser.parse_args()
    minutes = options.minutes if options.minutes is not None else 9 if options.quick else 110
    end = time.monotonic() + 60 * minutes
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # torch has read the variable already
    entries = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))
    every = [Sweep(name, **entry) for name, entry in entries.items()]
    sweeps = [sweep for sweep in every if sweep.further == options.further]
    if options.quick:
        sweeps = [sweep._replace(seeds=5) for sweep in sweeps if sweep.quick]
    if options.again:
        sweeps = [sweep._replace(core=None) for sweep in sweeps if not sweep.data]
    data_dir = options.data_dir
    here = [sweep for sweep in sweeps if not sweep.data or (data_dir is not None and (data_dir / sweep.data).is_dir())]
    left_out = [sweep for sweep in sweeps if sweep not in here]
    mode = next((name for name in ("quick", "again", "further") if getattr(options, name)), "")
    folder = Path("runs", f"claims-{mode}" if mode else "claims")
    first = _OTHER_SEEDS if options.again else 0
    jobs = [job for sweep in here for job in jobs_of(sweep, folder, range(first, first + sweep.seeds), data_dir)]
    commands = [(job, commands_of(job)) for job in jobs]
    alrnns_first = [(job, of_job[0]) for job, of_job in commands]
    baselines = [(job, one) for job, of_job in commands for one in of_job[1:]]
    ordered = [*alrnns_first, *baselines]  # the baselines are what there may be no time for
    for number, (job, arguments) in enumerate(ordered, start=1):
        print(f"[{number}/{len(ordered)}] {job.folder}", flush=True)
        if not sweep_until(end, arguments):
            print("the time is over; repeat the command to go on", flush=True)
            break
    if options.again or options.further:  # the page shows what was trained in full, now or before
        unfinished = {job.sweep.name for job in jobs if not is_trained(job)}
        jobs = [job for job in jobs if job.sweep.name not in unfinished]
    print("reading the networks", flush=True)
    pages = folder if options.quick else ROOT / "docs"
    figures = folder / "claims" if mode else pages / "claims"
    findings, verdicts = read(jobs, figures)
    findings += [] if options.again or options.further else read_cost(figures)
    file = pages / "claims" / "again.json" if options.again else pages / "claims.json"
    # --again and --further keep what earlier calls found; the others keep only what --further found
    lost = set() if options.again or options.further else {sweep.title for sweep in sweeps}
    earlier = [one for one in read_list(file, Finding) if one.task not in lost]
    unread = [
        Finding(claim, sweep.title, "undecided", 0, f"Not run: its data ({sweep.data}) were not in --data_dir.")
        for sweep in left_out
        for claim in sweep.claims
    ]
    order = [sweep.title for sweep in every] + list(COST)
    findings = first_of_each([*findings, *earlier, *unread], order)
    write_list(file, findings)
    if not (options.quick or options.again):
        path = pages / "claims" / "mechanisms.json"
        remaining = [one for one in read_list(path, Mechanisms) if one.task not in lost]
        write_list(path, first_of_each([*read_mechanisms(jobs, verdicts), *remaining], order))
        write_results(pages / "results.md", every, verdicts)
    write_page(pages)
    for one in findings:
        print(f"{one.claim}  {one.status:<10} {one.task}: {one.sentence}")
    print(f"\n{pages / 'claims.md'}")


if __name__ == "__main__":
    main()
