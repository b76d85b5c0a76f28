"""Check whether primitives are found where they are, and only there, in networks whose mechanism is known.

    python benchmarks/mechanisms.py          # some ten minutes on two cores, most of it training
    python benchmarks/mechanisms.py --quick  # one network of each kind, no training: a minute

Built by hand: the kinds of ``planted.py``, four networks each. Untrained: M = 20, 60 networks for each P, with the
package's initialisations and Gaussian weights of gain 0.5 and 0.9, on shipped tasks and on white noise with a condition
channel. Trained: configurations of the package, in ``runs/mechanisms``; what is there is not trained again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import save
from planted import HIDDEN, KINDS, Case
from tqdm import tqdm

from lightning_alrnn.analysis import find_primitives, intervene
from lightning_alrnn.analysis.system import read_recurrence
from lightning_alrnn.commands.analyze import read_network
from lightning_alrnn.datamodules import Addition, ContextualIntegration, MultiTask
from lightning_alrnn.nn import ALRNN

PRIMITIVES = ("gating", "integration", "routing", "transients")
UNITS = (1, 5, 10, 20)
INITS = ("gaussian", "near_identity", "positive_definite", "gain 0.5", "gain 0.9")
TASKS = ("addition", "contextual", "multitask", "noise")
UNTRAINED = 60
FOLDER = Path(__file__).parents[1] / "runs" / "mechanisms"
TRAINED: dict[str, tuple[str, int, int, tuple[bool | None, ...]]] = {
    # configuration, P, seeds, and what the networks have: None where nobody knows
    "addition, P=1": ("addition_quick", 1, 3, (True, None, None, None)),
    "addition, P=5": ("addition_quick", 5, 3, (True, None, None, None)),
    "addition, P=0": ("addition_quick", 0, 1, (False, None, False, False)),
    "contextual, P=1": ("contextual_quick", 1, 3, (True, True, True, None)),
    "contextual, P=0": ("contextual_quick", 0, 1, (False, None, False, False)),
    "multitask, P=8": ("multitask_quick", 8, 3, (None, None, True, None)),
    "multitask, P=0": ("multitask_quick", 0, 1, (False, None, False, False)),
}


class Job(NamedTuple):
    """A network to analyse."""

    source: str  # "built", "untrained" or "trained"
    kind: str
    seed: int
    units: int = 0  # P of an untrained one


class Finding(NamedTuple):
    """What was found of one primitive."""

    found: bool | None
    effect: float
    p: float
    intervention: float
    reason: str


class Outcome(NamedTuple):
    """Which primitives a network has, and what was found of each."""

    job: Job
    truth: tuple[bool | None, ...]
    findings: tuple[Finding, ...]

    def has_found(self, index: int) -> bool:
        """Whether a primitive was found."""
        return self.findings[index].found is True


def look(job: Job) -> Outcome:
    """Build or load a network, and look for primitives."""
    torch.set_num_threads(1)
    if job.source == "trained":
        truth, arguments = TRAINED[job.kind][3], trained(job)
    elif job.source == "built":
        truth, build = KINDS[job.kind]
        rng = np.random.default_rng([job.seed, *job.kind.encode()])
        arguments = run(build(rng, HIDDEN[job.seed % len(HIDDEN)]))
    else:
        truth, arguments = (False,) * 4, run(untrained(job))
    primitives = find_primitives(*arguments)
    readings: list[Any] = [getattr(primitives, name) for name in PRIMITIVES]
    return Outcome(job, truth, tuple(Finding(*(getattr(one, name) for name in Finding._fields)) for one in readings))


def run(case: Case) -> tuple[Any, ...]:
    """Run a network over its trials; returns the arguments of ``find_primitives``."""
    states = intervene(case.rnn, case.inputs, lengths=case.lengths).states
    last = -1 if case.lengths is None else case.lengths - 1
    answers = states[torch.arange(len(states)), last] @ case.weight.T
    targets = answers if case.targets is None else case.targets
    return case.rnn, case.inputs, states, case.weight, targets, case.lengths, case.group


def untrained(job: Job) -> Case:
    """An untrained network, drawn again until it does not explode within the trials."""
    for attempt in range(100):
        seed = 1000 * job.seed + attempt
        inputs, targets, group, lengths = trials(TASKS[job.seed % len(TASKS)], seed)
        torch.manual_seed(seed)
        init = job.kind
        rnn = ALRNN(inputs.shape[2], 20, job.units, init="gaussian" if init.startswith("gain") else init).double()  # type: ignore[arg-type]
        if init.startswith("gain"):
            with torch.no_grad():
                rnn.W.normal_(std=float(init.split()[1]) / 20**0.5), rnn.A.zero_()
                rnn.C.normal_(), rnn.h.normal_(std=0.3)  # type: ignore[union-attr]
        weight = torch.randn(1 if targets.is_floating_point() else 2, 20).double() / 20**0.5
        case = Case(read_recurrence(rnn), weight, inputs, targets, group, lengths)
        states = intervene(case.rnn, inputs, lengths=lengths).states
        if bool(torch.isfinite(states).all()) and float(states.abs().max()) < 1e4:
            return case
    raise RuntimeError(f"{job}: every network explodes")


def trials(task: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """200 trials of a task: inputs, targets at the end, conditions and lengths."""
    if task == "noise":
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(200, 30, 3, generator=generator).double()
        group = torch.randint(0, 2, (200,), generator=generator)
        inputs[:, :, 2] = (2.0 * group - 1).unsqueeze(1)
        return inputs, inputs[:, :, :1].sum(dim=1), group, None
    data = {
        "addition": lambda: Addition(sequence_length=20, test_size=200, seed=seed),
        "contextual": lambda: ContextualIntegration(sequence_length=40, test_size=200, seed=seed),
        "multitask": lambda: MultiTask(test_size=200, seed=seed),
    }[task]()
    batch = data.build("test")
    targets = batch.targets
    if data.target_step == "every":
        targets = targets[torch.arange(200), batch.lengths - 1]
    return batch.inputs.double(), targets[:, :1] if targets.is_floating_point() else targets, batch.group, batch.lengths


def folder(kind: str, seed: int) -> Path:
    """Folder of a trained network."""
    config, units, *_ = TRAINED[kind]
    return FOLDER / f"{config}-P{units}-seed{seed}"


def train(job: Job) -> None:
    """Train a network with ``alrnn fit``, unless it is there."""
    config, units, *_ = TRAINED[job.kind]
    at = folder(job.kind, job.seed)
    if (at / "done").exists():
        return
    command = [sys.executable, "-m", "lightning_alrnn", "fit", "--config", config]
    options = {
        "model.nonlinear_units": units,
        "seed_everything": job.seed,
        "trainer.logger.save_dir": FOLDER,
        "trainer.logger.name": at.name,
        "trainer.logger.version": 0,
        "trainer.enable_progress_bar": False,
    }
    at.mkdir(parents=True, exist_ok=True)
    with (at / "fit.log").open("w") as log:
        settings = [f"--{name}={value}" for name, value in options.items()]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *settings], check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
    (at / "done").touch()


def trained(job: Job) -> tuple[Any, ...]:
    """Run a trained network as ``alrnn analyze`` does; returns the arguments of ``find_primitives``."""
    log = folder(job.kind, job.seed) / "version_0"
    (checkpoint,) = (log / "checkpoints").glob("best*.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        cli, collector = read_network(checkpoint, [log / "config.yaml"], log, 512, options)
    core, data = cli.model.core.cpu().double(), collector.sequences
    return core, data.inputs, data.states, cli.model.readout.weight, data.targets, data.lengths, data.group


def jobs(quick: bool) -> Iterator[Job]:
    """All networks, starting with those that take longest."""
    if not quick:
        for kind, (_, _, seeds, _) in TRAINED.items():
            yield from (Job("trained", kind, seed) for seed in range(seeds))
    for units in UNITS:
        count = len(INITS) if quick else UNTRAINED
        yield from (Job("untrained", INITS[seed % len(INITS)], seed, units) for seed in range(count))
    for kind in KINDS:
        yield from (Job("built", kind, seed) for seed in range(1 if quick else len(HIDDEN)))


def by_kind(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Number of networks of each kind, whether they have each primitive, and in how many it was found."""
    kinds: dict[tuple[str, str, int], list[Outcome]] = {}
    for one in outcomes:
        kinds.setdefault((one.job.source, one.job.kind, one.job.units), []).append(one)
    rows = []
    for (source, kind, units), same in sorted(kinds.items()):
        row = {"source": source, "kind": kind} | ({"units": units} if source == "untrained" else {})
        row |= {"networks": len(same)}
        for index, name in enumerate(PRIMITIVES):
            row |= {name: {"has": same[0].truth[index], "found": sum(one.has_found(index) for one in same)}}
        rows.append(row)
    return rows


