"""The options of the commands that are not LightningCLI's. Nothing here imports torch, so that help comes at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

SWEEP_USAGE = "alrnn sweep --config TASK --nonlinear_units P,P,… --seeds N --output_dir FOLDER [options]"
SWEEP_HELP = f"""\
usage: {SWEEP_USAGE}

Fit and test every combination of P, seeds and what else is varied, each as `alrnn fit` and
`alrnn test` would. The same command again goes on where it stopped: runs that are done are kept,
failed ones tried anew.

  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 5 --output_dir runs/sweep

what is varied
  --nonlinear_units P,P  numbers of nonlinear units, from 0 (linear) to --model.hidden_size
  --seeds N | S,S | N..N number of seeds, from 0 on, the seeds themselves, or add seeds until the
                         verdict can tell (5..40); a seed draws weights and data (--data.seed 0
                         keeps the data the same for all)
  --train_size N,N       numbers of training sequences (--data.train_size)
  --core NAME,NAME       ALRNN (default) and baselines: RNN, GRU, LSTM
  --grid KEY=V,V …       anything else, such as model.init=gaussian,near_identity
what is the same for all runs
  --config TASK …        these and all further options are those of `alrnn fit`, such as
                         --trainer.max_epochs 20
when it ends
  --stop_when solved     a run once three validations in a row reach the threshold: accuracy 0.9, or
                         10 % of the squared error of the best constant prediction
  --stop_when plateau    a run whose validation loss has not sunk by 1 % for a quarter of the epochs
where
  --output_dir FOLDER    results.csv and a folder for each run (TensorBoard's too)
  --executor NAME        local (default): processes of this machine, a thread each; slurm: a job
                         array; inline: one after the other in this process
  --population auto|E    networks that are trained in one step: all that a process gets, as memory
                         allows (default), or at most E; off for none
  --jobs N               processes at a time (local: one a core, or one a GPU; slurm: as many as it
                         lets, for 8 runs each on CPUs)
  --partition NAME --time MINUTES --gpus N --nodes N
                         of a job (slurm; 60 minutes and no GPU on one node by default)
  --slurm KEY=VALUE …    further options of sbatch, such as account=lab cpus_per_task=4 mem=16G
"""

_ANALYZE = """\
Read a trained network: how well it does, which regimes it visits, its fixed points and cycles, its
slow modes, and what its nonlinear units do. Writes report.html (figures, tables and text in one
file), report.json (the numbers) and the figures as PNG and SVG. docs/analysis.md explains them."""
_ANALYZE_EXAMPLE = """\
example:
  alrnn fit --config addition_quick
  alrnn analyze --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

All further options are those of `alrnn test`, such as --data.sequence_length 200."""

_COMPARE = """\
Do all seeds find the same solution? Looks at the networks of a sweep, P by P, or at some
checkpoints: which mechanisms they have, their fixed points, and how far they are from each other
in what does not depend on coordinates. Writes compare.html, compare.json and the figure."""
_COMPARE_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,5 --seeds 5 --output_dir runs/sweep
  alrnn compare runs/sweep

docs/analysis.md says what the distances mean."""

_COMPLETION = """\
Print a script by which the shell completes commands, their options, and the names of
configurations, classes and files that these take. docs/command_line.md says where to put it."""
_COMPLETION_EXAMPLE = """\
examples:
  alrnn completion bash > ~/.local/share/bash-completion/completions/alrnn
  alrnn completion zsh > ~/.zfunc/_alrnn

It needs shtab: pip install shtab"""

_PRUNE = """\
How many of its nonlinear units does a trained network need? Takes them away one by one, each time
the one that is missed least in validation, linearised or silenced, and reports the score in the
test against the units that are left. Writes prune.html, prune.json, the figure, and the smallest
network that is enough as a checkpoint. docs/analysis.md explains them."""
_PRUNE_EXAMPLE = """\
example:
  alrnn fit --config addition_quick
  alrnn prune --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

All further options are those of `alrnn test`, such as --data.test_size 5000."""

_VERDICT = """\
How many nonlinear units does the task need, and is a smaller P unable or only late? Judges the runs
of a sweep, prints score against P and the answer, and writes verdict.html, verdict.json and the
figure into the sweep's folder. It may be run while the sweep goes on."""
_VERDICT_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 5 --output_dir runs/sweep
  alrnn verdict runs/sweep

A claim needs 5 seeds or more. Where something cannot be told, the last line is the command that
would tell it. docs/verdict.md says what each claim means."""

_CONFIGS = """\
List the configurations that come with the package: name, number of units M and of
nonlinear units P, and what the task is."""
_CONFIGS_EXAMPLE = """\
example:
  alrnn configs
  alrnn fit --config addition_quick
  alrnn fit --config addition_quick --print_config"""


class _Parser(argparse.ArgumentParser):
    """A parser with an example below its options."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            f"alrnn {command}",
            description=description,
            epilog=example,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34),
            allow_abbrev=False,
        )


