"""A checkpoint that names functions, or classes of other modules, is refused before any of them is imported."""

from __future__ import annotations

import importlib
import io
import itertools
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import ADDITION, CPU, LAST, fit, refused
from pytorch_lightning import LightningDataModule, Trainer
from tiny_runs import QUIET
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from undrawn import undrawn

from lightning_alrnn import ALRNNModule, Arrays, TextEncoder
from lightning_alrnn.cli import run_cli
from lightning_alrnn.extensions import checkpoint_classes
from lightning_alrnn.extensions.checkpoint_classes import check_classes, find_class

RAN = Path("code-ran")
# on the search path, but not imported
EVIL = f"""
from pathlib import Path
from torch import nn
Path({str(RAN)!r}).touch()
class Core(nn.Module): ...
"""
# imported, with what is not for a checkpoint to call
IMPORTED = f"""
from pathlib import Path
from torch import nn
def run(*arguments, **options):
    Path({str(RAN)!r}).touch()
class Plain:
    __init__ = run
class Outer:
    class Core(nn.GRU): ...
class Asked:
    __class__ = property(run)
    __getattr__ = run
asked = Asked()
def __getattr__(name):
    run()
"""
NAMES = (
    *("evil.Core", "evil", "./evil.yaml", "evil.yaml", "evil_config", "imported_module.run", "imported_module.Plain"),
    *(
        "imported_module.absent",
        "imported_module.asked",
        "os.strerror",
        "ctypes.sizeof",
        "torch.nn.init.normal_",
        "no.such.Thing",
    ),
    '{"class_path": "evil.Core"}',
)
DESCRIBED: tuple[Any, ...] = (
    {"class_path": "evil.Core"},
    {"class_path": "imported_module.Plain"},
    {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(RAN)]}},
    {"class_path": "torch.nn.Sequential", "dict_kwargs": {"first": {"class_path": "evil.Core"}}},
    {"class_path": "torch.nn.Embedding", "init_args": {"_weight": "evil.Core"}},
    ["evil.Core"],
)
HOSTILE: dict[str, dict[str, Any]] = {
    f"{place}={value}": {"hyper_parameters": {place: value}}
    for place, value in [
        *itertools.product(("core", "encoder"), [name for name in NAMES if name != "evil"]),
        *itertools.product(("encoder", "optimizer"), DESCRIBED),
        *itertools.product(("lr_scheduler", "unknown", "init", "encoder.class_path"), ["evil.Core"]),
        *itertools.product(("_class_path",), ["evil.Core", "imported_module.run", "os.system"]),
        *itertools.product(("group_names", "hidden_size"), [DESCRIBED[0], '{"class_path": "evil.Core"}']),
    ]
} | {f"{key} of old": {key: {"core": "evil.Core"}} for key in ("hparams", "module_arguments")}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Path("evil.py").write_text(EVIL)
    Path("imported_module.py").write_text(IMPORTED)
    for name in ("evil.yaml", "evil_config"):
        Path(name).write_text("class_path: evil.Core\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    importlib.import_module("imported_module")
    yield
    del sys.modules["imported_module"]
    assert "evil" not in sys.modules
    assert not RAN.exists()


def write(content: dict[str, Any], changes: dict[str, dict[str, Any]], path: Path) -> Path:
    """A copy of a checkpoint with other arguments."""
    torch.save(content | {key: content.get(key, {}) | values for key, values in changes.items()}, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with undrawn():
        return fit(tmp_path_factory.mktemp("run"), *ADDITION, "--model.hidden_size=6") / LAST


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE.keys())
def test_load_from_checkpoint_refuses_what_is_no_class_of_layers_that_is_imported(
    changes: dict[str, dict[str, Any]], trained: Path
) -> None:
    content = torch.load(trained, weights_only=True)
    path = write(content, changes, Path("hostile.ckpt"))
    with pytest.raises(ValueError, match="nothing else is imported or called for a checkpoint"):
        ALRNNModule.load_from_checkpoint(path)
    del content["hyper_parameters"]["_instantiator"], content["hyper_parameters"]["_class_path"]  # as of Python
    buffer = io.BytesIO(write(content, changes, Path("hostile.ckpt")).read_bytes())
    with pytest.raises(ValueError, match="nothing else is imported or called for a checkpoint"):
        ALRNNModule.load_from_checkpoint(buffer)


WAYS = {
    "fit": ["fit", *ADDITION, *CPU, "--trainer.max_epochs=2", "--model.hidden_size=6"],
    "test": ["test", *ADDITION, *CPU],
    "analyze": ["analyze", *ADDITION, "--output_dir=analysis"],
}
SHORT = ("core=imported_module.run", "encoder={'class_path': 'evil.Core'}")


@pytest.mark.parametrize("case", [pytest.param(k, marks=() if k in SHORT else pytest.mark.slow) for k in HOSTILE])
@pytest.mark.parametrize("way", WAYS)
def test_commands_refuse_it_in_a_line(way: str, case: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(torch.load(trained, weights_only=True), HOSTILE[case], Path("hostile.ckpt"))
    printed = refused([*WAYS[way], f"--ckpt_path={path}"], capsys)
    (said,) = [line for line in printed.splitlines() if line.startswith("alrnn: error: ")]
    assert "Traceback" not in printed
    assert "nothing else is imported or called for a checkpoint" in said
    assert not Path("runs").exists()


def names_of_modules() -> Iterator[str]:
    """Everything in the modules that are imported, and a name in each module of Python that is not."""
    for name, module in sorted(sys.modules.items()):
        yield from (f"{name}.{part}" for part in sorted(map(str, vars(module))))
    yield from (f"{name}.main" for name in sorted(sys.stdlib_module_names - sys.modules.keys()))


def refuses(arguments: dict[str, Any]) -> bool:
    try:
        check_classes({"hyper_parameters": arguments}, ALRNNModule)
    except ValueError:
        return True
    return False


def check_names(names: list[str]) -> int:
    """Number of names that a checkpoint may name; each of these is a class of layers, and nothing is imported."""
    before, allowed = set(sys.modules), []
    for name in names:
        answers = {refuses({"core": name}), refuses({"encoder": {"class_path": name}})}
        assert len(answers) == 1, name
        if answers == {False}:
            allowed.append(find_class(name))
    assert set(sys.modules) == before
    suitable = (nn.Module, Optimizer, LRScheduler, LightningDataModule)
    assert all(cls is not None and issubclass(cls, suitable) for cls in allowed)
    return len(allowed)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The types of arguments are looked up once, which takes most of the time."""
    monkeypatch.setattr(checkpoint_classes, "_types", cache(checkpoint_classes._types))


@pytest.mark.usefixtures("remembered")
def test_of_all_names_only_those_of_layers_may_be_named() -> None:
    names = list(names_of_modules())
    assert 0 < check_names(names[:: len(names) // 1000]) < 200


@pytest.mark.slow
@pytest.mark.usefixtures("remembered")
def test_of_all_names_only_those_of_layers_may_be_named_every_one() -> None:
    names = list(names_of_modules())
    allowed = check_names(names)
    sys.stdout.write(f"{len(names)} names, {allowed} of layers, optimizers, schedulers and DataModules\n")
    assert len(names) > 50_000


def test_layers_in_modules_that_are_imported_are_found() -> None:
    for path, cls in {
        "torch.nn.GRU": nn.GRU,
        "lightning_alrnn.TextEncoder": TextEncoder,
        "lightning_alrnn.nn.encoders.TextEncoder": TextEncoder,
        "imported_module.Outer.Core": sys.modules["imported_module"].Outer.Core,
        "imported_module.run": None,
        "imported_module.Outer.absent": None,
        "evil.Core": None,
        "GRU": None,
    }.items():
        assert find_class(path) is cls, path
    for core in ("GRU", "torch.nn.GRU", "imported_module.Outer.Core"):
        check_classes({"hyper_parameters": {"core": core}}, ALRNNModule)
    described = {"class_path": "lightning_alrnn.TextEncoder", "init_args": {"vocab_size": 7, "output_size": 2}}
    check_classes({"hyper_parameters": {"encoder": described, "group_names": ["a b", "c.d"]}}, ALRNNModule)


def test_arguments_that_are_passed_replace_those_of_the_checkpoint(trained: Path) -> None:
    path = write(torch.load(trained, weights_only=True), HOSTILE["core=evil.Core"], Path("hostile.ckpt"))
    assert ALRNNModule.load_from_checkpoint(path, core="ALRNN").hparams.core == "ALRNN"


def test_the_core_that_a_command_names_is_imported_and_must_be_a_layer(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text("from torch import nn\nclass Core(nn.GRU): ...\ndef make(*sizes): ...\n")
    model = ["--model.core=mine.Core", "--model.hidden_size=6"]
    trainer = Trainer(logger=False, **QUIET)
    trainer.strategy.connect(ALRNNModule(2, 1, 6, core="mine.Core", objective="regression"))
    trainer.save_checkpoint("mine.ckpt")
    sys.modules.pop("mine")
    test = ["test", *ADDITION, *CPU, "--ckpt_path=mine.ckpt"]
    assert "has core='mine.Core'" in refused(test, capsys)
    assert "mine" not in sys.modules
    assert type(run_cli([*test, *model]).model.core).__qualname__ == "Core"  # as the config.yaml of the run does
    for name in ("mine.make", "os.strerror"):
        printed = refused(["fit", *ADDITION, *CPU, f"--model.core={name}"], capsys)
        assert "core must be 'ALRNN', 'RNN', 'GRU', 'LSTM' or the path of a subclass of torch.nn.Module" in printed


def test_a_datamodule_is_not_made_of_other_classes(trained: Path) -> None:
    for value in (*DESCRIBED[:3], '{"class_path": "evil.Core"}'):
        arguments = {"datamodule_hyper_parameters": {"_class_path": "lightning_alrnn.Arrays", "inputs": value}}
        path = write(torch.load(trained, weights_only=True), arguments, Path("hostile.ckpt"))
        with pytest.raises(ValueError, match="nothing else is imported or called for a checkpoint"):
            Arrays.load_from_checkpoint(path)
