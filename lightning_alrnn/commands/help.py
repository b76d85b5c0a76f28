"""The help screens of ``alrnn`` and of the commands of LightningCLI."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_alrnn.commands.options import OPTIONS, parser_of

COMMANDS = {
    "fit": "train a network and log its regimes, units and fixed points",
    "validate": "compute the scores of a trained network on the validation split",
    "test": "compute the scores of a trained network on the test split",
    "predict": "write the predictions and states of a trained network to predictions.npz",
    "ask": "answer, for your own data: are nonlinear units needed, and what do they do",
    "analyze": "write a report on the regimes and nonlinear units of a trained network",
    "prune": "remove the nonlinear units of a trained network and say how few are enough",
    "sweep": "train many networks: every combination of P, seeds and other settings",
    "verdict": "say whether the task of a sweep needs nonlinear units, and how many are enough",
    "compare": "say whether all seeds of a sweep find the same solution",
    "configs": "list the configurations that come with the package",
    "completion": "print a script for completion in the shell",
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

alrnn COMMAND --help shows the main options of a command; alrnn fit --help all shows all options.
"""

_FIT = """\
usage: alrnn fit --config NAME [options]

Train a network. The logs, checkpoints and config.yaml go to runs/TASK/version_N.

  alrnn fit --config addition_quick
  alrnn fit --config digits --model.nonlinear_units 2 --trainer.callbacks+ Spectrum
  alrnn fit --data Addition --model.optimizer.lr 0.003 --trainer.max_epochs 20

options:
  --config NAME              a name from `alrnn configs` or a YAML file; later ones take precedence
  --data NAME                task, a DataModule; its options are --data.sequence_length and so on
  --model NAME               ALRNNModule (default), ALRNNSeq2Seq or ALRNNNeural
  --model.hidden_size M      number of units
  --model.nonlinear_units P  number of units with a ReLU, from 0 (linear) to M
  --model.init NAME          initialisation: gaussian, positive_definite or near_identity
  --model.core NAME          recurrent layer: ALRNN (default), RNN, GRU or LSTM
  --model.optimizer NAME     Adam (default) or another class of torch.optim; --model.optimizer.lr X
  --ckpt_path FILE           checkpoint to resume from
  --trainer.max_epochs N     number of epochs
"""
_SCORE = """\
usage: alrnn {command} --config NAME --ckpt_path FILE [options]

{purpose}

  alrnn {command} --config addition_quick --ckpt_path runs/Addition/version_0/checkpoints/last.ckpt

options:
  --config NAME              a name from `alrnn configs` or a YAML file, such as config.yaml
  --ckpt_path FILE           checkpoint of the network; it sets the model and its sizes
  --data NAME                task, if not that of the configuration; --data.test_size N and so on
"""
_SHARED = """\
  --trainer.devices N        number of GPUs or processes; with --trainer.strategy NAME, such as ddp
  --trainer.precision NAME   floating-point precision, such as bf16-mixed or 64-true
  --trainer.callbacks+ NAME  further callback; its options are --trainer.callbacks.module and so on
  --seed_everything N        seed of all random numbers (default: 0)
  --print_config             print the configuration as YAML instead of running
"""
_MORE = """\

more help:
  alrnn {command} --help all                            every option
  alrnn {command} --model.help ALRNNModule              options of a model
  alrnn {command} --data.help Addition                  options of a task
  alrnn {command} --trainer.callbacks.help FixedPoints  options of a callback
"""
_PURPOSES = {
    "validate": "Compute the loss, the accuracy and the values of the callbacks on the validation split.",
    "test": "Compute the loss, the accuracy and the values of the callbacks on the test split.",
    "predict": "Write the outputs, states and lengths of a trained network on the test split, and the index,\n"
    "targets, group and mask of each sequence, to runs/TASK/version_N/predictions.npz.",
}

SCREENS = {"fit": _FIT + _SHARED + _MORE.format(command="fit")} | {
    command: (_SCORE + _SHARED + _MORE).format(command=command, purpose=purpose)
    for command, purpose in _PURPOSES.items()
}
"""Help screens of the commands of LightningCLI. The parsers make those of the other commands."""

FLAGS = {"-h", "--help"}


def find_screen(arguments: Sequence[str]) -> str | None:
    """The help screen that the arguments ask for; ``None`` if they ask for no help or for all options."""
    if not arguments:
        return OVERVIEW
    if not FLAGS & set(arguments) or ask_for_all(arguments) is not None:
        return None
    if arguments[0] in OPTIONS:
        return parser_of(arguments[0]).format_help()
    if not arguments[0].startswith("-") and arguments[0] not in SCREENS:
        return None
    return next((SCREENS[word] for word in arguments if word in SCREENS), OVERVIEW)


def ask_for_all(arguments: Sequence[str]) -> list[str] | None:
    """The arguments with ``--help`` for ``--help all``, which makes LightningCLI show all options; or ``None``."""
    words = list(arguments)
    for place, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag in FLAGS and (value == "all" or words[place + 1 : place + 2] == ["all"]):
            return [*words[:place], "--help", *words[place + (1 if value else 2) :]]
    return None