def rate(outcomes: list[Outcome], index: int, truth: bool) -> str:
    """In how many of the networks that have a primitive, or do not have it, it was found."""
    found = [one.has_found(index) for one in outcomes if one.truth[index] is truth]
    return f"{sum(found)} of {len(found)}" if found else "–"


def main() -> None:
    """Analyse all networks, print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network of each kind, no training")
    quick = parser.parse_args().quick
    every = list(jobs(quick))
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        to_train = [job for job in every if job.source == "trained"]
        list(tqdm(pool.imap_unordered(train, to_train), "train", len(to_train), disable=not to_train))
        for one in tqdm(pool.imap_unordered(look, every), "look", len(every)):
            outcomes.append(one)
            for index, name in enumerate(PRIMITIVES):
                if one.truth[index] not in (None, one.has_found(index)):
                    finding = one.findings[index]
                    wrong = "found, and not there" if finding.found else "missed"
                    numbers = f"effect {finding.effect:.2f}, p {finding.p:.3f}, intervention {finding.intervention:.2f}"
                    tqdm.write(f"{wrong}: {name} in {one.job} ({numbers}) {finding.reason}")
    rows = []
    for index, name in enumerate(PRIMITIVES):
        row = [name]
        for source in ("built", "trained"):
            of = [one for one in outcomes if one.job.source == source]
            row += [rate(of, index, True), rate(of, index, False)]
        untrained_ones = [one for one in outcomes if one.job.source == "untrained"]
        row += [rate([one for one in untrained_ones if one.job.units == units], index, False) for units in UNITS]
        rows.append(row)
    heads = ["", "built, has it", "built, has it not", "trained, has it", "trained, has it not"]
    heads += [f"untrained, P={units}" for units in UNITS]
    kinds = len({one.job.kind for one in outcomes if one.job.source == "built"})
    text = (
        f"In how many networks each primitive is found: {kinds} kinds built by hand, four of each; networks trained on "
        "shipped tasks; untrained ones with M=20."
    )
    if quick:
        print("\n".join(["", "\t".join(heads), *("\t".join(row) for row in rows)]))
        return
    save("mechanisms", text, heads, rows, by_kind(outcomes))


if __name__ == "__main__":
    main()
