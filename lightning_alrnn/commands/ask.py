"""``alrnn ask``: from the arrays of a user to one page with the answer, within a number of minutes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import platform
import shlex
import signal
import statistics
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypedDict, cast

import torch
from scipy.stats import t as student

from lightning_alrnn.commands.analyze import analyze_network, quiet
from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.commands.sweep import run_sweep
from lightning_alrnn.datamodules.arrays import Arrays
from lightning_alrnn.files import write_file, write_json
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.option_errors import guess_name
from lightning_alrnn.parsing import load_yaml, read_json
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.baselines import write_baselines
from lightning_alrnn.sweep.executors import default_jobs
from lightning_alrnn.sweep.store import Record, read_records
from lightning_alrnn.sweep.verdict import ALPHA, Verdict
from lightning_alrnn.sweep.verdict_page import write_estimates, write_verdict

_SEEDS = "5..40"
_FIRST_LOOK = 8
_GRID: dict[str, tuple[Any, ...]] = {
    "model.hidden_size": (20, 50),
    "model.init": ("gaussian", "near_identity"),
    "model.optimizer.lr": (0.001, 0.003, 0.01),
}
_DEFAULTS: dict[str, Any] = dict(zip(_GRID, (50, "gaussian", 0.001), strict=True))
"""What is used of the grid where the time was too short to compare."""
_GRID_UNITS = (0, 2, 10)
_GRID_STEPS = 300  # of a short run, or fewer down to a third if the time is short
_FEWEST_STEPS, _MOST_STEPS = 1_000, 10_000
_BATCH = 64
_TOLERANCE = 0.05
# shares of the time: of the short runs, of the reading of two networks, and of the sweep for its first look
_GRID_SHARE, _READING_SHARE, _FIRST_LOOK_SHARE = 0.2, 0.15, 0.6
_LEAST_READING = 40.0  # seconds


_TOGETHER = 2  # runs of a population take at most a half of the time that they take one by one


class Choice(NamedTuple):
    """The settings that short runs decided on, and how the sweep is trained."""

    settings: dict[str, Any]
    compared: int
    short_epochs: int
    epochs: int
    steps_per_epoch: int
    units: list[int]


class Comparison(NamedTuple):
    """How much better the networks are than a predictor without a network, by the mean over all P."""

    name: str
    level: float  # the predictor's median score
    networks: float  # the median, over seeds, of the networks' mean over all P
    better: int  # seeds in which the networks are better
    seeds: int
    p: float  # one-sided, of the corrected resampled t-test

    @property
    def shown(self) -> bool:
        """Whether the networks are shown to be better."""
        return self.p <= ALPHA


def run_ask(arguments: Sequence[str]) -> None:
    """Run ``alrnn ask``."""
    options, further = parser_of("ask").parse_known_args(list(arguments))
    if not options.minutes > 0:
        raise ValueError(f"--minutes must be more than 0, got {options.minutes:g}")
    seconds = 60 * options.minutes
    sweep_seconds = seconds - min(max(_READING_SHARE * seconds, _LEAST_READING), seconds / 2)
    start = time.monotonic()
    path: Path = options.inputs
    folder = (options.output_dir or Path("runs", f"ask_{path.stem}")).resolve()
    data_options = _data_options(further)
    if "standardize" not in data_options:
        data_options["standardize"] = Arrays(str(path), **data_options).vocab_size is None
    data = Arrays(str(path), **data_options)
    _say(data.describe())
    for mistake in data.likely_mistakes():
        _say(f"warning: {mistake}")
    shared = [f"--data.{key}={json.dumps(value)}" for key, value in data_options.items()]
    shared = ["--data=Arrays", f"--data.inputs={path.resolve()}", *shared]
    _enter(folder, path, data_options)
    choice = _choose(folder, data, shared, start + _GRID_SHARE * seconds, start + sweep_seconds)
    compared = f"chosen by {choice.compared} short runs" if choice.compared else "the defaults: no short run was done"
    _say(f"{_listed(choice.settings)} ({compared}); at most {choice.epochs} epochs, P = {words.listed(choice.units)}")
    sweep = [*_training(choice, shared), *_tolerance(data), f"--output_dir={folder}", f"--seeds={_SEEDS}"]
    with _deadline(start + sweep_seconds) as late:
        _sweep(sweep, late)
    verdict = _judge(folder, path, data_options)
    comparisons = _compare(verdict, len(data.dataset("test")) / len(data.dataset("train")))
    learnt = bool(comparisons) and comparisons[0].shown  # the first one is a constant
    networks = _read_networks(folder, verdict, start + seconds) if learnt else {}
    answer = _answer(verdict, comparisons)
    again = ["alrnn", "ask", str(path), *further, f"--minutes={2 * options.minutes:g}"]
    page = _page(data, choice, verdict, comparisons, networks, answer, again, options.output_dir or folder)
    write_file(folder / "ask.html", page.html())
    _note(folder, answer=answer, learnt=learnt, comparisons=comparisons)
    lines = [f"{name:<9}{path}" for name, path in ({"page": folder / "ask.html"} | _reports(networks)).items()]
    sys.stdout.write("\n".join(["", *textwrap.wrap(answer, 100), "", *lines, ""]))


def _data_options(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of ``Arrays`` among the arguments, by name; there may be no others."""
    options: dict[str, Any] = {}
    words_left = list(arguments)
    while words_left:
        flag, separator, value = words_left.pop(0).partition("=")
        if not flag.startswith("--"):
            raise ValueError(f"alrnn ask takes one file, got also {flag}: put all sequences into one .npz")
        if not flag.startswith("--data."):
            guess = guess_name(flag, ("--minutes", "--output_dir"))
            raise ValueError(
                f"alrnn ask has no option {flag}{guess or ':'} it takes --minutes, --output_dir and options of the "
                "data such as --data.criterion sign; alrnn sweep takes all options"
            )
        if not separator and not words_left:
            raise ValueError(f"{flag} needs a value")
        text = value if separator else words_left.pop(0)
        try:
            options[flag.removeprefix("--data.")] = load_yaml(text)
        except ValueError as error:
            raise ValueError(f"{flag} {text}: {error}") from error
    unknown = [name for name in options if name not in Arrays.__init__.__annotations__]
    if unknown:
        guess = guess_name(unknown[0], Arrays.__init__.__annotations__, "--data.") or ";"
        no_option = f"--data.{unknown[0]}: Arrays has no such option"
        raise ValueError(f"{no_option}{guess} alrnn fit --data.help Arrays lists them")
    return options


