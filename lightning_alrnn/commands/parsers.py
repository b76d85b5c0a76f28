"""The options of the commands other than those of LightningCLI. No torch is imported here, so help appears at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

SWEEP_USAGE = "alrnn sweep --config TASK --nonlinear_units P,P,… --seeds N --output_dir FOLDER [options]"
SWEEP_HELP = f"""\
usage: {SWEEP_USAGE}

Train and test a network for every combination of P, seeds and other settings, like `alrnn fit` and
`alrnn test`. To continue a sweep, repeat its command. Finished runs are kept, failed ones repeated.

  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 5 --output_dir runs/sweep

settings to vary
  --nonlinear_units P,P  numbers of nonlinear units, from 0 (linear) to --model.hidden_size
  --seeds N | S,S | N..N number of seeds, a list of seeds, or a range (5..40): add seeds until the
                         verdict is clear. A seed draws weights and data; --data.seed 0 uses the
                         same data for all seeds
  --train_size N,N       numbers of training sequences (--data.train_size)
  --core NAME,NAME       recurrent layers: ALRNN (default) and the baselines RNN, GRU and LSTM
  --grid KEY=V,V …       any other setting, such as model.init=gaussian,near_identity
settings of all runs
  --config TASK …        this and all other options are those of `alrnn fit`, such as
                         --trainer.max_epochs 20
end of a run
  --stop_when solved     stop after three validations in a row that reach the threshold: accuracy
                         0.9, or 10 % of the squared error of the best constant prediction
  --stop_when plateau    stop if the validation loss has not decreased by 1 % for a quarter of the
                         epochs
output and execution
  --output_dir FOLDER    folder for results.csv and the runs with their logs
  --executor NAME        local (default): processes on this machine, with one thread each; slurm: a
                         job array; inline: one run after the other in this process
  --population auto|E    number of networks trained in one step: as many as memory allows (default),
                         at most E, or off for one
  --jobs N               number of processes at a time. Default: local one per core or GPU; slurm no
                         limit, with 8 runs in each job on CPUs
  --partition NAME --time MINUTES --gpus N --nodes N
                         resources of a slurm job (default: 60 minutes, no GPU, one node)
  --slurm KEY=VALUE …    further options of sbatch, such as account=lab cpus_per_task=4 mem=16G
"""

_ANALYZE = """\
Analyse a trained network: its scores, the regimes that it visits, its fixed points and cycles, its
slow modes and the role of its nonlinear units. The command writes report.html (figures, tables and
text in one file), report.json (the numbers) and the figures as PNG and SVG. docs/analysis.md
explains the report."""
_ANALYZE_EXAMPLE = """\
example:
  alrnn fit --config addition_quick
  alrnn analyze --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

All further options are those of `alrnn test`, such as --data.sequence_length 200."""

_COMPARE = """\
Do all seeds find the same solution? The command compares the networks of a sweep with the same P,
or several checkpoints: their mechanisms, their fixed points and their distances, which do not
depend on coordinates. It writes compare.html, compare.json and the figure."""
_COMPARE_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,5 --seeds 5 --output_dir runs/sweep
  alrnn compare runs/sweep

docs/analysis.md explains the distances."""

_COMPLETION = """\
Print a script for completion in the shell. It completes commands, options, and the names of
configurations, classes and files. docs/command_line.md says where to save it."""
_COMPLETION_EXAMPLE = """\
examples:
  alrnn completion bash > ~/.local/share/bash-completion/completions/alrnn
  alrnn completion zsh > ~/.zfunc/_alrnn

This command needs shtab: pip install shtab"""

_PRUNE = """\
How many of its nonlinear units does a trained network need? The command linearises or silences one
unit at a time, always the one with the least effect on the validation loss, and reports the test
score for each number of remaining units. It writes prune.html, prune.json, the figure, and the
smallest network that is enough as a checkpoint. docs/analysis.md explains them."""
_PRUNE_EXAMPLE = """\
example:
  alrnn fit --config addition_quick
  alrnn prune --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

All further options are those of `alrnn test`, such as --data.test_size 5000."""

_VERDICT = """\
How many nonlinear units does the task need, and is a smaller P unable or only late? The command
judges the runs of a sweep, prints the scores for each P and the answer, and writes verdict.html,
verdict.json and the figure into the folder of the sweep. The sweep may still be running."""
_VERDICT_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 5 --output_dir runs/sweep
  alrnn verdict runs/sweep

