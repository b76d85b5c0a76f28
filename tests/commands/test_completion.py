"""The completion scripts, asked as a shell asks them."""

from __future__ import annotations

import inspect
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_runs import refused
from pytorch_lightning import Trainer

from lightning_alrnn import Addition, ALRNNModule, callbacks, datamodules
from lightning_alrnn.commands.completion import completion_script, options_of_commands
from lightning_alrnn.commands.entry import main
from lightning_alrnn.commands.help import COMMANDS
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.nn.options import ALRNN_DEFAULTS


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("completion") / "alrnn.bash"
    path.write_text(completion_script("bash"), encoding="utf-8")
    return path


def complete(script: Path, line: str) -> list[str]:
    """What bash offers for a line; the word that is completed is the last one, empty after a space."""
    words = line.split(" ")
    asked = (
        f"source {shlex.quote(str(script))}\n"
        f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        "$(complete -p alrnn | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("alrnn f", ["fit"]),
        ("alrnn ", list(COMMANDS)),
        ("alrnn fit --config add", ["addition", "addition_quick"]),
        ("alrnn sweep --config add", ["addition", "addition_quick"]),
        ("alrnn fit --model.nonl", ["--model.nonlinear_units"]),
        ("alrnn fit --config digits --model.nonl", ["--model.nonlinear_units"]),
        ("alrnn fit --data Add", ["Addition"]),
        ("alrnn fit --data.help Add", ["Addition"]),
        ("alrnn fit --model ", ["ALRNNModule", "ALRNNNeural", "ALRNNSeq2Seq"]),
        ("alrnn fit --model.init ", ["gaussian", "positive_definite", "near_identity"]),
        ("alrnn fit --model.optimizer SG", ["SGD"]),
        ("alrnn fit --trainer.callbacks+ Spec", ["Spectrum"]),
        ("alrnn fit --trainer.callbacks+ Spectrum --trainer.callbacks.mod", ["--trainer.callbacks.module"]),
        ("alrnn fit --trainer.enable_progress_bar ", ["true", "false"]),
        ("alrnn fit --print_config --trainer.max_ep", ["--trainer.max_epochs"]),
        ("alrnn sweep --non", ["--nonlinear_units"]),
        ("alrnn sweep --trainer.max_ep", ["--trainer.max_epochs"]),
        ("alrnn sweep --executor ", ["local", "slurm", "inline"]),
        ("alrnn analyze --ck", ["--ckpt_path"]),
        ("alrnn analyze --time", ["--time_limit"]),
        ("alrnn prune --ep", ["--epochs"]),
        ("alrnn verdict --sc", ["--score"]),
        ("alrnn completion z", ["zsh"]),
    ],
)
def test_bash(line: str, offered: list[str], script: Path) -> None:
    assert complete(script, line) == offered


def test_bash_offers_files_and_folders(script: Path) -> None:
    Path("additional").mkdir()
    Path("adding.yaml").touch()
    assert set(complete(script, "alrnn fit --config addi")) == {
        *("addition", "addition_quick"),
        *("adding.yaml", "additional"),
    }
    assert set(complete(script, "alrnn test --ckpt_path ad")) == {"adding.yaml", "additional"}
    assert complete(script, "alrnn sweep --output_dir ad") == ["additional"]
    assert complete(script, "alrnn verdict ad") == ["additional"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_read_their_script(shell: str, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    script = completion_script(shell)
    for word in ("nonlinear_units", "Addition", "Spectrum", "near_identity", "time_limit"):
        assert word in script
    assert shell != "zsh" or '"*--trainer.callbacks+=[' in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    (tmp_path / "script").write_text(script, encoding="utf-8")
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=30)


def test_options_are_those_of_trainer_models_and_data() -> None:
    options = options_of_commands()
    for command in ("fit", "validate", "test", "predict", "sweep", "analyze", "prune"):
        for prefix, each in (("trainer", Trainer), ("model", ALRNNModule), ("data", Addition)):
            parameters = set(inspect.signature(each).parameters) - {"options"}
            assert {f"--{prefix}.{name}" for name in parameters} <= options[command].keys()
        assert {f"--model.{name}" for name in ALRNN_DEFAULTS} <= options[command].keys()
    assert set(options["fit"]["--data"].values) < set(datamodules.__all__)
    assert set(options["fit"]["--trainer.callbacks+"].values) < set(callbacks.__all__)
    assert "PeriodicCallback" not in options["fit"]["--trainer.callbacks"].values


@pytest.mark.slow  # test_help.py asks for one class of each kind
def test_names_of_classes_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    options = options_of_commands()["fit"]
    names = [(option, name) for option in options if option.endswith(".help") for name in options[option].values]
    assert len(names) > 50
    for option, name in names:
        with pytest.raises(SystemExit) as ended:
            main(["fit", option, name])
        assert ended.value.code == 0, (option, name)
        capsys.readouterr()


def test_printed(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    main(["completion", "bash"])
    printed = capsys.readouterr().out
    assert printed.endswith(" alrnn\n")
    assert all(name in printed for name in shipped_configs())


def test_without_shtab_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    expected = "alrnn: error: alrnn completion needs shtab: pip install shtab\n"
    assert refused(["completion", "bash"], capsys) == expected
