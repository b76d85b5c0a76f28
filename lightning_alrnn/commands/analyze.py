"""``alrnn analyze``: analyse a trained network and write a report."""

from __future__ import annotations

import json
import logging
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from lightning_alrnn.analysis.ablation import AblationScores, ablation_scores
from lightning_alrnn.analysis.network_study import Sequences, study
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.base import further_readings
from lightning_alrnn.callbacks.unit_ablation import score_without_units
from lightning_alrnn.cli import ALRNNCLI, run_cli
from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.extensions.checkpoints import config_of, log_directory, read_checkpoint
from lightning_alrnn.extensions.messages import without_advertisements
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.readings import configured_callbacks, configured_readings
from lightning_alrnn.readings.yardstick import baselines_of
from lightning_alrnn.report import Performance, Source, Traces, write_report

_MOST_NUMBERS = 2**24
"""Largest number of states and inputs, 64 MB in float32; the analysis takes about twenty times as much."""

_ADVICE = (
    "The '.*_dataloader' does not have many workers",
    "Be aware that when using `ckpt_path`, callbacks used to create",
    "The `srun` command is available",
)


class SequenceCollector(Callback):
    """Collects up to ``max_sequences`` test sequences, evenly spaced, with their states and ablation scores."""

    def __init__(self, max_sequences: int = 512) -> None:
        super().__init__()
        self.max_sequences = max_sequences
        self._parts: list[Sequences] = []
        self._traces: list[Traces] = []
        self._sums: list[Tensor] = []
        self._seen = 0
        self._chosen: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, ALRNNModule):
            raise MisconfigurationException(
                f"alrnn analyze needs a network trained as ALRNNModule, got {type(pl_module).__name__}: the callbacks "
                "RegimeOccupancy, ActiveUnits, FixedPoints and Spectrum log its regimes, units and fixed points"
            )
        if not isinstance(pl_module.core, ALRNN):
            raise MisconfigurationException(
                f"alrnn analyze needs the regimes of an ALRNN, but core is {type(pl_module.core).__name__}, which has "
                "none: use a checkpoint trained with core='ALRNN'"
            )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._parts, self._traces, self._sums, self._seen, self._chosen = [], [], [], 0, None

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: SequenceBatch,
        *indices: Any,
    ) -> None:
        assert isinstance(pl_module, ALRNNModule)
        states, lengths = outputs["states"], outputs["lengths"]
        if self._chosen is None:
            width = states.shape[2] + (cast(ALRNN, pl_module.core).input_size or states.shape[2])
            limit = max(2, min(self.max_sequences, _MOST_NUMBERS // (states.shape[1] * width)))
            self._chosen = _spread(_size(trainer, len(states)), limit)
        index = torch.arange(self._seen, self._seen + len(states))
        rows = torch.isin(index, self._chosen).nonzero()[:, 0].to(states.device)
        self._seen += len(states)
        if len(rows) == 0:
            return
        some = SequenceBatch(*(None if field is None else field[rows] for field in batch))  # type: ignore[arg-type]
        self._sums.append(score_without_units(pl_module, cast(ALRNN, pl_module.core), some).cpu())
        encoded, _ = pl_module.encode(batch.inputs[rows], batch.lengths[rows])
        last = torch.arange(len(rows), device=states.device), lengths[rows] - 1
        targets = batch.targets[rows]
        if pl_module.target_step == "every":
            every = pl_module.read_out(states[rows], states[rows][last])
            counted = pl_module.task_loss(every, some)[1] > 0
            self._traces.append(Traces(*(field.detach().cpu() for field in (every, targets, counted))))
            targets = targets[last]
        part = Sequences(
            encoded,
            states[rows],
            lengths[rows],
            pl_module.readout(states[rows][last]),
            targets,
            None if batch.group is None else batch.group[rows],
            # the phases have no meaning after an encoder that changes the number of steps
            None if batch.phase is None or encoded.shape[1] != batch.phase.shape[1] else batch.phase[rows],
        )
        self._parts.append(Sequences(*(None if field is None else field.detach().cpu() for field in part)))  # type: ignore[arg-type]

    @property
    def scores(self) -> AblationScores:
        """Scores of the collected sequences without each nonlinear unit."""
        return ablation_scores(torch.stack(self._sums).sum(dim=0))

    @property
    def traces(self) -> Traces | None:
        """Outputs and targets of the collected sequences, padded to the same number of steps; ``None`` at one step."""
        if not self._traces:
            return None
        fields = ([row for part in parts for row in part] for parts in zip(*self._traces, strict=True))
        return Traces(*(pad_sequence(rows, batch_first=True) for rows in fields))

    @property
    def sequences(self) -> Sequences:
        """The collected sequences, padded to the same number of steps."""
        fields: list[Tensor | None] = []
        for name, values in zip(Sequences._fields, zip(*self._parts, strict=True), strict=True):
            if values[0] is None:
                fields.append(None)
            elif name in ("inputs", "states", "phase"):
                rows = [row for value in values for row in value]
                fields.append(pad_sequence(rows, batch_first=True, padding_value=-1 if name == "phase" else 0))
            else:
                fields.append(torch.cat(values))
        return Sequences(*fields)  # type: ignore[arg-type]


class Analysis(NamedTuple):
    """The results of ``alrnn analyze``."""

    folder: Path
    report: dict[str, Any]


def analyze_network(arguments: Sequence[str]) -> Analysis:
    """Run ``alrnn analyze`` with these arguments."""
    options, rest = parser_of("analyze").parse_known_args(arguments)
    checkpoint: Path = options.ckpt_path
    epoch = int(read_checkpoint(checkpoint).get("epoch", -1))
    folder: Path = options.output_dir or log_directory(checkpoint) / "analysis"
    config = options.config or config_of(checkpoint)
    cli, collector = read_network(checkpoint, () if config is None else (config,), folder, options.max_sequences, rest)
    model, trainer = cast(ALRNNModule, cli.model), cast(Any, cli.trainer)
    sequences = collector.sequences
    names = model.group_names or getattr(cli.datamodule, "group_names", None)
    performance = Performance(
        {name: float(value) for name, value in sorted(trainer.callback_metrics.items())},
        model.objective,
        getattr(cli.datamodule, "class_names", None),
        names,
        collector.scores,
        getattr(cli.datamodule, "phase_names", None),
        baselines_of(cli.datamodule, "test"),
        # what an encoder passes on are not the channels of the data
        getattr(cli.datamodule, "input_names", None) if model.encoder is None else None,
        getattr(cli.datamodule, "output_names", None),
    )
    source = Source(str(checkpoint), None if config is None else str(config), type(cli.datamodule).__name__, epoch)
    with tqdm(total=7, desc="analyze", leave=False) as bar:

        def progress(part: str) -> None:
            bar.set_postfix_str(part)
            bar.update()

        rnn = cast(ALRNN, model.core).cpu().double()
        weight = model.readout.weight.detach().cpu()
        results = study(rnn, sequences, weight, names, time_limit=options.time_limit, progress=progress)
        progress("figures")
        further = further_readings(trainer.callbacks)
        report = write_report(folder, results, sequences, performance, source, rnn, further, collector.traces)
    return Analysis(folder, report)


def read_network(
    checkpoint: Path, configs: Sequence[Path], folder: Path, max_sequences: int, options: Sequence[str] = ()
) -> tuple[ALRNNCLI, SequenceCollector]:
    """Test a network and collect some of the test sequences; the last of the configurations takes precedence."""
    entries = configured_callbacks(configs[-1]) if configs else []  # the user's own readings
    if entries:
        configured_readings(configs[-1])  # its errors are shorter than those of the parser
    with without_advertisements(*_ADVICE):
        cli = run_cli(
            [
                "test",
                *(f"--config={config}" for config in configs),
                f"--ckpt_path={checkpoint}",
                "--trainer.logger=false",
                "--trainer.enable_checkpointing=false",
                "--trainer.devices=1",
                "--trainer.num_nodes=1",
                "--trainer.strategy=auto",
                "--trainer.accelerator=auto",  # the network may have been trained on another machine
                "--trainer.precision=32-true",
                f"--trainer.default_root_dir={folder}",
                f"--trainer.callbacks={__name__}.SequenceCollector",
                f"--trainer.callbacks.max_sequences={max_sequences}",
                *(f"--trainer.callbacks+={json.dumps(entry)}" for entry in entries),
                *options,
            ],
            save_config=False,  # this would overwrite that of the log directory
        )
    callbacks = cast(Any, cli.trainer).callbacks
    return cli, next(callback for callback in callbacks if isinstance(callback, SequenceCollector))


def print_results(files: Mapping[str, Path], answers: Sequence[str]) -> None:
    """Print the answers in lines of at most 100 characters, and then the paths of the files by name."""
    width = max(map(len, files)) + 2
    lines = [f"{name:<{width}}{path}" for name, path in files.items()]
    texts = [textwrap.fill(answer, 100, break_on_hyphens=False) for answer in answers]
    sys.stdout.write("\n".join([*texts, "", *lines, ""]))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Lightning's log and its advice on loaders."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning_alrnn", "pytorch_lightning.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with without_advertisements(*_ADVICE):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def run_analyze(arguments: Sequence[str]) -> None:
    """Run ``alrnn analyze``."""
    folder, report = analyze_network(arguments)
    print_results({"report": folder / "report.html", "numbers": folder / "report.json"}, [report["answer"]])


def _size(trainer: Trainer, batch_size: int) -> int | None:
    """Number of test sequences, or ``None`` if it is unknown."""
    try:
        size = len(trainer.test_dataloaders.dataset)  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        return None
    batches = trainer.num_test_batches[0]  # fewer with limit_test_batches
    return size if math.isinf(batches) else min(size, int(batches) * batch_size)


def _spread(size: int | None, limit: int) -> Tensor:
    """Evenly spaced indices of up to ``limit`` of ``size`` sequences; the first ones if the size is unknown."""
    if size is None or size <= limit:
        return torch.arange(limit)
    return torch.linspace(0, size - 1, limit, dtype=torch.float64).round().long()