A claim needs at least 5 seeds. If a question remains open, the last line is the command that would
answer it. docs/verdict.md explains each claim."""

_CONFIGS = """\
List the configurations that come with the package, with the number of units M, the
number of nonlinear units P and the task."""
_CONFIGS_EXAMPLE = """\
example:
  alrnn configs
  alrnn fit --config addition_quick
  alrnn fit --config addition_quick --print_config"""


class _Parser(argparse.ArgumentParser):
    """A parser whose help ends with an example."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            f"alrnn {command}",
            description=description,
            epilog=example,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34),
            allow_abbrev=False,
        )


class _SweepParser(argparse.ArgumentParser):
    """The parser of ``alrnn sweep``, whose help groups the options by purpose."""

    def format_help(self) -> str:
        return SWEEP_HELP

    def error(self, message: str) -> NoReturn:
        """Raise an error that ``alrnn`` prints, as for all commands."""
        raise ValueError(f"{message}; see alrnn sweep --help")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return a new parser of a command, one of :data:`PARSERS`.

    Options that it does not know are those of ``alrnn test`` (analyze, prune) or ``alrnn fit`` (sweep).
    """
    return PARSERS[command]()


def _analyze() -> argparse.ArgumentParser:
    parser = _Parser("analyze", _ANALYZE, _ANALYZE_EXAMPLE)
    parser.add_argument("--ckpt_path", metavar="FILE", type=Path, required=True, help="checkpoint of the network")
    parser.add_argument("--config", type=Path, help="configuration (default: config.yaml in the log directory)")
    parser.add_argument("--output_dir", type=Path, help="output folder (default: analysis in the log directory)")
    _add_limits(parser, "number of test sequences", 512, "seconds for each search, of fixed points and of cycles", 10)
    return parser


def _compare() -> argparse.ArgumentParser:
    parser = _Parser("compare", _COMPARE, _COMPARE_EXAMPLE)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="folder of a sweep, or checkpoints")
    parser.add_argument("--output_dir", type=Path, help="output folder (default: the folder of the sweep)")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--solved", metavar="X", type=float, help="score that a network must reach to solve the task")
    searches = "seconds for each search of a network, of fixed points and of cycles"
    _add_limits(parser, "number of test sequences", 128, searches, 5)
    return parser


def _completion() -> argparse.ArgumentParser:
    parser = _Parser("completion", _COMPLETION, _COMPLETION_EXAMPLE)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _configs() -> argparse.ArgumentParser:
    return _Parser("configs", _CONFIGS, _CONFIGS_EXAMPLE)


def _prune() -> argparse.ArgumentParser:
    parser = _Parser("prune", _PRUNE, _PRUNE_EXAMPLE)
    parser.add_argument("--ckpt_path", metavar="FILE", type=Path, required=True, help="checkpoint of the network")
    parser.add_argument("--config", type=Path, help="configuration (default: config.yaml in the log directory)")
    parser.add_argument("--output_dir", type=Path, help="output folder (default: pruning in the log directory)")
    parser.add_argument("--epochs", type=int, default=0, help="epochs of training after each removal (default: 0)")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--tolerance", metavar="X", type=float, help="difference from the best score that is ignored")
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
    parser.add_argument("--solved", metavar="X", type=float, help="score that a run must reach to solve the task")
    parser.add_argument("--tolerance", metavar="X", type=float, help="difference from the best score that is ignored")
    level = "probability with which a claim may be wrong (default: 0.05)"
    parser.add_argument("--alpha", metavar="X", type=float, default=argparse.SUPPRESS, help=level)
    return parser


def _add_limits(parser: argparse.ArgumentParser, sequences: str, count: int, searches: str, seconds: int) -> None:
    """Add the options that limit the sequences and the search."""
    text = f"{sequences} (default: {count})"
    parser.add_argument("--max_sequences", metavar="N", type=_sequence_count, default=count, help=text)
    text = f"{searches} (default: {seconds})"
    parser.add_argument("--time_limit", metavar="S", type=float, default=float(seconds), help=text)


def _sequence_count(text: str) -> int:
    """Read a number of sequences from the text of an option."""
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
"""Functions that make the parser of each command."""
