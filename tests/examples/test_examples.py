"""The examples run, and print what their texts announce."""

from __future__ import annotations

import ast
import importlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pytorch_lightning import Trainer
from scripts import load_script

from lightning_alrnn import Addition, ALRNNModule

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.filterwarnings("ignore")  # they silence Lightning's advice themselves, as a user would


def load(name: str) -> ModuleType:
    return load_script(EXAMPLES / f"{name}.py")


@pytest.fixture(autouse=True)
def _leave_the_log_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    yield
    logger.setLevel(level)


def test_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    scores = load("own_data").main(epochs=12)
    assert scores["test/accuracy"] > 0.85
    printed = capsys.readouterr().out
    assert f"test accuracy     {scores['test/accuracy']:.3f}" in printed
    assert re.search(r"^active units      [12] of 2$", printed, flags=re.MULTILINE)
    shares = re.findall(r"^  [01]{2} +(0\.\d+|1\.000)$", printed, flags=re.MULTILINE)
    assert 2 <= len(shares) <= 4
    assert sum(map(float, shares)) == pytest.approx(1.0, abs=2e-3)
    assert all(re.search(rf"^  {rule}  ", printed, flags=re.MULTILINE) for rule in ("same", "opposite"))


def test_own_module(capsys: pytest.CaptureFixture[str]) -> None:
    logged = load("own_module").main(epochs=5)
    assert logged["val/accuracy"] > 0.7
    printed = capsys.readouterr().out
    for key in ("regime/visited", "units/active", "fixed_points/total", "spectrum/pc1_angle", "latent/pc1_variance"):
        assert re.search(rf"^{key} +[\d.]+$", printed, flags=re.MULTILINE)


def test_own_reading(capsys: pytest.CaptureFixture[str]) -> None:
    logged = load("own_reading").main(epochs=1)
    shares = re.findall(r"^(\d) units on  ([\d.]+) of the steps$", capsys.readouterr().out, flags=re.MULTILINE)
    assert [int(units) for units, _ in shares] == [0, 1, 2, 3]
    assert float(shares[0][1]) == pytest.approx(logged["silence/share"], abs=6e-4)
    assert sum(float(share) for _, share in shares) == pytest.approx(1.0, abs=2e-3)


def test_read_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Addition(sequence_length=50, train_size=256, val_size=64)
    model = ALRNNModule(2, 1, hidden_size=8, nonlinear_units=2, objective="regression", init="near_identity")
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    capsys.readouterr()
    load("read_network").main(str(tmp_path / "last.ckpt"))
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"test error [\d.e+-]+", printed[0])
    assert [line.partition(" with ")[2] for line in printed[1:3]] == [
        f"nonlinear unit {unit} made linear" for unit in (0, 1)
    ]
    assert re.fullmatch(r"regime [01]{2}: [\d.]+% of the steps; slowest modes \S+, \S+ steps", printed[3])
    assert printed[-1].startswith("fixed points (complete): ")


def test_a_three_bit_memory_has_its_27_fixed_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load("flip_flop").main(tmp_path)
    assert len(found.z) == 27
    assert found.stability.count("stable") == 8
    assert found.index_sum == 1
    assert found.complete
    stable = [index for index, kind in enumerate(found.stability) if kind == "stable"]
    signs = {tuple((found.readout[index] > 0).tolist()) for index in stable}
    assert len(signs) == 8  # each memory has its point
    assert float((found.readout[stable].abs() - 1).abs().max()) < 0.2
    assert "fixed points      27, complete; index sum +1" in capsys.readouterr().out
    assert (tmp_path / "state_space.png").stat().st_size > 10_000


def test_reading_takes_twenty_lines() -> None:
    source = (EXAMPLES / "read_network.py").read_text(encoding="utf-8")
    body = source.partition('"""Print what')[2].partition("if __name__")[0].split("\n")[1:]
    assert sum(bool(line.strip()) for line in body) <= 20


def test_what_scripts_import_is_there() -> None:
    """Also where no test runs them, as they take minutes."""
    root = EXAMPLES.parent
    for path in (path for folder in ("examples", "benchmarks", "docs") for path in (root / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning_alrnn"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
