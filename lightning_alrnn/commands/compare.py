"""``alrnn compare``: whether the networks of a sweep, or several checkpoints, solve the task in the same way."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from lightning_alrnn.analysis.comparison import (
    MEASURES,
    SAME,
    Comparison,
    compare_portraits,
    group_by,
    output_directions,
    portrait,
)
from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.network_study import Sequences, Study, study
from lightning_alrnn.commands.analyze import print_results, quiet, read_network
from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.extensions.checkpoints import config_of, log_directory, read_checkpoint
from lightning_alrnn.files import write_file, write_json
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.parsing import read_yaml
from lightning_alrnn.plotting.comparison import plot_comparison
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.sweep.rules import Run, Value, find_score, higher_is_better, make_rules
from lightning_alrnn.sweep.store import read_records

_AT_REST = ("zero", "mean", "before the answer")


class Candidate(NamedTuple):
    """A network to compare."""

    name: str  # name of the run, or path of the checkpoint
    checkpoint: Path
    nonlinear_units: int
    settings: Mapping[str, Value]  # other varied settings of a sweep
    label: str  # name in the figure: the seed of a run, or the name


class LeftOut(NamedTuple):
    """A run that is not compared."""

    name: str
    reason: str


class Reading(NamedTuple):
    """The results of a network on the common test set."""

    candidate: Candidate
    metrics: dict[str, float]
    sequences: Sequences
    core: ALRNN  # recurrent layer of the network, in float64
    twin: ALRNN  # layer of the same form with initial weights
    # outputs at the last step, shape ``(batch, outputs)``; for classes without their mean, which has no effect
    outputs: Tensor
    weight: Tensor  # D of these outputs, shape ``(outputs, M)``
    results: Study  # results of ``alrnn analyze``
    has_encoder: bool

    @property
    def primitives(self) -> dict[str, bool | None]:
        """Whether the network uses each primitive; ``None`` if it could not be tested."""
        return {name: one.found for name, one in self.results.primitives.items()}


class Group(NamedTuple):
    """The networks with the same P and settings."""

    title: str
    data_of: str  # name of the run whose test set all networks ran on
    readings: list[Reading]
    scores: list[float]  # score of each network on the common test set
    good: list[bool]  # whether each network is as good as the typical run of the best P, or reaches ``--solved``
    comparison: Comparison
    answer: str  # sentence on the good networks, or on all if none is good


def run_compare(arguments: Sequence[str]) -> None:
    """Run ``alrnn compare``."""
    folder, answers = compare_networks(**vars(parser_of("compare").parse_args(arguments)))
    print_results({"report": folder / "compare.html", "numbers": folder / "compare.json"}, answers)


def compare_networks(
    paths: Sequence[Path],
    output_dir: Path | None = None,
    *,
    score: str | None = None,
    solved: float | None = None,
    max_sequences: int = 128,
    time_limit: float = 5.0,
) -> tuple[Path, list[str]]:
    """Compare the networks of a sweep's folder, or checkpoints; the output directory, and a sentence for each P."""
    is_sweep = len(paths) == 1 and paths[0].is_dir()
    candidates, left_out = _of_sweep(paths[0]) if is_sweep else (_of_checkpoints(paths), [])
    if not candidates:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out) or "no run has begun"
        raise ValueError(f"{paths[0]} holds no trained ALRNN to compare ({reasons})")
    folder = output_dir or (paths[0] if is_sweep else log_directory(paths[0]))
    members: dict[str, list[Reading]] = {}
    with tqdm(total=len(candidates), desc="compare", leave=False) as bar:
        for candidate in candidates:
            bar.set_postfix_str(candidate.name)
            settings = [f"{key}={value}" for key, value in candidate.settings.items()]
            readings = members.setdefault(", ".join([f"P={candidate.nonlinear_units}", *settings]), [])
            try:
                first = readings[0].candidate if readings else candidate
                readings.append(_read(candidate, first, max_sequences, time_limit))
            except ValueError as error:
                left_out.append(LeftOut(candidate.name, str(error)))
            bar.update()
            if readings:  # a wrong metric must show now and not after the last network
                logged = dict.fromkeys(readings[0].metrics, 0.0)
                find_score([Run("ALRNN", candidate.nonlinear_units, 0, {}, logged)], score)
    members = {title: readings for title, readings in members.items() if readings}
    if not members:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out)
        raise ValueError(f"none of the networks could be analysed ({reasons})")
    key, rule, scores, good = _judge(members, score, solved)
    noun = "seeds" if is_sweep else "networks"
    with quiet():
        groups = [_group(title, readings, scores[title], good[title], noun) for title, readings in members.items()]
    _write(folder, groups, left_out, key, rule)
    return folder, [group.answer for group in groups]


