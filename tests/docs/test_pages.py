"""README and docs: Python runs, commands and YAML are understood, options and links exist."""

from __future__ import annotations

import inspect
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest
import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningCLI
from quick_sweeps import parse_once
from undrawn import undrawn

import lightning_alrnn
from lightning_alrnn import cli, datamodules, modules
from lightning_alrnn.commands import completion, sweep, verdict
from lightning_alrnn.commands.entry import main
from lightning_alrnn.commands.help import COMMANDS
from lightning_alrnn.commands.options import OPTIONS, parser_of
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.nn.options import ALRNN_DEFAULTS
from lightning_alrnn.sweep.executors import run_inline

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDERS = {"P": "1", "SEED": "0", "NAME": "digits", "D": "runs/sweep"}
# options of SLURM, TensorBoard and benchmarks/claims.py
OF_OTHERS = {"ntasks", "signal", "time", "mem", "requeue", "nodes", "format", "logdir", "pty", "again", "further"}
OMITTED = {"--config": "digits", "--ckpt_path": "last.ckpt"}  # by the option that "…" follows


class Block(NamedTuple):
    """A fenced block, and the text between it and the block before."""

    language: str
    text: str
    gap: str


def blocks(page: str) -> list[Block]:
    parts = re.split(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [Block(*fields) for fields in zip(parts[1::3], parts[2::3], parts[::3], strict=False)]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[list[str]]:
    """Commands in blocks of the shell or without a language, and within sentences."""
    shell = "".join(block.text for block in blocks(page) if block.language in ("", "bash", "sh"))
    for line in [*shell.replace("\\\n", "").split("\n"), *re.findall(r"`([^`]+)`", prose(page))]:
        line = re.sub(r" > \S+$", "", line).removeprefix("srun ").removesuffix(" &")
        if re.match(r"(alrnn|make|pip|python|tensorboard) ", line):
            yield shlex.split(line, comments=True)


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _of(pages: list[Path], holds: Callable[[str], bool] = lambda text: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [path for path in pages if holds(path.read_text(encoding="utf-8"))], ids=_id)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files that the pages assume: the reader's data, and word vectors."""
    inputs = np.random.default_rng(0).normal(size=(40, 5, 2)).astype("float32")
    for name in ("mine", "others"):
        np.savez(tmp_path / f"{name}.npz", inputs=inputs, targets=np.arange(40) % 2)
    (tmp_path / "glove.6B.100d.txt").write_text("the" + " 0.1" * 100 + "\n", encoding="utf-8")
    return tmp_path


@_of(PAGES, lambda text: "```python" in text)
@undrawn()
def test_python_runs(
    path: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of a page one after the other, in one epoch; what is shown as their output is their output."""
    # an exporter goes through a sequence step by step
    fenced = blocks(path.read_text(encoding="utf-8").replace("size=(400, 20)", "size=(400, 3)"))
    original = Trainer.__init__

    @wraps(original)  # the command line reads its arguments
    def one_epoch(self: Trainer, **options: Any) -> None:
        original(self, **options | {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"})

    monkeypatch.setattr(Trainer, "__init__", one_epoch)
    parse_once(monkeypatch)
    monkeypatch.setattr(sweep, "run_local", lambda start, works, jobs, monitor: run_inline(start, works, monitor))
    names: dict[str, Any] = {"__name__": path.stem}
    for block, following in zip(fenced, [*fenced[1:], None], strict=True):
        needed = re.search(r"<!-- needs (\w+) -->", block.gap)
        if block.language != "python" or (needed is not None and find_spec(needed[1]) is None):
            continue
        capsys.readouterr()
        exec(compile(block.text, _id(path), "exec"), names)
        if following is not None and not following.language and not following.gap.strip():
            assert capsys.readouterr().out == following.text


# those of the results are made of claims.yaml, which tests/benchmarks/test_claims.py reads
@_of(
    [page for page in PAGES if not page.name.endswith("results.md")],
    lambda text: "```yaml" in text or any(commands(text)),
)
def test_commands_are_understood(path: Path, files: Path, parse: Callable[[list[str]], None]) -> None:
    page = path.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.language == "yaml":
            (files / "mine.yaml").write_text(block.text, encoding="utf-8")
            parse(["fit", "--config", "digits", "--config", "mine.yaml"])
    for words in commands(page):
        filled: list[str] = []
        for word in words:
            if word != "…":
                filled.append(PLACEHOLDERS.get(word, word))
            else:
                filled += [OMITTED[filled[-1]]] if filled[-1] in OMITTED else ["--config", "digits"]
        if filled[0] == "alrnn":
            parse(filled[1:])
        elif filled[0] == "make":
            assert re.search(rf"^{filled[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        elif filled[0] == "python":
            assert (ROOT / filled[1]).is_file(), filled
        elif filled[0] == "pip":
            paths = [re.sub(r"\[\w+\]$", "", word) for word in filled[2:] if re.search(r"\.|/", word)]
            assert all((ROOT / path).exists() for path in paths), filled


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_examples_of_help_are_understood(
    name: str, files: Path, parse: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):
        main([*([name] if name else []), "--help"])
    text = capsys.readouterr().out
    found = [shlex.split(re.sub(r" > \S+$| {2,}.*$", "", line)) for line in re.findall(r"^  alrnn (.+)$", text, re.M)]
    assert name in {"", *(words[0] for words in found)}
    for words in found:
        parse(words)


def _config_of(checkpoint: Path) -> Path:
    """The configuration of a run that was not made, whose folder has the name of its DataModule."""
    data = {"class_path": checkpoint.parts[1], "init_args": {"inputs": "mine.npz"}}
    path = Path("config_of_run.yaml")
    path.write_text(yaml.safe_dump({"data": data if checkpoint.parts[1] == "Arrays" else checkpoint.parts[1]}))
    return path


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], None]:
    """Go through a command without running it: model and data are made, sweeps planned."""
    made: list[str] = []

    def stop(self: LightningCLI, subcommand: str | None) -> None:
        made.append(subcommand or "")

    # what only a run needs takes most of the time
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    monkeypatch.setattr(LightningCLI, "instantiate_trainer", lambda self: trainer)
    monkeypatch.setattr(LightningCLI, "_add_instantiators", lambda self: None)
    monkeypatch.setattr(LightningCLI, "_run_subcommand", stop)
    monkeypatch.setattr(cli.ALRNNCLI, "_run_options", lambda self: {})
    monkeypatch.setattr(cli, "default_callbacks", list)
    monkeypatch.setattr(cli, "_DEFAULT_CALLBACKS", ())
    # the pages name checkpoints of runs that were not made here
    monkeypatch.setattr(cli, "read_checkpoint", lambda path: {})
    monkeypatch.setattr(cli, "config_of", _config_of)
    monkeypatch.setattr(verdict, "judge_sweep", Mock())
    monkeypatch.setattr(verdict, "format_verdict", lambda verdict: "")
    monkeypatch.setattr(completion, "completion_script", lambda shell: "")

    def understood(arguments: list[str]) -> None:
        name, *rest = arguments
        asks = any(re.fullmatch(r"-h|--print_config|--(\S+\.)?help", word) for word in arguments)
        if not rest and not asks:  # a command by its name
            assert name in COMMANDS
        elif name == "sweep" and not asks:
            sweep._plan(*parser_of("sweep").parse_known_args(rest))
        elif name in ("analyze", "ask", "prune", "compare") and not asks:
            parser_of(name).parse_known_args(rest)
        elif asks:
            with suppress(SystemExit):
                main(arguments)
            assert not capsys.readouterr().err
        else:
            main(arguments)
            assert name in ("verdict", "completion") or made.pop() == name
        capsys.readouterr()

    return understood


def test_a_wrong_option_is_not_understood(files: Path, parse: Callable[[list[str]], None]) -> None:
    for wrong in (
        ["fit", "--config", "digits", "--model.no_such", "1"],
        ["fit", "--config", "copy_quick", "--data.lag", "3"],  # of another variant
        ["verdict", "runs", "--no_such", "1"],
    ):
        with pytest.raises(SystemExit) as ended:
            parse(wrong)
        assert ended.value.code == 2
    with pytest.raises(ValueError, match="no_such"):
        parse(shlex.split("sweep --config digits --nonlinear_units 0 --seeds 1 --output_dir a --no_such=1"))


@cache
def _own_options() -> set[str]:
    """All options of the commands but those of models, data and the Trainer."""
    text = "".join(parser_of(name).format_help() for name in OPTIONS)
    common = {"config", "model", "data", "seed_everything", "ckpt_path", "print_config"}
    return common | set(re.findall(r"--([a-z_]+)", text))


@_of(PAGES)
def test_options_exist(path: Path) -> None:
    """Options that are named in passing."""
    options = {"trainer": set(inspect.signature(Trainer).parameters)}
    for kind, package in (("data", datamodules), ("model", modules)):
        classes = [getattr(package, name) for name in package.__all__]
        options[kind] = {option for each in classes for option in inspect.signature(each).parameters}
    options["model"] |= ALRNN_DEFAULTS.keys()
    plain = _own_options() | OF_OTHERS | {"help", "data_dir"} | options.keys()
    for code in re.findall(r"`([^`]+)`", prose(path.read_text(encoding="utf-8"))):
        for option in re.findall(r"(?<![\w-])--([a-z_]+(?:\.\w+)*)(?![\w-])", code):
            kind, _, rest = option.replace(".init_args", "").partition(".")
            if rest and not rest.isupper():
                assert rest.partition(".")[0] in options[kind], option
            elif not rest:
                assert option in plain, option


SETTINGS = [
    (path.stem, *row)
    for path in sorted((ROOT / "docs" / "tasks").glob("*.md"))
    for row in re.findall(
        r"^\| `(\w+)` \| (\d+) \| ([\d and]+) \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
]


def test_every_configuration_is_on_a_page() -> None:
    assert sorted(row[1] for row in SETTINGS) == sorted(shipped_configs())


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row[1])
def test_settings_are_those_of_the_configuration(row: tuple[str, ...]) -> None:
    _, name, size, units, init, strength, rate, epochs = row
    config = yaml.safe_load(shipped_configs()[name].read_text(encoding="utf-8"))
    options = config["model"]["init_args"]
    parameters = inspect.signature(getattr(modules, config["model"]["class_path"])).parameters
    assert int(size) == options["hidden_size"]
    assert [int(count) for count in units.split(" and ")] == [
        options[key] for key in ("nonlinear_units", "decoder_nonlinear_units") if key in options
    ]
    assert init == options.get("init", ALRNN_DEFAULTS["init"])
    assert float(strength) == options.get("mar_strength", parameters["mar_strength"].default)
    assert float(rate) == options["optimizer"]["init_args"]["lr"]
    assert int(epochs) == config["trainer"]["max_epochs"]


def test_tests_that_are_named_exist() -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py")}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?", text):
            assert not test or re.search(rf"(def|class) {test}\b", texts[path]), f"{path}::{test}"
            assert path in texts
        for test in re.findall(r"`(test_\w+)`", text) if "`tests/" in text else ():
            assert any(f"def {test}(" in content for content in texts.values()), test


def test_the_api_has_every_public_name() -> None:
    pages = [*(ROOT / "docs" / "api").glob("*.md"), *(ROOT / "docs" / "tasks").glob("*.md")]
    shown = [name for path in pages for name in re.findall(r"^::: (\S+)$", path.read_text("utf-8"), flags=re.MULTILINE)]
    assert len(set(shown)) == len(shown)
    public = set()
    packages = ("nn", "modules", "datamodules", "callbacks", "metrics", "analysis", "readings", "plotting", "sweep")
    for name in (*packages, "commands"):
        package = __import__(f"lightning_alrnn.{name}", fromlist=["__all__"])
        public |= {f"lightning_alrnn.{name}.{member}" for member in package.__all__}
    assert public <= set(shown)
    assert set(lightning_alrnn.__all__) <= {path.rpartition(".")[2] for path in shown}
    assert set(shown) - public == {f"lightning_alrnn.{name}" for name in ("SequenceBatch", "NeuralBatch")}


def _anchors(path: Path) -> set[str]:
    """Of the headings of a page, as Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode() for heading in headings]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in plain}


@_of([*PAGES, ROOT / "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        target, _, anchor = link.partition("#")
        where = (path.parent / target) if target else path
        assert where.exists(), link
        assert not anchor or anchor in _anchors(where), link


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on small data
@undrawn()
def test_the_tutorial_leads_to_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth of its data, an epoch, and its first commands, which find what those before them wrote."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    fenced = blocks(page)
    exec(compile(fenced[0].text.replace("2000", "200"), "tutorial.md", "exec"), {})
    config = next(block.text for block in fenced if block.language == "yaml")
    (tmp_path / "mine.yaml").write_text(config.replace("max_epochs: 30", "max_epochs: 1"), encoding="utf-8")
    for name in ("fit", "test", "analyze"):
        main(next(words[1:] for words in commands(page) if words[1] == name and len(words) > 2))
    assert (tmp_path / "runs" / "Arrays" / "version_0" / "analysis" / "report.html").is_file()
    folders = re.findall(r"writes into `([\w/]+)`", " ".join(page.split()))
    assert folders
    for name in re.findall(r"\(`(\w+[/.]\w*)`\)", page):
        assert (tmp_path / folders[0] / name).exists()