class _SweepParser(argparse.ArgumentParser):
    """The parser of ``alrnn sweep``, whose help groups the options by what they are for."""

    def format_help(self) -> str:
        return SWEEP_HELP

    def error(self, message: str) -> NoReturn:
        """Leave it to ``alrnn`` to say what is wrong, as for all commands."""
        raise ValueError(f"{message}; see alrnn sweep --help")


def parser_of(command: str) -> argparse.ArgumentParser:
    """A new parser of a command, one of :data:`PARSERS`.

    What it does not know is an option of ``alrnn test`` (analyze, prune) or ``alrnn fit`` (sweep).
    """
    return PARSERS[command]()


def _analyze() -> argparse.ArgumentParser:
    parser = _Parser("analyze", _ANALYZE, _ANALYZE_EXAMPLE)
    parser.add_argument("--ckpt_path", metavar="FILE", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--config", type=Path, help="its configuration; default: config.yaml of its log directory")
    parser.add_argument("--output_dir", type=Path, help="where to write; default: analysis, in its log directory")
    _add_limits(parser, "test sequences to look at", 512, "seconds to look for fixed points, and for cycles", 10)
    return parser


def _compare() -> argparse.ArgumentParser:
    parser = _Parser("compare", _COMPARE, _COMPARE_EXAMPLE)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="folder of a sweep, or checkpoints")
    parser.add_argument("--output_dir", type=Path, help="where to write; default: the sweep's folder")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--solved", metavar="X", type=float, help="score from which on a network solves the task")
    searches = "seconds to look for each network's fixed points, and for cycles"
    _add_limits(parser, "test sequences to compare on", 128, searches, 5)
    return parser


def _completion() -> argparse.ArgumentParser:
    parser = _Parser("completion", _COMPLETION, _COMPLETION_EXAMPLE)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _configs() -> argparse.ArgumentParser:
    return _Parser("configs", _CONFIGS, _CONFIGS_EXAMPLE)


def _prune() -> argparse.ArgumentParser:
    parser = _Parser("prune", _PRUNE, _PRUNE_EXAMPLE)
    parser.add_argument("--ckpt_path", metavar="FILE", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--config", type=Path, help="its configuration; default: config.yaml of its log directory")
    parser.add_argument("--output_dir", type=Path, help="where to write; default: pruning, in its log directory")
    parser.add_argument("--epochs", type=int, default=0, help="epochs of training after each removal (default: 0)")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--tolerance", metavar="X", type=float, help="how much worse than the best does not count")
    return parser


def _sweep() -> argparse.ArgumentParser:
    parser = _SweepParser("alrnn sweep", usage=SWEEP_USAGE, allow_abbrev=False)
    parser.add_argument("--nonlinear_units")
    parser.add_argument("--seeds", required=True)
    parser.add_argument("--train_size")
    parser.add_argument("--core", default="ALRNN")
    parser.add_argument("--grid", nargs="+", action="extend", default=[])
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--executor", choices=("local", "slurm", "inline"), default="local")
    parser.add_argument("--population", default="auto")
    parser.add_argument("--stop_when", choices=("solved", "plateau"))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--partition")
    parser.add_argument("--time", type=int)
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--slurm", nargs="+", action="extend", default=[])
    return parser


def _verdict() -> argparse.ArgumentParser:
    parser = _Parser("verdict", _VERDICT, _VERDICT_EXAMPLE)
    parser.add_argument("folder", type=Path, help="folder of the sweep, its --output_dir")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--solved", metavar="X", type=float, help="score from which on a run solves the task (none)")
    parser.add_argument("--tolerance", metavar="X", type=float, help="how much worse than the best does not count")
    level = "level of the claims (0.05)"
    parser.add_argument("--alpha", metavar="X", type=float, default=argparse.SUPPRESS, help=level)
    return parser


def _add_limits(parser: argparse.ArgumentParser, sequences: str, count: int, searches: str, seconds: int) -> None:
    """Options for how much of a network is looked at."""
    text = f"{sequences} (default: {count})"
    parser.add_argument("--max_sequences", metavar="N", type=_sequence_count, default=count, help=text)
    text = f"{searches} (default: {seconds})"
    parser.add_argument("--time_limit", metavar="S", type=float, default=float(seconds), help=text)


def _sequence_count(text: str) -> int:
    """A number of sequences, as an option gives it."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {number}")
    return number


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "analyze": _analyze,
    "compare": _compare,
    "completion": _completion,
    "configs": _configs,
    "prune": _prune,
    "sweep": _sweep,
    "verdict": _verdict,
}
"""What makes the parser of each command."""
