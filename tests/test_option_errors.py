"""What the command line says of a wrong option: one line with a remedy, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_alrnn.commands.entry import main
from lightning_alrnn.option_errors import explain

DIGITS = "fit --config digits"


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (f"{DIGITS} --model.lr 0.1", "did you mean --model.optimizer.lr?"),
        (f"{DIGITS} --model.hiden_size 20", "did you mean --model.hidden_size? alrnn fit --model.help ALRNNModule"),
        (f"{DIGITS} --model.optimizer.lrr 1", "Adam has no option 'lrr'; did you mean --model.optimizer.lr?"),
        (f"{DIGITS} --data.batchsize 3", "did you mean --data.batch_size?"),
        (f"{DIGITS} --trainer.max_epochz 3", "did you mean --trainer.max_epochs?"),
        (f"{DIGITS} --modell.hidden_size 3", "did you mean --model.hidden_size?"),
        (f"{DIGITS} --sed 3", "no option --sed"),
        (f"{DIGITS} --trainer.callbacks+ Spectrum --trainer.callbacks.every 3", "Spectrum has no option 'every'"),
        (f"{DIGITS} --model.hidden_size ten", "--model.hidden_size ten: expected int"),
        (f"{DIGITS} --trainer.max_epochs x", "--trainer.max_epochs x: expected int"),
        (f"{DIGITS} --model.init positive", "expected gaussian, positive_definite or near_identity"),
        (f"{DIGITS} --model ALRNModule", "did you mean ALRNNModule?"),
        (f"{DIGITS} --model.optimizer Adamm", "did you mean Adam?"),
        (f"{DIGITS} --trainer.logger TensorBordLogger", "did you mean TensorBoardLogger?"),
        (f"{DIGITS} --trainer.callbacks+ Spectrm", "did you mean Spectrum?"),
        (f"{DIGITS} --trainer.strategy dpp", "invalid strategy name"),
        ("fit --config digist", "did you mean digits?"),
        ("fit", "choose a task: --config NAME"),
        ("fit --data digits", "--config digits"),
        ("fit --data mine.npz", "--data Arrays --data.inputs mine.npz"),
        ("fit --data Adition", "did you mean Addition?"),
        ("fit --data Arrays", "Arrays needs --data.inputs"),
        (
            "fit --data.inputs mine.npz",
            "--data.inputs needs a task: add --data Arrays for data of your own, or --data N",
        ),
        ("test", "choose a network by --ckpt_path FILE"),
        ("predict --ckpt_path nowhere.ckpt", "no such file"),
    ],
)
def test_one_line_with_a_remedy(command: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Seed set")]
    assert line.startswith("alrnn: error: ")
    assert remedy in line


def test_a_configuration_with_a_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data:\n  class_path: Addition\nmodl: 3\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(path)])
    assert "did you mean --model?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("--trainer.accelerator=mps", "--trainer.accelerator auto uses what this machine has"),
        ("--trainer.logger=CometLogger", "pip install 'comet-ml"),
    ],
)
def test_what_this_machine_lacks(option: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*DIGITS.split(), option])
    assert stop.value.code == 2
    assert remedy in capsys.readouterr().err.splitlines()[-1]


def test_a_message_of_another_kind_stays_as_it_is() -> None:
    assert explain("something else") == "something else"