def _enter(folder: Path, path: Path, data_options: Mapping[str, Any]) -> None:
    """Make the folder, or see that it holds an earlier call on the same data."""
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # the file may be larger than the memory
    asked = {"data": digest, "options": dict(data_options)}
    before = _read_notes(folder).get("asked", asked)
    if before != asked:
        raise ValueError(
            f"{folder} holds the answer for other data or other options of the data: use another --output_dir"
        )
    _note(folder, asked=asked)


def _choose(folder: Path, data: Arrays, shared: Sequence[str], grid_end: float, sweep_end: float) -> Choice:
    """Compare settings by the validation loss of short runs, and plan the sweep for the time that is left."""
    notes = _read_notes(folder)
    if "choice" in notes:  # a sweep goes on with what it began with
        return cast(Choice, notes["choice"])
    steps = -(-len(data.dataset("train")) // data.batch_size)
    step = _seconds_of_a_step(data)
    runs = len(_GRID_UNITS) * math.prod(map(len, _GRID.values()))
    affordable = (grid_end - time.monotonic()) * default_jobs("cpu") * _TOGETHER / (runs * step)
    short_epochs = min(-(-_GRID_STEPS // steps), int(affordable / steps))
    records: list[Record] = []
    if 3 * short_epochs * steps >= _GRID_STEPS:
        records = _short_runs(folder / "settings", short_epochs, shared, grid_end)
    settings, compared = _best_setting(records)
    per_epoch = steps * step / _TOGETHER
    if records:
        same = [one for one in records if one.run.settings["model.hidden_size"] == settings["model.hidden_size"]]
        per_epoch = sum(one.seconds for one in same or records) / sum(one.epochs for one in same or records)
    time_left = _FIRST_LOOK_SHARE * (sweep_end - time.monotonic()) * default_jobs("cpu")
    epochs = min(_MOST_STEPS // steps, int(time_left / (_FIRST_LOOK * len(_units(settings)) * per_epoch)))
    choice = Choice(settings, compared, short_epochs, max(epochs, 1), steps, _units(settings))
    _note(folder, choice=choice._asdict())
    return choice


def _seconds_of_a_step(data: Arrays) -> float:
    """Seconds in which a single network of the larger size is trained for a step, without what Lightning adds."""
    shape = data.dataset("train").__getitems__(range(min(data.batch_size, len(data.dataset("train"))))).inputs.shape
    rnn = ALRNN(data.input_size, max(_GRID["model.hidden_size"]), max(_GRID_UNITS))
    inputs = torch.randn(*shape[:2], data.input_size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        rnn(inputs).states.sum().backward()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _short_runs(folder: Path, epochs: int, shared: Sequence[str], end: float) -> list[Record]:
    """Train a short run of each setting; those that are done in time."""
    arguments = [*shared, f"--trainer.max_epochs={epochs}", f"--output_dir={folder}", "--seeds=1"]
    arguments += ["--nonlinear_units=" + ",".join(map(str, _GRID_UNITS))]
    arguments += [f"--grid={key}={','.join(map(str, values))}" for key, values in _GRID.items()]
    with _deadline(end) as late:
        _sweep(arguments, late)
    begun = read_records(folder) if (folder / "runs").is_dir() else []
    return [record for record in begun if record.status == "done"]


def _best_setting(records: Sequence[Record]) -> tuple[dict[str, Any], int]:
    """The setting with the best mean rank over P by the validation loss, and how many were compared."""
    losses: dict[int | None, dict[tuple[Any, ...], float]] = defaultdict(dict)
    for record in records:
        loss = record.run.metrics.get("val/task_loss", math.inf)
        setting = tuple(record.run.settings[key] for key in _GRID)
        losses[record.run.nonlinear_units][setting] = loss if math.isfinite(loss) else math.inf
    cases = [losses[p] for p in _GRID_UNITS]
    settings = [one for one in product(*_GRID.values()) if all(one in case for case in cases)]
    ranks = {one: sum(sum(case[other] < case[one] for other in settings) for case in cases) for one in settings}
    if not ranks:
        return dict(_DEFAULTS), 0
    best = min(ranks, key=ranks.__getitem__)
    return dict(zip(_GRID, best, strict=True)), len(settings)


def _units(settings: Mapping[str, Any]) -> list[int]:
    """The numbers of nonlinear units of the sweep, from none to all."""
    size = settings["model.hidden_size"]
    return [0, 1, 2, 5, 10, size]


def _training(choice: Choice, shared: Sequence[str]) -> list[str]:
    return [
        *shared,
        *(f"--{key}={value}" for key, value in choice.settings.items()),
        f"--trainer.max_epochs={choice.epochs}",
        f"--nonlinear_units={','.join(map(str, choice.units))}",
        "--stop_when=plateau",
    ]


def _tolerance(data: Arrays) -> list[str]:
    """The tolerance of a squared error: 5 % of that of the best predictor without a network."""
    if data.criterion is not None or data.objective == "classification":
        return []
    best = min(scores["mse"] for scores in data.baselines("val").values())
    return [f"--tolerance={_TOLERANCE * best:.3g}"] if best > 0 else []


class _Late:
    """Whether a deadline has passed."""

    passed = False


@contextlib.contextmanager
def _deadline(moment: float) -> Iterator[_Late]:
    """Interrupt what runs at a moment of the monotonic clock, as Ctrl-C does."""
    late = _Late()

    def interrupt(number: int, frame: FrameType | None) -> None:
        late.passed = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    left = moment - time.monotonic()
    if left > 0:
        signal.setitimer(signal.ITIMER_REAL, left)
    else:
        late.passed = True
    try:
        yield late
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _sweep(arguments: Sequence[str], late: _Late) -> None:
    """Run a sweep as far as the time allows; what it prints at its end is said on the page."""
    if late.passed:
        return
    quiet_arguments = [*arguments, "--trainer.enable_progress_bar=false"]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_sweep(quiet_arguments, report_interrupt=False)
    except SystemExit as stopped:
        if stopped.code == 2:  # a wrong option
            raise
        if stopped.code == 130 and not late.passed:
            sys.stderr.write("\nalrnn ask: interrupted; repeat the command to continue\n")
            raise
    except KeyboardInterrupt:  # before the runs have begun, or after their end
        if not late.passed:
            raise


def _judge(folder: Path, path: Path, data_options: Mapping[str, Any]) -> Verdict:
    """Score the predictors that need no network on the data of every seed, and judge all."""
    begun = read_records(folder) if (folder / "runs").is_dir() else []
    seeds = sorted({record.run.seed for record in begun if record.status == "done"})
    if not seeds:
        raise ValueError(
            "no network was trained in the time. Repeat the command to go on, or give it more --minutes and another "
            "--output_dir"
        )
    for seed in seeds:
        write_baselines(folder, seed, {}, Arrays(str(path), **data_options, seed=seed), most=len(seeds))
    return write_verdict(folder)


def _compare(verdict: Verdict, tested: float) -> list[Comparison]:
    """Compare the networks with the predictors that need none, on the same test data: those of each seed.

    ``tested`` is the number of test sequences per training sequence.
    """
    scores: dict[int, list[float]] = defaultdict(list)
    for estimate in verdict.estimates:
        for seed, score in estimate.scores.items():
            scores[seed].append(score)
    comparisons = []
    for one in verdict.sizes[-1].baselines:
        # the mean over all P: the best P of several would be better by chance
        both = [(statistics.fmean(scores[seed]), level) for seed, level in one.scores.items() if seed in scores]
        gains = [verdict.rules.sign * (score - level) for score, level in both]
        networks = statistics.median(score for score, _ in both) if both else math.nan
        better = sum(gain > 0 for gain in gains)
        comparisons.append(Comparison(one.core, one.typical, networks, better, len(both), resampled_p(gains, tested)))
    return comparisons


def resampled_p(gains: Sequence[float], tested: float) -> float:
    """One-sided p of the corrected resampled t-test: are gains over random divisions of the same data above zero?

    The divisions share data, so their gains are not independent: the variance of their mean is taken as
    (1/n + ``tested``) times their variance (Nadeau & Bengio, Machine Learning 52, 2003).
    """
    if len(gains) < 2:
        return 1.0
    deviation = statistics.stdev(gains) * math.sqrt(1 / len(gains) + tested)
    mean = statistics.fmean(gains)
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(student.sf(mean / deviation, len(gains) - 1))


def _read_networks(folder: Path, verdict: Verdict, end: float) -> dict[str, tuple[Path, str]]:
    """Analyse a typical network with the smallest P that is enough, and one with P=M: report and answer by name."""
    finite = [one for one in verdict.estimates if math.isfinite(one.typical)]
    best = max(finite, key=lambda one: verdict.rules.sign * one.typical)
    smallest = verdict.claims.smallest_sufficient
    by_name = {record.name: record for record in read_records(folder)}
    networks: dict[str, tuple[Path, str]] = {}
    for p in dict.fromkeys((best.nonlinear_units if smallest is None else smallest, finite[-1].nonlinear_units)):
        (estimate,) = (one for one in finite if one.nonlinear_units == p)
        seed = min(estimate.scores, key=lambda seed: abs(estimate.scores[seed] - estimate.typical))
        (record,) = (one for one in by_name.values() if (one.run.nonlinear_units, one.run.seed) == (p, seed))
        target = folder / f"network_P{p}"
        limit = max((end - time.monotonic()) / 6, 1.0)
        _say(f"reads a typical network with P={p}")
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            analysis = analyze_network(
                [f"--ckpt_path={folder / record.checkpoint}", f"--output_dir={target}", f"--time_limit={limit:.1f}"]
            )
        networks[f"P={p}"] = (target / "report.html", analysis.report["answer"])
    return networks


def _answer(verdict: Verdict, comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return verdict.answer
    constant, *others = comparisons
    if not constant.shown:
        return (
            f"It is not shown that anything was learnt: by {verdict.rules.score}, {_networks(constant)} are better "
            f"than the prediction {constant.name!r} ({words.number(constant.level)}) in {_of_seeds(constant)} "
            f"(p = {constant.p:.2g}). Whether nonlinearity is needed is then no question."
        )
    said = verdict.answer
    for other in others:
        verb = "are better" if other.shown else "are not shown to be better"
        said += (
            f" {_networks(other, 'The')} {verb} than the {other.name} ({words.number(other.level)}): they are in "
            f"{_of_seeds(other)}."
        )
    return said


def _networks(comparison: Comparison, article: str = "the") -> str:
    return f"{article} networks of all P together ({words.number(comparison.networks)})"


def _of_seeds(comparison: Comparison) -> str:
    some = "all" if comparison.better == comparison.seeds else f"{comparison.better} of"
    return f"{some} {words.counted(comparison.seeds, 'seed')}"


def _page(
    data: Arrays,
    choice: Choice,
    verdict: Verdict,
    comparisons: Sequence[Comparison],
    networks: Mapping[str, tuple[Path, str]],
    answer: str,
    again: Sequence[str],
    folder: Path,
) -> Page:
    page = Page("How many nonlinear units do these data need, and what do they do?", data.describe())
    page.section("Answer")
    page.text(answer, answer=True)
    write_estimates(page, verdict)
    if comparisons:
        rows = [
            (one.name, *map(words.number, (one.level, one.networks)), f"{one.better} of {one.seeds}", f"{one.p:.2g}")
            for one in comparisons
        ]
        head = ("predictor without a network", verdict.rules.score, "networks, mean over all P", "seeds better", "p")
        page.table(
            head,
            rows,
            "Medians over the seeds, fitted to the training data of each and scored on its test data. p is one-sided, "
            "of the corrected resampled t-test.",
        )
    if networks:
        page.section("What the units do")
        for name, (report, found) in networks.items():
            page.text(f"A typical network with {name}: {found}")
            target = report.relative_to(report.parents[1]).as_posix()
            page.link(f"The report on this network ({target})", target)
    page.section("What could not be told")
    steps = choice.epochs * choice.steps_per_epoch
    short = steps < _FEWEST_STEPS
    tried = max(one.tried for one in verdict.estimates)
    had = (
        f"They had {words.counted(tried, 'seed')}, at most {words.counted(choice.epochs, 'epoch')} ({steps} steps) and "
        f"{len(data.dataset('test'))} test sequences."
    )
    longer = shlex.join([*again, f"--output_dir={folder}_longer"])
    if comparisons and not comparisons[0].shown:
        page.text(
            f"These runs do not tell whether anything can be learnt from the sequences. {had} Check that targets "
            "belong to their sequences and that the inputs are scaled; more sequences or longer training may show more:"
        )
        page.code(longer)
    elif not verdict.untold and not short:
        page.text("Nothing that the sweep asks.")
    else:
        gaps = [*(["whether longer training gives another answer"] if short else []), *verdict.untold]
        page.text(f"These runs do not tell {words.listed(gaps)}. {had}")
        if tried < verdict.looks[-1] and not short:
            page.text("More time gives more seeds:")
            page.code(shlex.join([*again, f"--output_dir={folder}"]))
        elif steps < _MOST_STEPS:
            page.text(
                "More sequences, also for testing, narrow the limits. More time, in another folder, gives longer "
                "training:"
            )
            page.code(longer)
        else:
            page.text(
                f"There are no more than {verdict.looks[-1]} seeds. More sequences, also for testing, would tell more, "
                "and so would a larger tolerance that is stated before the scores are seen (alrnn sweep --tolerance)."
            )
    page.section("Methods")
    page.text(_methods(data, choice, verdict))
    page.link("The verdict, with what the tolerance and the limits mean (verdict.html)", "verdict.html")
    return page


def _methods(data: Arrays, choice: Choice, verdict: Verdict) -> str:
    """A paragraph for a paper."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("lightning-alrnn", "torch", "pytorch-lightning"))
    tried = max((one.tried for one in verdict.estimates), default=0)
    settings = f"Initialisation, number of units and learning rate ({_listed(choice.settings)}) "
    if choice.compared:
        settings += (
            f"were chosen from {choice.compared} combinations by the validation loss of runs of {choice.short_epochs} "
            f"epochs with one seed, by the mean rank over P = {words.listed(_GRID_UNITS)}. "
        )
    else:
        settings += "were not tuned. "
    standardized = " Each channel was standardised by the mean and standard deviation of the training data."
    return (
        f"Almost-linear recurrent networks (Brenner and Koppe, TMLR 2026) with M = "
        f"{choice.settings['model.hidden_size']} units, of which P = {words.listed(choice.units)} were rectified, were "
        f"trained on these data: {data.describe()}.{standardized if data.hparams.get('standardize') else ''} "
        f"Each seed drew the initial weights and the split of the data. {settings}Networks were trained by Adam with "
        f"batches of {data.batch_size} sequences for at most {choice.epochs} epochs, and until the validation loss had "
        "not decreased by 1 % for a quarter of them; the weights with the lowest validation loss were tested. Each P "
        f"was trained with {tried} seeds and judged by {verdict.rules.score}: P is enough if its median run is at most "
        f"{words.number(verdict.rules.tolerance)} worse than that of the best P and if at least half of its runs are; "
        f"claims are wrong with a probability of at most {ALPHA:g} for all P and looks "
        f"({words.listed(verdict.looks)} seeds) together. Software: {versions}, Python {platform.python_version()}."
    )


def _reports(networks: Mapping[str, tuple[Path, str]]) -> dict[str, Path]:
    return {name: report for name, (report, _) in networks.items()}


def _listed(settings: Mapping[str, Any]) -> str:
    names = {"model.hidden_size": "M", "model.init": "init", "model.optimizer.lr": "lr"}
    return ", ".join(f"{names[key]} = {value}" for key, value in settings.items())


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class _Asked(TypedDict):
    data: str  # checksum
    options: dict[str, Any]


class _Notes(TypedDict, total=False):
    """What ask.json notes for the next call, next to the answer."""

    asked: _Asked
    choice: Choice


def _read_notes(folder: Path) -> dict[str, Any]:
    path = folder / "ask.json"
    try:
        return cast(dict[str, Any], read_json(path, _Notes))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{error}: use another --output_dir") from error


def _note(folder: Path, **values: Any) -> None:
    write_json(folder / "ask.json", _read_notes(folder) | values)
