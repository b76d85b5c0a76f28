"""What ``alrnn --help`` shows, and the help of the commands that are LightningCLI's."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_alrnn.commands.parsers import PARSERS, parser_of

COMMANDS = {
    "fit": "train a network, and log its regimes, units and fixed points",
    "validate": "score a trained network on the validation split",
    "test": "score a trained network on the test split",
    "predict": "write a trained network's predictions and states to predictions.npz",
    "analyze": "read a trained network: what its regimes and nonlinear units do, as a report",
    "prune": "take a trained network's nonlinear units away, and say how few are enough",
    "sweep": "train many networks: every combination of P, seeds and other settings",
    "verdict": "say whether the task of a sweep needs nonlinear units, and how many are enough",
    "compare": "say whether all seeds of a sweep find the same solution",
    "configs": "list the configurations that come with the package",
    "completion": "print a script that lets the shell complete all these",
}

_LIST = "\n".join(f"  {name:<12}{line}" for name, line in COMMANDS.items())
OVERVIEW = f"""\
usage: alrnn COMMAND [options]

Almost-linear RNNs: how many nonlinear units does a task need, and what do they do?

commands:
{_LIST}

examples:
  alrnn fit --config addition_quick
  alrnn analyze --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt
  alrnn sweep --config addition_quick --nonlinear_units 0,1,5 --seeds 5 --output_dir runs/sweep

alrnn COMMAND --help shows the main options of a command, alrnn fit --help all every one.
"""

_FIT = """\
usage: alrnn fit --config NAME [options]

Train a network. A run logs to runs/TASK/version_N and keeps its checkpoints and config.yaml there.

  alrnn fit --config addition_quick
  alrnn fit --config digits --model.nonlinear_units 2 --trainer.callbacks+ Spectrum
  alrnn fit --data Addition --model.optimizer.lr 0.003 --trainer.max_epochs 20

options:
  --config NAME              one of `alrnn configs` or a YAML file; the last of several wins
  --data NAME                task, a DataModule; its options are --data.sequence_length and so on
  --model NAME               ALRNNModule (default), ALRNNSeq2Seq or ALRNNNeural
  --model.hidden_size M      number of units
  --model.nonlinear_units P  those of them that have a ReLU, from 0 (linear) to M
  --model.init NAME          gaussian, positive_definite or near_identity
  --model.core NAME          ALRNN (default), or for comparison RNN, GRU or LSTM
  --model.optimizer NAME     Adam (default) or another of torch.optim; --model.optimizer.lr X
  --ckpt_path FILE           checkpoint to go on from
  --trainer.max_epochs N     number of epochs
"""
_SCORE = """\
usage: alrnn {command} --config NAME --ckpt_path FILE [options]

{purpose}

  alrnn {command} --config addition_quick --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

options:
  --config NAME              one of `alrnn configs` or a YAML file, such as the run's config.yaml
  --ckpt_path FILE           the network: a checkpoint, which brings its --model and sizes
  --data NAME                other data than the configuration's; --data.test_size N and so on
"""
_SHARED = """\
  --trainer.devices N        number of GPUs or processes; with --trainer.strategy NAME, such as ddp
  --trainer.precision NAME   such as bf16-mixed or 64-true
  --trainer.callbacks+ NAME  one callback more; its options are --trainer.callbacks.module and so on
  --seed_everything N        of all that is random (0)
  --print_config             print all that is set, as YAML, and do not run
"""
_MORE = """\

more help:
  alrnn {command} --help all                            every option
  alrnn {command} --model.help ALRNNModule              options of a model
  alrnn {command} --data.help Addition                  options of a task
  alrnn {command} --trainer.callbacks.help FixedPoints  options of a callback
"""
_PURPOSES = {
    "validate": "Score a trained network on the validation split: loss, accuracy and what callbacks log.",
    "test": "Score a trained network on the test split: loss, accuracy and what callbacks log.",
    "predict": "Write what a trained network makes of the test split to runs/TASK/version_N/predictions.npz:\n"
    "outputs, states, lengths and the index of each sequence.",
}

SCREENS = {"fit": _FIT + _SHARED + _MORE.format(command="fit")} | {
    command: (_SCORE + _SHARED + _MORE).format(command=command, purpose=purpose)
    for command, purpose in _PURPOSES.items()
}
"""Of LightningCLI's commands; parsers make those of the others."""

FLAGS = {"-h", "--help"}


def find_screen(arguments: Sequence[str]) -> str | None:
    """The help screen that is asked for; ``None`` where none is, or where all options are."""
    if not arguments:
        return OVERVIEW
    if not FLAGS & set(arguments) or ask_for_all(arguments) is not None:
        return None
    if arguments[0] in PARSERS:
        return parser_of(arguments[0]).format_help()
    if not arguments[0].startswith("-") and arguments[0] not in SCREENS:
        return None
    return next((SCREENS[word] for word in arguments if word in SCREENS), OVERVIEW)


def ask_for_all(arguments: Sequence[str]) -> list[str] | None:
    """The arguments with ``--help all`` as LightningCLI knows it, ``--help``; ``None`` where it is not asked for."""
    words = list(arguments)
    for place, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag in FLAGS and (value == "all" or words[place + 1 : place + 2] == ["all"]):
            return [*words[:place], "--help", *words[place + (1 if value else 2) :]]
    return None
