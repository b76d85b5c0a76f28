"""One line on a wrong option or configuration, with a remedy, from what jsonargparse says about it."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from pkgutil import resolve_name

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.parsing import shorten

_CLASSES: dict[str, type] = {
    "model": LightningModule,
    "data": LightningDataModule,
    "trainer.callbacks": Callback,
    "trainer.logger": Logger,
    "model.optimizer": torch.optim.Optimizer,
    "model.lr_scheduler": torch.optim.lr_scheduler.LRScheduler,
}
_OPTIONS = ("config", "data", "model", "trainer", "seed_everything", "ckpt_path", "print_config")
_DATA = (
    "--config NAME (alrnn configs lists them) or --data NAME, such as --data Addition; for data of your own "
    "--data Arrays --data.inputs FILE.npz"
)


def explain(message: str) -> str:
    """Return one line that says what is wrong and what to do; the message in one line if it is of no known kind."""
    key = ".".join(re.findall(r'Parser key "([^"]+)":', message))
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        return _unknown_option(key, found[1], message)
    if found := re.search(r"(?:unrecognized arguments: |does not accept option ')(?:--)?([\w.+-]+)", message):
        return _unrecognized(found[1])
    if found := re.search(r"Requirement '([^']+)' not met", message):
        return f"{_class_name(message)} needs a package that is missing: pip install '{found[1]}'"
    if found := re.search(r"arguments are required: (.+)", message):
        if found[1] == "fit.data":
            return f"choose a task: {_DATA}"
        if found[1].endswith(".data"):
            return f"choose a network by --ckpt_path FILE; where its run has no config.yaml, a task too: {_DATA}"
        return f"{_class_name(message)} needs " + " and ".join(f"--{key}.{name}" for name in found[1].split(", "))
    classes = r"Expected a dot import path string: (\S+)|class_path '(\S+)':\n\s+(?:No module|module .* has no attr)"
    if key in _CLASSES and (found := re.search(classes, message)):
        return _unknown_class(key, found[1] or found[2])
    if found := re.search(r"Expected an? (.+?)\. Got value: (.*)", message):
        return f"--{key} {found[2]}: expected {_type_name(found[1])}"
    if key and (found := re.search(r"Given value: (.*)", message)):
        types = [name for name in re.findall(r"- Expected an? (.+)", message) if "NoneType" not in name]
        if types:
            return f"--{key} {found[1]}: expected {' or '.join(map(_type_name, types))}"
    return shorten(message)


def guess_name(name: str, names: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean …?"`` with the name most like the one that was written, or nothing."""
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {prefix}{lower[close[0]]}?" if close else ""


def _unknown_option(key: str, name: str, message: str) -> str:
    paths = re.findall(r"class_path[ =]'([\w.]+)'", message)
    path = next((path for path in paths if key.endswith("optimizer") == path.startswith("torch.optim")), paths[0])
    owner = resolve_name(path)
    if owner is LightningDataModule:  # none was chosen
        return f"--data.{name} needs a task: add --data Arrays for data of your own, or --data NAME or --config NAME"
    names = [parameter for parameter in inspect.signature(owner).parameters if parameter != "self"]
    text = f"--{key}.{name}: {owner.__name__} has no option {name!r}"
    if key == "model" and name in inspect.signature(torch.optim.Adam).parameters:
        return f"{text}; did you mean --model.optimizer.{name}?"
    guess = guess_name(name, names, f"--{key}.") or ";"
    return f"{text}{guess} alrnn fit --{key}.help {owner.__name__} lists its options"


def _unrecognized(option: str) -> str:
    head, _, name = option.partition(".")
    if head == "trainer" and name:
        return f"there is no option --{option}{guess_name(name, inspect.signature(Trainer).parameters, '--trainer.')}"
    rest = f".{name}" if name else ""
    close = difflib.get_close_matches(head, _OPTIONS, n=1)
    meant = f"; did you mean --{close[0]}{rest}?" if close else "; alrnn fit --help lists the main options"
    return f"there is no option --{option}{meant}"


def _unknown_class(key: str, name: str) -> str:
    if key == "data" and name in shipped_configs():
        return f"--data {name}: {name} is a configuration, not a task: --config {name}"
    if key == "data" and Path(name).suffix in (".npz", ".npy", ".csv", ".pt"):
        return f"--data {name}: a file of your own is read by --data Arrays --data.inputs {name}"
    names = sorted(_subclasses(_CLASSES[key]))
    return f"--{key} {name}: there is no such class{guess_name(name, names)}"


def _subclasses(base: type) -> set[str]:
    """Names of the public subclasses of a class that are imported."""
    children: list[type] = base.__subclasses__()
    names = {name for child in children for name in _subclasses(child)}
    return names | {child.__name__ for child in children if not child.__name__.startswith("_")}


def _class_name(message: str) -> str:
    found = re.search(r"class_path[ =]'([\w.]+)'", message)
    return found[1].rpartition(".")[2] if found else "what you asked for"


def _type_name(text: str) -> str:
    if literal := re.fullmatch(r"typing\.Literal\[(.*)\]", text):
        *names, last = [name.strip("' ") for name in literal[1].split(",")]
        return f"{', '.join(names)} or {last}" if names else last
    return re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", text)
