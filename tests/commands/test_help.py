"""Help: a screen for each command, with an example and with options that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_runs import refused
from pytorch_lightning.cli import LightningCLI

from lightning_alrnn.commands.completion import options_of_commands
from lightning_alrnn.commands.entry import main
from lightning_alrnn.commands.help import COMMANDS, ask_for_all, find_screen
from lightning_alrnn.commands.options import OPTIONS
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.readings import READINGS

OVERVIEW = ""  # the one of no command


def screen(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main([*([name] if name else []), "--help"])
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    names = {command: set(by_name) for command, by_name in options_of_commands().items()}
    names["verdict"].add("--output_dir")  # of the sweep that it is about
    return names


def test_every_command_is_listed() -> None:
    assert set(COMMANDS) == {*OPTIONS, *LightningCLI.subcommands()}


@pytest.mark.parametrize("name", [OVERVIEW, *COMMANDS])
def test_a_screen_is_one_and_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # where argparse breaks lines
    text = screen(name, capsys)
    lines = text.splitlines()
    assert len(lines) <= (40 if name else 24)
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"usage: alrnn {name or 'COMMAND'}")
    assert re.search(rf"^  alrnn {name}", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", [OVERVIEW, *COMMANDS])
def test_options_on_a_screen_exist(name: str, options: dict[str, set[str]], capsys: pytest.CaptureFixture[str]) -> None:
    every = set().union(*options.values())
    named: list[str] = []
    for line in screen(name, capsys).splitlines():
        example = re.match(r" +alrnn (\w+)", line)
        command = example[1] if example else name
        named += (words := re.findall(r"(?<![\w-])--[a-z_.]+\+?", line))
        assert set(words) <= options.get(command, every), line
    assert named


def test_what_had_a_name_in_0_1_has_it_still(options: dict[str, set[str]]) -> None:
    """Keys that are logged, figures, options and configurations: renaming one breaks somebody's scripts."""
    names = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "callbacks.md").read_text(encoding="utf-8")  # another test compares runs
    keys = {key.name for reading in READINGS for key in reading.keys}
    assert [key for key in names["keys"] if key not in keys and f"`{key}`" not in page] == []
    figures = {name.replace("/", "_") for name in re.findall(r"`([a-z_0-9]+/[a-z_0-9]+)`", page)}
    assert set(names["figures"]) <= figures
    assert set(names["configs"]) <= set(shipped_configs())
    assert all(set(of_command) <= options[command] | options["fit"] for command, of_command in names["options"].items())


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        *[([], "COMMAND"), (["-h"], "COMMAND"), (["--config", "digits", "--help"], "COMMAND")],
        *[(["fit", "-h"], "fit"), (["fit", "--config", "digits", "--help"], "fit"), (["predict", "--help"], "predict")],
        (["--config", "digits", "fit", "-h"], "fit"),
    ],
)
def test_the_screen_that_arguments_ask_for(arguments: list[str], command: str) -> None:
    assert (find_screen(arguments) or "").startswith(f"usage: alrnn {command} ")


def test_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_for_all(["fit", "--help", "all", "--config", "x"]) == ["fit", "--help", "--config", "x"]
    assert ask_for_all(["fit", "--config", "x", "-h=all"]) == ["fit", "--config", "x", "--help"]
    assert ask_for_all(["fit", "--help"]) is None
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help=all"])
    assert ended.value.code == 0
    assert "--trainer.reload_dataloaders_every_n_epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "name", "own"),
    [
        ("--model.help", "ALRNNModule", "--model.mar_strength"),
        ("--data.help", "Addition", "--data.sequence_length"),
        ("--trainer.callbacks.help", "FixedPoints", "--trainer.callbacks.max_visited"),
    ],
)
def test_options_of_a_class(option: str, name: str, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "predict"):
        with pytest.raises(SystemExit) as ended:
            main([command, option, name])
        assert ended.value.code == 0
        assert own in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "meant"), [("fitt", "did you mean 'fit'? "), ("sweeps", "'sweep'? "), ("x", ". ")])
def test_a_wrong_command_is_told_all_there_are(wrong: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused([wrong, "--config", "digits"], capsys)
    assert error.startswith(f"alrnn: error: there is no command {wrong!r}")
    assert meant in error
    assert ", ".join(COMMANDS) in error
    assert error.count("\n") == 1
