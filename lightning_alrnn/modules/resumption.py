"""The options of a run that resumes, compared with those that its checkpoint was trained with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple

from lightning_alrnn.extensions.checkpoint_classes import find_class

RUN_OPTIONS = "run_options"
"""Where a checkpoint keeps options of the command line that are in none of its other parts."""

# what the weights are of, and how they were drawn
_NETWORK = {
    *("input_size", "output_size", "num_units", "hidden_size", "nonlinear_units", "decoder_nonlinear_units"),
    *("embedding_size", "core", "encoder", "input_matrix", "observation", "encoder_lr"),
    *("self_connections", "init", "initial_state", "initial_coupling"),
}
_SHOWN = 60


class Change(NamedTuple):
    """An option that differs from the checkpoint's."""

    name: str  # as the command line names it
    before: Any
    now: Any
    takes_effect: bool


def changed_options(checkpoint: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Compare the options in a checkpoint with those of the run that resumes from it, which has the same keys.

    An option that only one of them has is left out, as older checkpoints lack some.
    """
    before, after = dict(_options(checkpoint)), dict(_options(now))
    return [
        Change(name, before[name], after[name], not _is_kept(name))
        for name in after
        if name in before and before[name] != after[name]
    ]


def resume_with(checkpoint: Mapping[str, Any], now: Mapping[str, Any], max_epochs: int | None) -> list[str]:
    """Return a line for each option that is another one from here on.

    Raises:
        ValueError: If an option cannot take effect, or training is over before ``max_epochs``.
    """
    changes = changed_options(checkpoint, now)
    kept = [f"{name} is {_show(old)} there and {_show(new)} here" for name, old, new, effect in changes if not effect]
    if kept:
        raise ValueError(
            f"a run that resumes keeps the network, the optimizer and the random numbers of its checkpoint, but "
            f"{'; '.join(kept)}: use the value of the checkpoint, or start a new run without ckpt_path"
        )
    trained = _epochs(checkpoint)
    if max_epochs is not None and 0 <= max_epochs < trained:
        raise ValueError(
            f"the checkpoint has trained for {trained} epochs, and trainer.max_epochs is {max_epochs}: set it to more "
            f"than {trained}, or start a new run without ckpt_path"
        )
    epoch = " (within an epoch, which may use some sequences twice or not at all)" if _within_epoch(checkpoint) else ""
    return [
        f"{name} was {_show(old)} in the checkpoint and is {_show(new)} from here on"
        f"{epoch if name.startswith('data') else ''}"
        for name, old, new, _ in changes
    ]


def _options(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options in the content of a checkpoint, by name."""
    for head, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        for name, value in content.get(key, {}).items():
            if name == "_class_path":
                yield head, str(value).rpartition(".")[2]  # a class can be named by several paths
            elif name != "_instantiator":
                yield f"{head}.{name}", _plain(value)
    for name, settings in (content.get("optimizer_settings") or {}).items():
        if settings is None:
            yield f"model.{name}", None
        elif "unknown" not in settings:
            yield f"model.{name}", settings["class_path"].rpartition(".")[2]
            arguments = {**_defaults(settings["class_path"]), **settings["init_args"]}
            yield from ((f"model.{name}.{argument}", _plain(value)) for argument, value in arguments.items())
    yield from (content.get(RUN_OPTIONS) or {}).items()


def _defaults(class_path: str) -> dict[str, Any]:
    """The defaults of an optimizer or a scheduler, which a checkpoint has only where they were stated."""
    cls = find_class(class_path)
    parameters = {} if cls is None else inspect.signature(cls).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


def _is_kept(name: str) -> bool:
    """Whether a run that resumes has the value of its checkpoint whatever it is asked for."""
    head, _, option = name.partition(".")
    if head == "model":
        return option.partition(".")[0] in {"", "optimizer", "lr_scheduler", *_NETWORK}
    return name == "seed_everything"


def _epochs(checkpoint: Mapping[str, Any]) -> int:
    """Number of epochs that were trained to their end."""
    return int(_loop(checkpoint).get("epoch_progress", {}).get("current", {}).get("processed", 0))


def _within_epoch(checkpoint: Mapping[str, Any]) -> bool:
    return not _loop(checkpoint).get("epoch_loop.batch_progress", {}).get("is_last_batch", True)


def _loop(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lightning's state of the training."""
    loop: Mapping[str, Any] = checkpoint.get("loops", {}).get("fit_loop", {})
    return loop


def _plain(value: Any) -> Any:
    """A value in the form in which it can be compared with one that came from YAML."""
    if isinstance(value, PathLike):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    return repr(value) if len(repr(value)) <= _SHOWN else f"{repr(value)[:_SHOWN]}…"