def _of_sweep(folder: Path) -> tuple[list[Candidate], list[LeftOut]]:
    """The networks of a sweep, and the runs without a network."""
    candidates, left_out = [], []
    for record in read_records(folder):
        run = record.run
        checkpoint = folder / record.checkpoint
        if record.status == "failed":
            reason = f"failed: {record.error}"
        elif record.status != "done":
            reason = "not done"
        elif run.diverged:
            reason = f"diverged: {record.error}"
        elif run.nonlinear_units is None:
            reason = f"its core is {run.core}, which has no regimes"
        elif not checkpoint.is_file():
            reason = f"its checkpoint {checkpoint} is gone"
        else:
            label = f"seed {run.seed}"
            candidates.append(Candidate(record.name, checkpoint, run.nonlinear_units, run.settings, label))
            continue
        left_out.append(LeftOut(record.name, reason))
    return candidates, left_out


def _of_checkpoints(paths: Sequence[Path]) -> list[Candidate]:
    candidates = []
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: state the folder of a single sweep, or checkpoints")
        units = read_checkpoint(path).get("hyper_parameters", {}).get("nonlinear_units", 0)
        candidates.append(Candidate(str(path), path, units, {}, f"{log_directory(path).name}/{path.stem}"))
    return sorted(candidates, key=lambda candidate: candidate.nonlinear_units)


def _read(candidate: Candidate, first: Candidate, max_sequences: int, time_limit: float) -> Reading:
    """Run a network on the test set of the first one, and analyse it."""
    config = config_of(candidate.checkpoint)
    with tempfile.TemporaryDirectory() as folder, quiet(), contextlib.redirect_stdout(io.StringIO()):
        configs = [] if config is None else [config]
        data_config = config_of(first.checkpoint)
        if data_config is not None:
            data = read_yaml(data_config).get("data")
            if data is None:
                raise ValueError(f"{data_config} has no data: it is not the configuration of a run")
            configs.append(Path(folder) / "data.yaml")
            configs[-1].write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
        options = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
        cli, collector = read_network(candidate.checkpoint, configs, Path(folder), max_sequences, options)
    model = cast(ALRNNModule, cli.model)
    core = cast(ALRNN, model.core).cpu().double().eval()
    twin = copy.deepcopy(core)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        twin.reset_parameters()
    weight = model.readout.weight.detach().cpu().double()
    sequences = collector.sequences
    names = model.group_names or getattr(cli.datamodule, "group_names", None)
    results = study(core, sequences, weight, names, time_limit=time_limit)
    outputs = sequences.outputs.double()
    if model.objective == "classification":
        weight, outputs = weight - weight.mean(dim=0), outputs - outputs.mean(dim=1, keepdim=True)
    metrics = {name: float(value) for name, value in cast(Any, cli.trainer).callback_metrics.items()}
    return Reading(candidate, metrics, sequences, core, twin, outputs, weight, results, model.encoder is not None)


def _judge(
    members: Mapping[str, Sequence[Reading]], score: str | None, solved: float | None
) -> tuple[str, str, dict[str, list[float]], dict[str, list[bool]]]:
    """The metric, the rule in words, the score of each network, and whether it is good."""
    metrics = {title: [one.metrics for one in readings] for title, readings in members.items()}
    every = [one for column in metrics.values() for one in column]
    key = find_score([Run("ALRNN", 0, 0, {}, one) for one in every], score)
    sign = 1.0 if higher_is_better(key) else -1.0
    scores = {title: [one.get(key, math.nan) for one in column] for title, column in metrics.items()}
    if solved is None:
        constants = [one["test/constant_mse"] for one in every if "test/constant_mse" in one]
        rules = make_rules(dict(enumerate(scores.values())), key, constants, None, None, 0.05)
        best = max((float(np.median(column)) for column in scores.values()), key=lambda value: sign * value)
        bound = sign * best - rules.margin
        rule = f"within {rules.tolerance:.3g} ({rules.tolerance_rule}) of {best:.3g}, the median of the best P"
    else:
        bound, rule = sign * solved, f"{'at least' if sign > 0 else 'at most'} {solved:g}, as stated"
    good = {title: [sign * value >= bound for value in column] for title, column in scores.items()}
    return key, rule, scores, good


