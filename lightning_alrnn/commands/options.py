"""The options of the commands that LightningCLI does not have. Nothing here imports torch, so help appears at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

_SWEEP_HELP = """\
usage: alrnn sweep --config TASK --nonlinear_units P,P,… --seeds N --output_dir FOLDER [options]

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
verdict and end of a run
  --tolerance X          difference from the best score that the verdict ignores
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

_ASK = """\
Do your data need nonlinear units, and what do these do? The command checks the data, chooses the
size, the initialisation and the learning rate by short runs, sweeps P, judges the sweep, analyses
two of the networks, and writes ask.html and the files of the sweep. To continue, repeat it."""
_ASK_EXAMPLE = """\
example:
  alrnn ask mine.npz --minutes 10

The file holds `inputs` and `targets`, or is one recording; docs/tasks/arrays.md describes both. All
further options are those of the data, such as --data.criterion sign."""

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


_TEXTS = {
    "analyze": (_ANALYZE, _ANALYZE_EXAMPLE),
    "ask": (_ASK, _ASK_EXAMPLE),
    "compare": (_COMPARE, _COMPARE_EXAMPLE),
    "completion": (_COMPLETION, _COMPLETION_EXAMPLE),
    "configs": (_CONFIGS, _CONFIGS_EXAMPLE),
    "prune": (_PRUNE, _PRUNE_EXAMPLE),
    "verdict": (_VERDICT, _VERDICT_EXAMPLE),
}


def _sequence_count(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {number}")
    return number


def _folder(default: str) -> dict[str, Any]:
    return {"type": Path, "help": f"output folder (default: {default})"}


def _limits(sequences: int, seconds: float, searches: str) -> dict[str, dict[str, Any]]:
    """Options that limit the number of sequences and the time of a search."""
    count = f"number of test sequences (default: {sequences})"
    time = f"seconds for each search{searches}, of fixed points and of cycles (default: {seconds:g})"
    return {
        "--max_sequences": {"metavar": "N", "type": _sequence_count, "default": sequences, "help": count},
        "--time_limit": {"metavar": "S", "type": float, "default": seconds, "help": time},
    }


_NETWORK: dict[str, dict[str, Any]] = {
    "--ckpt_path": {"metavar": "FILE", "type": Path, "required": True, "help": "checkpoint of the network"},
    "--config": {"type": Path, "help": "configuration (default: config.yaml in the log directory)"},
}
_SCORE = {"metavar": "KEY", "help": "metric to judge by, such as accuracy or test/mse"}
_TOLERANCE = {"metavar": "X", "type": float, "help": "difference from the best score that is ignored"}
_ALPHA = "probability with which a claim may be wrong (default: 0.05)"
_INTEGER: dict[str, Any] = {"type": int}
_LIST: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "analyze": {**_NETWORK, "--output_dir": _folder("analysis in the log directory"), **_limits(512, 10.0, "")},
    "ask": {
        "inputs": {"type": Path, "metavar": "FILE", "help": "arrays, as a .npz or .npy file"},
        "--minutes": {"metavar": "N", "type": float, "default": 10.0, "help": "time that it may take (default: 10)"},
        "--output_dir": _folder("runs/ask_NAME"),
    },
    "compare": {
        "paths": {"type": Path, "nargs": "+", "metavar": "PATH", "help": "folder of a sweep, or checkpoints"},
        "--output_dir": _folder("the folder of the sweep"),
        "--score": _SCORE,
        "--solved": {"metavar": "X", "type": float, "help": "score that a network must reach to solve the task"},
        **_limits(128, 5.0, " of a network"),
    },
    "completion": {"shell": {"choices": ("bash", "zsh", "tcsh")}},
    "configs": {},
    "prune": {
        **_NETWORK,
        "--output_dir": _folder("pruning in the log directory"),
        "--epochs": {"type": int, "default": 0, "help": "epochs of training after each removal (default: 0)"},
        "--score": _SCORE,
        "--tolerance": _TOLERANCE,
    },
    "sweep": {
        "--nonlinear_units": {},
        "--seeds": {"required": True},
        "--train_size": {},
        "--core": {"default": "ALRNN"},
        "--grid": _LIST,
        "--output_dir": {"required": True},
        "--executor": {"choices": ("local", "slurm", "inline"), "default": "local"},
        "--population": {"default": "auto"},
        "--tolerance": {"type": float},
        "--stop_when": {"choices": ("solved", "plateau")},
        "--partition": {},
        **dict.fromkeys(("--jobs", "--time", "--gpus", "--nodes"), _INTEGER),
        "--slurm": _LIST,
    },
    "verdict": {
        "folder": {"type": Path, "help": "folder of the sweep, its --output_dir"},
        "--output_dir": _folder("the folder of the sweep"),
        "--score": _SCORE,
        "--solved": {"metavar": "X", "type": float, "help": "score that a run must reach to solve the task"},
        "--tolerance": _TOLERANCE,
        "--alpha": {"metavar": "X", "type": float, "default": argparse.SUPPRESS, "help": _ALPHA},
    },
}
"""The options of each command, as argparse takes them."""


class _SweepParser(argparse.ArgumentParser):
    """The parser of ``alrnn sweep``, whose help groups the options by purpose."""

    def format_help(self) -> str:
        return _SWEEP_HELP

    def error(self, message: str) -> NoReturn:
        """Raise an error that ``alrnn`` prints, as for all commands."""
        raise ValueError(f"{message}; see alrnn sweep --help")


def parser_of(command: str) -> argparse.ArgumentParser:
    """A new parser of a command; options that it does not know are those of ``alrnn test`` or ``alrnn fit``."""
    if command == "sweep":
        parser: argparse.ArgumentParser = _SweepParser("alrnn sweep", allow_abbrev=False)
    else:
        description, example = _TEXTS[command]
        parser = argparse.ArgumentParser(
            f"alrnn {command}",
            description=description,
            epilog=example,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34),
            allow_abbrev=False,
        )
    for name, arguments in OPTIONS[command].items():
        parser.add_argument(name, **arguments)
    return parser