def _group(title: str, readings: list[Reading], scores: list[float], good: list[bool], noun: str) -> Group:
    directions = output_directions([one.outputs for one in readings])
    portraits, untrained = [], []
    for one in readings:
        inputs, lengths, rows = one.sequences.inputs, one.sequences.lengths, directions @ one.weight
        with torch.no_grad():
            states = one.twin(inputs.double(), lengths=lengths)[0]
        portraits.append(portrait(one.core, inputs, one.sequences.states, rows, lengths))
        untrained.append(portrait(one.twin, inputs, states, rows, lengths))
    # after different encoders, the inputs of the networks have different coordinates
    measures = [name for name in MEASURES if name != "gains" or not any(one.has_encoder for one in readings)]
    comparison = compare_portraits(portraits, untrained, measures)
    counted = [index for index, is_good in enumerate(good) if is_good or not any(good)]
    answer = _answer(title, readings, comparison, counted, any(good), noun)
    return Group(title, readings[0].candidate.name, readings, scores, good, comparison, answer)


def _answer(
    title: str, readings: Sequence[Reading], comparison: Comparison, counted: Sequence[int], good: bool, noun: str
) -> str:
    """A sentence: how many of the good networks are alike, and by which measures the others are."""
    count = len(counted)
    rows = torch.tensor(counted)
    alike = group_by(comparison.distance[rows][:, rows])
    members = [index for index, label in zip(counted, alike.tolist(), strict=True) if label == 0]
    worse = [one.candidate.label for index, one in enumerate(readings) if index not in counted]
    head = f"{title}{'' if good else ' (none is good enough)'}: "
    if count == 1:
        sentence = f"only one of the {noun}, {readings[counted[0]].candidate.label}, can be analysed"
    elif len(members) == 1:
        sentence = f"no two of the {count} {noun} find the same solution"
    else:
        every = "both" if count == 2 else f"all {count}"
        which = f"{len(members)} of {count}" if len(members) < count else every
        each = [readings[index].primitives for index in members]
        shared = [name for name in each[0] if all(primitives[name] for primitives in each)]
        sentence = (
            f"{which} {noun} find the same solution ({', '.join(shared) or 'without any of the four primitives'})"
        )
    if count > 1 and len(members) < count:
        single = {name: group_by(distance[rows][:, rows]) for name, distance in comparison.measures.items()}
        counts = [f"{int((labels == 0).sum())} by {name}" for name, labels in single.items()]
        sentence += f"; by a single measure, the largest groups are {', '.join(counts)}"
    if worse:
        sentence += f"; not good enough and not counted: {', '.join(worse)}"
    return head + sentence + "."


def _fixed_points(points: FixedPointSet) -> str:
    """The numbers of fixed points of each kind, such as "2 stable, 1 saddle"."""
    counts = [f"{count} {kind}" for kind, count in Counter(points.stability).most_common()]
    if points.continua:
        counts.append("a continuum")
    return ("" if points.complete else "at least ") + (", ".join(counts) or "none")


def _write(folder: Path, groups: Sequence[Group], left_out: Sequence[LeftOut], key: str, rule: str) -> None:
    page = Page("Do all seeds find the same solution?", str(folder))
    for group in groups:
        page.text(group.answer, answer=True)
    page.section("How far are the networks from each other?")
    labels = {
        group.title: [
            one.candidate.label + ("" if good else " (worse)")
            for one, good in zip(group.readings, group.good, strict=True)
        ]
        for group in groups
    }
    figure = plot_comparison({group.title: group.comparison for group in groups}, labels)
    page.figure(
        figure,
        f"Left: complete-linkage clustering. Networks that join to the right of the line at {SAME:g} have the same "
        "solution. Right: the distance, which is the largest of the four measures, and each measure: "
        + "; ".join(f"{name}, {words}" for name, words in MEASURES.items())
        + ". 0 means the same, 1 means nothing in common. (worse) marks networks that are not good enough.",
        folder / "compare",
    )
    _write_table(page, groups, key)
    if left_out:
        page.section("Runs that are not compared")
        page.table(("run", "reason"), [tuple(one) for one in left_out])
    _write_method(page, groups, key, rule)
    content = {
        "answers": [group.answer for group in groups],
        "score": key,
        "good": rule,
        "same": SAME,
        "groups": [
            {
                "title": group.title,
                "data_of": group.data_of,
                "sequences": len(group.readings[0].sequences.states),
                "networks": [_network_json(group, index) for index in range(len(group.readings))],
                **group.comparison._asdict(),
                "merges": group.comparison.merges.tolist(),
            }
            for group in groups
        ],
        "left_out": left_out,
    }
    write_json(folder / "compare.json", content)
    write_file(folder / "compare.html", page.html())


def _network_json(group: Group, index: int) -> dict[str, Any]:
    reading = group.readings[index]
    return {
        "name": reading.candidate.name,
        "checkpoint": str(reading.candidate.checkpoint),
        "score": group.scores[index],
        "good": group.good[index],
        "solution": _solution(group, index),
        "primitives": reading.primitives,
        "regimes": reading.results.summary,
        "fixed_points": {name: _fixed_points(points) for name, points in reading.results.fixed_points.items()},
    }


def _solution(group: Group, index: int) -> str:
    """The letter of a network's solution; A is the most frequent one."""
    number = int(group.comparison.groups[index])
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _write_table(page: Page, groups: Sequence[Group], key: str) -> None:
    page.section("What does each network do?")
    columns = ("", "network", key, "solution", "nearest", "primitives found", "regimes", "fixed points")
    rows = [
        (group.title if index == 0 else "", *_row(group, index))
        for group in groups
        for index in range(len(group.readings))
    ]
    page.table(
        columns,
        rows,
        "Networks of a P with the same letter have the same solution. Nearest: the network of the same P with the "
        "smallest distance. Regimes: the number of visited regimes, and the number of equally visited regimes with the "
        "same entropy. Fixed points: those under a constant input, which is zero, its mean, or its mean before the "
        "answer.",
    )
    for group in groups:
        lower, upper = group.comparison.unchanged
        each = [reading.primitives for reading in group.readings]
        counts = [
            f"{name} in {sum(primitives[name] is True for primitives in each)}"
            for name in each[0]
            if any(primitives[name] is not None for primitives in each)
        ]
        until = "upwards" if math.isinf(upper) else f"to {upper:.2f}"
        page.text(
            f"{group.title}: of {len(each)} networks, "
            f"{', '.join(counts) or 'none could be tested for primitives'}. "
            f"The solutions stay the same for any criterion from {lower:.2f} {until}."
        )


def _row(group: Group, index: int) -> tuple[str, ...]:
    reading = group.readings[index]
    others = group.comparison.distance[index].clone()
    others[index] = math.inf
    nearest = int(others.argmin())
    inputs: dict[str, list[str]] = {}
    for name in _AT_REST:
        if name in reading.results.fixed_points:
            inputs.setdefault(_fixed_points(reading.results.fixed_points[name]), []).append(name)
    return (
        reading.candidate.label,
        f"{group.scores[index]:.3g}" + ("" if group.good[index] else " (worse)"),
        _solution(group, index),
        "–" if len(others) == 1 else f"{group.readings[nearest].candidate.label} ({others[nearest]:.2f})",
        ", ".join(name for name, is_used in reading.primitives.items() if is_used) or "none",
        f"{reading.results.summary.visited} ({reading.results.summary.effective:.1f})",
        "; ".join(f"{points} ({', '.join(names)})" for points, names in inputs.items()),
    )


def _write_method(page: Page, groups: Sequence[Group], key: str, rule: str) -> None:
    page.section("How the networks are compared")
    data = ", ".join(f"{group.title}: {group.data_of}" for group in groups)
    page.text(
        f"All networks of a P ran on the same {len(groups[0].readings[0].sequences.states)} sequences of the test set "
        f"of one run ({data}), also if they were trained on other data. The scores ({key}) are those of the whole test "
        f"set. A network is good enough if its score is {rule}."
    )
    page.text(
        "The distances do not change if units are permuted, nonlinear units are scaled by positive factors or linear "
        f"units are mixed. Two networks have the same solution if the largest measure is at most {SAME:g}, half of the "
        "distance between networks with nothing in common. A solution is a group in which this holds for all pairs."
    )
    page.table(
        ("", *MEASURES),
        [
            (group.title, *(f"{group.comparison.untrained.get(name, math.nan):.2f}" for name in MEASURES))
            for group in groups
        ],
        "Median distance between a network and a network of the same form with initial weights. If it is small, too, "
        "the measure does not show that the networks have learned the same. It is nan for a measure that does not "
        "apply: there is only one regime without nonlinear units, and inputs after different encoders differ.",
    )
